//! Finds the account of a key, or makes it.

#[cfg(test)]
use crate::testing::AtomicU64;
use core::hash::Hasher;
#[cfg(not(test))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Release};

use siphasher::sip::SipHasher13;

use super::region::Table;
use super::slot::Slot;
use crate::key::{MAX_KEY_BYTES, OVERFLOW_KEY};

/// The result of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The account of the key, or the overflow account.
    pub slot: Slot,
    /// The zone is full and had no account of this key.
    pub overflowed: bool,
}

/// A slot that a worker took and did not use, because another worker was first with the same key.
#[derive(Debug, Default)]
pub struct Spare(pub(super) Option<Slot>);

/// The reason why a hash bucket got no account.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No slot is left.
    Full,
    /// Another worker was first, with this entry.
    Taken(u64),
}

impl Table {
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        let seed = self.header().seed;
        let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
        hasher.write(key);
        hasher.finish()
    }

    /// The account of `key`: an existing one, a new one, or the overflow account if there is no room. A key longer
    /// than [`MAX_KEY_BYTES`] is cut. `spare` belongs to the calling worker and this table.
    pub fn find_or_insert(&self, key: &[u8], spare: &mut Spare) -> Found {
        let key = cut(key);
        if key == OVERFLOW_KEY {
            return Found { slot: Slot::OVERFLOW, overflowed: false };
        }
        let hash = self.hash(key);
        for bucket in self.probe(hash) {
            let mut value = bucket.load(Acquire);
            if value == 0 {
                match self.insert(bucket, hash, key, spare) {
                    Ok(slot) => return Found { slot, overflowed: false },
                    Err(Refused::Full) => return Found { slot: Slot::OVERFLOW, overflowed: true },
                    Err(Refused::Taken(seen)) => value = seen,
                }
            }
            if let Some(slot) = self.matches(value, hash, key) {
                return Found { slot, overflowed: false };
            }
        }
        // never reached: at most half of the hash buckets are in use
        Found { slot: Slot::OVERFLOW, overflowed: true }
    }

    /// Makes an account in a hash bucket that was just found empty.
    pub(super) fn insert(
        &self,
        bucket: &AtomicU64,
        hash: u64,
        key: &[u8],
        spare: &mut Spare,
    ) -> Result<Slot, Refused> {
        let slot = spare.0.take().or_else(|| self.take_slot()).ok_or(Refused::Full)?;
        self.write_record(slot, key);
        if let Err(seen) = bucket.compare_exchange(0, entry(hash, slot), Release, Acquire) {
            spare.0 = Some(slot);
            return Err(Refused::Taken(seen));
        }
        Ok(slot)
    }

    /// The account of `key`, which is cut as in [`Table::find_or_insert`]; `None` if there is none.
    pub fn find(&self, key: &[u8]) -> Option<Slot> {
        let key = cut(key);
        if key == OVERFLOW_KEY {
            return Some(Slot::OVERFLOW);
        }
        let hash = self.hash(key);
        for bucket in self.probe(hash) {
            let value = bucket.load(Acquire);
            if value == 0 {
                return None;
            }
            if let Some(slot) = self.matches(value, hash, key) {
                return Some(slot);
            }
        }
        None
    }

    pub(super) fn probe(&self, hash: u64) -> impl Iterator<Item = &AtomicU64> {
        let buckets = self.buckets();
        let mask = buckets.len() - 1;
        let start = hash as usize & mask;
        buckets[start..].iter().chain(&buckets[..start])
    }

    pub(super) fn matches(&self, value: u64, hash: u64, key: &[u8]) -> Option<Slot> {
        let slot = Slot(value as u32);
        (value >> 32 == hash >> 32 && self.key(slot) == key).then_some(slot)
    }

    /// The slot with this index, if it has an account. Reads all hash buckets.
    pub fn slot(&self, index: usize) -> Option<Slot> {
        let slot = u32::try_from(index).ok().map(Slot)?;
        (slot == Slot::OVERFLOW || self.published().any(|published| published == slot)).then_some(slot)
    }

    /// The slots of all accounts: the overflow account first, then the others in the order in which they were made.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::OVERFLOW];
        slots.extend(self.published());
        slots.sort_unstable();
        slots
    }
}

/// The part of a key that counts.
pub(super) fn cut(key: &[u8]) -> &[u8] {
    &key[..key.len().min(MAX_KEY_BYTES)]
}

/// The content of a hash bucket: the upper half of the hash, and the slot, which is never 0.
pub(super) fn entry(hash: u64, slot: Slot) -> u64 {
    hash >> 32 << 32 | u64::from(slot.0)
}
