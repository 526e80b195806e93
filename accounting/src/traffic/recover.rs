//! Completes a batch that an earlier writer began.

use core::sync::atomic::Ordering::{Acquire, Relaxed};
use std::io;

use super::append::{About, Append, find, read};
use super::layout::{BATCH_BYTES, state};
use super::ledger::Ledger;
use crate::table::Table;

/// The part of a file in which a batch is searched, if others have also written into the file.
pub(super) const LOOK_BYTES: u64 = 4 * 1024 * 1024;

/// The part of a batch that is in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This number of bytes, at the end of the file.
    AtEnd(usize),
    /// This number of bytes, and other bytes after them; or the number cannot be known any more.
    Within(usize),
}

impl Ledger {
    /// Completes the batch of an earlier writer that was killed, or had an error. `files` are the known files that it
    /// may have written into; the last one is the current file.
    ///
    /// If the file is gone, or is not a regular file, the written part cannot be known: the batch is regarded as
    /// written.
    ///
    /// # Errors
    /// Errors of the file: the caller should try again later.
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
                found = self.search(text, &mut **file, about);
                if let Found::AtEnd(start @ 1..) = found
                    && start < bytes
                {
                    found = self.complete(text, start, &mut **file, at == last)?;
                }
                break;
            }
        }
        let (Found::AtEnd(there) | Found::Within(there)) = found;
        self.reconcile(table, there);
        Ok(())
    }

    /// The file ends with this part of the text, possibly within a line. Programs that follow the file could not
    /// handle a truncation, so the rest is written. If a file was moved away and cannot be completed, the incomplete
    /// line is cut off.
    pub(super) fn complete(
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
        // if this fails, the incomplete line stays, and counts as not written
        let _ = file.cut(size.saturating_sub((there - lines) as u64));
        Ok(Found::Within(lines))
    }

    /// The written bytes as far as they are known without the file: known after an error; all, if the writer was
    /// killed.
    pub(super) fn known(&self, bytes: usize) -> usize {
        let journal = self.journal();
        match journal.state.load(Relaxed) {
            state::TORN => (journal.written.load(Relaxed) as usize).min(bytes),
            _ => bytes,
        }
    }

    /// Looks in the file that a batch was written into.
    pub(super) fn search(&self, text: &[u8], file: &mut dyn Append, about: About) -> Found {
        let known = self.known(text.len());
        let torn = self.journal().state.load(Relaxed) == state::TORN;
        let at = self.journal().at.load(Relaxed);
        if !about.is_regular {
            return if torn { Found::AtEnd(known) } else { Found::Within(known) };
        }
        // the file is shorter if it was truncated since
        let from = if about.size >= at { at } else { about.size.saturating_sub(LOOK_BYTES) };
        let Ok(region) = read(file, from..about.size.min(from + LOOK_BYTES)) else {
            // only the size is known
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

    /// The number of bytes of the text, in whole lines from the first one on, that are in the region.
    pub(super) fn lines_in(&self, region: &[u8], text: &[u8]) -> usize {
        let mut rest = region;
        let mut there = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let Some(at) = find(rest, line) else { break };
            rest = &rest[at + line.len()..];
            there += line.len();
        }
        there
    }
}
