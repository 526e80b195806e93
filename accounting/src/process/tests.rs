//! Unit and property tests.

use super::*;
use crate::testing::process;

#[test]
fn a_process_is_its_number_and_its_start() {
    let one = ProcessId::new(4_194_303, 123_456_789).unwrap();
    assert_eq!((one.pid(), one.started()), (4_194_303, 123_456_789));
    assert_ne!(Some(one), ProcessId::new(4_194_303, 123_456_790));
    assert_ne!(Some(one), ProcessId::new(4_194_302, 123_456_789));
    assert_eq!(ProcessId::new(0, 1), None);
    assert_eq!(ProcessId::new(1 << PID_BITS, 1), None);
    assert!(one.is_same_start(123_456_789) && !one.is_same_start(5));
    assert!(one.is_same_start(0), "it could not be read");
    assert!(ProcessId::new(7, 0).unwrap().is_same_start(5), "nor for the other");
    let last = ProcessId::new(7, u64::MAX).unwrap();
    assert_eq!(last.pid(), 7);
    assert!(last.is_same_start(u64::MAX));
}

#[test]
fn a_holder_is_one_word() {
    let process = ProcessId::new(4_194_303, u64::MAX).unwrap();
    for holder in [Holder::Nobody, Holder::Holds(process), Holder::Changes(process)] {
        assert_eq!(Holder::of(holder.word()), holder);
    }
    assert_eq!(Holder::Nobody.word(), 0);
}

#[test]
fn a_process_that_came_after_a_dead_one_is_not_taken_out_for_it() {
    let places = [const { AtomicU64::new(0) }; 2];
    let register = Register { places: &places, used: &AtomicU32::new(0) };
    let first = register.acquire(process(1)).unwrap();
    assert!(register.acquire(process(2)).is_some());
    assert_eq!(register.acquire(process(3)), None);
    let dead = register.find_dead(|id| id != process(1));
    assert_eq!(dead.count(), 1);
    register.reap(&dead);
    assert_eq!(register.acquire(process(3)), Some(first));
    register.reap(&dead);
    assert!(register.has(first, process(3)));
    register.release(first, process(1));
    assert!(register.has(first, process(3)), "it is another's");
    register.release(first, process(3));
    assert!(!register.has(first, process(3)));
}

#[test]
fn one_process_looks_each_second() {
    let look = Look::new();
    assert!(look.claim(5_000));
    assert!(!look.claim(5_000) && !look.claim(5_800));
    assert!(look.claim(6_000));
    assert!(look.claim(1 << 40), "a time that is wrong");
    assert!(look.claim(7_000), "stops nothing");
    assert!(!look.claim(7_500));
}
