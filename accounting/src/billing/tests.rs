//! Unit and property tests.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::account::{Account, CacheStatus, Charges, Outcome, Usage};
use crate::table::{ACTIVE_THRESHOLD_NS, Slot, Table};
use crate::testing::{Region, cases, zeroed};

/// A report that comes later than this, after a report of a later millisecond, may be lost.
const LATE_MS: u64 = (ACTIVE_WORDS as u64 - 1) * ACTIVE_BITS;

#[test]
fn each_millisecond_is_counted_once_whoever_tells_of_it() {
    let sums = zeroed::<Account>();
    let sums = sums.billing();
    let active_ms = || sums.read().active_ms;
    sums.cover(1_000, 1_001, || false);
    sums.cover(1_000, 1_001, || false);
    assert_eq!(active_ms(), 1);
    sums.cover(1_100, 1_110, || false);
    assert_eq!(active_ms(), 11, "nothing was in flight in between");
    sums.cover(1_050, 1_105, || false);
    assert_eq!(active_ms(), 61, "who is late has filled the gap");
    sums.cover(1_150, 1_151, || true);
    assert_eq!(active_ms(), 61 + 41, "somebody was in flight in between");
    sums.cover(1_001, 1_050, || false);
    assert_eq!(active_ms(), 151, "it is all known now");
    sums.cover(1_000_000, 1_000_001, || true);
    assert_eq!(active_ms(), 999_001, "many words at once");
    sums.cover(1_000, 999_000, || false);
    assert_eq!(active_ms(), 999_001);
    sums.cover(5_000_000, 5_000_000, || false);
    sums.cover(5_000_001, 5_000_000, || false);
    assert_eq!(active_ms(), 999_001, "no time is no time");
}

#[test]
fn a_time_that_was_wrong_stops_no_active_time() {
    for wrong_ms in [1_000_000 + 2 * WRONG_MS, 1 << 40, u64::MAX / 1_000_000] {
        let sums = zeroed::<Account>();
        let sums = sums.billing();
        sums.cover(1_000_000, 1_000_010, || false);
        sums.cover(wrong_ms, wrong_ms + 1, || true);
        let before_ms = sums.read().active_ms;
        assert!(before_ms <= 11 + MOST_MS, "{wrong_ms} {before_ms}");
        for ms in 1_001_000..1_002_000 {
            sums.cover(ms, ms + 1, || false);
        }
        assert_eq!(sums.read().active_ms - before_ms, 999, "{wrong_ms}");
        sums.cover(1_002_000, 1_002_010, || true);
        assert_eq!(sums.read().active_ms - before_ms, 1_009);
    }
}

#[test]
fn a_worker_with_an_old_time_brings_nothing_twice() {
    let sums = zeroed::<Account>();
    let sums = sums.billing();
    let (begin_ms, steps) = (10_000_000, if cfg!(miri) { 3 } else { 2 * WRONG_MS / 100 });
    let cover = |ms: u64| sums.cover(ms, ms + 1, || true);
    cover(begin_ms);
    for step in 1..=steps {
        cover(begin_ms + 100 * step);
        if step == steps {
            cover(begin_ms);
        }
    }
    cover(begin_ms + 100 * steps + 1);
    assert_eq!(sums.read().active_ms, 100 * steps + 2);
}

#[test]
fn an_account_that_slept_for_years_is_active_at_once() {
    for gap_ms in [48, 240, 48 << 16, (48 << 16) - 240, 240 << 16, (240 << 16) + 240, 1 << 40] {
        let account = zeroed::<Account>();
        let sums = account.billing();
        sums.cover(gap_ms, gap_ms + 3, || false);
        for n in 2..5 {
            sums.cover(n * gap_ms + 3_200, n * gap_ms + 3_210, || false);
        }
        // the number of a word in its cell repeats after 4.4 hours
        let expected = if gap_ms == 240 << 16 { 13 } else { 33 };
        assert_eq!(sums.read().active_ms, expected, "{gap_ms}");
    }
}

