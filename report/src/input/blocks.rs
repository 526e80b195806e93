//! Cuts files into blocks of whole lines, which threads take one by one.

use indicatif::ProgressBar;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use super::files::name;
use super::marks;
use super::open::open;
use super::summary::Summary;
use crate::output::complain;

/// The longest line. Longer lines count as broken.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Whole lines of a file.
pub struct Block {
    pub file: usize,
    pub first_line: u64,
    pub bytes: Vec<u8>,
    pub len: usize,
}

pub fn next(taken: &Mutex<Receiver<Block>>) -> Option<Block> {
    taken.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The lines of a block, without their ends.
pub struct Lines<'a>(pub &'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match memchr::memchr(b'\n', self.0) {
            Some(end) => (self.0.get(..end)?, self.0.get(end + 1..)?),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

pub struct BlockReader {
    pub blocks: SyncSender<Block>,
    pub empty: Receiver<Vec<u8>>,
    pub progress: ProgressBar,
    pub summary: Summary,
}

impl BlockReader {
    pub fn read(&mut self, at: usize, file: &Path) {
        let mut lines = 0;
        match self.read_blocks(at, file, &mut lines) {
            Ok(()) => self.summary.files += 1,
            Err(error) => {
                self.summary.unreadable += 1;
                let place = if lines > 0 { format!("after line {lines}: ") } else { String::new() };
                self.progress.suspend(|| complain(&format!("{}: {place}{error}", name(file))));
            }
        }
    }

    /// Sends the lines of a file, in blocks. `line` counts the lines so far.
    fn read_blocks(&mut self, file: usize, path: &Path, line: &mut u64) -> io::Result<()> {
        let mut input = open(path, &self.progress)?;
        let mut bytes = self.buffer();
        let mut len = 0;
        // whether the reader is within a line that is too long
        let mut in_long_line = false;
        loop {
            let read = fill(&mut input, bytes.get_mut(len..).unwrap_or_default());
            let (got, is_end) = match &read {
                Ok((got, is_end)) => (*got, *is_end),
                // data before the error are used, except a line that may be cut
                Err((got, _)) => (*got, false),
            };
            let is_begin = *line == 0 && len == 0 && !in_long_line;
            self.summary.bytes += got as u64;
            len += got;
            let filled = bytes.get(..len).unwrap_or_default();
            if is_begin {
                self.summary.copies.add(file, filled);
            }
            let whole = match memchr::memrchr(b'\n', filled) {
                _ if is_end => len,
                Some(last) => last + 1,
                None => 0,
            };
            if in_long_line {
                // the rest of an overlong line is dropped
                match memchr::memchr(b'\n', filled) {
                    Some(end) => {
                        bytes.copy_within(end + 1..len, 0);
                        len -= end + 1;
                        *line += 1;
                        in_long_line = false;
                        if is_end {
                            self.send(file, line, &mut bytes, len, len);
                            return Ok(());
                        }
                    }
                    None => len = 0,
                }
            } else if whole > 0 {
                len = self.send(file, line, &mut bytes, whole, len);
            } else if let nuls @ 1.. = marks::leading_nuls(filled) {
                // a run of NULs may be longer than the longest line
                self.summary.nuls.count(file, *line + 1, nuls as u64);
                bytes.copy_within(nuls..len, 0);
                len -= nuls;
            } else if len == bytes.len() {
                self.summary.lines += 1;
                self.summary.count_broken(file, *line + 1, &format!("longer than {MAX_LINE_BYTES} bytes"));
                in_long_line = true;
                len = 0;
            }
            match read {
                Err((_, error)) => return Err(error),
                Ok(_) if is_end => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    /// Sends the first `whole` bytes. Keeps the rest, and returns its length.
    fn send(&mut self, file: usize, line: &mut u64, bytes: &mut Vec<u8>, whole: usize, len: usize) -> usize {
        let mut next = self.buffer();
        let rest = bytes.get(whole..len).unwrap_or_default();
        let kept = rest.len();
        if let Some(begin) = next.get_mut(..kept) {
            begin.copy_from_slice(rest);
        }
        let first_line = *line + 1;
        *line += memchr::memchr_iter(b'\n', bytes.get(..whole).unwrap_or_default()).count() as u64;
        let full = std::mem::replace(bytes, next);
        // sending fails only if all threads have ended, and they end after the reader
        let _ = self.blocks.send(Block { file, first_line, bytes: full, len: whole });
        kept
    }

    fn buffer(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_else(|_| vec![0; MAX_LINE_BYTES])
    }
}

/// Reads until the buffer is full or the input ends. Returns the number of bytes, and whether the input
/// ended.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<(usize, bool), (usize, io::Error)> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => return Ok((got, true)),
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((got, error)),
        }
    }
    Ok((got, false))
}
