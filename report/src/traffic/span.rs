//! The time that lines cover.

use crate::output::complain;
use crate::time::{self, Millis, SLOT_MS};

/// The time that lines cover.
#[derive(Debug, Default)]
pub struct Span {
    /// begin and end
    pub time: Option<(Millis, Millis)>,
    /// the length of the longest line
    pub longest_ms: i64,
}

impl Span {
    /// Notes that a line covers this time.
    pub fn add(&mut self, begin: Millis, end: Millis) {
        let (first, last) = self.time.unwrap_or((begin, end));
        self.time = Some((first.min(begin), last.max(end)));
    }

    /// The names of both.
    pub fn with(mut self, other: Self) -> Self {
        if let Some((begin, end)) = other.time {
            self.add(begin, end);
        }
        self.longest_ms = self.longest_ms.max(other.longest_ms);
        self
    }

    /// The given ends. A missing end is that of the lines.
    pub fn range(&self, from: Option<Millis>, to: Option<Millis>) -> Option<(Millis, Millis)> {
        let from = from.or(self.time.map(|(begin, _)| begin))?;
        let to = to.or(self.time.map(|(_, end)| end))?;
        (from < to).then_some((from, to))
    }

    /// Warns of parts of the time without data.
    pub fn report(&self, from: Option<Millis>, to: Option<Millis>) {
        if self.longest_ms > SLOT_MS {
            complain(&format!(
                "some lines cover up to {} s: peak and 95 % of five minutes cannot be finer than that",
                self.longest_ms / 1000
            ));
        }
        let Some((begin, end)) = self.time else {
            if from.is_some() && to.is_some() {
                complain("there are no data for that time; it counts as idle");
            }
            return;
        };
        if from.is_some_and(|from| begin - from > SLOT_MS) {
            complain(&format!(
                "there are no data for the time before {}; it counts as idle",
                time::format(begin)
            ));
        }
        if to.is_some_and(|to| to - end > SLOT_MS) {
            complain(&format!(
                "there are no data for the time after {}; it counts as idle",
                time::format(end)
            ));
        }
    }
}
