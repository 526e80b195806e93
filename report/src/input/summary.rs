//! A summary of lines and files that were read, and of those that were not.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use super::copies::Copies;
use super::files::name;
use super::marks::Nuls;
use super::options::{Broken, Options};
use crate::output::{complain, counted, grouped};

/// The most broken lines that are shown.
const SHOWN_BROKEN: usize = 5;

/// The lines and files that were read, and those that could not be read.
#[derive(Debug, Default)]
pub struct Summary {
    /// files that were read to their end
    pub files: u64,
    /// files that could not be opened, or not be read to their end
    pub unreadable: u64,
    /// lines, without empty ones
    pub lines: u64,
    /// lines that the caller refused, or that were too long
    pub broken: u64,
    /// bytes after decompression
    pub bytes: u64,
    /// files that were named before
    pub repeated: u64,
    pub shown: Vec<BrokenLine>,
    pub nuls: Nuls,
    pub copies: Copies,
}

/// A broken line.
#[derive(Debug)]
pub struct BrokenLine {
    pub file: usize,
    pub line: u64,
    pub reason: String,
}

impl Summary {
    /// Warns of files that begin like other files. Commands that check for duplicate lines do not need it.
    pub fn report_copies(&self, files: &[PathBuf]) {
        if let Some(message) = self.copies.report(files) {
            complain(&message);
        }
    }

    /// Writes messages about skipped lines.
    pub fn report(&self, files: &[PathBuf]) {
        self.show_broken(files);
        if self.broken > 0 {
            let were = if self.broken == 1 { "was" } else { "were" };
            complain(&format!("{}, and {were} skipped", self.are_broken()));
        }
    }

    /// The number of broken lines, as a sentence without a full stop.
    pub fn are_broken(&self) -> String {
        let lines = counted(self.lines, "line", "lines");
        format!("{} of {lines} {} broken", grouped(self.broken), if self.broken == 1 { "is" } else { "are" })
    }

    /// Names the first broken lines on stderr.
    pub fn show_broken(&self, files: &[PathBuf]) {
        for broken in &self.shown {
            let file = files.get(broken.file).map(|file| name(file)).unwrap_or_default();
            complain(&format!("{file}:{}: {}", broken.line, broken.reason));
        }
    }

    /// The exit status. Unreadable files are a failure. Broken lines are one only with `--broken error`, or
    /// if all lines are broken.
    pub fn status(&self, options: &Options) -> ExitCode {
        let nothing = self.lines > 0 && self.broken == self.lines;
        if self.unreadable > 0
            || nothing
            || (options.broken(Broken::Skip) == Broken::Error && self.broken > 0)
        {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.unreadable += other.unreadable;
        self.lines += other.lines;
        self.broken += other.broken;
        self.bytes += other.bytes;
        self.nuls.add(&other.nuls);
        self.shown.extend(other.shown);
        self.shown.sort_by_key(|broken| (broken.file, broken.line));
        self.shown.truncate(SHOWN_BROKEN);
    }

    pub fn count_broken(&mut self, file: usize, line: u64, reason: &dyn Display) {
        self.broken += 1;
        // the blocks come in order, so that these are the first ones that this thread sees
        if self.shown.len() < SHOWN_BROKEN {
            self.shown.push(BrokenLine { file, line, reason: reason.to_string() });
        }
    }
}
