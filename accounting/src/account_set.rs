//! The accounts of one request: one for each zone in which it is counted.

use core::mem::MaybeUninit;

use crate::limit::Share;
use crate::table::Slot;

/// The most zones in which a request can be counted.
pub const MAX_ZONES_PER_REQUEST: usize = 8;

/// An account, and how its limits count the CPU of the request.
#[derive(Debug, Clone, Copy)]
pub struct AccountId {
    /// the place of the zone in the configuration
    zone: u16,
    share: Share,
    /// the slot in the zone's table
    slot: Slot,
}

impl AccountId {
    /// An account of a zone. The zone is given by its place in the configuration.
    #[inline]
    pub fn new(zone: u16, share: Share, slot: Slot) -> AccountId {
        AccountId { zone, share, slot }
    }

    /// The place of the zone in the configuration.
    #[inline]
    pub fn zone(&self) -> usize {
        self.zone.into()
    }

    /// How the limits of the account count the CPU that is charged to it.
    #[inline]
    pub fn share(&self) -> Share {
        self.share
    }

    /// The slot in the zone's table.
    #[inline]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether both are the same account.
    #[inline]
    pub fn is_same(&self, other: &AccountId) -> bool {
        (self.zone, self.slot) == (other.zone, other.slot)
    }
}

/// The accounts of one request. Most requests have one or none, so a copy only copies the used entries.
#[derive(Debug)]
#[repr(C)]
pub struct AccountSet {
    count: usize,
    /// the first `count` entries are initialised
    ids: [MaybeUninit<AccountId>; MAX_ZONES_PER_REQUEST],
}

impl AccountSet {
    /// No account.
    pub const EMPTY: AccountSet =
        AccountSet { count: 0, ids: [const { MaybeUninit::uninit() }; MAX_ZONES_PER_REQUEST] };

    /// Adds an account. A ninth account is ignored: `request_cpu` allows no ninth zone.
    #[inline]
    pub fn push(&mut self, id: AccountId) {
        if let Some(free) = self.ids.get_mut(self.count) {
            free.write(id);
            self.count += 1;
        }
    }

    /// The accounts, in the order in which they were added.
    #[inline]
    pub fn ids(&self) -> &[AccountId] {
        // SAFETY: `push` has written that many, one after the other.
        unsafe { core::slice::from_raw_parts(self.ids.as_ptr().cast(), self.count) }
    }

    /// True if there is no account.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True if there are accounts, and all their limits count the CPU that is charged to them.
    pub fn is_used(&self) -> bool {
        !self.is_empty() && self.ids().iter().all(|id| matches!(id.share, Share::Used | Share::Checked(_)))
    }

    /// Sets, for each account, how its limits count the CPU.
    pub fn set_shares(&mut self, share: impl Fn(&AccountId) -> Share) {
        // SAFETY: as in `ids`.
        let ids =
            unsafe { core::slice::from_raw_parts_mut(self.ids.as_mut_ptr().cast::<AccountId>(), self.count) };
        ids.iter_mut().for_each(|id| id.share = share(id));
    }

    /// Makes this set a copy of another one.
    #[inline]
    pub fn copy_from(&mut self, other: &AccountSet) {
        self.count = other.count;
        self.ids[0] = other.ids[0];
        if self.count > 1 {
            self.ids = other.ids;
        }
    }
}

impl Clone for AccountSet {
    #[inline]
    fn clone(&self) -> Self {
        let mut copy = Self::EMPTY;
        copy.copy_from(self);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_eight_accounts_and_leaves_out_a_ninth() {
        let mut set = AccountSet::EMPTY;
        assert!(set.is_empty() && !set.is_used());
        for zone in 0..9 {
            set.push(AccountId::new(zone, Share::Used, Slot::OVERFLOW));
        }
        let copy = set.clone();
        assert!(copy.is_used());
        assert_eq!(copy.ids().iter().map(AccountId::zone).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
        set.set_shares(|id| if id.zone() == 7 { Share::Refused } else { Share::Used });
        assert!(!set.is_used() && copy.is_used());
    }
}
