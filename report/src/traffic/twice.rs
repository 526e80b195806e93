//! Duplicate lines: lines of the same host, zone, key and end. They come from copies of files, and from two
//! servers with the same name.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use anyhow::bail;

use super::ends::{Ends, Verdict};
use super::places;
use super::repeated::{Content, LineName};
use crate::input::LinePlace;
use crate::output::{complain, counted};
use crate::time::Millis;
use formats::line::Line;

/// How to treat duplicate lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// write nothing, and name the first ones
    Error,
    /// count lines that are equal once; lines that differ are an error
    Once,
    /// count each
    Count,
}

/// The most duplicate lines that a thread keeps for messages.
const KEPT: usize = 16;

/// The most pairs that an error names.
const NAMED: usize = 3;

/// The rule for duplicate lines. Threads share it.
pub struct Rule {
    duplicates: Duplicates,
    /// whether names stay as they are in the log
    is_raw: bool,
    /// has random keys, so clients that choose domain names cannot produce lines with the same hash
    hasher: RandomState,
}

/// The duplicate lines that a thread has seen.
#[derive(Debug, Default)]
pub struct Twice {
    /// lines that are equal to an earlier one
    equal: u64,
    /// lines that differ from the earlier one
    different: u64,
    /// lines that were not compared by content
    unknown: u64,
    /// lines that could not be checked, as their domain has no row
    unseen: u64,
    /// the first ones
    first: Vec<(LinePlace, LineName)>,
}

impl Rule {
    /// The rule of `--duplicates`.
    pub fn new(duplicates: Duplicates, is_raw: bool) -> Self {
        Self { duplicates, is_raw, hasher: RandomState::new() }
    }

    /// Whether to count a line. `ends` are those of the line's domain; none for domains above the limit.
    pub fn counts(
        &self,
        twice: &mut Twice,
        ends: Option<&mut Ends>,
        host: Option<u32>,
        (place, line, (begin, end)): (LinePlace, &Line<'_>, (Millis, Millis)),
    ) -> bool {
        let Some((ends, host)) = ends.zip(host) else {
            twice.unseen += 1;
            return true;
        };
        let content = match self.duplicates {
            Duplicates::Once => Some(self.hasher.hash_one(Content::of(line, begin))),
            Duplicates::Error | Duplicates::Count => None,
        };
        let number = match ends.insert(host, end, content) {
            Verdict::New => return true,
            Verdict::Again => &mut twice.unknown,
            Verdict::Equal => &mut twice.equal,
            Verdict::Different => &mut twice.different,
        };
        *number += 1;
        // a thread gets blocks in order
        if twice.first.len() < KEPT {
            twice.first.push((place, LineName::of(line, end)));
        }
        self.duplicates != Duplicates::Once
    }

    /// Writes messages about duplicate lines. An error ends the command.
    ///
    /// `is_told_in_one`: one message is enough. `files_repeated`: some files are named twice, and a message
    /// said so.
    pub fn report(
        &self,
        threads: Vec<Twice>,
        files: &[PathBuf],
        (is_told_in_one, files_repeated): (bool, bool),
    ) -> anyhow::Result<()> {
        let all = threads.into_iter().fold(Twice::default(), Twice::with);
        if all.unseen > 0 {
            complain(&format!(
                "{} of domains beyond --max-domains were not compared with others: some may be duplicates",
                counted(all.unseen, "line", "lines")
            ));
        }
        let number = all.unknown + all.equal + all.different;
        if number == 0 {
            return Ok(());
        }
        let duplicates = |number: u64| {
            let are = if number == 1 { "is a duplicate" } else { "are duplicates" };
            format!("{} {are}", counted(number, "line", "lines"))
        };
        let is_error = match self.duplicates {
            Duplicates::Error => true,
            Duplicates::Once => all.different > 0,
            Duplicates::Count => false,
        };
        if self.duplicates == Duplicates::Once && all.equal > 0 {
            complain(&format!("{}: equal lines are counted once", duplicates(all.equal)));
        }
        if self.duplicates == Duplicates::Once && !is_error {
            return Ok(());
        }
        let wanted = if is_told_in_one && !is_error { 1 } else { NAMED };
        let mut pairs = places::find(files, &all.first, wanted, self.is_raw);
        pairs
            .retain(|pair| !(is_error && self.duplicates == Duplicates::Once && pair.is_equal == Some(true)));
        if !is_error {
            // a message said already that files are named twice
            if files_repeated && pairs.iter().all(|pair| pair.first.is_none()) {
                return Ok(());
            }
            let first = pairs.first().map(|pair| format!(": {}", pair.shown(files))).unwrap_or_default();
            complain(&format!("{}, and each is counted (--duplicates count){first}", duplicates(number)));
            return Ok(());
        }
        for pair in &pairs {
            complain(&pair.shown(files));
        }
        let (number, differ) = match self.duplicates {
            Duplicates::Once => (all.different, " and differ"),
            Duplicates::Error | Duplicates::Count => (number, ""),
        };
        let way = match pairs.first().and_then(|pair| pair.is_equal) {
            Some(false) => "--duplicates count counts each line; --host and --zone choose",
            _ if self.duplicates == Duplicates::Once => "--duplicates count counts each line",
            _ => "--duplicates once counts equal lines once, --duplicates count counts each line",
        };
        bail!("{}{differ}, so nothing is charged or shown: {way}", duplicates(number))
    }
}

impl Twice {
    fn with(mut self, other: Self) -> Self {
        self.equal += other.equal;
        self.different += other.different;
        self.unknown += other.unknown;
        self.unseen += other.unseen;
        self.first.extend(other.first);
        self.first.sort_by_key(|(place, _)| *place);
        self
    }
}
