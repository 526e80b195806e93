//! Writes the text of the journal, and records that its lines are written.

use core::sync::atomic::Ordering::{Relaxed, Release};
use std::io;

use super::append::Append;
use super::layout::{BATCH_LINES, state};
use super::ledger::Ledger;
use super::reading::load;
use super::step::step;
use crate::table::{Slot, Table};

impl Ledger {
    /// Writes the text of the journal from `start` on, usually in one call.
    pub(super) fn write(&self, text: &[u8], start: usize, file: &mut dyn Append) -> io::Result<()> {
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
            // missing lines can be written later with other lines
            journal.state.store(if there == 0 { state::IDLE } else { state::TORN }, Release);
            return Err(error);
        }
        Ok(())
    }

    /// Records that the first `bytes` bytes of the batch in the journal are in the file.
    pub(super) fn reconcile(&self, table: &Table, bytes: usize) {
        let journal = self.journal();
        step();
        // in one store: a line counts as written if it ends before
        journal.text_bytes.store(bytes as u32, Relaxed);
        step();
        journal.state.store(state::WRITTEN, Release);
        self.apply(table);
    }

    /// Makes the counters of the batch the written ones. It can be repeated: a peak is reset only as long as it is
    /// the written one. In the worst case a peak is written again.
    pub(super) fn apply(&self, table: &Table) {
        let journal = self.journal();
        let bytes = journal.text_bytes.load(Relaxed);
        let end_ms = journal.end_ms.load(Relaxed);
        let lines = (journal.lines.load(Relaxed) as usize).min(BATCH_LINES);
        for counted in &journal.counted[..lines] {
            if counted.end.load(Relaxed) <= bytes {
                let slot = Slot(counted.slot.load(Relaxed));
                self.set_baseline(slot, load(&counted.reading), end_ms);
                step();
                table.account(slot).billing().forget_peak(self.log(), counted.peak_ns.load(Relaxed));
            }
        }
        step();
        journal.state.store(state::IDLE, Release);
    }
}
