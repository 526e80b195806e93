//! Unit and property tests.

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::*;
use crate::testing::{cases, zeroed};

const NONE: Over = Over { second: 0, ns: 0 };

fn over(at_ms: u64, ns: u64) -> Over {
    Over { second: at_ms / 1000, ns }
}

#[test]
fn an_untouched_window_is_empty_at_any_time() {
    let windows = zeroed::<Windows>();
    for now_ms in [0, 1, 999, 1_000, 10_000, 1 << 40, u64::MAX] {
        assert_eq!(windows.cores(now_ms, NONE), Cores::default(), "{now_ms}");
    }
}

#[test]
fn a_second_that_is_over_is_taken_out_once() {
    let cell = zeroed::<Second>();
    let over = |second, ns| Some(Over { second, ns });
    assert_eq!(cell.add(1 << 20, 5), None);
    assert_eq!(cell.add(1 << 20, 6), None);
    assert_eq!(cell.close(1 << 20), None, "it is not over");
    assert_eq!(cell.read(1 << 20), Over { second: 1 << 20, ns: 11 });
    assert_eq!(cell.add((1 << 20) + 1, 7), over(1 << 20, 11));
    assert_eq!(cell.add((1 << 20) - 3, 1), None, "late, but not lost");
    assert_eq!(cell.close((1 << 20) + 9), over((1 << 20) + 1, 8));
    assert_eq!(cell.close((1 << 20) + 9), None);
    assert_eq!(cell.add((1 << 20) + 9, 2), None);
    assert_eq!((cell.close_last(), cell.close_last()), (2, 0));
}

#[test]
fn a_second_can_hold_hours_and_no_more() {
    let cell = zeroed::<Second>();
    assert_eq!(cell.add(70, NS_MASK), None);
    assert_eq!(cell.add(70, 3), Some(Over { second: 70, ns: NS_MASK }));
    let sum_ns = cell.add(70, u64::MAX - 10).map_or(0, |over| over.ns) + cell.close_last();
    assert_eq!(sum_ns, u64::MAX - 10 + 3);
}

#[test]
fn a_second_follows_another_after_any_time() {
    for first in [0, 1, 63, 64, 65, ROUND_MASK - 1, ROUND_MASK, ROUND_MASK + 1, 1 << 33] {
        for later in [1, 2, 63, 65, ROUND_MASK - MAX_LATE, ROUND_MASK + 2, (1 << 22) + 7] {
            let cell = zeroed::<Second>();
            assert_eq!(cell.add(first, 5), None);
            let over = cell.add(first + later, 7);
            assert_eq!(over.map(|over| over.ns), Some(5), "{first} {later}");
            // a second without CPU closes nothing, even if the number was the same
            assert_eq!(cell.close(first + later + 1).map(|over| over.ns), Some(7));
            let second = first + later + ROUND_MASK - 5;
            assert_eq!(cell.add(second, 9).map_or(0, |over| over.ns), 0);
            assert_eq!(cell.read(second), Over { second, ns: 9 });
        }
    }
}

#[test]
fn each_nanosecond_is_in_one_second_between_threads() {
    let cell = zeroed::<Second>();
    let (threads, rounds) = if cfg!(miri) { (2, 20) } else { (4, 20_000) };
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (cell, taken) = (&cell, &taken);
            scope.spawn(move || {
                for n in 0..rounds {
                    // their clocks differ, and one of the threads reads
                    let second = 1_000_000 + n / 50 + thread % 3;
                    let over = if thread == 3 { cell.close(second) } else { cell.add(second, 7) };
                    taken.fetch_add(over.map_or(0, |over| over.ns), Relaxed);
                }
            });
        }
    });
    let adding = threads.min(3);
    assert_eq!(taken.load(Relaxed) + cell.close_last(), adding * rounds * 7);
}

#[test]
fn a_burst_leaves_each_window_after_its_length() {
    let windows = zeroed::<Windows>();
    let start_ms = 10_000_000;
    windows.add(over(start_ms, 6_000_000_000));
    let at = |ms: u64| windows.cores(start_ms + ms, NONE);
    assert_eq!(at(0), Cores { ten_seconds: 0.6, one_minute: 0.1, five_minutes: 0.02 });
    assert!(at(10_999).ten_seconds > 0.5);
    assert_eq!(at(11_000).ten_seconds, 0.0);
    assert!(at(69_999).one_minute > 0.08);
    assert_eq!(at(70_000).one_minute, 0.0);
    assert!(at(309_999).five_minutes > 0.019);
    assert_eq!(at(310_000).five_minutes, 0.0);
}

#[test]
fn a_bucket_does_not_overflow_into_its_round() {
    let windows = zeroed::<Windows>();
    for ns in [u64::MAX, u64::MAX, NS_MASK, AMPLE, 1] {
        windows.add(over(5_000_000, ns));
        let cores = windows.cores(5_000_000, NONE).ten_seconds;
        assert!((cores - NS_MASK as f64 / 1e10).abs() < 1.0, "{cores}");
    }
}