#[test]
fn no_millisecond_is_counted_twice_or_lost_between_threads() {
    let account = zeroed::<Account>();
    let (threads, to_ms) = if cfg!(miri) { (2, 60) } else { (4, 40_000) };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for ms in 1..=to_ms {
                    account.billing().cover(ms, ms + 1, || false);
                }
            });
        }
    });
    assert_eq!(account.billing().read().active_ms, to_ms);
}

#[test]
fn memory_is_not_lost_by_rounding() {
    let mut carry = 0;
    // 5,120 bytes for 13 µs a thousand times are 66,560 bytes for a millisecond
    let sum: u64 = (0..1000).map(|_| Memory::new(5_120, 13_000).byte_ms(&mut carry)).sum();
    assert!((66_559..=66_560).contains(&sum), "{sum}");
    let gigabyte = Memory::new(1_000_000_000, 1_000_000_000).byte_ms(&mut 0);
    assert!((999_999_999_900..=1_000_000_000_000).contains(&gigabyte), "{gigabyte}");
    // in each second, of one worker
    let terabyte = Memory::new(1_000_000_000_000, 1_000_000_000).byte_ms(&mut 0);
    assert!((999_999_999_999_900..=1_000_000_000_000_000).contains(&terabyte), "{terabyte}");
}

fn measured(table: &Table, slot: Slot, now_ms: u64) -> BillingMetrics {
    table.refresh(slot, now_ms);
    table.account(slot).billing().read()
}

#[test]
fn a_second_is_active_from_its_threshold_on() {
    let region = Region::new(10_000);
    let table = region.table().unwrap();
    let account = table.account(Slot::OVERFLOW);
    let mut now_ms = 50_000;
    for (threshold_ns, cpu_ns, is_active) in [
        (10_000_000, 9_999_999, false),
        (10_000_000, 10_000_000, true),
        (0, 1, true),
        (999_999_999, 999_999_998, false),
        // threads can use more than a core
        (2_000_000_000, 1_999_999_999, false),
    ] {
        let before = measured(&table, Slot::OVERFLOW, now_ms);
        table.set_active_threshold(threshold_ns);
        for part in [cpu_ns / 3, cpu_ns / 3, cpu_ns - cpu_ns / 3 * 2] {
            let usage = Usage { cpu_ns: part, ..Usage::default() };
            account.add_charges(&table, now_ms + 999, &Charges { usage, ..Charges::default() });
        }
        let during = measured(&table, Slot::OVERFLOW, now_ms + 999);
        assert_eq!(during, before, "it is not over");
        now_ms += 1000;
        let after = measured(&table, Slot::OVERFLOW, now_ms);
        let (billable_ns, waived_ns) = if is_active { (cpu_ns, 0) } else { (0, cpu_ns) };
        assert_eq!(after.active_seconds - before.active_seconds, u64::from(is_active), "{cpu_ns}");
        assert_eq!(after.billable_cpu_ns - before.billable_cpu_ns, billable_ns);
        assert_eq!(after.waived_cpu_ns - before.waived_cpu_ns, waived_ns);
        now_ms += 5_000;
    }
    assert_eq!(account.billing().read().peak_cpu_ns, 1_999_999_999);
}

#[test]
fn a_wakeup_of_seconds_is_so_many_active_seconds_and_no_peak_of_several_cores() {
    let region = Region::new(10_000);
    let table = region.table().unwrap();
    let usage = Usage { cpu_ns: 3_200_000_000, ..Usage::default() };
    table.account(Slot::OVERFLOW).add(10_500, &usage);
    let billing = measured(&table, Slot::OVERFLOW, 11_000);
    assert_eq!((billing.active_seconds, billing.billable_cpu_ns), (4, 3_200_000_000));
    assert_eq!(billing.peak_cpu_ns, 1_000_000_000);
}

#[test]
fn each_log_has_peaks_of_its_own() {
    let account = zeroed::<Account>();
    let sums = account.billing();
    sums.judge(70, 10);
    assert_eq!((sums.peak_of_log(0), sums.peak_of_log(1), sums.peak_of_log(2)), (70, 70, 0));
    sums.forget_peak(0, 70);
    sums.judge(20, 10);
    assert_eq!((sums.peak_of_log(0), sums.peak_of_log(1)), (20, 70));
    sums.forget_peak(0, 19);
    assert_eq!(sums.peak_of_log(0), 20, "there was a higher one meanwhile");
    assert_eq!(sums.read().peak_cpu_ns, 70);
}

