//! Writes a part of the log: a line for each active account.

use core::sync::atomic::Ordering::{Relaxed, Release};
use std::io;

use formats::line::{Head, MAX_INTERVAL_MS};

use super::append::{Append, Written};
use super::layout::{BATCH_BYTES, BATCH_LINES, state};
use super::ledger::Ledger;
use super::reading::{Reading, load, store};
use super::step::step;
use crate::key;
use crate::table::{Slot, Table};

/// Members that all lines of one part of the log share.
#[derive(Debug)]
pub struct Part {
    pub(super) head: Head,
    pub(super) end_ms: u64,
    pub(super) batch_bytes: usize,
}

impl Part {
    /// `time` is the end of the part in UTC, as `2026-01-31T12:00:00.000Z`; `end_ms` is the same on the monotonic
    /// clock. Batches have at most `batch_bytes` bytes, except for a single longer line.
    pub fn new(time: &str, end_ms: u64, host: &str, zone: &str, batch_bytes: usize) -> Part {
        Part { head: Head::new(time, host, zone), end_ms, batch_bytes: batch_bytes.min(BATCH_BYTES) }
    }
}

/// Lines that are written together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) text: Vec<u8>,
    pub(super) lines: Vec<Line>,
}

/// A line of a [`Batch`].
pub(super) struct Line {
    pub(super) slot: Slot,
    /// the end of the line in the text
    pub(super) end: usize,
    /// the counters that it reports
    pub(super) reading: Reading,
    pub(super) peak_ns: u64,
}

impl Ledger {
    /// Writes a line for each account that has counted something since its last line. [`Ledger::resolve`] must have
    /// succeeded before. `now_ms` is the time of the accounts.
    ///
    /// # Errors
    /// Errors of the file. Lines that were not written are in the next part.
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
            let peak_ns = account.billing().peak_of_log(self.log());
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

    pub(super) fn write_batch(
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
            // never reached: names and keys are shorter
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
        self.reconcile(table, text.len());
        written.lines += lines.len() as u64;
        written.bytes += text.len() as u64;
        batch.text.clear();
        batch.lines.clear();
        Ok(())
    }
}
