//! The traffic log: what each account has counted in an interval, as lines of JSON, each of them written once.
//!
//! The accounts know totals. What of these has been written is known by a [`Ledger`] beside them, in shared memory of its own:
//! for each account the counters as they were in its last line. A line is the difference, so whatever could not be written yet
//! is in a later one, and the sums of all lines are the counters.
//!
//! Lines are written in batches. Before a batch is written, its text, its place in the file and what its accounts have counted
//! by then stand in the ledger's journal; after that, these counters become the ones that were written. A writer can be killed
//! at any instruction: who comes next finds the batch in the journal, looks at the file for how much of it is there, completes
//! a line that was torn, and goes on. Of all writers one at a time may touch journal and file; the caller takes care of that.

use core::cell::UnsafeCell;
use core::hash::Hasher;
use core::mem::size_of;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::io;

use formats::line::{FIELDS, FIELDS_IN_ORDER, Head};
use siphasher::sip::SipHasher13;

use crate::account::Account;
use crate::key;
pub use crate::measures::LOGS;
use crate::table::{ACCOUNT_BYTES, Error, Slot, Table};
use crate::window::FAR_MS;

/// Changes with the meaning of anything in a region, since a new binary goes on with the region of the one before.
const MAGIC: u64 = u64::from_le_bytes(*b"rctraf02");
const LAYOUT: u64 = (size_of::<Header>() as u64) << 32 | size_of::<Baseline>() as u64;

/// Largest batch in bytes; a line is never divided, and always shorter.
pub const BATCH_BYTES: usize = 64 * 1024;
/// Most lines of a batch: as many as there is room for, if they are of the shortest kind, of 298 bytes.
const BATCH_LINES: usize = 220;
pub use formats::line::MAX_INTERVAL_MS;
/// How far in a file a batch is looked for, if others have written into it as well.
const LOOK_BYTES: u64 = 4 * 1024 * 1024;

// ---- what a line tells -----------------------------------------------------------------------------------------------

/// The counters of an account that a line tells of, as every reader is told them: differences of whole milliseconds add up to
/// the milliseconds of the whole.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Reading([u64; FIELDS]);

impl Reading {
    fn of(account: &Account) -> Reading {
        let cells = account.read_cells(const { formats::line::cells() });
        Reading(core::array::from_fn(|at| cells[at] / FIELDS_IN_ORDER[at].divisor))
    }

    fn since(&self, earlier: &Reading) -> Reading {
        Reading(core::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    fn is_nothing(&self) -> bool {
        self.0 == [0; FIELDS]
    }
}

/// What the lines of one part of the log have in common.
#[derive(Debug)]
pub struct Part {
    head: Head,
    end_ms: u64,
    batch_bytes: usize,
}

impl Part {
    /// `time` is its end, in UTC, as `2026-01-31T12:00:00.000Z`; `end_ms` the same on the monotonic clock. Batches are of at most
    /// `batch_bytes` bytes, but for a single line that is longer.
    pub fn new(time: &str, end_ms: u64, host: &str, zone: &str, batch_bytes: usize) -> Part {
        Part { head: Head::new(time, host, zone), end_ms, batch_bytes: batch_bytes.min(BATCH_BYTES) }
    }
}

// ---- when ------------------------------------------------------------------------------------------------------------

/// One instant on two clocks, in milliseconds. The wall clock can be set; lengths are those of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// since 1970
    pub wall_ms: u64,
    /// since anything, the same in all processes
    pub monotonic_ms: u64,
}

impl Instant {
    fn earlier(self, by_ms: u64) -> Instant {
        let Instant { wall_ms, monotonic_ms } = self;
        Instant { wall_ms: wall_ms.saturating_sub(by_ms), monotonic_ms: monotonic_ms.saturating_sub(by_ms) }
    }

    /// When the last interval ended: intervals begin and end at multiples of their length on the wall clock.
    pub fn last_end(self, interval_ms: u64) -> Instant {
        self.earlier(self.wall_ms % interval_ms)
    }

