//! Completing a batch that an earlier writer began.

use core::sync::atomic::Ordering::{Acquire, Relaxed};
use std::io;

use super::append::{About, Append, find, read};
use super::layout::{BATCH_BYTES, state};
use super::ledger::Ledger;
use crate::table::Table;

/// How far in a file a batch is looked for, if others have written into it as well.
pub(super) const LOOK_BYTES: u64 = 4 * 1024 * 1024;

/// How much of a batch is in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// So many bytes, and nothing after them.
    AtEnd(usize),
    /// So many bytes, and others after them; or nobody can know any more.
    Within(usize),
}

impl Ledger {
    /// Brings to an end what a writer before has begun: it was killed, or there was an error. `files` are those
    /// that it may have written into, as far as they are known; the last one is the file that is written now.
    ///
    /// If the file is gone, or it is no regular one, nobody can know how much of the batch is in it: it is taken as
    /// written.
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
        self.reconcile(table, there);
        Ok(())
    }

    /// A file ends with so much of the text, maybe within a line. Readers that follow the file would not like it to
    /// be cut, so the rest is written; in a file that was moved away, where that is not possible, half a line goes.
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
        // if it stays, there is no line of it
        let _ = file.cut(size.saturating_sub((there - lines) as u64));
        Ok(Found::Within(lines))
    }

    /// What is there as far as it is known without the file: after an error, it is; of a writer that was killed, all.
    pub(super) fn known(&self, bytes: usize) -> usize {
        let journal = self.journal();
        match journal.state.load(Relaxed) {
            state::TORN => (journal.written.load(Relaxed) as usize).min(bytes),
            _ => bytes,
        }
    }

    /// Looks at the file that a batch was written into.
    pub(super) fn look(&self, text: &[u8], file: &mut dyn Append, about: About) -> Found {
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
