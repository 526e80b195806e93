//! Accounts by key, in a region of memory that several processes share.
//!
//! No lock is ever taken, and nothing is ever removed. A key is committed by one compare-and-swap of its bucket, after
//! its account is complete; a worker that dies before that has used up a slot and nothing else.

use core::hash::Hasher;
use core::mem::size_of;
use core::num::NonZeroU64;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};

use siphasher::sip::SipHasher13;

use crate::account::{Account, TableView};
use crate::key::{MAX_KEY_BYTES, OVERFLOW_KEY};
use crate::limit::{Bucket, Limit, LimitId, MAX_BUCKETS};
use crate::process::{Look, MAX_PROCESSES, MOST_DEAD, ProcessId, Register};
#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};
use crate::window::FAR_MS;

/// Changes with the meaning of anything in a region, since a new binary goes on with the region of the one before.
const MAGIC: u64 = u64::from_le_bytes(*b"reqcpu06");
/// Of versions before, whose counters are alike: see [`Table::open_before`]. Their limits are not.
const MAGIC_BEFORE: u64 = u64::from_le_bytes(*b"reqcpu05");
/// Of the version before that one, which had no places for processes.
const MAGIC_WITHOUT_PROCESSES: u64 = u64::from_le_bytes(*b"reqcpu04");
/// The layout of both: a header of 128 bytes and accounts of 1,600.
const LAYOUT_BEFORE: u64 = 128 << 32 | 1600;
/// What two processes must agree on to share a region.
const LAYOUT: u64 = (size_of::<Header>() as u64) << 32 | size_of::<Record>() as u64;

#[repr(C, align(64))]
struct Header {
    magic: u64,
    layout: u64,
    /// keys of SipHash: a client that chooses keys must not be able to choose their buckets
    seed: [u64; 2],
    /// records, the overflow account's included
    records: u32,
    buckets_log2: u32,
    /// hash of the text of the key in the configuration
    key_text: u64,
    /// place of the next [`Bucket`] that an account gets besides its own; 0: there is no room laid out for it yet
    next_bucket: AtomicU32,
    /// read with every request, written when a worker has died
    epoch: AtomicU32,
    /// nanoseconds of CPU in a second that make it an active one; read once a second and account
    active_threshold_ns: AtomicU64,
    /// counted by all workers; on a line of their own
    counters: Counters,
}

#[repr(C, align(64))]
struct Counters {
    next: AtomicU32,
    /// of the places for processes
    processes_used: AtomicU32,
    overflowed: AtomicU64,
    cut: AtomicU64,
    /// when the accounts are to be saved next, in milliseconds of the workers' monotonic clock; [`NEVER`] if they are not
    save_due_ms: AtomicU64,
    /// [`ORPHANED`], or anything else: an older release has left this place as it was
    orphaned: AtomicU64,
    /// the state file that the accounts were saved in last, by a number that changes with each writing, and one of its name
    saved_as: [AtomicU64; 2],
    /// when it is looked next for processes that were killed
    look: Look,
}

/// No configuration has the table any more.
const ORPHANED: u64 = u64::from_le_bytes(*b"orphaned");

/// No time at which accounts are saved.
pub const NEVER: u64 = u64::MAX;

pub use crate::threshold::ACTIVE_THRESHOLD_NS;

#[repr(C)]
struct Record {
    account: Account,
    key_len: u8,
    key: [u8; MAX_KEY_BYTES],
}

/// Bytes of shared memory that one account takes, its share of the hash buckets not included.
pub const ACCOUNT_BYTES: usize = size_of::<Record>();

/// The place of an account in its table. Slots stay valid as long as the table, and mean nothing in another one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// The overflow account's.
    pub const OVERFLOW: Slot = Slot(0);

    /// The slot as a number, at most the capacity.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What came of a request's check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// What was charged before, in nanoseconds of CPU, or the debt.
    pub result: Result<u64, NonZeroU64>,
    /// The bucket of the limit, by its place among those of the account.
    pub bucket: u8,
    /// The account has no other bucket.
    pub is_only_one: bool,
}