    /// Milliseconds until the next one ends.
    pub fn next_end_ms(self, interval_ms: u64) -> u64 {
        interval_ms - self.wall_ms % interval_ms
    }
}

/// Whether a time lies further ahead than clocks of workers can be apart.
fn is_wrong(ms: u64, now_ms: u64) -> bool {
    ms > now_ms.saturating_add(FAR_MS)
}

/// A part that is written no later than this after the end of its interval is said to end there.
pub fn tolerance_ms(interval_ms: u64) -> u64 {
    (interval_ms / 20).min(500)
}

// ---- the ledger ------------------------------------------------------------------------------------------------------

/// What the journal holds.
mod state {
    /// Nothing.
    pub const IDLE: u32 = 0;
    /// A batch that is being written: who finds it there without its writer has to look at the file.
    pub const WRITING: u32 = 1;
    /// A batch of which `written` bytes were written, before there was an error.
    pub const TORN: u32 = 2;
    /// A batch that is in the file, up to `text_bytes`.
    pub const WRITTEN: u32 = 3;
}

const RETIRED: u32 = 1;
const CLOSED: u32 = 2;

#[repr(C, align(64))]
struct Header {
    magic: u64,
    layout: u64,
    /// the table whose accounts these are
    table: [u64; 2],
    records: u32,
    /// which of the logs of its zone this is: where the accounts keep its peaks
    log: u32,
    retired: AtomicU32,
    /// of its log, as [`name_of`]
    name: AtomicU64,
    /// end of the last part that was written as a whole, on the monotonic clock
    done_ms: AtomicU64,
    next_try_ms: AtomicU64,
    /// the error that was reported, until something could be written again
    failing: AtomicU32,
    lock: Lock,
    journal: Journal,
}

/// Room for the caller's lock.
#[repr(C, align(64))]
struct Lock(UnsafeCell<[u64; 8]>);

#[repr(C, align(64))]
struct Journal {
    state: AtomicU32,
    lines: AtomicU32,
    text_bytes: AtomicU32,
    written: AtomicU32,
    /// the file, and its size before the batch
    file: [AtomicU64; 2],
    at: AtomicU64,
    /// end of the part
    end_ms: AtomicU64,
    counted: [Counted; BATCH_LINES],
    text: UnsafeCell<[u8; BATCH_BYTES]>,
}

/// A line of a batch.
#[repr(C)]
struct Counted {
    slot: AtomicU32,
    /// where it ends in the text
    end: AtomicU32,
    reading: [AtomicU64; FIELDS],
    /// the peak that it tells
    peak_ns: AtomicU64,
}

/// What has been written of an account. All zero: nothing.
#[repr(C)]
struct Baseline {
    reading: [AtomicU64; FIELDS],
    /// end of the last part with a line of it
    end_ms: AtomicU64,
}

/// Bytes of shared memory that a log takes per account of its zone.
pub const BASELINE_BYTES: usize = size_of::<Baseline>();

/// Bytes of shared memory for a log of a zone of `zone_bytes` bytes, without room for accounts that cannot be there.
pub fn region_bytes(zone_bytes: usize) -> usize {
    size_of::<Header>() + (zone_bytes / ACCOUNT_BYTES + 1) * BASELINE_BYTES
}

/// What a log of this zone and file is known by to other processes.
pub fn name_of(zone: &[u8], path: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(zone);
    hasher.write(b"\0");
    hasher.write(path);
    hasher.finish()
}

/// A view of what a log has written. Copies are views of the same one.
#[derive(Clone, Copy)]
pub struct Ledger {
    base: NonNull<u8>,
    records: u32,
}

// SAFETY: what it points to is shared between processes anyway, and only touched through atomics, but for what is written before
// anybody else knows the region, and for the journal's text, which belongs to the one writer.
unsafe impl Send for Ledger {}
// SAFETY: as above.
unsafe impl Sync for Ledger {}

impl Ledger {
    /// Makes a ledger for the accounts of `table`, where all they have counted until now is taken as written. `log` is the number
    /// that no other log has that tells of these accounts, below [`LOGS`].
    ///
    /// # Errors
    /// [`Error::TooSmall`] if the region has less than [`region_bytes`] of the zone.
    ///
    /// # Safety
    /// `base` must be aligned to 64 bytes and point to `bytes` bytes, all zero, that are readable and writable for as long as any
    /// copy of the ledger is used, and that nobody else uses yet.
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

