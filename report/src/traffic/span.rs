//! The time that lines cover.

use crate::output::complain;
use crate::time::{self, Millis, SLOT_MS};

/// The time that lines cover.
#[derive(Debug, Default)]
pub struct Span {
    /// begin and end
    pub time: Option<(Millis, Millis)>,
    /// of the longest line
    pub longest_ms: i64,
}

impl Span {
    /// A line covers this.
    pub fn add(&mut self, begin: Millis, end: Millis) {
        let (first, last) = self.time.unwrap_or((begin, end));
        self.time = Some((first.min(begin), last.max(end)));
    }

    /// Of both.
    pub fn with(mut self, other: Self) -> Self {
        if let Some((begin, end)) = other.time {
            self.add(begin, end);
        }
        self.longest_ms = self.longest_ms.max(other.longest_ms);
        self
    }

    /// What is asked for, or else what there is.
    pub fn range(&self, from: Option<Millis>, to: Option<Millis>) -> Option<(Millis, Millis)> {
        let from = from.or(self.time.map(|(begin, _)| begin))?;
        let to = to.or(self.time.map(|(_, end)| end))?;
        (from < to).then_some((from, to))
    }

    /// Says what is not known of that time.
    pub fn report(&self, from: Option<Millis>, to: Option<Millis>) {
        if self.longest_ms > SLOT_MS {
            complain(&format!(
                "lines are of up to {} s: peak and 95 % cannot be finer than that, though they are of five minutes",
                self.longest_ms / 1000
            ));
        }
        let Some((begin, end)) = self.time else {
            if from.is_some() && to.is_some() {
                complain("no line is of that time, so nothing is known of it; it counts as idle");
            }
            return;
        };
        if from.is_some_and(|from| begin - from > SLOT_MS) {
            complain(&format!(
                "nothing is known of the time before {}; it counts as idle",
                time::format(begin)
            ));
        }
        if to.is_some_and(|to| to - end > SLOT_MS) {
            complain(&format!("nothing is known of the time after {}; it counts as idle", time::format(end)));
        }
    }
}
