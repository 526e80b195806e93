//! Finds the accounts of a table step by step. Computes how full a table is.

#[cfg(test)]
use crate::testing::AtomicU64;
use core::mem::size_of;
#[cfg(not(test))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use super::layout::{Header, Record};
use super::region::Table;
use super::slot::Slot;

/// How full a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Bytes of the accounts and of the fixed parts.
    pub used_bytes: u64,
    /// Accounts that the table has room for, without the overflow account.
    pub capacity: u32,
    /// Existing accounts, without the overflow account.
    pub accounts: u32,
    /// Requests that were counted in the overflow account because the zone was full.
    pub overflowed: u64,
    /// Requests whose key was cut.
    pub cut: u64,
}

impl Table {
    /// How full the table is. Reads all hash buckets.
    pub fn fill(&self) -> Fill {
        // counted each time, so that a killed worker leaves no wrong count behind
        self.fill_with(self.published().count() as u32)
    }

    /// How full the table is with the number of accounts that a [`Listing`] has found.
    pub fn fill_with(&self, accounts: u32) -> Fill {
        let counters = &self.header().counters;
        let words = self.processes as usize + (1 << self.buckets_log2);
        let fixed = size_of::<Header>() + words * size_of::<AtomicU64>() + size_of::<Record>();
        Fill {
            used_bytes: (fixed + accounts as usize * size_of::<Record>()).min(self.bytes) as u64,
            capacity: self.records - 1,
            accounts,
            overflowed: counters.overflowed.load(Relaxed),
            cut: counters.cut.load(Relaxed),
        }
    }
}

/// Finds the accounts of a table step by step, because reading all hash buckets of a large table takes milliseconds.
/// The listing has a bit for each slot. So accounts come in the order in which they were made, without sorting.
#[derive(Debug, Default)]
pub struct Listing {
    pub(super) bits: Vec<u64>,
    pub(super) buckets: usize,
    pub(super) accounts: u32,
}

impl Listing {
    /// The number of hash buckets that [`Listing::search`] reads: some microseconds.
    pub(super) const BUCKETS_AT_ONCE: usize = 4096;

    /// Reads the next hash buckets of the table, which must be the same at every call. Returns true if there are
    /// more. An account that is made meanwhile may be found or not.
    pub fn search(&mut self, table: &Table) -> bool {
        let buckets = table.buckets();
        if self.bits.is_empty() {
            self.bits = vec![0; table.records.div_ceil(u64::BITS) as usize];
        }
        let end = buckets.len().min(self.buckets + Self::BUCKETS_AT_ONCE);
        for bucket in &buckets[self.buckets..end] {
            // an empty hash bucket sets no bit, not even of slot 0; there is no branch, because a third of all
            // branches would be mispredicted
            let value = bucket.load(Acquire);
            let (slot, taken) = (Slot(value as u32), value != 0);
            if let Some(word) = self.bits.get_mut(slot.index() / 64) {
                *word |= u64::from(taken) << (slot.index() % 64);
            }
            self.accounts += u32::from(taken);
        }
        self.buckets = end;
        end < buckets.len()
    }

    /// The number of accounts that were found, without the overflow account.
    pub fn accounts(&self) -> u32 {
        self.accounts
    }

    /// The first found account whose slot is at least `index`.
    pub fn first_from(&self, index: usize) -> Option<Slot> {
        let mut word = index / 64;
        let mut bits = self.bits.get(word)? & (u64::MAX << (index % 64));
        while bits == 0 {
            word += 1;
            bits = *self.bits.get(word)?;
        }
        u32::try_from(word * 64 + bits.trailing_zeros() as usize).ok().map(Slot)
    }
}