/// Room for a bucket besides those in accounts, on a cache line of its own.
#[repr(C, align(64))]
struct BucketPlace(Bucket);

/// As many of them fit into the slot of an account.
const BUCKETS_PER_SLOT: u32 = (size_of::<Record>() / size_of::<BucketPlace>()) as u32;
/// A place is the number of the slot times this, and the number in the slot. It is more than there are, so that 0 stands for none.
const BUCKET_PLACES: u32 = 32;

const _: () = assert!(BUCKETS_PER_SLOT <= BUCKET_PLACES && size_of::<Header>() == 128);

/// Why a region cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not even one account fits.
    TooSmall,
    /// The region holds something else, or was made by another version of the module.
    Foreign,
    /// The table has accounts of another key.
    OtherKey,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Error::TooSmall => "no account fits into the zone",
            Error::Foreign => "the zone was made by another version of the module",
            Error::OtherKey => "the zone has accounts of another key",
        })
    }
}

/// What a look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The key's account, or the overflow account.
    pub slot: Slot,
    /// The zone is full and had no account of this key.
    pub overflowed: bool,
}

/// A slot that one worker took and did not use, since another worker was first with the same key.
#[derive(Debug, Default)]
pub struct Spare(Option<Slot>);

/// Why a bucket got no account.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// There are no more slots.
    Full,
    /// Another worker was first, with this entry.
    Taken(u64),
}

/// How full a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Bytes taken by accounts and by what is there from the start.
    pub used_bytes: u64,
    /// Accounts that fit, the overflow account not counted.
    pub capacity: u32,
    /// Accounts that are there, the overflow account not counted.
    pub accounts: u32,
    /// Requests that were counted in the overflow account because the zone was full.
    pub overflowed: u64,
    /// Requests whose key was cut.
    pub cut: u64,
}

/// A view of the shared region. Copies are views of the same one.
#[derive(Clone, Copy)]
pub struct Table {
    base: NonNull<u8>,
    bytes: usize,
    buckets_log2: u32,
    records: u32,
    processes: u32,
}

/// A table of a release before, whose accounts can be read.
#[derive(Clone, Copy)]
pub struct TableBefore(pub(crate) Table);

// SAFETY: what a `Table` points to is shared between processes anyway and is only touched through atomics, but for
// records and headers, which are written before they are published and never again.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// As many processes can have requests in flight in a table at the same time: a word for each of them takes 1.6 % of a small
/// region, and less of a large one. Eight words fill a cache line.
fn processes(bytes: usize) -> usize {
    (bytes / 512).clamp(128, MAX_PROCESSES) / 8 * 8
}

