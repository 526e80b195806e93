//! The token buckets of limits on an account. The first bucket is in the account, the others are in slots of the
//! table.

use core::num::NonZeroU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{BUCKET_PLACES, BUCKETS_PER_SLOT, BucketPlace};
use super::lookup::Spare;
use super::region::Table;
use super::slot::Slot;
use crate::account::{Account, TableView};
use crate::limit::{Bucket, Limit, LimitId, MAX_BUCKETS};

/// The result of checking a request against a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The CPU that was charged to the admitted request, in nanoseconds, or the debt.
    pub result: Result<u64, NonZeroU64>,
    /// The place of the limit's bucket among those of the account.
    pub bucket: u8,
    /// The account has no other bucket.
    pub is_only_one: bool,
}

impl Table {
    /// Checks a request of an account against a limit. `now_ms` is a monotonic clock that all workers share.
    /// `pending_ns` is the CPU that the caller has not added yet to the bucket of this place. `spare` belongs to the
    /// caller and this table. `is_configured` returns whether the zone has a limit.
    #[inline]
    pub fn check(
        &self,
        slot: Slot,
        now_ms: u64,
        limit: &Limit,
        pending_ns: impl Fn(usize) -> i64,
        is_configured: impl Fn(LimitId) -> bool,
        spare: &mut Spare,
    ) -> Checked {
        let account = self.account(slot);
        let first = account.bucket();
        let (place, bucket) = if first.is_of(limit) || first.assign(limit) {
            (0, first)
        } else {
            self.find_bucket(account, now_ms, limit, &is_configured, spare)
        };
        let result = bucket.check(now_ms, limit, pending_ns(place), || account.average_ns());
        Checked { result, bucket: place as u8, is_only_one: first.next.load(Relaxed) == 0 }
    }

    /// The bucket of a limit that does not have the account's first bucket.
    #[cold]
    #[inline(never)]
    pub(super) fn find_bucket<'a>(
        &'a self,
        account: &'a Account,
        now_ms: u64,
        limit: &Limit,
        is_configured: &dyn Fn(LimitId) -> bool,
        spare: &mut Spare,
    ) -> (usize, &'a Bucket) {
        let buckets = || account.buckets(Some(self)).enumerate();
        let reuse_full = |unused| buckets().find(|(_, bucket)| bucket.reuse_full(now_ms, limit, unused));
        let found = buckets()
            .find(|(_, bucket)| bucket.is_of(limit))
            .or_else(|| buckets().find(|(_, bucket)| bucket.inherit(limit, is_configured)))
            .or_else(|| reuse_full(true));
        if let Some(found) = found {
            return found;
        }
        // Other workers may add buckets at the same time, several of them between two rounds. So each round looks at
        // all of them.
        let mut last = (0, account.bucket());
        loop {
            for found in buckets() {
                if found.1.is_of(limit) {
                    return found;
                }
                last = found;
            }
            let (place, bucket) = last;
            if place + 1 == MAX_BUCKETS {
                break;
            }
            let Some((at, new)) = self.new_bucket(spare) else { break };
            if new.assign(limit) && bucket.next.compare_exchange(0, at, Release, Relaxed).is_ok() {
                return (place + 1, new);
            }
        }
        reuse_full(false).unwrap_or(last)
    }

    /// Makes room for one more bucket, all zero. Returns its place. A slot without an account holds many buckets.
    /// None if no slot is left.
    pub(super) fn new_bucket(&self, spare: &mut Spare) -> Option<(u32, &Bucket)> {
        let next = &self.header().next_bucket;
        loop {
            let at = next.load(Acquire);
            if !at.is_multiple_of(BUCKET_PLACES) {
                // the next place in the same slot; 0 after the last one
                let after = if at % BUCKET_PLACES + 1 < BUCKETS_PER_SLOT { at + 1 } else { 0 };
                if next.compare_exchange(at, after, Relaxed, Relaxed).is_ok() {
                    return Some((at, self.bucket_at(at)?));
                }
                continue;
            }
            let slot = spare.0.take().or_else(|| self.take_slot())?;
            let Some(first) = slot.0.checked_mul(BUCKET_PLACES) else {
                spare.0 = Some(slot);
                return None;
            };
            // SAFETY: the record lies within the region, and nobody reads it before `next_bucket` refers to it.
            unsafe { self.record_at(slot).write_bytes(0, 1) };
            // place 0 is not used: it stands for no bucket
            if next.compare_exchange(at, first + 1, Release, Relaxed).is_err() {
                spare.0 = Some(slot);
            }
        }
    }

    /// The bucket at a place that [`Table::new_bucket`] has returned.
    pub(super) fn bucket_at(&self, at: u32) -> Option<&Bucket> {
        let (slot, place) = (at / BUCKET_PLACES, at % BUCKET_PLACES);
        if slot == 0 || slot >= self.records || place >= BUCKETS_PER_SLOT {
            return None;
        }
        // SAFETY: the slot is within the region and no account's. It was zeroed before its places were given out,
        // which is a valid bucket; as many fit into it, and a record is aligned as they need it. From then on they
        // only change through atomics.
        Some(unsafe { self.record_at(Slot(slot)).cast::<BucketPlace>().add(place as usize).cast().as_ref() })
    }

    /// True if a limit of the account refuses requests after `pending_ns` is added to the bucket of this place. The
    /// other arguments are those of [`Table::check`].
    pub fn is_in_debt(&self, slot: Slot, now_ms: u64, pending_ns: impl Fn(usize) -> i64) -> bool {
        let mut buckets = self.account(slot).buckets(Some(self)).enumerate();
        buckets.any(|(place, bucket)| bucket.is_in_debt(now_ms, pending_ns(place)))
    }
}

impl TableView for Table {
    #[inline]
    fn epoch(&self) -> u32 {
        Table::epoch(self)
    }

    #[inline]
    fn active_threshold_ns(&self) -> u64 {
        Table::active_threshold_ns(self)
    }

    #[inline]
    fn bucket_after(&self, bucket: &Bucket) -> Option<&Bucket> {
        match bucket.next.load(Acquire) {
            0 => None,
            at => self.bucket_at(at),
        }
    }
}
