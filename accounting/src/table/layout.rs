//! The layout of a region: a header, slots for processes, hash buckets, and the accounts.

#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};
use core::mem::{offset_of, size_of};
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::account::{Account, account_bytes};
use crate::key::MAX_KEY_BYTES;
use crate::limit::Bucket;
use crate::process::{Look, MAX_PROCESSES};

/// Changes when the meaning of any part of a region changes, since a new binary continues with the region of the
/// previous one. It does not change if releases only append counters to the account: the layout describes these.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"reqcpu06");

/// The magic number of the previous release. Its counters are the same, but its limits differ.
pub(super) const MAGIC_BEFORE: u64 = u64::from_le_bytes(*b"reqcpu05");

/// The magic number of the release before that one. It had no slots for processes.
pub(super) const MAGIC_WITHOUT_PROCESSES: u64 = u64::from_le_bytes(*b"reqcpu04");

/// The layout of both previous releases: a header of 128 bytes and accounts of 1,600.
pub(super) const LAYOUT_BEFORE: u64 = 128 << 32 | 1600;

/// Two processes must have the same layout to share a region.
pub(super) const LAYOUT: u64 = layout(Account::APPENDED);

/// The layout of a region whose accounts have this number of appended counters. It contains the bytes of the header,
/// the number of these counters, and the bytes of a record.
pub(super) const fn layout(appended: usize) -> u64 {
    (size_of::<Header>() as u64) << 32 | (appended as u64) << 16 | record_bytes(appended) as u64
}

/// The number of appended counters in the accounts of a region. `None`: no release with the current header and account
/// had this layout.
pub(super) const fn appended(of_layout: u64) -> Option<usize> {
    let appended = (of_layout >> 16 & 0xFFFF) as usize;
    if of_layout == layout(appended) { Some(appended) } else { None }
}

/// Bytes of a record whose account has this number of appended counters.
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
    /// keys of SipHash: a client that chooses keys must not be able to choose their hash buckets
    pub(super) seed: [u64; 2],
    /// number of records, including the overflow account's
    pub(super) records: u32,
    pub(super) buckets_log2: u32,
    /// hash of the text of the key in the configuration
    pub(super) key_text: u64,
    /// place of the next [`Bucket`] for an account that needs a further one; 0: no place is laid out yet
    pub(super) next_bucket: AtomicU32,
    /// read with every request, written when a worker has died
    pub(super) epoch: AtomicU32,
    /// a second with at least this CPU, in nanoseconds, is active; read once in a second for each account
    pub(super) active_threshold_ns: AtomicU64,
    /// written by all workers, so they are on their own cache line
    pub(super) counters: Counters,
}

#[repr(C, align(64))]
pub(super) struct Counters {
    pub(super) next: AtomicU32,
    /// number of used slots for processes
    pub(super) processes_used: AtomicU32,
    pub(super) overflowed: AtomicU64,
    pub(super) cut: AtomicU64,
    /// the time of the next save of the accounts, in milliseconds of the workers' monotonic clock; [`NEVER`] if they
    /// are not saved
    pub(super) save_due_ms: AtomicU64,
    /// [`ORPHANED`], or any other value: an older release did not set this member
    pub(super) orphaned: AtomicU64,
    /// the last state file of the accounts: a number that changes with each writing, and a number of the file's name
    pub(super) saved_as: [AtomicU64; 2],
    /// when a worker looks next for killed processes
    pub(super) look: Look,
}

/// No configuration has the table any more.
pub(super) const ORPHANED: u64 = u64::from_le_bytes(*b"orphaned");

/// Accounts are not saved.
pub const NEVER: u64 = u64::MAX;

#[repr(C)]
pub(super) struct Record {
    pub(super) account: Account,
    pub(super) key_len: u8,
    pub(super) key: [u8; MAX_KEY_BYTES],
}

/// Bytes of shared memory for one account, without its share of the hash buckets.
pub const ACCOUNT_BYTES: usize = size_of::<Record>();

/// A place for a bucket outside of the accounts, on its own cache line.
#[repr(C, align(64))]
pub(super) struct BucketPlace(pub(super) Bucket);

/// Number of such places in the slot of an account.
pub(super) const BUCKETS_PER_SLOT: u32 = {
    let fit = (size_of::<Record>() / size_of::<BucketPlace>()) as u32;
    if fit < BUCKET_PLACES { fit } else { BUCKET_PLACES }
};

/// The number of a place is the number of its slot times this value, plus its number in the slot. 0 means none.
pub(super) const BUCKET_PLACES: u32 = 32;

const _: () = assert!(size_of::<Header>() == 128);

/// Number of processes that can have requests in flight in a table at the same time. A word for each process takes 1.6
/// % of a small region, and less of a large one. Eight words fill a cache line.
pub(super) fn processes(bytes: usize) -> usize {
    (bytes / 512).clamp(128, MAX_PROCESSES) / 8 * 8
}

/// The sizes of the parts of a region with this number of processes: (records, log2 of buckets).
pub(super) fn plan(bytes: usize, processes: usize) -> Option<(u32, u32)> {
    plan_for(bytes, processes, size_of::<Record>())
}

/// As [`plan`], for records of this size.
pub(super) fn plan_for(bytes: usize, processes: usize, record_bytes: usize) -> Option<(u32, u32)> {
    let fixed = size_of::<Header>() + processes * size_of::<AtomicU64>();
    // At most half of the buckets are ever used. 8 buckets fill a cache line, which keeps the records aligned.
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
    // the overflow account and at least one other
    (records >= 2 && fits(records)).then(|| (records as u32, buckets(records).trailing_zeros()))
}