    /// Forgets the peaks that a log has left which had this number before. Once, when the log of this ledger gets in use.
    pub fn forget_peaks(&self, table: &Table) {
        for slot in table.slots() {
            let measures = table.account(slot).measures();
            measures.forget_peak(self.log(), measures.peak_of_log(self.log()));
        }
    }

    /// Opens a ledger that [`Ledger::create`] made for this table, maybe in another process.
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

    fn header(&self) -> &Header {
        // SAFETY: `create` and `open` take care that the region holds one; it only changes through atomics and cells.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    fn journal(&self) -> &Journal {
        &self.header().journal
    }

    fn baseline(&self, slot: Slot) -> &Baseline {
        // a slot of another table would be an error of the caller's; it gets the overflow account's, not other memory
        let index = if slot.0 < self.records { slot.index() } else { Slot::OVERFLOW.index() };
        // SAFETY: as many were laid out behind the header and zeroed by `create`, aligned to 8 bytes.
        unsafe { self.base.add(size_of::<Header>()).cast::<Baseline>().add(index).as_ref() }
    }

    fn set_baseline(&self, slot: Slot, reading: Reading, end_ms: u64) {
        let baseline = self.baseline(slot);
        store(&baseline.reading, &reading);
        baseline.end_ms.store(end_ms, Relaxed);
    }

    /// The log that it belongs to, as [`name_of`]; zero if that was not said.
    pub fn name(&self) -> u64 {
        self.header().name.load(Relaxed)
    }

    /// It belongs to this log from now on.
    pub fn set_name(&self, name: u64) {
        self.header().name.store(name, Relaxed);
    }

    /// Which of the logs of its zone it belongs to, as [`Ledger::create`] was told.
    pub fn log(&self) -> usize {
        self.header().log as usize
    }

    /// Whether two views are of the same ledger.
    pub fn is(&self, other: &Ledger) -> bool {
        self.base == other.base
    }

    /// 64 bytes, aligned to as many, for a lock that makes one writer at a time of all processes; zero at first.
    pub fn lock(&self) -> NonNull<u8> {
        NonNull::from(&self.header().lock.0).cast()
    }

    /// The configuration has not these accounts any more: what is left to write falls to the workers that still count there.
    pub fn retire(&self) {
        self.header().retired.store(RETIRED, Relaxed);
    }

    /// See [`Ledger::retire`].
    pub fn is_retired(&self) -> bool {
        self.header().retired.load(Relaxed) == RETIRED
    }

    /// The configuration has no such log any more, and its last line has been written.
    pub fn close(&self) {
        self.header().retired.store(CLOSED, Relaxed);
    }

    /// See [`Ledger::close`].
    pub fn is_closed(&self) -> bool {
        self.header().retired.load(Relaxed) == CLOSED
    }

    /// Whether the last part is to be written at `now`. If the last one seems to have ended later than now, its time was wrong.
    pub fn is_due(&self, now: Instant, interval_ms: u64) -> bool {
        let end = now.last_end(interval_ms);
        let done_ms = self.header().done_ms.load(Relaxed);
        done_ms.saturating_add(tolerance_ms(interval_ms)) < end.monotonic_ms
            || is_wrong(done_ms, now.monotonic_ms)
    }

    /// Whether it falls to the caller to write the part that is due. Of all processes that ask, one is told so; should it die at
    /// that, or not be done, another one is at `again_ms`.
    pub fn claim(&self, now_ms: u64, again_ms: u64) -> bool {
        let next_try_ms = self.next_try_ms();
        (now_ms >= next_try_ms || is_wrong(next_try_ms, again_ms))
            && self.header().next_try_ms.compare_exchange(next_try_ms, again_ms, Relaxed, Relaxed).is_ok()
    }

    /// Before that, nobody needs to ask.
    pub fn next_try_ms(&self) -> u64 {
        self.header().next_try_ms.load(Relaxed)
    }

    /// Sets when the next one may try.
    pub fn set_next_try(&self, at_ms: u64) {
        self.header().next_try_ms.store(at_ms, Relaxed);
    }

    /// Notes the number of an error, or that there is none (0). What was noted before.
    pub fn note_error(&self, error: u32) -> u32 {
        self.header().failing.swap(error, Relaxed)
    }