/// Sizes of the parts of a region with places for so many processes: (records, log2 of buckets).
fn plan(bytes: usize, processes: usize) -> Option<(u32, u32)> {
    let fixed = size_of::<Header>() + processes * size_of::<AtomicU64>();
    // at most half of the buckets are ever taken; 8 of them fill a cache line, which keeps the records aligned
    let buckets = |records: usize| (records * 2).next_power_of_two().max(8);
    let fits = |records: usize| {
        fixed + buckets(records) * size_of::<AtomicU64>() + records * size_of::<Record>() <= bytes
    };
    let mut records = (bytes / size_of::<Record>()).min(u32::MAX as usize / 4);
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

/// The same in every process that may share a table.
fn hash_of_text(key_text: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(key_text);
    hasher.finish()
}

impl Table {
    /// Makes an empty table, for accounts of a key with this text in the configuration.
    ///
    /// # Errors
    /// [`Error::TooSmall`] if no account fits.
    ///
    /// # Safety
    /// `base` must be aligned to 64 bytes and point to `bytes` bytes that are readable and writable for as long as any
    /// copy of the table is used, and that nobody else uses yet.
    pub unsafe fn create(
        base: NonNull<u8>,
        bytes: usize,
        seed: [u64; 2],
        key_text: &[u8],
    ) -> Result<Table, Error> {
        let (records, buckets_log2) = plan(bytes, processes(bytes)).ok_or(Error::TooSmall)?;
        let processes = processes(bytes) as u32;
        let table = Table { base, bytes, buckets_log2, records, processes };
        let header = Header {
            magic: MAGIC,
            layout: LAYOUT,
            seed,
            records,
            buckets_log2,
            key_text: hash_of_text(key_text),
            next_bucket: AtomicU32::new(0),
            epoch: AtomicU32::new(1),
            active_threshold_ns: AtomicU64::new(ACTIVE_THRESHOLD_NS),
            counters: Counters {
                next: AtomicU32::new(1),
                processes_used: AtomicU32::new(0),
                overflowed: AtomicU64::new(0),
                cut: AtomicU64::new(0),
                save_due_ms: AtomicU64::new(NEVER),
                orphaned: AtomicU64::new(0),
                saved_as: [AtomicU64::new(0), AtomicU64::new(0)],
                look: Look::new(),
            },
        };
        // SAFETY: the caller gives us the region alone, and `plan` has made sure that all parts lie within.
        unsafe {
            base.cast::<Header>().write(header);
            table.process_base().write_bytes(0, processes as usize);
            table.bucket_base().write_bytes(0, 1 << buckets_log2);
        }
        table.write_record(Slot::OVERFLOW, OVERFLOW_KEY);
        Ok(table)
    }

    /// Opens a table that [`Table::create`] made in this region for the same key, maybe in another process.
    ///
    /// # Errors
    /// [`Error::Foreign`] if there is no such table, [`Error::OtherKey`] if it is not this key's.
    ///
    /// # Safety
    /// As for [`Table::create`], but others may use the table.
    pub unsafe fn open(base: NonNull<u8>, bytes: usize, key_text: &[u8]) -> Result<Table, Error> {
        // SAFETY: as the caller says.
        unsafe { Table::open_as((MAGIC, LAYOUT), processes(bytes), base, bytes, key_text) }
    }

    /// Opens a table that a release before has made in this region for the same key, to be copied by [`crate::state::copy`].
    ///
    /// # Errors
    /// As for [`Table::open`].
    ///
    /// # Safety
    /// As for [`Table::open`].
    pub unsafe fn open_before(
        base: NonNull<u8>,
        bytes: usize,
        key_text: &[u8],
    ) -> Result<TableBefore, Error> {
        if LAYOUT != LAYOUT_BEFORE {
            // accounts are not alike any more
            return Err(Error::Foreign);
        }
        let open_as = |magic, processes| {
            // SAFETY: as the caller says.
            unsafe { Table::open_as((magic, LAYOUT), processes, base, bytes, key_text) }.map(TableBefore)
        };
        match open_as(MAGIC_BEFORE, processes(bytes)) {
            Err(Error::Foreign) => open_as(MAGIC_WITHOUT_PROCESSES, 0),
            result => result,
        }
    }

    unsafe fn open_as(
        version: (u64, u64),
        processes: usize,
        base: NonNull<u8>,
        bytes: usize,
        key_text: &[u8],
    ) -> Result<Table, Error> {
        let (records, buckets_log2) = plan(bytes, processes).ok_or(Error::TooSmall)?;
        // SAFETY: the region is readable and holds at least a header.
        let header = unsafe { base.cast::<Header>().as_ref() };
        let same = (header.magic, header.layout) == version
            && header.records == records
            && header.buckets_log2 == buckets_log2;
        if !same {
            Err(Error::Foreign)
        } else if header.key_text != hash_of_text(key_text) {
            Err(Error::OtherKey)
        } else {
            Ok(Table { base, bytes, buckets_log2, records, processes: processes as u32 })
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: `create` or `open` has found a header there, and it only changes through atomics.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Two numbers that no other table has, the same in all processes.
    pub fn id(&self) -> [u64; 2] {
        self.header().seed
    }

    fn process_base(&self) -> NonNull<AtomicU64> {
        // SAFETY: `plan` has put the processes behind the header, within the region.
        unsafe { self.base.add(size_of::<Header>()).cast() }
    }

    /// Processes that may have requests in flight here.
    pub(crate) fn register(&self) -> Register<'_> {
        // SAFETY: as many places were laid out and zeroed by `create`; they are only used as atomics.
        let places = unsafe { slice::from_raw_parts(self.process_base().as_ptr(), self.processes as usize) };
        Register { places, used: &self.header().counters.processes_used }
    }

    fn bucket_base(&self) -> NonNull<AtomicU64> {
        // SAFETY: `plan` has put the buckets behind the processes, within the region.
        unsafe { self.process_base().add(self.processes as usize) }
    }

    fn buckets(&self) -> &[AtomicU64] {
        // SAFETY: as many buckets were laid out and zeroed by `create`; they are only used as atomics.
        unsafe { slice::from_raw_parts(self.bucket_base().as_ptr(), 1 << self.buckets_log2) }
    }

    fn record_at(&self, slot: Slot) -> NonNull<Record> {
        debug_assert!(slot.0 < self.records);
        // a slot of another table would be an error of the caller's; it gets the overflow account, not other memory
        let index = if slot.0 < self.records { slot.index() } else { Slot::OVERFLOW.index() };
        let words = self.processes as usize + (1 << self.buckets_log2);
        let offset = size_of::<Header>() + words * size_of::<AtomicU64>() + index * size_of::<Record>();
        // SAFETY: the index is below `records`, for which `plan` has made room. The offset keeps the alignment of 64: header
        // and records are multiples of it, and so are 8 buckets or processes.
        unsafe { self.base.add(offset).cast() }
    }

    fn record(&self, slot: Slot) -> &Record {
        // SAFETY: a slot that is not the overflow account's comes out of a bucket, which is published after its record was
        // written, and from then on the record only changes through atomics.
        unsafe { self.record_at(slot).as_ref() }
    }

    /// Writes an empty account. The slot must not be published.
    fn write_record(&self, slot: Slot, key: &[u8]) {
        let record = self.record_at(slot);
        let len = key.len().min(MAX_KEY_BYTES);
        // SAFETY: the record lies within the region, and nobody reads it before it is published. All zero is a valid
        // account, and `len` bytes fit into the key.
        unsafe {
            record.write_bytes(0, 1);
            let record = record.as_ptr();
            (&raw mut (*record).key_len).write(len as u8);
            (&raw mut (*record).key).cast::<u8>().copy_from_nonoverlapping(key.as_ptr(), len);
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let seed = self.header().seed;
        let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
        hasher.write(key);
        hasher.finish()
    }

    /// The account of `key`: an existing one, a new one, or the overflow account where none is left. A longer key than
    /// [`MAX_KEY_BYTES`] is cut. `spare` belongs to the calling worker and this table.
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
        // not reached: at most half of the buckets are taken
        Found { slot: Slot::OVERFLOW, overflowed: true }
    }

    /// Makes an account in a bucket that was empty a moment ago.
    fn insert(&self, bucket: &AtomicU64, hash: u64, key: &[u8], spare: &mut Spare) -> Result<Slot, Refused> {
        let slot = spare.0.take().or_else(|| self.take_slot()).ok_or(Refused::Full)?;
        self.write_record(slot, key);
        if let Err(seen) = bucket.compare_exchange(0, entry(hash, slot), Release, Acquire) {
            spare.0 = Some(slot);
            return Err(Refused::Taken(seen));
        }
        Ok(slot)
    }

    /// The account of `key`, cut like there, if there is one.
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

    fn probe(&self, hash: u64) -> impl Iterator<Item = &AtomicU64> {
        let buckets = self.buckets();
        let mask = buckets.len() - 1;
        let start = hash as usize & mask;
        buckets[start..].iter().chain(&buckets[..start])
    }

    fn matches(&self, value: u64, hash: u64, key: &[u8]) -> Option<Slot> {
        let slot = Slot(value as u32);
        (value >> 32 == hash >> 32 && self.key(slot) == key).then_some(slot)
    }

    fn take_slot(&self) -> Option<Slot> {
        let next = &self.header().counters.next;
        next.fetch_update(Relaxed, Relaxed, |n| (n < self.records).then_some(n + 1)).ok().map(Slot)
    }

    /// The counters of an account.
    #[inline]
    pub fn account(&self, slot: Slot) -> &Account {
        &self.record(slot).account
    }

    /// The key of an account.
    pub fn key(&self, slot: Slot) -> &[u8] {
        let record = self.record(slot);
        &record.key[..usize::from(record.key_len)]
    }

    /// The slot with this index, if it has an account. Looks through all buckets.
    pub fn slot(&self, index: usize) -> Option<Slot> {
        let slot = u32::try_from(index).ok().map(Slot)?;
        (slot == Slot::OVERFLOW || self.published().any(|published| published == slot)).then_some(slot)
    }

    /// The slots of all accounts, the overflow account first, then in the order in which they were made.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::OVERFLOW];
        slots.extend(self.published());
        slots.sort_unstable();
        slots
    }

    /// Slots that have an account, but for the overflow account's. Only buckets tell: a slot that was handed out may never be
    /// published, or be written right now.
    fn published(&self) -> impl Iterator<Item = Slot> {
        let values = self.buckets().iter().map(|bucket| bucket.load(Acquire));
        values.filter(|&value| value != 0).map(|value| Slot(value as u32))
    }

    /// Checks a request of an account against a limit. `now_ms` is a monotonic clock's that all workers share, `ahead_ns` what the
    /// caller has not added yet to the bucket of this place, and `spare` belongs to the caller and this table. `is_configured` tells
    /// which limits the zone has.
    #[inline]
    pub fn check(
        &self,
        slot: Slot,
        now_ms: u64,
        limit: &Limit,
        ahead_ns: impl Fn(usize) -> i64,
        is_configured: impl Fn(LimitId) -> bool,
        spare: &mut Spare,
    ) -> Checked {
        let account = self.account(slot);
        let first = account.bucket();
        let (place, bucket) = if first.is_of(limit) || first.claim(limit) {
            (0, first)
        } else {
            self.find_bucket(account, now_ms, limit, &is_configured, spare)
        };
        let result = bucket.check(now_ms, limit, ahead_ns(place), || account.average_ns());
        Checked { result, bucket: place as u8, is_only_one: first.next.load(Relaxed) == 0 }
    }

    /// The bucket of a limit that is not that of the account's first one.
    #[cold]
    #[inline(never)]
    fn find_bucket<'a>(
        &'a self,
        account: &'a Account,
        now_ms: u64,
        limit: &Limit,
        is_configured: &dyn Fn(LimitId) -> bool,
        spare: &mut Spare,
    ) -> (usize, &'a Bucket) {
        let buckets = || account.buckets(Some(self)).enumerate();
        let take_full = |unused| buckets().find(|(_, bucket)| bucket.take_full(now_ms, limit, unused));
        let found = buckets()
            .find(|(_, bucket)| bucket.is_of(limit))
            .or_else(|| buckets().find(|(_, bucket)| bucket.take_over(limit, is_configured)))
            .or_else(|| take_full(true));
        if let Some(found) = found {
            return found;
        }
        // others may add some at the same time
        let mut last = (0, account.bucket());
        while let Some(found) = buckets().last() {
            last = found;
            let (place, bucket) = found;
            if bucket.is_of(limit) {
                return found;
            }
            if place + 1 == MAX_BUCKETS {
                break;
            }
            let Some((at, new)) = self.new_bucket(spare) else { break };
            if new.claim(limit) && bucket.next.compare_exchange(0, at, Release, Relaxed).is_ok() {
                return (place + 1, new);
            }
        }
        take_full(false).unwrap_or(last)
    }

    /// Room for one more bucket, all zero, and its place. A slot that no account has holds many; none if no slot is left.
    fn new_bucket(&self, spare: &mut Spare) -> Option<(u32, &Bucket)> {
        let next = &self.header().next_bucket;
        loop {
            let at = next.load(Acquire);
            if !at.is_multiple_of(BUCKET_PLACES) {
                // the next one of the same slot; 0 after the last one
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
            // place 0 is not used: it says that there is none
            if next.compare_exchange(at, first + 1, Release, Relaxed).is_err() {
                spare.0 = Some(slot);
            }
        }
    }

    /// The bucket at a place that [`Table::new_bucket`] has given out.
    fn bucket_at(&self, at: u32) -> Option<&Bucket> {
        let (slot, place) = (at / BUCKET_PLACES, at % BUCKET_PLACES);
        if slot == 0 || slot >= self.records || place >= BUCKETS_PER_SLOT {
            return None;
        }
        // SAFETY: the slot is within the region and no account's. It was zeroed before its places were given out, which is a valid
        // bucket; as many fit into it, and a record is aligned as they need it. From then on they only change through atomics.
        Some(unsafe { self.record_at(Slot(slot)).cast::<BucketPlace>().add(place as usize).cast().as_ref() })
    }

    /// Whether a limit of the account refuses requests once `ahead_ns` is added to the bucket of this place. As for [`Table::check`].
    pub fn is_in_debt(&self, slot: Slot, now_ms: u64, ahead_ns: impl Fn(usize) -> i64) -> bool {
        let mut buckets = self.account(slot).buckets(Some(self)).enumerate();
        buckets.any(|(place, bucket)| bucket.is_in_debt(now_ms, ahead_ns(place)))
    }

    /// Counts a request that was counted in the overflow account since the zone is full.
    pub fn count_overflowed(&self) {
        self.header().counters.overflowed.fetch_add(1, Relaxed);
    }

    /// Counts a request whose key was cut.
    pub fn count_cut(&self) {
        self.header().counters.cut.fetch_add(1, Relaxed);
    }

    /// Adds what a table before this one has counted.
    pub(crate) fn restore_counts(&self, overflowed: u64, cut: u64) {
        self.header().counters.overflowed.fetch_add(overflowed, Relaxed);
        self.header().counters.cut.fetch_add(cut, Relaxed);
    }

    /// When the accounts are to be saved next, [`NEVER`] at first.
    pub fn save_due_ms(&self) -> u64 {
        self.header().counters.save_due_ms.load(Relaxed)
    }

    /// Sets when the accounts are to be saved next.
    pub fn set_save_due(&self, at_ms: u64) {
        self.header().counters.save_due_ms.store(at_ms, Relaxed);
    }

    /// Whether it falls to the caller to save the accounts now; if so, they are due again at `next_ms`. Of all processes
    /// that ask, one is told so. Should it die at that, the accounts are saved the next time. A time that lies much further
    /// ahead than `next_ms` is a wrong one: they are due.
    pub fn claim_save(&self, now_ms: u64, next_ms: u64) -> bool {
        let due = &self.header().counters.save_due_ms;
        let due_ms = due.load(Relaxed);
        let is_wrong = due_ms != NEVER && due_ms > next_ms.saturating_add(FAR_MS);
        (now_ms >= due_ms || is_wrong) && due.compare_exchange(due_ms, next_ms, Relaxed, Relaxed).is_ok()
    }

    /// Notes whether any configuration has this table. If none has, it falls to the workers that still count there to keep what
    /// they count.
    pub fn set_orphaned(&self, orphaned: bool) {
        self.header().counters.orphaned.store(if orphaned { ORPHANED } else { 0 }, Relaxed);
    }

    /// See [`Table::set_orphaned`].
    pub fn is_orphaned(&self) -> bool {
        self.header().counters.orphaned.load(Relaxed) == ORPHANED
    }

    /// Notes the file that the accounts were saved in: a number that changes with each writing, or 0 if that is not known, and one of
    /// its name.
    pub fn set_saved_as(&self, file: [u64; 2]) {
        let [a, b] = &self.header().counters.saved_as;
        a.store(file[0], Relaxed);
        b.store(file[1], Relaxed);
    }

    /// See [`Table::set_saved_as`].
    pub fn saved_as(&self) -> [u64; 2] {
        self.header().counters.saved_as.each_ref().map(|number| number.load(Relaxed))
    }

    /// How much CPU in a second makes it an active one, in nanoseconds: [`ACTIVE_THRESHOLD_NS`] at first.
    pub fn active_threshold_ns(&self) -> u64 {
        self.header().active_threshold_ns.load(Relaxed)
    }

    /// Sets how much CPU in a second makes it an active one, in nanoseconds, for seconds that are not over yet.
    pub fn set_active_threshold(&self, ns: u64) {
        self.header().active_threshold_ns.store(ns, Relaxed);
    }

    /// To be called before an account is read: seconds that are over are judged, and while a request is in flight its time
    /// counts up to now. `now_ms` is the shared clock's.
    pub fn refresh(&self, slot: Slot, now_ms: u64) {
        self.account(slot).refresh(self, now_ms);
    }

    /// Nobody counts any more: the last second of each account is judged too.
    pub fn conclude(&self) {
        let threshold_ns = self.active_threshold_ns();
        let slots = [Slot::OVERFLOW].into_iter().chain(self.published());
        slots.for_each(|slot| self.account(slot).conclude(threshold_ns));
    }

    /// The epoch of the gauges of requests in flight.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.header().epoch.load(Relaxed)
    }

    /// Whether it falls to the caller to call [`Table::reap`] now. Of all processes that ask each second, one is told so.
    pub fn claim_look(&self, now_ms: u64) -> bool {
        self.header().counters.look.claim(now_ms)
    }

    /// Looks for processes that had requests in flight here and are gone; how many there were. `now_ms` is the shared clock's.
    ///
    /// In this order: whoever is killed in between leaves the dead in the register, and the next one who looks finds them there
    /// and begins again. An epoch that moves twice does no harm: the living add their requests once more.
    pub fn reap(&self, now_ms: u64, mut is_alive: impl FnMut(ProcessId) -> bool) -> usize {
        let mut count = 0;
        loop {
            let dead = self.register().dead(&mut is_alive);
            if dead.count() > 0 {
                self.next_epoch(now_ms);
                self.register().free(&dead);
            }
            count += dead.count();
            if dead.count() < MOST_DEAD {
                return count;
            }
        }
    }

    /// Requests in flight of processes that are gone are gone too. `now_ms` is the shared clock's: until now, nobody knew.
    pub(crate) fn next_epoch(&self, now_ms: u64) {
        let epoch = self.epoch();
        for slot in [Slot::OVERFLOW].into_iter().chain(self.published()) {
            let account = self.account(slot);
            if account.in_flight().read(epoch) != 0 {
                account.cover_on(now_ms);
            }
        }
        self.header().epoch.fetch_add(1, Release);
    }

    /// How full the table is. Looks through all buckets.
    pub fn fill(&self) -> Fill {
        // counted, so that a worker that is killed leaves no wrong count behind
        self.fill_with(self.published().count() as u32)
    }

    /// How full the table is, by a number of accounts that [`Listing`] has found.
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

/// The accounts of a table, found piece by piece: looking through the buckets of a large one takes milliseconds. It
/// has a bit for each slot, so they come in the order in which they were made without having to be sorted.
#[derive(Debug, Default)]
pub struct Listing {
    bits: Vec<u64>,
    buckets: usize,
    accounts: u32,
}

impl Listing {
    /// How many buckets [`Listing::search`] looks through: some microseconds.
    const BUCKETS_AT_ONCE: usize = 4096;

    /// Looks through the next buckets of the table, which is the same at every call; whether there are more of them. An
    /// account that is made meanwhile is found or not.
    pub fn search(&mut self, table: &Table) -> bool {
        let buckets = table.buckets();
        if self.bits.is_empty() {
            self.bits = vec![0; table.records.div_ceil(u64::BITS) as usize];
        }
        let end = buckets.len().min(self.buckets + Self::BUCKETS_AT_ONCE);
        for bucket in &buckets[self.buckets..end] {
            // an empty bucket sets no bit of the slot 0; without a branch, which would be mispredicted every third time
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

    /// Accounts that were found; the overflow account is none of them.
    pub fn accounts(&self) -> u32 {
        self.accounts
    }

    /// The first account that was found and whose slot is not below `index`.
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

/// As much of a key as counts.
fn cut(key: &[u8]) -> &[u8] {
    &key[..key.len().min(MAX_KEY_BYTES)]
}

/// What a bucket holds: the upper half of the hash, and the slot, which is never 0.
fn entry(hash: u64, slot: Slot) -> u64 {
    hash >> 32 << 32 | u64::from(slot.0)
}

#[cfg(test)]
mod tests;
