//! The layout of a region: a header, places for processes, hash buckets, and the accounts.

#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};
use core::mem::{offset_of, size_of};
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::account::{Account, account_bytes};
use crate::key::MAX_KEY_BYTES;
use crate::limit::Bucket;
use crate::process::{Look, MAX_PROCESSES};

/// Changes with the meaning of anything in a region, since a new binary goes on with the region of the one before.
/// It stays if releases only append counters to the account: the layout describes these.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"reqcpu06");

/// Of the release before this magic number. Its counters are alike, its limits are not.
pub(super) const MAGIC_BEFORE: u64 = u64::from_le_bytes(*b"reqcpu05");

/// Of the release before that one, which had no places for processes.
pub(super) const MAGIC_WITHOUT_PROCESSES: u64 = u64::from_le_bytes(*b"reqcpu04");

/// The layout of both: a header of 128 bytes and accounts of 1,600.
pub(super) const LAYOUT_BEFORE: u64 = 128 << 32 | 1600;

/// Two processes must agree on this to share a region.
pub(super) const LAYOUT: u64 = layout(Account::APPENDED);

/// The layout of a region whose accounts have so many appended counters: the bytes of the header, the number of
/// these counters, and the bytes of a record.
pub(super) const fn layout(appended: usize) -> u64 {
    (size_of::<Header>() as u64) << 32 | (appended as u64) << 16 | record_bytes(appended) as u64
}

/// How many appended counters the accounts of a region have. None: the layout is none of a release with today's
/// header and account.
pub(super) const fn appended(of_layout: u64) -> Option<usize> {
    let appended = (of_layout >> 16 & 0xFFFF) as usize;
    if of_layout == layout(appended) { Some(appended) } else { None }
}

/// Bytes of a record whose account has so many appended counters.
pub(super) const fn record_bytes(appended: usize) -> usize {
    (account_bytes(appended) + 1 + MAX_KEY_BYTES).next_multiple_of(align_of::<Record>())
}

const _: () = assert!(
    record_bytes(Account::APPENDED) == size_of::<Record>()
        && offset_of!(Record, key_len) == account_bytes(Account::APPENDED)
        && offset_of!(Record, key) == account_bytes(Account::APPENDED) + 1
        && size_of::<Record>() < 1 << 16
);

#[repr(C, align(64))]
pub(super) struct Header {
    pub(super) magic: u64,
    pub(super) layout: u64,
    /// keys of SipHash: a client that chooses keys must not be able to choose their buckets
    pub(super) seed: [u64; 2],
    /// records, the overflow account's included
    pub(super) records: u32,
    pub(super) buckets_log2: u32,
    /// hash of the text of the key in the configuration
    pub(super) key_text: u64,
    /// place of the next [`Bucket`] that an account gets besides its own; 0: there is no room laid out for it yet
    pub(super) next_bucket: AtomicU32,
    /// read with every request, written when a worker has died
    pub(super) epoch: AtomicU32,
    /// nanoseconds of CPU in a second that make it an active one; read once a second and account
    pub(super) active_threshold_ns: AtomicU64,
    /// counted by all workers; on a line of their own
    pub(super) counters: Counters,
}

#[repr(C, align(64))]
pub(super) struct Counters {
    pub(super) next: AtomicU32,
    /// of the places for processes
    pub(super) processes_used: AtomicU32,
    pub(super) overflowed: AtomicU64,
    pub(super) cut: AtomicU64,
    /// when the accounts are to be saved next, in milliseconds of the workers' monotonic clock; [`NEVER`] if they
    /// are not
    pub(super) save_due_ms: AtomicU64,
    /// [`ORPHANED`], or anything else: an older release has left this place as it was
    pub(super) orphaned: AtomicU64,
    /// the state file that the accounts were saved in last, by a number that changes with each writing, and one of
    /// its name
    pub(super) saved_as: [AtomicU64; 2],
    /// when it is looked next for processes that were killed
    pub(super) look: Look,
}

/// No configuration has the table any more.
pub(super) const ORPHANED: u64 = u64::from_le_bytes(*b"orphaned");

/// No time at which accounts are saved.
pub const NEVER: u64 = u64::MAX;

#[repr(C)]
pub(super) struct Record {
    pub(super) account: Account,
    pub(super) key_len: u8,
    pub(super) key: [u8; MAX_KEY_BYTES],
}

/// Bytes of shared memory that one account takes, its share of the hash buckets not included.
pub const ACCOUNT_BYTES: usize = size_of::<Record>();

/// Room for a bucket besides those in accounts, on a cache line of its own.
#[repr(C, align(64))]
pub(super) struct BucketPlace(pub(super) Bucket);

/// As many of them are in the slot of an account.
pub(super) const BUCKETS_PER_SLOT: u32 = {
    let fit = (size_of::<Record>() / size_of::<BucketPlace>()) as u32;
    if fit < BUCKET_PLACES { fit } else { BUCKET_PLACES }
};

/// A place is the number of the slot times this, and the number in the slot. 0 stands for none.
pub(super) const BUCKET_PLACES: u32 = 32;

const _: () = assert!(size_of::<Header>() == 128);

/// As many processes can have requests in flight in a table at the same time: a word for each of them takes 1.6 %
/// of a small region, and less of a large one. Eight words fill a cache line.
pub(super) fn processes(bytes: usize) -> usize {
    (bytes / 512).clamp(128, MAX_PROCESSES) / 8 * 8
}

/// Sizes of the parts of a region with places for so many processes: (records, log2 of buckets).
pub(super) fn plan(bytes: usize, processes: usize) -> Option<(u32, u32)> {
    plan_for(bytes, processes, size_of::<Record>())
}

/// As [`plan`], for records of so many bytes.
pub(super) fn plan_for(bytes: usize, processes: usize, record_bytes: usize) -> Option<(u32, u32)> {
    let fixed = size_of::<Header>() + processes * size_of::<AtomicU64>();
    // at most half of the buckets are ever taken; 8 of them fill a cache line, which keeps the records aligned
    let buckets = |records: usize| (records * 2).next_power_of_two().max(8);
    let fits =
        |records: usize| fixed + buckets(records) * size_of::<AtomicU64>() + records * record_bytes <= bytes;
    let mut records = (bytes / record_bytes).min(u32::MAX as usize / 4);
    // the buckets take less than 4 % of the space
    while records > 1 && !fits(records) {
        records -= records.div_ceil(64);
    }
    while records > 1 && fits(records + 1) {
        records += 1;
    }
    // the overflow account and one more
    (records >= 2 && fits(records)).then(|| (records as u32, buckets(records).trailing_zeros()))
}
