//! Unit and property tests.

use proptest::prelude::*;

use super::*;
use crate::testing::cases;

/// Runs a turn as the module does. Each answer runs for its slice, and `more` beyond it.
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
fn an_answer_that_was_chosen_and_left_delays_no_other() {
    let mut turns = Turns::default();
    turns.wait(1).unwrap();
    turns.wait(2).unwrap();
    assert_eq!(turns.choose(), Some(1));
    assert_eq!(turns.choose(), None);
    turns.leave(1);
    assert_eq!(turns.choose(), Some(2));
    // an answer that was chosen and did not run is forgotten in the next turn
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
            // the last answer may exceed the turn by its time beyond its slice
            prop_assert!(took <= TURN + more);
            ran.into_iter().for_each(|answer| times[answer] += 1);
            let (least, most) = (times.iter().min(), times.iter().max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1);
        }
    }
}