#[test]
fn a_worker_whose_time_is_late_takes_nothing_away() {
    let ring = zeroed::<Ring<12, 1_000>>();
    let now_ms = 50 * 12_000;
    ring.add(now_ms, 1_000_000_000);
    for rounds in 1..=MAX_ROUNDS_AHEAD {
        ring.add(now_ms - rounds * 12_000, 5);
    }
    assert_eq!(ring.cores(now_ms, 10, NONE), 0.1);
}

#[test]
fn a_reader_one_bucket_late_misses_nothing_of_its_window() {
    let ring = zeroed::<Ring<12, 1_000>>();
    for second in 0..100 {
        ring.add(second * 1_000 + 500, 1_000_000_000);
        if second > 11 {
            assert_eq!(ring.cores(second * 1_000 - 1, 10, NONE), 11.0 / 10.999);
        }
    }
}

#[test]
fn an_account_that_slept_for_years_counts_at_once() {
    let window_ms = [1_000, 12_000, 12_000 << 19, 12_000 << 20, 12_000 << 21, 1 << 40];
    for first_ms in window_ms {
        for later_ms in window_ms {
            let ring = zeroed::<Ring<12, 1_000>>();
            ring.add(first_ms, 7);
            // the round number repeats after 2^20 rounds; shortly before, the time seems to be late
            let now_ms = first_ms + later_ms + 20 * 12_000;
            ring.add(now_ms, 1_000_000_000);
            assert!(ring.cores(now_ms, 10, NONE) > 0.09, "{first_ms} {later_ms}");
        }
    }
}

#[test]
fn a_bucket_is_first_touched_in_any_round() {
    for round in (0..2 * MAX_ROUNDS_AHEAD).chain(ROUND_MASK - 2 * MAX_ROUNDS_AHEAD..ROUND_MASK + 4) {
        let ring = zeroed::<Ring<12, 1_000>>();
        let now_ms = (round + 1) * 12_000;
        ring.add(now_ms, 1_000_000_000);
        assert_eq!(ring.cores(now_ms, 10, NONE), 0.1, "{round}");
    }
}

#[test]
fn no_addition_is_lost_between_threads() {
    let ring = zeroed::<Ring<12, 1_000>>();
    let (threads, rounds) = if cfg!(miri) { (2, 20) } else { (4, 20_000) };
    let clock_ms = AtomicU64::new(1_000_000);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for n in 0..rounds {
                    // ten seconds altogether
                    let step_ms = u64::from(n % (rounds / 10) == 0) * 1_000 / threads;
                    let now_ms = clock_ms.fetch_add(step_ms, Relaxed);
                    ring.add(now_ms, 1_000);
                }
            });
        }
    });
    let now_ms = clock_ms.load(Relaxed);
    assert_eq!(now_ms, 1_010_000);
    assert_eq!(ring.cores(now_ms, 10, NONE), (threads * rounds * 1_000) as f64 / 1e10);
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn constant_load_is_seen_as_it_is_at_any_time(
        start_ms in 0u64..1 << 45, step_ms in 1u64..700, cores in 0.001f64..64.0, after_ms in 310_000u64..700_000,
    ) {
        // a small step is needed only for the shortest window
        let step_ms = if cfg!(miri) { 10_000 } else { step_ms };
        let after_ms = after_ms / step_ms * step_ms;
        let windows = zeroed::<Windows>();
        let mut now_ms = start_ms;
        while now_ms < start_ms + after_ms {
            now_ms += step_ms;
            windows.add(over(now_ms, (cores * step_ms as f64 * 1e6) as u64));
        }
        let seen = windows.cores(now_ms, NONE);
        // the CPU of an addition may be older than the bucket that it was added to
        let near = |seen: f64, window_ms: f64| (seen / cores - 1.0).abs() <= step_ms as f64 / window_ms + 1e-3;
        if !cfg!(miri) {
            prop_assert!(near(seen.ten_seconds, 10e3), "{} {}", cores, seen.ten_seconds);
        }
        prop_assert!(near(seen.one_minute, 60e3), "{} {}", cores, seen.one_minute);
        prop_assert!(near(seen.five_minutes, 300e3), "{} {}", cores, seen.five_minutes);
    }

    #[test]
    fn windows_contain_the_cpu_of_their_time(
        start_ms in 0u64..1 << 45, adds in prop::collection::vec((0u64..40_000, 1u64..1 << 40), 0..30),
    ) {
        let windows = zeroed::<Windows>();
        let mut now_ms = start_ms;
        let mut log = Vec::new();
        for (gap_ms, ns) in adds {
            now_ms += gap_ms;
            windows.add(over(now_ms, ns));
            log.push((now_ms, ns));
            let expected = |buckets: u64, bucket_ms: u64| {
                let first = (now_ms / bucket_ms).saturating_sub(buckets) * bucket_ms;
                let sum: u64 = log.iter().filter(|(at_ms, _)| *at_ms >= first).map(|(_, ns)| ns).sum();
                sum as f64 / ((buckets * bucket_ms + now_ms % bucket_ms) as f64 * 1e6)
            };
            prop_assert_eq!(windows.cores(now_ms, NONE), Cores {
                ten_seconds: expected(10, 1_000),
                one_minute: expected(6, 10_000),
                five_minutes: expected(30, 10_000),
            });
        }
    }
}
