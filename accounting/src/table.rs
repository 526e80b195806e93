//! Accounts by key, in a region of memory that several processes share.
//!
//! No lock is ever taken, and nothing is ever removed. A key is committed by one compare-and-swap of its bucket, after
//! its account is complete; a worker that dies before that has used up a slot and nothing else.

use core::hash::Hasher;
use core::mem::size_of;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use siphasher::sip::SipHasher13;

use crate::account::Account;
use crate::key::{MAX_KEY_BYTES, OVERFLOW_KEY};

const MAGIC: u64 = u64::from_le_bytes(*b"reqcpu01");
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
    /// counted by all workers; on a line of their own
    counters: Counters,
}

#[repr(C, align(64))]
struct Counters {
    next: AtomicU32,
    accounts: AtomicU32,
    epoch: AtomicU32,
    overflowed: AtomicU64,
    cut: AtomicU64,
}

#[repr(C)]
struct Record {
    account: Account,
    key_len: u8,
    key: [u8; MAX_KEY_BYTES],
}

/// Bytes of shared memory that one account takes, its share of the hash buckets not included.
pub const ACCOUNT_BYTES: usize = size_of::<Record>();

/// The place of an account in its table. Slots stay valid as long as the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The overflow account's.
    pub const OVERFLOW: Slot = Slot(0);

    /// The slot as a number below capacity + 1.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a region cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not even one account fits.
    TooSmall,
    /// The region holds something else, or was made by another version of the module.
    Foreign,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Error::TooSmall => "no account fits into the zone",
            Error::Foreign => "the zone was made by another version of the module",
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

/// How full a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Bytes taken by accounts and by what is there from the start.
    pub used_bytes: u64,
    /// Accounts that fit, the overflow account not counted.
    pub capacity: u32,
    /// Accounts that are there.
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
}