    /// Where a part ends that is written at `now`: at the end of its interval, unless that is long ago.
    pub fn end_of_part(&self, now: Instant, interval_ms: u64) -> Instant {
        let end = now.last_end(interval_ms);
        let late_ms = now.wall_ms - end.wall_ms;
        let is_new = end.monotonic_ms > self.header().done_ms.load(Relaxed);
        if late_ms <= tolerance_ms(interval_ms) && is_new { end } else { now }
    }

    /// Whether there may be a batch that is half done.
    pub fn is_open(&self) -> bool {
        self.journal().state.load(Relaxed) != state::IDLE
    }
}

fn store(places: &[AtomicU64; FIELDS], reading: &Reading) {
    for (place, value) in places.iter().zip(reading.0) {
        step();
        place.store(value, Relaxed);
    }
}

fn load(places: &[AtomicU64; FIELDS]) -> Reading {
    Reading(places.each_ref().map(|place| place.load(Relaxed)))
}

// ---- writing ---------------------------------------------------------------------------------------------------------

/// A file that others may write into, move away or cut at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// device and number
    pub id: [u64; 2],
    /// bytes
    pub size: u64,
    /// not a pipe or a device, so that it can be known what is there
    pub is_regular: bool,
}

/// A file to append to.
pub trait Append {
    /// What and how large it is.
    ///
    /// # Errors
    /// Those of the system.
    fn about(&mut self) -> io::Result<About>;

    /// Appends some of the bytes; how many.
    ///
    /// # Errors
    /// Those of the system. Nothing has been written then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts it to this size.
    ///
    /// # Errors
    /// Those of the system.
    fn cut(&mut self, size: u64) -> io::Result<()>;

    /// Some of the bytes there, no more than fit; none at its end.
    ///
    /// # Errors
    /// If it may only be written.
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize>;
}

/// How much of a batch is in a file.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// So many bytes, and nothing after them.
    AtEnd(usize),
    /// So many bytes, and others after them; or nobody can know any more.
    Within(usize),
}

/// How much was written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// lines
    pub lines: u64,
    /// bytes
    pub bytes: u64,
}

impl Ledger {
    /// Brings to an end what a writer before has begun: it was killed, or there was an error. `files` are those that it may have
    /// written into, as far as they are known; the last one is the file that is written now.
    ///
    /// If the file is gone, or it is no regular one, nobody can know how much of the batch is in it: it is taken as written.
    ///
    /// # Errors
    /// Those of the file: it is to be tried again later.
    pub fn resolve(&self, table: &Table, files: &mut [&mut dyn Append]) -> io::Result<()> {
        let journal = self.journal();
        match journal.state.load(Acquire) {
            state::WRITING | state::TORN => {}
            state::WRITTEN => {
                self.apply(table);
                return Ok(());
            }
            _ => return Ok(()),
        }
        let bytes = (journal.text_bytes.load(Relaxed) as usize).min(BATCH_BYTES);
        // SAFETY: a text of that length is there, and only the one writer touches it.
        let text = unsafe { &(&*journal.text.get())[..bytes] };
        let mut found = Found::Within(self.known(bytes));
        let last = files.len().saturating_sub(1);
        for (at, file) in files.iter_mut().enumerate() {
            let about = file.about()?;
            if about.id == journal.file.each_ref().map(|part| part.load(Relaxed)) {
                found = self.look(text, &mut **file, about);
                if let Found::AtEnd(start @ 1..) = found
                    && start < bytes
                {
                    found = self.complete(text, start, &mut **file, at == last)?;
                }
                break;
            }
        }
        let (Found::AtEnd(there) | Found::Within(there)) = found;
        self.settle(table, there);
        Ok(())
    }

    /// A file ends with so much of the text, maybe within a line. Readers that follow the file would not like it to be cut, so the
    /// rest is written; in a file that was moved away, where that is not possible, half a line goes.
    fn complete(
        &self,
        text: &[u8],
        start: usize,
        file: &mut dyn Append,
        is_current: bool,
    ) -> io::Result<Found> {
        let Err(error) = self.write(text, start, file) else { return Ok(Found::Within(text.len())) };
        if is_current {
            return Err(error);
        }
        let there = (self.journal().written.load(Relaxed) as usize).min(text.len());
        let lines = text[..there].iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let size = file.about()?.size;
        // if it stays, there is no line of it
        let _ = file.cut(size.saturating_sub((there - lines) as u64));
        Ok(Found::Within(lines))
    }

