//! Selects the answer that is rendered next, and its time slice.
//!
//! All answers of a worker share [`TURN`] in each turn of its event loop. An answer runs for a slice of that time,
//! then waits behind all others. If there are few answers, each runs in every turn. If there are many, some run in
//! this turn and others in the next turns.

use std::collections::{TryReserveError, VecDeque};
use std::time::Duration;

/// The time for which all answers together are rendered and sent in one turn of the event loop.
pub const TURN: Duration = Duration::from_millis(2);
/// A turn has at most this many slices. An answer would spend a shorter slice mainly on the overhead of continuing.
const MOST_SLICES: u32 = 8;

/// The answers of a worker that are being sent, by an identity.
#[derive(Debug)]
pub struct Turns<T> {
    /// the answer that has waited longest is in front
    waiting: VecDeque<T>,
    /// the answer that runs next, or is running
    chosen: Option<T>,
    /// time that was used in this turn
    spent: Duration,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns { waiting: VecDeque::new(), chosen: None, spent: Duration::ZERO }
    }
}

impl<T: Copy + Eq> Turns<T> {
    /// Begins a turn of the event loop. Returns whether an answer waits.
    pub fn begin(&mut self) -> bool {
        self.spent = Duration::ZERO;
        self.chosen = None;
        !self.waiting.is_empty()
    }

    /// The time for which an answer may run now. `None`: other answers come first, or the time of this turn is used
    /// up.
    pub fn slice(&self, answer: T) -> Option<Duration> {
        let is_next = match self.chosen {
            Some(chosen) => chosen == answer,
            None => self.waiting.is_empty(),
        };
        let left = TURN.saturating_sub(self.spent);
        let sharing = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).saturating_add(1);
        (is_next && !left.is_zero()).then(|| left.min(TURN / sharing.min(MOST_SLICES)))
    }

    /// Notes that an answer has run for the time `took`.
    pub fn ran(&mut self, answer: T, took: Duration) {
        self.spent = self.spent.saturating_add(took);
        if self.chosen == Some(answer) {
            self.chosen = None;
        }
    }

    /// Lets an answer wait until it is chosen. An answer that waits already keeps its position.
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

    /// Chooses the answer that runs next in this turn, if there is an answer and time for it. It no longer waits.
    pub fn choose(&mut self) -> Option<T> {
        if self.chosen.is_some() || self.spent >= TURN {
            return None;
        }
        self.chosen = self.waiting.pop_front();
        self.chosen
    }

    /// Removes an answer that has ended, or whose client has left.
    pub fn leave(&mut self, answer: T) {
        self.waiting.retain(|&other| other != answer);
        if self.chosen == Some(answer) {
            self.chosen = None;
        }
    }
}

#[cfg(test)]
mod tests;
