//! Which of many answers is rendered next, and for how long.
//!
//! All answers of a worker share [`TURN`] in each turn of its event loop. An answer runs for a slice of that, then it waits
//! behind all others. With few answers each runs in every turn; with many, some run in this turn and others in the next ones.

use std::collections::{TryReserveError, VecDeque};
use std::time::Duration;

/// For so long answers are rendered and sent in one turn of the event loop, all together.
pub const TURN: Duration = Duration::from_millis(2);
/// A turn is divided between so many answers at most: a shorter slice would be spent on what each of them needs to go on.
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::cases;

    /// As the module does it: the answers that run in a turn, each for its slice and `more` beyond that.
    fn turn(turns: &mut Turns<usize>, more: Duration) -> (Vec<usize>, Duration) {
        let (mut ran, mut took) = (Vec::new(), Duration::ZERO);
        turns.begin();
        while let Some(answer) = turns.choose() {
            let slice = turns.slice(answer).unwrap();
            ran.push(answer);
            took += slice + more;
            turns.wait(answer).unwrap();
            turns.ran(answer, slice + more);
        }
        (ran, took)
    }

    #[test]
    fn a_single_answer_has_all_of_a_turn() {
        let mut turns = Turns::default();
        assert_eq!(turns.slice(7), Some(TURN));
        turns.ran(7, TURN);
        assert_eq!(turns.slice(7), None);
        turns.wait(7).unwrap();
        assert_eq!(turns.choose(), None);
        assert!(turns.begin());
        assert_eq!(turns.choose(), Some(7));
        assert_eq!(turns.slice(7), Some(TURN));
        turns.leave(7);
        assert!(!turns.begin());
        assert_eq!(turns.choose(), None);
    }

    #[test]
    fn who_comes_last_waits_behind_the_others() {
        let mut turns = Turns::default();
        for answer in [1, 2, 1] {
            turns.wait(answer).unwrap();
        }
        assert_eq!(turns.slice(3), None);
        turns.wait(3).unwrap();
        let (ran, _) = turn(&mut turns, Duration::ZERO);
        assert_eq!(ran[..4], [1, 2, 3, 1]);
    }

    #[test]
    fn an_answer_that_was_chosen_and_left_keeps_nobody_waiting() {
        let mut turns = Turns::default();
        turns.wait(1).unwrap();
        turns.wait(2).unwrap();
        assert_eq!(turns.choose(), Some(1));
        assert_eq!(turns.choose(), None);
        turns.leave(1);
        assert_eq!(turns.choose(), Some(2));
        // and one that did not come is forgotten in the next turn
        turns.wait(3).unwrap();
        assert!(turns.begin());
        assert_eq!(turns.choose(), Some(3));
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn all_answers_together_take_a_turn_and_all_run_equally_often(answers in 1usize..300, more_us in 0u64..500) {
            let mut turns = Turns::default();
            (0..answers).for_each(|answer| turns.wait(answer).unwrap());
            let more = Duration::from_micros(more_us);
            let mut times = vec![0u32; answers];
            for _ in 0..40 {
                let (ran, took) = turn(&mut turns, more);
                prop_assert!(!ran.is_empty());
                // the last one may exceed it by what it takes beyond its slice
                prop_assert!(took <= TURN + more);
                ran.into_iter().for_each(|answer| times[answer] += 1);
                let (least, most) = (times.iter().min(), times.iter().max());
                prop_assert!(most.unwrap() - least.unwrap() <= 1);
            }
        }
    }
}