    /// What is there as far as it is known without the file: after an error, it is; of a writer that was killed, all.
    fn known(&self, bytes: usize) -> usize {
        let journal = self.journal();
        match journal.state.load(Relaxed) {
            state::TORN => (journal.written.load(Relaxed) as usize).min(bytes),
            _ => bytes,
        }
    }

    /// Looks at the file that a batch was written into.
    fn look(&self, text: &[u8], file: &mut dyn Append, about: About) -> Found {
        let known = self.known(text.len());
        let torn = self.journal().state.load(Relaxed) == state::TORN;
        let at = self.journal().at.load(Relaxed);
        if !about.is_regular {
            return if torn { Found::AtEnd(known) } else { Found::Within(known) };
        }
        // it is shorter if somebody has cut it since
        let from = if about.size >= at { at } else { about.size.saturating_sub(LOOK_BYTES) };
        let Ok(region) = read(file, from..about.size.min(from + LOOK_BYTES)) else {
            // only its size is known
            return match about.size.checked_sub(at).map(|more| more as usize) {
                Some(more) if torn && more != known => Found::Within(known),
                Some(more) => Found::AtEnd(more.min(text.len())),
                None => Found::Within(known),
            };
        };
        if find(&region, text).is_some() {
            return Found::Within(text.len());
        }
        let is_end = from + region.len() as u64 == about.size;
        let overlap = (1..text.len()).rev().find(|&bytes| region.ends_with(&text[..bytes]));
        if let Some(bytes) = overlap.filter(|_| is_end) {
            return Found::AtEnd(bytes);
        }
        let lines = self.lines_in(&region, text);
        if lines > 0 {
            Found::Within(lines)
        } else if torn || about.size < at {
            Found::Within(known)
        } else {
            Found::AtEnd(0)
        }
    }

