//! A view of the shared region: it is created and opened here, and gives access to its parts.

#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};
use core::hash::Hasher;
use core::mem::size_of;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::Ordering::{Acquire, Relaxed};
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};

use siphasher::sip::SipHasher13;

use super::error::Error;
use super::layout::{Counters, Header, LAYOUT, MAGIC, NEVER, Record, plan, plan_for, processes};
use super::slot::Slot;
use crate::account::Account;
use crate::key::{MAX_KEY_BYTES, OVERFLOW_KEY};
use crate::process::{Look, Register};
use crate::threshold::ACTIVE_THRESHOLD_NS;

/// A view of the shared region. Copies are views of the same region.
#[derive(Clone, Copy)]
pub struct Table {
    pub(super) base: NonNull<u8>,
    pub(super) bytes: usize,
    pub(super) buckets_log2: u32,
    pub(super) records: u32,
    pub(super) processes: u32,
}

// SAFETY: processes share the memory of a `Table` anyway. It is accessed only through atomics, except for records and
// headers. These are written before they are published, and never again.
unsafe impl Send for Table {}

// SAFETY: as above.
unsafe impl Sync for Table {}

/// A hash that is the same in every process that may share a table.
pub(super) fn hash_of_text(key_text: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(key_text);
    hasher.finish()
}

impl Table {
    /// Creates an empty table for accounts of a key with this text in the configuration.
    ///
    /// # Errors
    /// [`Error::TooSmall`] if no account fits.
    ///
    /// # Safety
    /// `base` must be aligned to 64 bytes. It must point to `bytes` bytes that are readable and writable for as long
    /// as any copy of the table is used, and that no other code uses yet.
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
        // SAFETY: the caller gives this function exclusive use of the region, and `plan` ensures that all parts are
        // within it.
        unsafe {
            base.cast::<Header>().write(header);
            table.process_base().write_bytes(0, processes as usize);
            table.bucket_base().write_bytes(0, 1 << buckets_log2);
        }
        table.write_record(Slot::OVERFLOW, OVERFLOW_KEY);
        Ok(table)
    }

    /// Opens a table that [`Table::create`] made in this region for the same key, possibly in another process.
    ///
    /// # Errors
    /// [`Error::Foreign`] if there is no such table, [`Error::OtherKey`] if it belongs to another key.
    ///
    /// # Safety
    /// As for [`Table::create`], but other code may use the table.
    pub unsafe fn open(base: NonNull<u8>, bytes: usize, key_text: &[u8]) -> Result<Table, Error> {
        // SAFETY: the caller guarantees it.
        unsafe {
            Table::open_as((MAGIC, LAYOUT), (processes(bytes), size_of::<Record>()), base, bytes, key_text)
        }
    }

    /// Opens a table of this or another version, with this number of slots for processes and this size of records.
    ///
    /// # Safety
    /// As for [`Table::open`]. If the records do not have the current size, no record may be accessed through the
    /// table.
    pub(super) unsafe fn open_as(
        version: (u64, u64),
        (processes, record_bytes): (usize, usize),
        base: NonNull<u8>,
        bytes: usize,
        key_text: &[u8],
    ) -> Result<Table, Error> {
        let (records, buckets_log2) = plan_for(bytes, processes, record_bytes).ok_or(Error::TooSmall)?;
        // SAFETY: the region is readable, and is large enough for a header.
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

    pub(super) fn header(&self) -> &Header {
        // SAFETY: `create` or `open` has found a header there, and the header changes only through atomics.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Two numbers that identify the table. They are the same in all processes.
    pub fn id(&self) -> [u64; 2] {
        self.header().seed
    }

    pub(super) fn process_base(&self) -> NonNull<AtomicU64> {
        // SAFETY: `plan` has put the process slots behind the header, within the region.
        unsafe { self.base.add(size_of::<Header>()).cast() }
    }

    /// The slots of processes that may have requests in flight in this table.
    pub(crate) fn register(&self) -> Register<'_> {
        // SAFETY: `create` has laid out and zeroed this number of slots; they are only used as atomics.
        let places = unsafe { slice::from_raw_parts(self.process_base().as_ptr(), self.processes as usize) };
        Register { places, used: &self.header().counters.processes_used }
    }

    pub(super) fn bucket_base(&self) -> NonNull<AtomicU64> {
        // SAFETY: `plan` has put the buckets behind the process slots, within the region.
        unsafe { self.process_base().add(self.processes as usize) }
    }

    pub(super) fn buckets(&self) -> &[AtomicU64] {
        // SAFETY: `create` has laid out and zeroed this number of buckets; they are only used as atomics.
        unsafe { slice::from_raw_parts(self.bucket_base().as_ptr(), 1 << self.buckets_log2) }
    }

    pub(super) fn record_at(&self, slot: Slot) -> NonNull<Record> {
        debug_assert!(slot.0 < self.records);
        // A slot of another table would be an error of the caller. It gets the overflow account, not other memory.
        let index = if slot.0 < self.records { slot.index() } else { Slot::OVERFLOW.index() };
        let words = self.processes as usize + (1 << self.buckets_log2);
        let offset = size_of::<Header>() + words * size_of::<AtomicU64>() + index * size_of::<Record>();
        // SAFETY: the index is below `records`, for which `plan` has made room. The offset keeps the alignment of 64:
        // the sizes of header and records are multiples of 64, and so are the sizes of 8 buckets or process slots.
        unsafe { self.base.add(offset).cast() }
    }

    pub(super) fn record(&self, slot: Slot) -> &Record {
        // SAFETY: any slot except the overflow account's comes from a bucket. The bucket is published after the record
        // was written, and from then on the record changes only through atomics.
        unsafe { self.record_at(slot).as_ref() }
    }

    /// Writes an empty account. The slot must not be published.
    pub(super) fn write_record(&self, slot: Slot, key: &[u8]) {
        let record = self.record_at(slot);
        let len = key.len().min(MAX_KEY_BYTES);
        // SAFETY: the record is within the region, and no code reads it before it is published. All zero is a valid
        // account, and `len` bytes fit into the key.
        unsafe {
            record.write_bytes(0, 1);
            let record = record.as_ptr();
            (&raw mut (*record).key_len).write(len as u8);
            (&raw mut (*record).key).cast::<u8>().copy_from_nonoverlapping(key.as_ptr(), len);
        }
    }

    pub(super) fn take_slot(&self) -> Option<Slot> {
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

    /// The epoch of the gauges of requests in flight.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.header().epoch.load(Relaxed)
    }

    /// The CPU in a second that makes the second active, in nanoseconds. It is [`ACTIVE_THRESHOLD_NS`] at first.
    pub fn active_threshold_ns(&self) -> u64 {
        self.header().active_threshold_ns.load(Relaxed)
    }

    /// Slots that have an account, except the overflow account's. Only buckets show them: a slot that was acquired may
    /// never be published, or may be being written now.
    pub(super) fn published(&self) -> impl Iterator<Item = Slot> {
        let values = self.buckets().iter().map(|bucket| bucket.load(Acquire));
        values.filter(|&value| value != 0).map(|value| Slot(value as u32))
    }
}