#[test]
fn who_counts_no_more_leaves_no_second_behind() {
    let region = Region::new(10_000);
    let table = region.table().unwrap();
    table.account(Slot::OVERFLOW).add(10_500, &Usage { cpu_ns: 30_000_000, ..Usage::default() });
    table.conclude();
    table.conclude();
    let billing = table.account(Slot::OVERFLOW).billing().read();
    assert_eq!((billing.billable_cpu_ns, billing.active_seconds), (30_000_000, 1));
}

/// Reports of four workers, each with its own clock and turns.
#[derive(Debug, Clone)]
struct Add {
    worker: usize,
    gap_ms: u64,
    late_ms: u64,
    cpu_ns: u64,
    refreshes: bool,
}

fn adds() -> impl Strategy<Value = Vec<Add>> {
    let add = (0usize..4, 0u64..2_500, 0u64..3_000, 0u64..30_000_000, any::<bool>()).prop_map(
        |(worker, gap_ms, late_ms, cpu_ns, refreshes)| Add { worker, gap_ms, late_ms, cpu_ns, refreshes },
    );
    prop::collection::vec(add, 0..if cfg!(miri) { 10 } else { 100 })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn all_cpu_is_billable_or_waived_or_in_the_running_second(start_ms in 0u64..1 << 40, adds in adds()) {
        let region = Region::new(10_000);
        let table = region.table().unwrap();
        let account = table.account(Slot::OVERFLOW);
        let (mut now_ms, mut sum_ns, mut last) = (start_ms + 3_000, 0, 0);
        for add in adds {
            now_ms += add.gap_ms;
            let usage = Usage { cpu_ns: add.cpu_ns, ..Usage::default() };
            account.add(now_ms - add.late_ms * (add.worker as u64 % 2), &usage);
            sum_ns += add.cpu_ns;
            if add.refreshes {
                table.refresh(Slot::OVERFLOW, now_ms);
            }
            let judged_ns = account.billing().judged_ns();
            prop_assert!(judged_ns <= sum_ns && judged_ns >= last);
            last = judged_ns;
        }
        table.refresh(Slot::OVERFLOW, now_ms + 4_000);
        prop_assert_eq!(account.billing().judged_ns(), sum_ns);
        prop_assert_eq!(account.usage().cpu_ns, sum_ns);
    }

    #[test]
    fn seconds_are_judged_as_they_were(start_s in 0u64..1 << 30,
        adds in prop::collection::vec((0u64..3_000, 0u64..12_000_000), 0..60)) {
        let region = Region::new(10_000);
        let table = region.table().unwrap();
        let mut model = std::collections::BTreeMap::<u64, u64>::new();
        let mut now_ms = start_s * 1000;
        for (gap_ms, cpu_ns) in adds {
            now_ms += gap_ms;
            table.account(Slot::OVERFLOW).add(now_ms, &Usage { cpu_ns, ..Usage::default() });
            *model.entry(now_ms / 1000).or_default() += cpu_ns;
        }
        let billing = measured(&table, Slot::OVERFLOW, now_ms + 1000);
        let active: Vec<u64> = model.values().copied().filter(|&ns| ns >= ACTIVE_THRESHOLD_NS).collect();
        prop_assert_eq!(billing.active_seconds, active.len() as u64);
        prop_assert_eq!(billing.billable_cpu_ns, active.iter().sum::<u64>());
        prop_assert_eq!(billing.waived_cpu_ns, model.values().sum::<u64>() - active.iter().sum::<u64>());
        prop_assert_eq!(billing.peak_cpu_ns, model.values().copied().max().unwrap_or(0));
    }

    /// Reports come in any order, but none is too late.
    #[test]
    fn active_time_is_the_union_of_all_spans(
        start_ms in 1u64..1 << 40, spans in prop::collection::vec((0u64..60, 0u64..LATE_MS, 1u64..90), 0..60),
    ) {
        let account = zeroed::<Account>();
        let mut union = BTreeSet::new();
        let mut end_ms = start_ms + LATE_MS;
        for (gap_ms, late_ms, length_ms) in spans {
            end_ms += gap_ms;
            // it begins within what is known of still
            let from_ms = (end_ms - late_ms).max(end_ms / ACTIVE_BITS * ACTIVE_BITS - LATE_MS + ACTIVE_BITS);
            let to_ms = (from_ms + length_ms).min(end_ms);
            account.billing().cover(from_ms, to_ms, || false);
            union.extend(from_ms..to_ms);
            prop_assert_eq!(account.billing().read().active_ms, union.len() as u64);
        }
    }

    #[test]
    fn signals_agree_with_a_plain_count(
        start_s in 100u64..1 << 31, steps in prop::collection::vec((0u64..4_000, 0u32..3, 0u64..5_000), 1..60),
    ) {
        let region = Region::new(10_000);
        let table = region.table().unwrap();
        let account = table.account(Slot::OVERFLOW);
        let mut log = Vec::new();
        let mut now_ms = start_s * 1000;
        for (gap_ms, requests, in_flight_ms) in steps {
            now_ms += gap_ms;
            let usage = Usage { cpu_ns: 7_000_000, ..Usage::default() };
            let duration_ns = in_flight_ms * 1_000_000;
            account.add_charges(&table, now_ms, &Charges { usage, duration_ns, ..Charges::default() });
            for _ in 0..requests {
                let cache = CacheStatus::None;
                account.finish(&Outcome { status: 200, cache, connection_order: 1, response_bytes: 1, cpu_ns: 1 });
            }
            log.push((now_ms / 1000, f64::from(requests), in_flight_ms as f64 / 1e3));
            table.refresh(Slot::OVERFLOW, now_ms);
            let second = now_ms / 1000;
            let model = |first: u64, seconds: u64| {
                let of = || log.iter().filter(move |&&(at, ..)| at >= first && at < second);
                let sum = |part: fn(&(u64, f64, f64)) -> f64| of().map(part).sum::<f64>() / seconds as f64;
                Signal {
                    in_flight: sum(|entry| entry.2),
                    requests_per_second: sum(|entry| entry.1),
                    cores: of().count() as f64 * 0.007 / seconds as f64,
                }
            };
            let expected = [model(second - 6, 6), model((second / 10 - 6) * 10, 60 + second % 10)];
            for (seen, expected) in account.signals(now_ms).iter().zip(&expected) {
                for (seen, expected) in [
                    (seen.in_flight, expected.in_flight),
                    (seen.requests_per_second, expected.requests_per_second),
                    (seen.cores, expected.cores),
                ] {
                    prop_assert!((seen - expected).abs() < 1e-9, "{} {}", seen, expected);
                }
            }
        }
    }
}

#[test]
fn what_was_restored_is_no_signal() {
    let region = Region::new(10_000);
    let table = region.table().unwrap();
    let account = table.account(Slot::OVERFLOW);
    account.restore(&crate::account::Totals([1_000_000_000; crate::account::COUNTERS]));
    account.add(50_000, &Usage { cpu_ns: 1, ..Usage::default() });
    table.refresh(Slot::OVERFLOW, 52_000);
    assert_eq!(
        account.signals(52_000).map(|signal| (signal.in_flight, signal.requests_per_second)),
        [(0.0, 0.0); 2]
    );
}

#[test]
fn counts_that_wrap_around_are_signals_all_the_same() {
    let account = zeroed::<Account>();
    let take =
        |second, requests, duration_ns| account.signals.close_second(second, || (requests, duration_ns));
    account.signals.skip(u64::from(u32::MAX) - 1, 0);
    take(100, u64::from(u32::MAX) + 4, 3_000_000);
    // somebody who has read earlier
    take(100, u64::from(u32::MAX) + 2, 1_000_000);
    let [six, _] = account.signals(101_000);
    assert_eq!((six.requests_per_second * 6.0, six.in_flight * 6_000.0), (5.0, 3.0));
}
