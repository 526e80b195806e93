//! The accounts of requests, as one worker uses them.

use core::mem::MaybeUninit;
use core::num::NonZeroU64;

use accounting::account::{Classes, Handshake, Usage};
use accounting::in_flight::InFlight;
use accounting::key::MAX_KEY_BYTES;
use accounting::limit::{Limit, Share};
use accounting::table::{Slot, Spare, Table};
use accounting::unsettled::Unsettled;

use crate::conf::MAX_ZONES_PER_REQUEST;
use crate::worker::now_ms;

/// A full zone is warned of once in so many milliseconds.
const WARN_MS: u64 = 60_000;

/// An account, and what is charged to it.
#[derive(Debug, Clone, Copy)]
pub struct AccountId {
    /// by its place in the configuration
    zone: u16,
    share: Share,
    /// of the zone's table
    slot: Slot,
}

/// The accounts of one request. Most have one or none, so only as many are ever copied.
#[derive(Debug)]
#[repr(C)]
pub struct AccountSet {
    count: usize,
    /// as many as `count` are initialised
    ids: [MaybeUninit<AccountId>; MAX_ZONES_PER_REQUEST],
}

impl AccountSet {
    pub const EMPTY: AccountSet =
        AccountSet { count: 0, ids: [const { MaybeUninit::uninit() }; MAX_ZONES_PER_REQUEST] };

    /// Adds an account; the ninth is left out, but `request_cpu` allows no ninth zone.
    #[inline]
    pub fn push(&mut self, id: AccountId) {
        if let Some(free) = self.ids.get_mut(self.count) {
            free.write(id);
            self.count += 1;
        }
    }

    #[inline]
    pub fn ids(&self) -> &[AccountId] {
        // SAFETY: `push` has written that many, one after the other.
        unsafe { core::slice::from_raw_parts(self.ids.as_ptr().cast(), self.count) }
    }

    /// Says what is charged to each account, by its zone.
    pub fn set_shares(&mut self, share: impl Fn(usize) -> Share) {
        // SAFETY: as in `ids`.
        let ids =
            unsafe { core::slice::from_raw_parts_mut(self.ids.as_mut_ptr().cast::<AccountId>(), self.count) };
        ids.iter_mut().for_each(|id| id.share = share(usize::from(id.zone)));
    }

    #[inline]
    pub fn copy_from(&mut self, other: &AccountSet) {
        self.count = 0;
        match other.ids() {
            [] => {}
            &[id] => self.push(id),
            ids => ids.iter().for_each(|&id| self.push(id)),
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

/// A zone, as this worker uses it.
struct Zone {
    table: Table,
    spare: Spare,
    unsettled: Unsettled,
    in_flight: InFlight,
    /// monotonic milliseconds before which no further warning of a full zone is logged
    quiet_until_ms: u64,
}

/// All zones, by their place in the configuration.
pub struct Zones(Vec<Zone>);

impl Zones {
    pub fn new(tables: impl Iterator<Item = Table>) -> Self {
        let zone = |table| Zone {
            table,
            spare: Spare::default(),
            unsettled: Unsettled::default(),
            in_flight: InFlight::default(),
            quiet_until_ms: 0,
        };
        Zones(tables.map(zone).collect())
    }

    #[inline]
    fn each(&mut self, accounts: &AccountSet, mut f: impl FnMut(&mut Zone, Slot, Share)) {
        for &AccountId { zone, share, slot } in accounts.ids() {
            if let Some(zone) = self.0.get_mut(usize::from(zone)) {
                f(zone, slot, share);
            }
        }
    }

    /// Adds to accounts.
    #[inline]
    pub fn add(&mut self, accounts: &AccountSet, usage: &Usage) {
        let now_ms = now_ms();
        self.each(accounts, |zone, slot, share| zone.unsettled.add(&zone.table, now_ms, slot, share, usage));
    }

    /// Work after a request was logged, or of its connection: its accounts pay, the request does not.
    #[inline]
    pub fn charge(&mut self, accounts: &AccountSet, ns: u64) {
        if ns != 0 {
            let now_ms = now_ms();
            self.each(accounts, |zone, slot, share| {
                zone.unsettled.charge(&zone.table, now_ms, slot, share, ns);
            });
        }
    }

    /// A request has ended.
    #[inline]
    pub fn finish(&mut self, accounts: &AccountSet, usage: &Usage, classes: Classes, cpu_ns: u64) {
        let now_ms = now_ms();
        self.each(accounts, |zone, slot, share| {
            zone.unsettled.finish(&zone.table, now_ms, slot, share, usage, classes, cpu_ns);
        });
    }

    /// The connection of a request has made a TLS handshake.
    pub fn count_handshake(&mut self, accounts: &AccountSet, handshake: &Handshake) {
        self.each(accounts, |zone, slot, _| zone.table.account(slot).count_handshake(handshake));
    }

    /// What has been added becomes visible to others.
    #[inline]
    pub fn settle(&mut self) {
        let now_ms = now_ms();
        for zone in &mut self.0 {
            zone.unsettled.settle(&zone.table, now_ms);
        }
    }

    pub fn enter_flight(&mut self, accounts: &AccountSet) {
        self.each(accounts, |zone, slot, _| zone.in_flight.enter(&zone.table, slot));
    }

    pub fn leave_flight(&mut self, accounts: &AccountSet) {
        self.each(accounts, |zone, slot, _| zone.in_flight.leave(&zone.table, slot));
    }

    /// Takes note of workers that were killed.
    pub fn follow(&mut self) {
        for zone in &mut self.0 {
            zone.in_flight.follow(&zone.table);
        }
    }

    /// A worker was killed.
    pub fn next_epoch(&self) {
        self.0.iter().for_each(|zone| zone.table.next_epoch());
    }

    /// Whether a limit lets a request of this account in; a refusal is counted.
    ///
    /// # Errors
    /// The debt in nanoseconds of CPU.
    pub fn check(&mut self, id: AccountId, limit: &Limit, dry_run: bool) -> Result<(), NonZeroU64> {
        let Some(zone) = self.0.get_mut(usize::from(id.zone)) else { return Ok(()) };
        let account = zone.table.account(id.slot);
        let passed = account.check(now_ms(), limit, zone.unsettled.used_ns(id.slot));
        if passed.is_err() {
            account.count_refused(dry_run);
        }
        passed
    }

    /// The account of a key. `counts`: once per request.
    pub fn find(&mut self, index: usize, key: &[u8], counts: bool) -> Option<Found> {
        let zone_id = u16::try_from(index).ok()?;
        let zone = self.0.get_mut(index)?;
        let found = zone.table.find_or_insert(key, &mut zone.spare);
        let is_cut = key.len() > MAX_KEY_BYTES;
        if counts && found.overflowed {
            zone.table.count_overflowed();
        }
        if counts && is_cut {
            zone.table.count_cut();
        }
        let warn = found.overflowed && now_ms() >= zone.quiet_until_ms;
        if warn {
            zone.quiet_until_ms = now_ms() + WARN_MS;
        }
        let id = AccountId { zone: zone_id, share: Share::Used, slot: found.slot };
        Some(Found { id, warn, lasting: !found.overflowed && !is_cut })
    }
}

/// The account of a key.
pub struct Found {
    pub id: AccountId,
    /// the zone is full, and it is time to say so
    pub warn: bool,
    /// it need not be looked up again
    pub lasting: bool,
}