    /// How many bytes of the text are lines, from the first one on, that are there.
    fn lines_in(&self, region: &[u8], text: &[u8]) -> usize {
        let mut rest = region;
        let mut there = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let Some(at) = find(rest, line) else { break };
            rest = &rest[at + line.len()..];
            there += line.len();
        }
        there
    }

    /// Of the batch in the journal, so many bytes are in the file for good.
    fn settle(&self, table: &Table, bytes: usize) {
        let journal = self.journal();
        step();
        // in one store: a line is written if it ends before
        journal.text_bytes.store(bytes as u32, Relaxed);
        step();
        journal.state.store(state::WRITTEN, Release);
        self.apply(table);
    }

    /// What the lines of the batch tell is what has been written. Can be repeated: a peak is forgotten only as long as it is the
    /// one that was written, so the worst is that it is written again.
    fn apply(&self, table: &Table) {
        let journal = self.journal();
        let bytes = journal.text_bytes.load(Relaxed);
        let end_ms = journal.end_ms.load(Relaxed);
        let lines = (journal.lines.load(Relaxed) as usize).min(BATCH_LINES);
        for counted in &journal.counted[..lines] {
            if counted.end.load(Relaxed) <= bytes {
                let slot = Slot(counted.slot.load(Relaxed));
                self.set_baseline(slot, load(&counted.reading), end_ms);
                step();
                table.account(slot).measures().forget_peak(self.log(), counted.peak_ns.load(Relaxed));
            }
        }
        step();
        journal.state.store(state::IDLE, Release);
    }

    /// Writes a line for each account that has counted something since its last one. Before, [`Ledger::resolve`] must have been
    /// successful. `now_ms` is the time of the accounts.
    ///
    /// # Errors
    /// Those of the file. What has not been written is in the next part.
    pub fn write_part(
        &self,
        table: &Table,
        now_ms: u64,
        part: &Part,
        file: &mut dyn Append,
    ) -> io::Result<Written> {
        let mut batch = Batch::default();
        let mut written = Written::default();
        let done_ms = self.header().done_ms.load(Relaxed);
        for slot in table.slots() {
            let baseline = self.baseline(slot);
            table.refresh(slot, now_ms);
            let account = table.account(slot);
            let reading = Reading::of(account);
            let peak_ns = account.measures().peak_of_log(self.log());
            let counted = reading.since(&load(&baseline.reading));
            if counted.is_nothing() {
                continue;
            }
            let start_ms = baseline.end_ms.load(Relaxed).max(done_ms);
            let interval_ms = part.end_ms.saturating_sub(start_ms).clamp(1, MAX_INTERVAL_MS);
            let before = batch.text.len();
            part.head.push_line(
                &mut batch.text,
                interval_ms,
                &key::display(table.key(slot)),
                &counted.0,
                peak_ns,
            );
            if batch.text.len() > part.batch_bytes && before > 0 {
                let line = batch.text.split_off(before);
                self.write_batch(table, &mut batch, part, file, &mut written)?;
                batch.text = line;
            }
            batch.lines.push(Line { slot, end: batch.text.len(), reading, peak_ns });
            if batch.lines.len() == BATCH_LINES {
                self.write_batch(table, &mut batch, part, file, &mut written)?;
            }
        }
        self.write_batch(table, &mut batch, part, file, &mut written)?;
        step();
        self.header().done_ms.store(part.end_ms, Relaxed);
        Ok(written)
    }

    fn write_batch(
        &self,
        table: &Table,
        batch: &mut Batch,
        part: &Part,
        file: &mut dyn Append,
        written: &mut Written,
    ) -> io::Result<()> {
        let (text, lines) = (&batch.text[..], &batch.lines[..]);
        if lines.is_empty() {
            return Ok(());
        }
        if text.len() > BATCH_BYTES {
            // no name and no key is so long
            return Err(io::ErrorKind::InvalidData.into());
        }
        let about = file.about()?;
        let journal = self.journal();
        for (counted, line) in journal.counted.iter().zip(lines) {
            counted.slot.store(line.slot.0, Relaxed);
            counted.end.store(line.end as u32, Relaxed);
            store(&counted.reading, &line.reading);
            counted.peak_ns.store(line.peak_ns, Relaxed);
        }
        step();
        // SAFETY: the text fits, and only the one writer touches it.
        unsafe { journal.text.get().cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        journal.lines.store(lines.len() as u32, Relaxed);
        journal.text_bytes.store(text.len() as u32, Relaxed);
        journal.file[0].store(about.id[0], Relaxed);
        journal.file[1].store(about.id[1], Relaxed);
        journal.at.store(about.size, Relaxed);
        journal.end_ms.store(part.end_ms, Relaxed);
        step();
        journal.state.store(state::WRITING, Release);
        self.write(text, 0, file)?;
        self.settle(table, text.len());
        written.lines += lines.len() as u64;
        written.bytes += text.len() as u64;
        batch.text.clear();
        batch.lines.clear();
        Ok(())
    }

    /// Writes the text of the journal from `start` on; as a rule, at once.
    fn write(&self, text: &[u8], start: usize, file: &mut dyn Append) -> io::Result<()> {
        let journal = self.journal();
        let mut there = start;
        while there < text.len() {
            step();
            let error = match file.append(&text[there..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(bytes) => {
                    there += bytes;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            step();
            journal.written.store(there as u32, Relaxed);
            step();
            // what is not there can be in a line of its own later
            journal.state.store(if there == 0 { state::IDLE } else { state::TORN }, Release);
            return Err(error);
        }
        Ok(())
    }
}

/// Lines that are to be written together.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// A line of a [`Batch`].
struct Line {
    slot: Slot,
    /// where it ends in the text
    end: usize,
    /// what it makes known
    reading: Reading,
    peak_ns: u64,
}

fn find(region: &[u8], text: &[u8]) -> Option<usize> {
    // where it was written by itself, at once
    if region.starts_with(text) {
        return Some(0);
    }
    region.windows(text.len().max(1)).position(|window| window == text)
}

fn read(file: &mut dyn Append, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let mut there = 0;
    while there < bytes.len() {
        match file.read(range.start + there as u64, &mut bytes[there..])? {
            0 => break,
            more => there += more,
        }
    }
    bytes.truncate(there);
    Ok(bytes)
}

/// Where tests let a writer die.
#[cfg(not(test))]
#[inline(always)]
fn step() {}

#[cfg(test)]
use tests::step;

#[cfg(test)]
mod tests;