// SAFETY: what a `Table` points to is shared between processes anyway and is only touched through atomics, but for
// records and headers, which are written before they are published and never again.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// Sizes of the parts of a region: (records, log2 of buckets).
fn plan(bytes: usize) -> Option<(u32, u32)> {
    // at most half of the buckets are ever taken; 8 of them fill a cache line, which keeps the records aligned
    let buckets = |records: usize| (records * 2).next_power_of_two().max(8);
    let fits = |records: usize| {
        size_of::<Header>() + buckets(records) * size_of::<AtomicU64>() + records * size_of::<Record>()
            <= bytes
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

impl Table {
    /// Makes an empty table.
    ///
    /// # Errors
    /// [`Error::TooSmall`] if no account fits.
    ///
    /// # Safety
    /// `base` must be aligned to 64 bytes and point to `bytes` bytes that are readable and writable for as long as any
    /// copy of the table is used, and that nobody else uses yet.
    pub unsafe fn create(base: NonNull<u8>, bytes: usize, seed: [u64; 2]) -> Result<Table, Error> {
        let (records, buckets_log2) = plan(bytes).ok_or(Error::TooSmall)?;
        let table = Table { base, bytes, buckets_log2, records };
        let header = Header {
            magic: MAGIC,
            layout: LAYOUT,
            seed,
            records,
            buckets_log2,
            counters: Counters {
                next: AtomicU32::new(1),
                accounts: AtomicU32::new(0),
                epoch: AtomicU32::new(1),
                overflowed: AtomicU64::new(0),
                cut: AtomicU64::new(0),
            },
        };
        // SAFETY: the caller gives us the region alone, and `plan` has made sure that all parts lie within.
        unsafe {
            base.cast::<Header>().write(header);
            table.bucket_base().write_bytes(0, 1 << buckets_log2);
        }
        table.write_record(Slot::OVERFLOW, OVERFLOW_KEY);
        Ok(table)
    }

    /// Opens a table that [`Table::create`] made in this region, maybe in another process.
    ///
    /// # Errors
    /// [`Error::Foreign`] if there is no such table.
    ///
    /// # Safety
    /// As for [`Table::create`], but others may use the table.
    pub unsafe fn open(base: NonNull<u8>, bytes: usize) -> Result<Table, Error> {
        let (records, buckets_log2) = plan(bytes).ok_or(Error::TooSmall)?;
        // SAFETY: the region is readable and holds at least a header.
        let header = unsafe { base.cast::<Header>().as_ref() };
        let same = header.magic == MAGIC
            && header.layout == LAYOUT
            && header.records == records
            && header.buckets_log2 == buckets_log2;
        if same { Ok(Table { base, bytes, buckets_log2, records }) } else { Err(Error::Foreign) }
    }

    fn header(&self) -> &Header {
        // SAFETY: `create` or `open` has found a header there, and it only changes through atomics.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    fn bucket_base(&self) -> NonNull<AtomicU64> {
        // SAFETY: `plan` has put the buckets behind the header, within the region.
        unsafe { self.base.add(size_of::<Header>()).cast() }
    }

    fn buckets(&self) -> &[AtomicU64] {
        // SAFETY: as many buckets were laid out and zeroed by `create`; they are only used as atomics.
        unsafe { slice::from_raw_parts(self.bucket_base().as_ptr(), 1 << self.buckets_log2) }
    }

    fn record_at(&self, slot: Slot) -> NonNull<Record> {
        debug_assert!(slot.0 < self.records);
        let offset = size_of::<Header>() + (8 << self.buckets_log2) + slot.index() * size_of::<Record>();
        // SAFETY: slots are below `records`, for which `plan` has made room. The offset keeps the alignment of 64: header
        // and records are multiples of it, and so are 8 buckets or more.
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
        let key = if key.len() > MAX_KEY_BYTES { &key[..MAX_KEY_BYTES] } else { key };
        if key == OVERFLOW_KEY {
            return Found { slot: Slot::OVERFLOW, overflowed: false };
        }
        let hash = self.hash(key);
        for bucket in self.probe(hash) {
            let mut value = bucket.load(Acquire);
            if value == 0 {
                let Some(slot) = spare.0.take().or_else(|| self.take_slot()) else {
                    return Found { slot: Slot::OVERFLOW, overflowed: true };
                };
                self.write_record(slot, key);
                match bucket.compare_exchange(0, entry(hash, slot), Release, Acquire) {
                    Ok(_) => {
                        self.header().counters.accounts.fetch_add(1, Relaxed);
                        return Found { slot, overflowed: false };
                    }
                    Err(seen) => {
                        spare.0 = Some(slot);
                        value = seen;
                    }
                }
            }
            if let Some(slot) = self.matches(value, hash, key) {
                return Found { slot, overflowed: false };
            }
        }
        // not reached: at most half of the buckets are taken
        Found { slot: Slot::OVERFLOW, overflowed: true }
    }

    /// The account of `key`, if there is one.
    pub fn find(&self, key: &[u8]) -> Option<Slot> {
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

    /// The slot with this index, if it was ever handed out.
    pub fn slot(&self, index: usize) -> Option<Slot> {
        let next = self.header().counters.next.load(Relaxed).min(self.records);
        (index < next as usize).then_some(Slot(index as u32))
    }

    /// The slots of all accounts, the overflow account first, then in the order in which they were made.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::OVERFLOW];
        slots.extend(
            self.buckets().iter().map(|b| b.load(Acquire)).filter(|&v| v != 0).map(|v| Slot(v as u32)),
        );
        slots.sort_unstable();
        slots
    }

    /// Counts a request that was counted in the overflow account since the zone is full.
    pub fn count_overflowed(&self) {
        self.header().counters.overflowed.fetch_add(1, Relaxed);
    }

    /// Counts a request whose key was cut.
    pub fn count_cut(&self) {
        self.header().counters.cut.fetch_add(1, Relaxed);
    }

    /// The epoch of the gauges of requests in flight.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.header().counters.epoch.load(Relaxed)
    }

    /// A worker has died: its requests in flight are gone.
    pub fn next_epoch(&self) {
        self.header().counters.epoch.fetch_add(1, Relaxed);
    }

    /// How full the table is.
    pub fn fill(&self) -> Fill {
        let counters = &self.header().counters;
        let accounts = counters.accounts.load(Relaxed);
        let fixed = size_of::<Header>() + (8 << self.buckets_log2) + size_of::<Record>();
        Fill {
            used_bytes: (fixed + accounts as usize * size_of::<Record>()).min(self.bytes) as u64,
            capacity: self.records - 1,
            accounts,
            overflowed: counters.overflowed.load(Relaxed),
            cut: counters.cut.load(Relaxed),
        }
    }
}

/// What a bucket holds: the upper half of the hash, and the slot, which is never 0.
fn entry(hash: u64, slot: Slot) -> u64 {
    hash >> 32 << 32 | u64::from(slot.0)
}
