//! Which of many answers is rendered next, and for how long.
//!
//! All answers of a worker share [`TURN`] in each turn of its event loop. An answer runs for a slice of that, then
//! it waits behind all others. With few answers each runs in every turn; with many, some run in this turn and
//! others in the next ones.

use std::collections::{TryReserveError, VecDeque};
use std::time::Duration;

/// For so long answers are rendered and sent in one turn of the event loop, all together.
pub const TURN: Duration = Duration::from_millis(2);
/// A turn is divided between so many answers at most: a shorter slice would be spent on what each of them needs to
/// go on.
const MOST_SLICES: u32 = 8;

/// The answers of a worker that are under way, by an identity.
#[derive(Debug)]
pub struct Turns<T> {
    /// the one that waits longest is in front
    waiting: VecDeque<T>,
    /// the one that runs next, or is running
    chosen: Option<T>,
    /// of this turn
    spent: Duration,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns { waiting: VecDeque::new(), chosen: None, spent: Duration::ZERO }
    }
}

impl<T: Copy + Eq> Turns<T> {
    /// A turn of the event loop begins. Whether an answer waits.
    pub fn begin(&mut self) -> bool {
        self.spent = Duration::ZERO;
        self.chosen = None;
        !self.waiting.is_empty()
    }

    /// For how long an answer may run now. `None`: others come first, or this turn's time is spent.
    pub fn slice(&self, answer: T) -> Option<Duration> {
        let is_next = match self.chosen {
            Some(chosen) => chosen == answer,
            None => self.waiting.is_empty(),
        };
        let left = TURN.saturating_sub(self.spent);
        let sharing = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).saturating_add(1);
        (is_next && !left.is_zero()).then(|| left.min(TURN / sharing.min(MOST_SLICES)))
    }

    /// An answer has run for so long.
    pub fn ran(&mut self, answer: T, took: Duration) {
        self.spent = self.spent.saturating_add(took);
        if self.chosen == Some(answer) {
            self.chosen = None;
        }
    }

    /// An answer waits until it is chosen; one that waits already keeps its place.
    ///
    /// # Errors
    /// There is no memory.
    pub fn wait(&mut self, answer: T) -> Result<(), TryReserveError> {
        if !self.is_waiting(answer) {
            self.waiting.try_reserve(1)?;
            self.waiting.push_back(answer);
        }
        Ok(())
    }

    /// Whether an answer waits for its turn.
    pub fn is_waiting(&self, answer: T) -> bool {
        self.waiting.contains(&answer)
    }

    /// The answer that runs next in this turn, if there is one, and time for it. It waits no more.
    pub fn choose(&mut self) -> Option<T> {
        if self.chosen.is_some() || self.spent >= TURN {
            return None;
        }
        self.chosen = self.waiting.pop_front();
        self.chosen
    }

    /// An answer has ended, or its client has left.
    pub fn leave(&mut self, answer: T) {
        self.waiting.retain(|&other| other != answer);
        if self.chosen == Some(answer) {
            self.chosen = None;
        }
    }
}

#[cfg(test)]
mod tests;
