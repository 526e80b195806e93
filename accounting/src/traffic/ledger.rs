//! The ledger of a log: the counters of each account that are already written.

use core::hash::Hasher;
use core::mem::size_of;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use siphasher::sip::SipHasher13;

use super::layout::{BASELINE_BYTES, Baseline, CLOSED, Header, Journal, LAYOUT, MAGIC, RETIRED, state};
use super::reading::{Reading, store};
use crate::table::{Error, Slot, Table};

/// The number by which other processes know a log of this zone and file.
pub fn name_of(zone: &[u8], path: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(zone);
    hasher.write(b"\0");
    hasher.write(path);
    hasher.finish()
}

/// A view of the ledger. Copies are views of the same ledger.
#[derive(Clone, Copy)]
pub struct Ledger {
    pub(super) base: NonNull<u8>,
    pub(super) records: u32,
}

// SAFETY: what it points to is shared between processes anyway, and only touched through atomics, but for what is
// written before anybody else knows the region, and for the journal's text, which belongs to the one writer.
unsafe impl Send for Ledger {}

// SAFETY: as above.
unsafe impl Sync for Ledger {}

impl Ledger {
    /// Makes a ledger for the accounts of `table`. All counts until now are regarded as written. `log` is a number
    /// below [`LOGS`](super::LOGS) that no other log of these accounts has.
    ///
    /// # Errors
    /// [`Error::TooSmall`] if the region has less than [`region_bytes`](super::region_bytes) of the zone.
    ///
    /// # Safety
    /// `base` must be aligned to 64 bytes and point to `bytes` bytes, all zero, that are readable and writable for as
    /// long as any copy of the ledger is used, and that nobody else uses yet.
    pub unsafe fn create(
        base: NonNull<u8>,
        bytes: usize,
        table: &Table,
        log: usize,
        now_ms: u64,
    ) -> Result<Ledger, Error> {
        let records = table.fill().capacity + 1;
        let needed = size_of::<Header>() + records as usize * BASELINE_BYTES;
        if bytes < needed {
            return Err(Error::TooSmall);
        }
        let ledger = Ledger { base, records };
        // SAFETY: the caller gives us the region alone, and it is large enough. All zero is valid for the rest.
        unsafe {
            let header = base.cast::<Header>().as_ptr();
            (&raw mut (*header).magic).write(MAGIC);
            (&raw mut (*header).layout).write(LAYOUT);
            (&raw mut (*header).table).write(table.id());
            (&raw mut (*header).records).write(records);
            (&raw mut (*header).log).write(log as u32);
        }
        ledger.header().done_ms.store(now_ms, Relaxed);
        for slot in table.slots() {
            ledger.set_baseline(slot, Reading::of(table.account(slot)), now_ms);
        }
        Ok(ledger)
    }

    /// Resets the peaks that an earlier log with this number has left. Call it once, when the log of this ledger
    /// comes into use.
    pub fn forget_peaks(&self, table: &Table) {
        for slot in table.slots() {
            let billing = table.account(slot).billing();
            billing.forget_peak(self.log(), billing.peak_of_log(self.log()));
        }
    }

    /// Opens a ledger that [`Ledger::create`] made for this table, possibly in another process.
    ///
    /// # Errors
    /// [`Error::Foreign`] if there is no such ledger.
    ///
    /// # Safety
    /// As for [`Ledger::create`], but others may use the ledger.
    pub unsafe fn open(base: NonNull<u8>, bytes: usize, table: &Table) -> Result<Ledger, Error> {
        let records = table.fill().capacity + 1;
        if bytes < size_of::<Header>() + records as usize * BASELINE_BYTES {
            return Err(Error::Foreign);
        }
        let ledger = Ledger { base, records };
        let header = ledger.header();
        let same = header.magic == MAGIC
            && header.layout == LAYOUT
            && header.records == records
            && header.table == table.id();
        if same { Ok(ledger) } else { Err(Error::Foreign) }
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: `create` and `open` take care that the region holds one; it only changes through atomics and cells.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.header().journal
    }

    pub(super) fn baseline(&self, slot: Slot) -> &Baseline {
        // a slot of another table would be an error of the caller; it gets the entry of the overflow account, not
        // other memory
        let index = if slot.0 < self.records { slot.index() } else { Slot::OVERFLOW.index() };
        // SAFETY: as many were laid out behind the header and zeroed by `create`, aligned to 8 bytes.
        unsafe { self.base.add(size_of::<Header>()).cast::<Baseline>().add(index).as_ref() }
    }

    pub(super) fn set_baseline(&self, slot: Slot, reading: Reading, end_ms: u64) {
        let baseline = self.baseline(slot);
        store(&baseline.reading, &reading);
        baseline.end_ms.store(end_ms, Relaxed);
    }

    /// The log of this ledger, as [`name_of`]; zero if it was not set.
    pub fn name(&self) -> u64 {
        self.header().name.load(Relaxed)
    }

    /// Sets the log of this ledger.
    pub fn set_name(&self, name: u64) {
        self.header().name.store(name, Relaxed);
    }

    /// The number of the log in its zone, as it was given to [`Ledger::create`].
    pub fn log(&self) -> usize {
        self.header().log as usize
    }

    /// True if both are views of the same ledger.
    pub fn is(&self, other: &Ledger) -> bool {
        self.base == other.base
    }

    /// 64 bytes, aligned to 64, for a lock that admits one writer at a time of all processes; zero at first.
    pub fn lock(&self) -> NonNull<u8> {
        NonNull::from(&self.header().lock.0).cast()
    }

    /// Records that the configuration does not have these accounts any more: the workers that still count there must
    /// write the remaining lines.
    pub fn retire(&self) {
        self.header().retired.store(RETIRED, Relaxed);
    }

    /// See [`Ledger::retire`].
    pub fn is_retired(&self) -> bool {
        self.header().retired.load(Relaxed) == RETIRED
    }

    /// Records that the configuration does not have this log any more, and that its last line has been written.
    pub fn close(&self) {
        self.header().retired.store(CLOSED, Relaxed);
    }

    /// See [`Ledger::close`].
    pub fn is_closed(&self) -> bool {
        self.header().retired.load(Relaxed) == CLOSED
    }

    /// Stores the number of an error, or 0 for none. Returns the number that was stored before.
    pub fn note_error(&self, error: u32) -> u32 {
        self.header().failing.swap(error, Relaxed)
    }

    /// True if there may be an incomplete batch.
    pub fn is_open(&self) -> bool {
        self.journal().state.load(Relaxed) != state::IDLE
    }
}
