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

use crate::account::Account;
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

/// So much CPU in a second makes it an active one if nothing else is said, in nanoseconds: 1 % of a core.
pub const ACTIVE_THRESHOLD_NS: u64 = 10_000_000;

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

    /// The bucket that comes after this one in its account.
    #[inline]
    pub(crate) fn bucket_after(&self, bucket: &Bucket) -> Option<&Bucket> {
        match bucket.next.load(Acquire) {
            0 => None,
            at => self.bucket_at(at),
        }
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
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::account::{Settlement, Usage};
    use crate::limit::{Apart, Share, parse_cores};
    use crate::testing::{Region, cases, killed_after};

    fn keys_of(table: &Table) -> Vec<Vec<u8>> {
        table.slots().into_iter().map(|slot| table.key(slot).to_vec()).collect()
    }

    #[test]
    fn a_new_table_has_an_overflow_account_and_no_other() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        assert_eq!(table.slots(), [Slot::OVERFLOW]);
        assert_eq!(table.key(Slot::OVERFLOW), OVERFLOW_KEY);
        assert_eq!(table.find(OVERFLOW_KEY), Some(Slot::OVERFLOW));
        assert_eq!(table.find(b""), None);
        assert!(table.account(Slot::OVERFLOW).is_untouched(table.epoch()));
        let fill = table.fill();
        assert_eq!((fill.accounts, fill.overflowed, fill.cut), (0, 0, 0));
        assert!(fill.used_bytes < 2 * ACCOUNT_BYTES as u64 + 2048 + 16 * u64::from(fill.capacity));
    }

    #[test]
    fn a_real_key_of_the_overflow_accounts_name_is_counted_there() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let found = table.find_or_insert(b"*", &mut Spare::default());
        assert_eq!(found, Found { slot: Slot::OVERFLOW, overflowed: false });
        assert_eq!(table.fill().accounts, 0);
    }

    #[test]
    fn keys_may_be_empty_and_have_any_bytes() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let keys: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a", b"A", b"a\0", b"\xFF\xFE", b"**"];
        let slots: BTreeSet<Slot> =
            keys.iter().map(|key| table.find_or_insert(key, &mut spare).slot).collect();
        assert_eq!(slots.len(), keys.len());
        for key in keys {
            let slot = table.find(key).unwrap();
            assert_eq!(table.key(slot), key);
            assert_eq!(table.find_or_insert(key, &mut spare), Found { slot, overflowed: false });
        }
        assert_eq!(table.fill().accounts, keys.len() as u32);
    }

    #[test]
    fn a_long_key_is_cut() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let long = [b'k'; 1000];
        let slot = table.find_or_insert(&long[..255], &mut spare).slot;
        for len in [256, 257, 511, 512, 1000] {
            assert_eq!(table.find_or_insert(&long[..len], &mut spare).slot, slot, "{len}");
            assert_eq!(table.find(&long[..len]), Some(slot), "{len}");
        }
        assert_eq!(table.key(slot), &long[..255]);
        assert_ne!(table.find_or_insert(&long[..254], &mut spare).slot, slot);
    }

    #[test]
    fn a_full_table_still_finds_its_keys_and_sends_new_ones_to_the_overflow_account() {
        let region = Region::new(20_000);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let capacity = table.fill().capacity;
        let key = |n: u32| format!("host-{n}.example").into_bytes();
        let slots: Vec<Slot> =
            (0..capacity).map(|n| table.find_or_insert(&key(n), &mut spare).slot).collect();
        assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), capacity as usize);
        assert!(!slots.contains(&Slot::OVERFLOW));
        for n in capacity..capacity + 100 {
            let found = table.find_or_insert(&key(n), &mut spare);
            assert_eq!(found, Found { slot: Slot::OVERFLOW, overflowed: true });
            assert_eq!(table.find(&key(n)), None);
        }
        for n in 0..capacity {
            let slot = slots[n as usize];
            assert_eq!(table.find_or_insert(&key(n), &mut spare), Found { slot, overflowed: false });
        }
        let fill = table.fill();
        assert_eq!(fill.accounts, capacity);
        assert!(fill.used_bytes <= 20_000);
        assert_eq!(fill.overflowed, 0, "the caller counts requests, not look-ups");
        table.count_overflowed();
        table.count_cut();
        assert_eq!((table.fill().overflowed, table.fill().cut), (1, 1));
    }

    #[test]
    fn of_all_that_could_save_one_does_and_only_when_it_is_due() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        assert!(!table.claim_save(u64::MAX - 1, u64::MAX), "nothing is saved where nobody said so");
        table.set_save_due(100);
        assert!(!table.claim_save(99, 160));
        let claims = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| table.claim_save(100, 160))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|&won| won).count()
        });
        assert_eq!((claims, table.save_due_ms()), (1, 160));
    }

    #[test]
    fn a_time_that_was_wrong_does_not_stop_saving() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        table.set_save_due(1 << 50);
        assert!(table.claim_save(100, 60_100));
        assert!(
            !table.claim_save(100, 60_100) && !table.claim_save(0, 60_000),
            "a worker that is a little behind"
        );
    }

    #[test]
    fn a_region_of_the_version_before_is_refused() {
        let region = Region::new(65_536);
        region.table().unwrap();
        // SAFETY: the header is there, and nobody else looks at it now.
        unsafe {
            let magic = &raw mut (*region.base().cast::<Header>().as_ptr()).magic;
            magic.write(MAGIC_BEFORE);
        }
        // SAFETY: the region is aligned and ours.
        let opened = unsafe { Table::open(region.base(), region.bytes(), b"$host") };
        assert_eq!(opened.err(), Some(Error::Foreign));
    }

    fn limit(name: &str, cores: &[u8]) -> Limit {
        Limit::new(LimitId::of(name.as_bytes()), parse_cores(cores).unwrap(), Some(0), None)
    }

    /// The bucket of a check, and the debt.
    fn check(table: &Table, slot: Slot, now_ms: u64, limit: &Limit, spare: &mut Spare) -> (u8, u64) {
        let checked = table.check(slot, now_ms, limit, |_| 0, |_| true, spare);
        (checked.bucket, checked.result.map_or_else(NonZeroU64::get, |_| 0))
    }

    const MS: u64 = 1_000_000;

    fn use_cpu(table: &Table, slot: Slot, now_ms: u64, share: Share, ns: u64) {
        let mut apart = Apart::default();
        apart.add(share, ns);
        let usage = Usage { cpu_ns: ns, ..Usage::default() };
        table.account(slot).settle_apart(
            table,
            now_ms,
            &Settlement { usage, ..Settlement::default() },
            Some(&apart),
        );
    }

    #[test]
    fn each_limit_of_an_account_has_a_bucket() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let slot = table.find_or_insert(b"key", &mut spare).slot;
        let names = ["a", "b", "c", "d"];
        let limits = names.map(|name| limit(name, b"0.5"));
        let mut debts = |now_ms| limits.map(|limit| check(&table, slot, now_ms, &limit, &mut spare).1);
        assert_eq!(debts(1_000), [0; 4]);
        use_cpu(&table, slot, 1_000, Share::Checked(2), 50 * MS);
        assert_eq!(debts(1_000), [0, 0, 50 * MS, 0], "what a limit has checked is its own");
        use_cpu(&table, slot, 1_000, Share::Used, 20 * MS);
        assert_eq!(
            debts(1_000),
            [20, 20, 70, 20].map(|ms| ms * MS),
            "what none has checked is all of theirs"
        );
        use_cpu(&table, slot, 1_000, Share::Refused, 20 * MS);
        assert_eq!(debts(1_020), [10, 10, 60, 10].map(|ms| ms * MS), "what was refused is nobody's");
        assert_eq!(
            table.account(slot).limit(&table, 1_020).unwrap().debt_ns,
            60 * MS,
            "the largest is shown"
        );
        check(&table, slot, 1_100, &limits[1], &mut spare);
        assert_eq!(
            table.account(slot).limit(&table, 1_100).unwrap().debt_ns,
            0,
            "of those that were checked last"
        );
        assert!(table.is_in_debt(slot, 1_139, |_| 0) && !table.is_in_debt(slot, 1_140, |_| 0));
        // another binary, or another worker
        // SAFETY: the region is aligned and ours.
        let again = unsafe { Table::open(region.base(), region.bytes(), b"$host") }.unwrap();
        for (n, limit) in limits.iter().enumerate() {
            assert_eq!(usize::from(check(&again, slot, 1_020, limit, &mut spare).0), n);
        }
    }

    #[test]
    fn a_limit_beyond_the_fourth_takes_over_a_full_bucket_or_shares_the_last_one() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let slot = table.find_or_insert(b"key", &mut spare).slot;
        for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            assert_eq!(check(&table, slot, 1_000, &limit(name, b"0.5"), &mut spare), (n as u8, 0));
            use_cpu(&table, slot, 1_000, Share::Checked(n as u8), 50 * MS * (n as u64 + 1));
        }
        let more = limit("e", b"0.1");
        assert_eq!(check(&table, slot, 1_000, &more, &mut spare), (3, 200 * MS), "the last one is shared");
        assert_eq!(check(&table, slot, 1_100, &more, &mut spare), (0, 0), "the first one is full by now");
        assert_eq!(check(&table, slot, 1_100, &limit("a", b"0.5"), &mut spare).0, 0, "and is taken again");
        // limits that are not used any more give their buckets to others, before new ones are made
        let slot = table.find_or_insert(b"reloaded", &mut spare).slot;
        for n in 0..100 {
            let now_ms = 1_000_000 * (n + 1);
            assert_eq!(check(&table, slot, now_ms, &limit(&n.to_string(), b"0.5"), &mut spare), (0, 0));
            use_cpu(&table, slot, now_ms, Share::Used, 50 * MS);
        }
    }

    #[test]
    fn a_limit_that_was_changed_goes_on_with_the_debt() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let slot = table.find_or_insert(b"key", &mut spare).slot;
        let (kept, before, after) = (limit("a", b"0.5"), limit("b", b"0.5"), limit("c", b"0.1"));
        for limit in [&kept, &before] {
            check(&table, slot, 1_000, limit, &mut spare);
            use_cpu(&table, slot, 1_000, Share::Used, 50 * MS);
        }
        let is_configured = |id| id == LimitId::of(b"a") || id == LimitId::of(b"c");
        let checked = table.check(slot, 1_000, &after, |_| 0, is_configured, &mut spare);
        assert_eq!((checked.bucket, checked.result.unwrap_err().get()), (1, 50 * MS));
        assert_eq!(check(&table, slot, 1_000, &kept, &mut spare), (0, 100 * MS));
    }

    #[test]
    fn buckets_take_slots_and_share_the_first_one_where_there_are_none() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let capacity = table.fill().capacity as usize;
        let mut slots: Vec<Slot> = (0..30u8).map(|n| table.find_or_insert(&[n], &mut spare).slot).collect();
        for &slot in &slots {
            for (n, name) in ["a", "b"].into_iter().enumerate() {
                assert_eq!(check(&table, slot, 1_000, &limit(name, b"0.5"), &mut spare).0, n as u8);
                use_cpu(&table, slot, 1_000, Share::Checked(n as u8), MS);
            }
        }
        // 24 in each slot
        let rest = (0..capacity)
            .filter(|n| !table.find_or_insert(format!("more {n}").as_bytes(), &mut spare).overflowed);
        assert_eq!(rest.count(), capacity - 30 - 2);
        slots.truncate(20);
        for &slot in &slots {
            for name in ["c", "d"] {
                check(&table, slot, 1_000, &limit(name, b"0.5"), &mut spare);
                use_cpu(&table, slot, 1_000, Share::Used, MS);
            }
        }
        let places: Vec<usize> =
            slots.iter().map(|&slot| table.account(slot).buckets(Some(&table)).count()).collect();
        assert_eq!(places.iter().sum::<usize>(), 2 * 20 + (48 - 30), "{places:?}");
        let slot = slots[19];
        assert_eq!(
            check(&table, slot, 1_000, &limit("e", b"0.5"), &mut spare).0,
            1,
            "without room the last one is shared"
        );
    }

    #[test]
    fn a_worker_that_is_killed_while_it_makes_a_bucket_leaves_a_limit_that_works() {
        for writes in 0.. {
            let region = Region::new(20_000);
            let table = region.table().unwrap();
            let mut spare = Spare::default();
            let slot = table.find_or_insert(b"key", &mut spare).slot;
            let both = [limit("a", b"0.5"), limit("b", b"0.5")];
            let was_killed = killed_after(writes, || {
                let mut spare = Spare::default();
                for limit in &both {
                    check(&table, slot, 1_000, limit, &mut spare);
                }
            });
            for (n, limit) in both.iter().enumerate() {
                assert_eq!(check(&table, slot, 1_001, limit, &mut spare), (n as u8, 0), "{writes}");
            }
            use_cpu(&table, slot, 1_001, Share::Checked(1), MS);
            assert_eq!(
                both.map(|limit| check(&table, slot, 1_001, &limit, &mut spare).1),
                [0, MS],
                "{writes}"
            );
            if !was_killed {
                return;
            }
        }
    }

    #[test]
    fn buckets_made_by_several_threads_are_there_once_each() {
        let rounds = if cfg!(miri) { 1 } else { 60 };
        for _ in 0..rounds {
            let region = Region::new(65_536);
            let table = region.table().unwrap();
            let slot = table.find_or_insert(b"key", &mut Spare::default()).slot;
            let limits = ["a", "b", "c", "d"].map(|name| limit(name, b"0.5"));
            let seen: Vec<[u8; 4]> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|turn| {
                        scope.spawn(move || {
                            let mut spare = Spare::default();
                            let mut places = [0; 4];
                            for n in 0..4 {
                                let at = (n + turn) % 4;
                                places[at] = check(&table, slot, 1_000, &limits[at], &mut spare).0;
                            }
                            places
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(seen.iter().all(|places| *places == seen[0]), "{seen:?}");
            assert_eq!(seen[0].iter().collect::<BTreeSet<_>>().len(), 4);
        }
    }

    #[test]
    fn when_a_table_is_saved_is_in_its_header() {
        // t/state.t writes there, so that it need not wait for a minute
        let at = core::mem::offset_of!(Header, counters) + core::mem::offset_of!(Counters, save_due_ms);
        assert_eq!((at, size_of::<Header>()), (88, 128));
    }

    /// A table as a release before has made it.
    fn before(region: &Region, key_text: &[u8], magic: u64) -> Table {
        let places = if magic == MAGIC_WITHOUT_PROCESSES { 0 } else { processes(region.bytes()) };
        let (records, buckets_log2) = plan(region.bytes(), places).unwrap();
        let mut table = region.table().unwrap();
        (table.records, table.buckets_log2, table.processes) = (records, buckets_log2, places as u32);
        // SAFETY: the region is ours, and has a header.
        unsafe {
            let header = region.base().cast::<Header>().as_mut();
            (header.magic, header.layout) = (magic, LAYOUT_BEFORE);
            (header.records, header.buckets_log2) = (records, buckets_log2);
            header.key_text = hash_of_text(key_text);
            table.bucket_base().write_bytes(0, 1 << buckets_log2);
        }
        table.write_record(Slot::OVERFLOW, OVERFLOW_KEY);
        table
    }

    #[test]
    fn accounts_of_the_releases_before_are_copied() {
        [MAGIC_BEFORE, MAGIC_WITHOUT_PROCESSES].into_iter().for_each(accounts_are_copied);
    }

    fn accounts_are_copied(magic: u64) {
        let region = Region::new(200_000);
        let old = before(&region, b"$host", magic);
        for n in 1..=20u64 {
            let found = old.find_or_insert(format!("{n}.test").as_bytes(), &mut Spare::default());
            let usage = Usage { cpu_ns: n * 1000, wakeups: n, sent_bytes: n, received_bytes: n };
            old.account(found.slot).add(0, &usage);
        }
        old.conclude();
        // SAFETY: the region is readable, and stays as long as the tables.
        let (current, other, opened) = unsafe {
            (
                Table::open(region.base(), region.bytes(), b"$host").err(),
                Table::open_before(region.base(), region.bytes(), b"$uri").err(),
                Table::open_before(region.base(), region.bytes(), b"$host").unwrap(),
            )
        };
        assert_eq!((current, other), (Some(Error::Foreign), Some(Error::OtherKey)));
        let to = Region::new(200_000);
        let table = to.table().unwrap();
        let restored = crate::state::copy_before(&opened, &table);
        assert_eq!((restored.accounts, restored.overflowed), (20, 0));
        for n in 1..=20u64 {
            let slot = table.find(format!("{n}.test").as_bytes()).unwrap();
            assert_eq!(
                table.account(slot).totals(),
                old.account(old.find(table.key(slot)).unwrap()).totals()
            );
        }
    }

    #[test]
    fn a_region_that_is_too_small_is_refused() {
        let enough = (0..).find(|&bytes| plan(bytes, processes(bytes)).is_some()).unwrap();
        assert!(enough > 2 * ACCOUNT_BYTES && enough < 3 * ACCOUNT_BYTES, "{enough}");
        for bytes in [0, 1, 64, ACCOUNT_BYTES, enough - 1] {
            assert_eq!(Region::new(bytes).table().err(), Some(Error::TooSmall), "{bytes}");
        }
        let region = Region::new(enough);
        let table = region.table().unwrap();
        assert_eq!(table.fill().capacity, 1);
        let mut spare = Spare::default();
        assert!(!table.find_or_insert(b"one", &mut spare).overflowed);
        assert!(table.find_or_insert(b"two", &mut spare).overflowed);
    }

    #[test]
    fn a_table_can_be_opened_again_and_nothing_else_can() {
        let region = Region::new(65_536);
        // SAFETY: the region is aligned and ours.
        let open = |bytes| unsafe { Table::open(region.base(), bytes, b"$host") };
        assert_eq!(open(region.bytes()).err(), Some(Error::Foreign));
        let table = region.table().unwrap();
        let slot = table.find_or_insert(b"key", &mut Spare::default()).slot;
        table.account(slot).add(0, &Usage { wakeups: 3, ..Usage::default() });
        let again = open(region.bytes()).unwrap();
        assert_eq!(again.find(b"key"), Some(slot));
        assert_eq!(again.account(slot).snapshot(0, 1).usage.wakeups, 3);
        assert_eq!(open(region.bytes() / 2).err(), Some(Error::Foreign), "another size");
        assert_eq!(open(100).err(), Some(Error::TooSmall));
        // SAFETY: as above.
        let other_key = unsafe { Table::open(region.base(), region.bytes(), b"$uri") };
        assert_eq!(other_key.err(), Some(Error::OtherKey));
        // another layout
        // SAFETY: the header is there, and nobody else looks at it now.
        unsafe { (&raw mut (*region.base().cast::<Header>().as_ptr()).layout).write(LAYOUT + 1) };
        assert_eq!(open(region.bytes()).err(), Some(Error::Foreign));
    }

    #[test]
    fn errors_can_stand_in_a_log_line() {
        assert_eq!(Error::TooSmall.to_string(), "no account fits into the zone");
        assert_eq!(Error::Foreign.to_string(), "the zone was made by another version of the module");
    }

    fn listed(table: &Table) -> Vec<Slot> {
        let mut listing = Listing::default();
        while listing.search(table) {}
        let next = |slot: &Slot| listing.first_from(slot.index() + 1);
        let slots: Vec<Slot> = core::iter::successors(listing.first_from(0), next).collect();
        assert_eq!(listing.accounts() as usize, slots.len());
        slots
    }

    #[test]
    fn a_listing_finds_the_accounts_of_many_buckets_in_their_order() {
        let accounts = if cfg!(miri) { 3 } else { 3000 };
        let region = Region::new(4_000 * ACCOUNT_BYTES);
        let table = region.table().unwrap();
        assert!(table.buckets().len() > Listing::BUCKETS_AT_ONCE);
        let mut spare = Spare::default();
        let slots: Vec<Slot> =
            (0..accounts).map(|n: u32| table.find_or_insert(&n.to_le_bytes(), &mut spare).slot).collect();
        assert_eq!(listed(&table), slots);
    }

    #[test]
    fn a_worker_that_dies_before_it_publishes_costs_a_slot_and_nothing_else() {
        let region = Region::new(20_000);
        let table = region.table().unwrap();
        let capacity = table.fill().capacity;
        // it dies right after it took the slot, or after it wrote the record
        let taken = table.take_slot().unwrap();
        let written = table.take_slot().unwrap();
        table.write_record(written, b"half");
        assert_eq!(table.find(b"half"), None);
        assert_eq!(table.slots(), [Slot::OVERFLOW]);
        assert_eq!(table.slot(taken.index()), None);
        assert_eq!(table.slot(written.index()), None);
        assert_eq!(table.fill().accounts, 0);
        let mut spare = Spare::default();
        assert!(!table.find_or_insert(b"half", &mut spare).overflowed);
        let more = (0..capacity).filter(|n| !table.find_or_insert(&n.to_le_bytes(), &mut spare).overflowed);
        assert_eq!(more.count() as u32, capacity - 3);
        assert_eq!(table.slots().len() as u32, capacity - 1);
    }

    #[test]
    fn a_slot_that_was_taken_in_vain_is_used_for_the_next_key() {
        let region = Region::new(20_000);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let first = table.find_or_insert(b"first", &mut spare).slot;
        let hash = table.hash(b"first");
        let bucket = table.probe(hash).next().unwrap();
        // another worker, which saw the bucket empty and is late
        let taken = table.insert(bucket, hash, b"a longer key of its own", &mut spare);
        assert_eq!(taken, Err(Refused::Taken(entry(hash, first))));
        let slot = spare.0.unwrap();
        assert_ne!(slot, first);
        assert_eq!(table.fill().accounts, 1);
        assert_eq!(table.find_or_insert(b"mine", &mut spare).slot, slot);
        assert_eq!(table.key(slot), b"mine");
        assert!(table.account(slot).is_untouched(1));
        assert!(spare.0.is_none());
    }

    #[test]
    fn keys_of_the_same_hash_are_told_apart() {
        let region = Region::new(20_000);
        let table = region.table().unwrap();
        let slot = table.find_or_insert(b"one", &mut Spare::default()).slot;
        let hash = table.hash(b"one");
        assert_eq!(table.matches(entry(hash, slot), hash, b"one"), Some(slot));
        assert_eq!(table.matches(entry(hash, slot), hash, b"two"), None);
        assert_eq!(table.matches(entry(hash, slot), hash, b"on"), None);
        assert_eq!(table.matches(entry(!hash, slot), hash, b"one"), None);
    }

    #[test]
    fn slots_are_known_by_their_index() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let slot = table.find_or_insert(b"key", &mut Spare::default()).slot;
        assert_eq!(table.slot(0), Some(Slot::OVERFLOW));
        assert_eq!(table.slot(slot.index()), Some(slot));
        assert_eq!(table.slot(slot.index() + 1), None);
        assert_eq!(table.slot(usize::MAX), None);
    }

    #[test]
    fn keys_go_where_the_seed_says() {
        let (one, other) = (Region::new(65_536), Region::new(65_536));
        // SAFETY: both are aligned and ours.
        let (one, other) = unsafe {
            (
                Table::create(one.base(), 65_536, [1, 2], b"$host"),
                Table::create(other.base(), 65_536, [1, 3], b"$host"),
            )
        };
        assert_ne!(one.unwrap().hash(b"key"), other.unwrap().hash(b"key"));
    }

    #[test]
    fn accounts_do_not_share_a_cache_line() {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        assert_eq!(ACCOUNT_BYTES % 64, 0);
        for n in 0..4 {
            assert_eq!(table.record_at(Slot(n)).addr().get() % 64, 0);
        }
    }

    #[test]
    fn keys_inserted_by_several_threads_are_there_once_each() {
        let rounds = if cfg!(miri) { 1 } else { 60 };
        for round in 0..rounds {
            let threads = 4;
            let keys: u32 = if cfg!(miri) { 4 } else { 200 };
            let region = Region::new(if cfg!(miri) { 20_000 } else { 900_000 });
            let table = region.table().unwrap();
            let seen: Mutex<BTreeMap<Vec<u8>, Slot>> = Mutex::default();
            let start = std::sync::Barrier::new(threads);
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (seen, start) = (&seen, &start);
                    scope.spawn(move || {
                        let mut spare = Spare::default();
                        start.wait();
                        let mut mine = Vec::new();
                        for n in 0..keys {
                            // half of them are this thread's only, half are everybody's
                            let shared = n % 2 == 0;
                            let key = format!("{round} {n} {}", if shared { 0 } else { thread }).into_bytes();
                            let found = table.find_or_insert(&key, &mut spare);
                            assert_eq!(table.key(found.slot), key);
                            table.account(found.slot).add(0, &Usage { wakeups: 1, ..Usage::default() });
                            mine.push((key, found));
                        }
                        let mut seen = seen.lock().unwrap();
                        for (key, found) in mine {
                            assert!(!found.overflowed);
                            let first = *seen.entry(key).or_insert(found.slot);
                            assert_eq!(first, found.slot, "a key has two accounts");
                        }
                    });
                }
            });
            let seen = seen.into_inner().unwrap();
            assert_eq!(seen.len(), (keys / 2) as usize * (threads + 1));
            assert_eq!(table.fill().accounts as usize, seen.len());
            let listed = keys_of(&table);
            assert_eq!(listed.len(), seen.len() + 1);
            assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
            let wakeups =
                table.slots().into_iter().map(|slot| table.account(slot).snapshot(0, 1).usage.wakeups);
            assert_eq!(wakeups.sum::<u64>(), u64::from(keys) * threads as u64);
        }
    }

    #[test]
    fn a_table_that_fills_up_under_several_threads_loses_nothing() {
        let rounds = if cfg!(miri) { 1 } else { 60 };
        for round in 0..rounds {
            let threads = 3u32;
            let region = Region::new(if cfg!(miri) { 12_000 } else { 60_000 });
            let table = region.table().unwrap();
            let capacity = table.fill().capacity;
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    scope.spawn(move || {
                        let mut spare = Spare::default();
                        for n in 0..capacity {
                            let key = [round, n, if n % 3 == 0 { 0 } else { thread }]
                                .map(u32::to_le_bytes)
                                .concat();
                            let found = table.find_or_insert(&key, &mut spare);
                            assert_eq!(found.overflowed, found.slot == Slot::OVERFLOW);
                            table.account(found.slot).add(0, &Usage { wakeups: 1, ..Usage::default() });
                        }
                        // a thread that ends with a spare slot has cost that one
                        assert!(spare.0.is_none() || table.fill().accounts < capacity);
                    });
                }
            });
            let fill = table.fill();
            assert!(fill.accounts <= capacity && fill.accounts + threads > capacity, "{fill:?}");
            let listed = keys_of(&table);
            assert_eq!(listed.len(), fill.accounts as usize + 1);
            assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
            let wakeups =
                table.slots().into_iter().map(|slot| table.account(slot).snapshot(0, 1).usage.wakeups);
            assert_eq!(wakeups.sum::<u64>(), u64::from(capacity * threads));
        }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn a_plan_never_takes_more_than_there_is(bytes in 0usize..1 << 34, shift in 0u32..34) {
            let bytes = bytes >> shift;
            let Some((records, buckets_log2)) = plan(bytes, processes(bytes)) else {
                prop_assert!(bytes < 3 * size_of::<Record>());
                return Ok(());
            };
            let size = |records: usize, buckets_log2: u32| {
                let words = processes(bytes) + (1usize << buckets_log2);
                size_of::<Header>() + words * size_of::<AtomicU64>() + records * size_of::<Record>()
            };
            prop_assert!(size(records as usize, buckets_log2) <= bytes);
            prop_assert!(2 * u64::from(records) <= 1 << buckets_log2);
            // and wastes less than a record, and what one more would take for its buckets
            let more = records as usize + 1;
            let more_log2 = (2 * more).next_power_of_two().trailing_zeros().max(3);
            prop_assert!(size(more, more_log2) > bytes);
        }

        #[test]
        fn a_table_is_a_map(
            bytes in 6_000usize..30_000,
            keys in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..3),
                    prop::collection::vec(0u8..2, 250..260),
                    Just(b"*".to_vec()),
                ],
                0..if cfg!(miri) { 12 } else { 60 },
            ),
        ) {
            let region = Region::new(bytes);
            let table = region.table().unwrap();
            let mut spare = Spare::default();
            let capacity = table.fill().capacity as usize;
            let mut model: BTreeMap<Vec<u8>, Slot> = BTreeMap::new();
            model.insert(OVERFLOW_KEY.to_vec(), Slot::OVERFLOW);
            for key in &keys {
                let known = key[..key.len().min(255)].to_vec();
                prop_assert_eq!(table.find(key), model.get(&known).copied());
                let found = table.find_or_insert(key, &mut spare);
                match model.get(&known) {
                    Some(&slot) => prop_assert_eq!(found, Found { slot, overflowed: false }),
                    None if model.len() > capacity => {
                        prop_assert_eq!(found, Found { slot: Slot::OVERFLOW, overflowed: true });
                    }
                    None => {
                        prop_assert!(!found.overflowed && !model.values().any(|&slot| slot == found.slot));
                        model.insert(known, found.slot);
                    }
                }
            }
            prop_assert_eq!(table.fill().accounts as usize, model.len() - 1);
            prop_assert_eq!(&listed(&table)[..], &table.slots()[1..]);
            prop_assert_eq!(keys_of(&table).into_iter().collect::<BTreeSet<_>>(), model.into_keys().collect());
        }
    }
}
