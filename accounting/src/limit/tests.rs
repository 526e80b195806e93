//! Unit and property tests.

use proptest::prelude::*;

use super::*;
use crate::testing::AtomicU64;
use crate::testing::{cases, killed_after, zeroed};
use core::num::NonZeroU64;
use core::sync::atomic::Ordering::Relaxed;

const S: u64 = 1_000 * MS;

fn limit(cores: &str, burst_ns: u64) -> Limit {
    bounded(cores, burst_ns, None)
}

fn bounded(cores: &str, burst_ns: u64, max_debt_ns: Option<u64>) -> Limit {
    let rate = parse_cores(cores.as_bytes()).unwrap();
    Limit::new(LimitId::of(b"limit"), rate, Some(burst_ns / MS), max_debt_ns.map(|ns| ns / MS))
}

fn debt(result: Result<u64, NonZeroU64>) -> u64 {
    result.map_or_else(NonZeroU64::get, |_| 0)
}

#[test]
fn cores_are_decimal_numbers_within_bounds() {
    let parse = |text: &str| parse_cores(text.as_bytes()).map(NonZeroU64::get);
    for (text, rate) in [
        ("1", CORE),
        ("0.5", CORE / 2),
        ("0.001", MIN_RATE),
        ("100000", MAX_RATE),
        ("100000.000", MAX_RATE),
        ("0002.250", 2_250_000_000),
        ("0.123456789", 123_456_789),
        ("0.1234567899999999999999999999", 123_456_789),
    ] {
        assert_eq!(parse(text), Some(rate), "{text}");
    }
    for text in [
        "",
        ".",
        "0",
        "0.0",
        ".5",
        "1.",
        "-1",
        "+1",
        "1e3",
        "0x1",
        " 1",
        "1 ",
        "1,5",
        "1.2.3",
        "one",
        "inf",
        "NaN",
        "0.0009",
        "0.000999999999",
        "100000.000000001",
        "100001",
        "18446744073709551617",
        "99999999999999999999999",
        "1\0",
        "\u{661}",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
}

#[test]
fn a_burst_is_a_second_of_the_rate_unless_it_is_said() {
    let rate = parse_cores(b"0.5").unwrap();
    let limit = |burst_ms| Limit::new(LimitId::of(b""), rate, burst_ms, None);
    assert_eq!(limit(None).burst_ns(), S / 2);
    assert_eq!(limit(Some(0)).burst_ns(), 0);
    assert_eq!(limit(Some(u64::MAX)).burst_ns(), (u64::from(u32::MAX) - 1) * MS, "49 days");
}

#[test]
fn a_client_may_come_again_when_the_debt_is_paid() {
    let limit = limit("0.5", 0);
    assert_eq!(limit.retry_after_s(1), 1, "never at once");
    assert_eq!(limit.retry_after_s(S / 2), 1);
    assert_eq!(limit.retry_after_s(S / 2 + 1), 2);
    assert_eq!(limit.retry_after_s(u64::MAX), u64::MAX.div_ceil(S / 2));
}

/// An account's bucket, and the CPU that was used.
struct Key {
    bucket: Box<Bucket>,
    used_ns: u64,
}

impl Key {
    fn new() -> Key {
        Key { bucket: zeroed::<Bucket>(), used_ns: 0 }
    }

    fn check(&self, now_ms: u64, limit: &Limit) -> u64 {
        assert!(self.bucket.assign(limit));
        debt(self.bucket.check(now_ms, limit, 0, || 0))
    }

    /// As `Account::add`.
    fn add(&mut self, now_ms: u64, ns: u64) {
        if self.bucket.is_live() {
            self.bucket.add(now_ms, signed(ns));
        }
        self.used_ns += ns;
    }

    fn missing_ns(&self) -> u64 {
        self.bucket.missing_ns.load(Relaxed)
    }

    fn paid_ms(&self) -> u64 {
        Times(self.bucket.times.load(Relaxed)).paid_ms()
    }
}

#[test]
fn what_is_beyond_the_burst_is_the_debt_and_time_pays_it() {
    let (mut key, limit) = (Key::new(), limit("0.5", 100 * MS));
    assert_eq!(key.check(10_000, &limit), 0);
    key.add(10_000, 100 * MS);
    assert_eq!(key.check(10_000, &limit), 0, "the burst is used up, and no more");
    key.add(10_000, 250 * MS);
    assert_eq!(key.check(10_000, &limit), 250 * MS);
    assert_eq!(limit.retry_after_s(250 * MS), 1);
    assert_eq!(key.check(10_100, &limit), 200 * MS);
    assert_eq!(key.check(10_499, &limit), MS / 2);
    assert_eq!(key.check(10_500, &limit), 0);
    assert_eq!(key.missing_ns(), 100 * MS);
    assert_eq!(key.check(11_000, &limit), 0);
    assert_eq!(key.missing_ns(), 0, "the bucket is full");
}

#[test]
fn what_will_be_added_next_counts() {
    let (mut key, limit) = (Key::new(), limit("1", MS));
    let check = |key: &Key, pending_ns| debt(key.bucket.check(5, &limit, pending_ns, || 0));
    assert_eq!(check(&key, signed(MS)), 0);
    assert_eq!(check(&key, signed(MS) + 15), 15);
    assert_eq!(check(&key, i64::MAX), i64::MAX.unsigned_abs() - MS);
    assert!(key.bucket.assign(&limit));
    key.add(5, 3 * MS);
    assert_eq!(check(&key, -signed(2 * MS)), 0, "what was charged before is given back");
    assert_eq!(check(&key, i64::MIN), 0);
}

#[test]
fn what_was_used_before_the_first_check_is_in_no_debt() {
    let (mut key, limit) = (Key::new(), limit("0.001", 0));
    key.add(1, 1_000 * S);
    assert_eq!(key.bucket.read(5), None);
    assert_eq!(key.check(5, &limit), 0);
    key.add(5, 1);
    assert_eq!(key.check(5, &limit), 1);
    let state = BucketState { rate: MIN_RATE, burst_ns: 0, max_debt_ns: None, debt_ns: 1 };
    assert_eq!(key.bucket.read(5), Some(state));
    assert_eq!(key.bucket.read(6), Some(BucketState { debt_ns: 0, ..state }));
    assert_eq!(key.missing_ns(), 1, "reading pays nothing");
}

#[test]
fn time_with_a_full_bucket_pays_for_nothing_later() {
    let (mut key, limit) = (Key::new(), limit("0.5", 100 * MS));
    key.check(1_000, &limit);
    // a request waits for 100 seconds, and then works for one, without another check in between
    key.add(101_000, S);
    assert_eq!(key.check(101_000, &limit), 900 * MS);
}

#[test]
fn without_a_burst_all_must_be_paid_before_the_next_request() {
    let (mut key, limit) = (Key::new(), limit("2", 0));
    assert_eq!(key.check(1_000, &limit), 0);
    key.add(1_000, 4 * MS);
    assert_eq!(key.check(1_001, &limit), 2 * MS);
    assert_eq!(key.check(1_002, &limit), 0);
}

#[test]
fn the_rate_is_that_of_the_last_check() {
    let mut key = Key::new();
    let (slow, fast) = (limit("0.1", 0), limit("1", 0));
    key.check(1_000, &slow);
    key.add(1_000, 100 * MS);
    assert_eq!(key.check(1_100, &fast), 90 * MS, "0.1 s at the old rate");
    assert_eq!(key.check(1_150, &slow), 40 * MS, "0.05 s at the new one");
    assert_eq!(key.check(1_250, &slow), 30 * MS);
    assert_eq!(key.bucket.read(1_250).unwrap().rate, CORE / 10);
}

#[test]
fn a_debt_stays_while_its_clients_wait_and_unlimited_use_makes_none() {
    let (mut key, limit) = (Key::new(), limit("0.1", 0));
    key.check(1_000, &limit);
    key.add(1_000, 1_000 * S);
    let later_ms = 1_000 + 5 * LAPSE_MS;
    // the limit is removed: the key uses a core for an hour
    for n in 0..3_600 {
        key.add(later_ms + n * 1_000, S);
    }
    let now_ms = later_ms + 3_600_000;
    assert_eq!(key.check(now_ms, &limit), 1_000 * S - (now_ms - 1_000) * MS / 10);
    key.add(now_ms, S);
    assert_eq!(key.check(now_ms, &limit), 1_001 * S - (now_ms - 1_000) * MS / 10, "and it is limited again");
}

#[test]
fn a_limit_that_is_gone_counts_nothing_for_years() {
    let (mut key, limit) = (Key::new(), limit("0.001", 0));
    key.check(1_000, &limit);
    for hour in 1..2 * 365 * 24 {
        key.add(hour * 3_600_000, S);
    }
    assert_eq!(key.missing_ns(), 0);
}

#[test]
fn years_without_a_request_fill_the_bucket_once() {
    for cores in ["0.001", "1", "100000"] {
        let (mut key, limit) = (Key::new(), limit(cores, MS));
        key.check(1, &limit);
        key.add(1, S);
        let years_ms = 30 * 365 * 86_400_000;
        assert_eq!(key.check(years_ms, &limit), 0);
        assert_eq!(key.missing_ns(), 0);
        key.add(years_ms, 3 * MS);
        assert_eq!(key.check(years_ms, &limit), 2 * MS);
        assert_eq!(key.check(u64::MAX, &limit), 0, "the last time that there is");
    }
}

#[test]
fn a_worker_whose_time_was_ahead_does_not_stop_the_income() {
    for ahead_ms in [1, 500, 1_000, 1_001, 5_000, 30_000, 59_000, 61_000, 1_800_000, u64::MAX / 2] {
        let (mut key, limit) = (Key::new(), limit("0.5", 0));
        key.check(10_000, &limit);
        key.check(10_000 + ahead_ms, &limit);
        key.add(11_000, 100 * MS);
        assert_eq!(key.check(11_000, &limit), 100 * MS, "{ahead_ms}");
        // a lead of up to a second looks like a worker that is late
        let late_ms = if ahead_ms > 1_000 + LATE_MS { 0 } else { ahead_ms.saturating_sub(1_000) };
        assert_eq!(key.check(11_200 + late_ms, &limit), 0, "{ahead_ms}");
        assert!(key.paid_ms() <= 11_200 + late_ms);
        assert!(
            key.bucket.age_ms(11_200 + 2 * LAPSE_MS) > LAPSE_MS,
            "{ahead_ms}: checks stay as old as they are"
        );
    }
}

#[test]
fn a_worker_that_is_a_little_late_sets_nothing_back() {
    let (mut key, limit) = (Key::new(), limit("0.5", 0));
    key.check(100_000, &limit);
    key.add(100_000, S);
    assert_eq!(key.check(100_000 - LATE_MS, &limit), S);
    assert_eq!(key.check(101_000, &limit), S / 2);
}

#[test]
fn a_clock_that_is_set_back_goes_on_from_there() {
    let (mut key, limit) = (Key::new(), limit("0.5", 0));
    key.check(600_000, &limit);
    key.add(600_000, S);
    assert_eq!(key.check(1_000, &limit), S);
    assert_eq!(key.check(1_500, &limit), 3 * S / 4);
    assert_eq!(key.check(2_000, &limit), S / 2);
    assert_eq!(key.check(3_000, &limit), 0);
}

#[test]
fn what_is_expected_is_charged_to_who_is_let_in() {
    let limit = bounded("0.5", 100 * MS, Some(200 * MS));
    let key = Key::new();
    assert!(key.bucket.assign(&limit));
    let check = |now_ms| key.bucket.check(now_ms, &limit, 0, || 80 * MS);
    assert_eq!((check(1_000), check(1_000)), (Ok(80 * MS), Ok(80 * MS)));
    assert_eq!(debt(check(1_000)), 60 * MS, "two are let in at the same time, and no third one");
    // one request has used 30 ms, the other one nothing
    key.bucket.add(1_000, signed(30 * MS) - signed(80 * MS));
    key.bucket.add(1_000, -signed(80 * MS));
    assert_eq!(key.missing_ns(), 30 * MS);
    assert_eq!(check(1_060), Ok(80 * MS), "time has paid for that");
    assert_eq!(key.missing_ns(), 80 * MS);
    // a worker that is killed now loses nothing: time pays for the charge
    assert_eq!(key.bucket.read(1_160).unwrap().debt_ns, 0);
    key.bucket.add(1_260, 0);
    assert_eq!(key.missing_ns(), 0);
}

#[test]
fn whenever_a_worker_is_killed_its_charges_are_paid_by_time() {
    let limit = bounded("0.5", 100 * MS, Some(200 * MS));
    for writes in 0.. {
        let key = Key::new();
        assert!(key.bucket.assign(&limit));
        let was_killed = killed_after(writes, || {
            for now_ms in [1_000, 1_010] {
                let _ = key.bucket.check(now_ms, &limit, 0, || 80 * MS);
            }
            key.bucket.add(1_020, signed(30 * MS) - signed(80 * MS));
        });
        let debt_ns = debt(key.bucket.check(1_020, &limit, 0, || 0));
        assert!(debt_ns <= 60 * MS, "{writes}: {debt_ns}");
        assert_eq!(debt(key.bucket.check(1_140, &limit, 0, || 0)), 0, "{writes}");
        assert_eq!(key.check(1_400, &limit), 0);
        assert_eq!(key.missing_ns(), 0, "{writes}: nothing is left of it");
        if !was_killed {
            return;
        }
    }
}

#[test]
fn a_charge_leaves_the_debt_within_its_bound() {
    let limit = bounded("0.5", 100 * MS, Some(50 * MS));
    let key = Key::new();
    assert!(key.bucket.assign(&limit));
    assert_eq!(key.bucket.check(1_000, &limit, 0, || S), Ok(150 * MS));
    assert_eq!(debt(key.bucket.check(1_000, &limit, 0, || S)), 50 * MS);
    key.bucket.add(1_000, -signed(150 * MS));
    assert_eq!(key.missing_ns(), 0, "what was not charged is not given back");
}

#[test]
fn a_debt_never_exceeds_its_bound() {
    let (mut key, limit) = (Key::new(), bounded("0.1", 100 * MS, Some(2 * S)));
    key.check(1_000, &limit);
    key.add(1_000, 1_000 * S);
    assert_eq!(key.check(1_000, &limit), 2 * S);
    assert_eq!(key.bucket.read(1_000).unwrap().debt_ns, 2 * S);
    assert_eq!(key.check(21_000, &limit), 0);
    // also if the debt was made before there was a bound
    let (mut key, unbounded) = (Key::new(), bounded("0.1", 100 * MS, None));
    key.check(1_000, &unbounded);
    key.add(1_000, 1_000 * S);
    assert_eq!(key.check(1_000, &limit), 2 * S);
    key.add(1_000, 1);
    assert_eq!(key.missing_ns(), 2_100 * MS);
    assert_eq!(debt(key.bucket.check(1_000, &limit, i64::MAX, || 0)), 2 * S);
}

#[test]
fn limits_are_distinguished_by_their_text() {
    assert_eq!(LimitId::of(b"cores=1"), LimitId::of(b"cores=1"));
    assert_ne!(LimitId::of(b"cores=1"), LimitId::of(b"cores=2"));
    assert_eq!(LimitId::of(b"cores=1").0.get(), 1_747_268_067, "the same in each binary");
}

#[test]
fn many_threads_are_paid_once() {
    // turns in each millisecond; so no time is late by more than LATE_MS
    const TURNS: u64 = 100;
    let (threads, rounds) = if cfg!(miri) { (2, 200) } else { (4, 20_000) };
    let (bucket, limit) = (zeroed::<Bucket>(), limit("1", 0));
    assert!(bucket.assign(&limit));
    bucket.check(1, &limit, 0, || 0).unwrap();
    bucket.missing_ns.store(u64::MAX / 2, Relaxed);
    let clock = AtomicU64::new(TURNS);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..rounds {
                    // the time of each thread may be late by now
                    let now_ms = (clock.fetch_add(1, Relaxed) + 1) / TURNS;
                    let _ = bucket.check(now_ms, &limit, 0, || 0);
                }
            });
        }
    });
    // an earlier time may have won over the last one
    let _ = bucket.check(clock.load(Relaxed) / TURNS, &limit, 0, || 0);
    assert_eq!(u64::MAX / 2 - bucket.missing_ns.load(Relaxed), (threads * rounds / TURNS) * MS);
}

const MAX_LATE_MS: u64 = 20;

#[derive(Debug, Clone)]
enum Step {
    /// this number of milliseconds passes
    Wait(u64),
    /// a client sends a request to a worker whose time is late; if it is admitted, it uses this CPU
    Ask { late_ms: u64, ns: u64 },
    /// a worker takes time and is killed before it pays
    Kill { late_ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0u64..50).prop_map(Step::Wait),
        1 => (0u64..5_000).prop_map(Step::Wait),
        6 => (0..=MAX_LATE_MS, 0u64..80 * MS).prop_map(|(late_ms, ns)| Step::Ask { late_ms, ns }),
        1 => (0..=MAX_LATE_MS).prop_map(|late_ms| Step::Kill { late_ms }),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(cases())]

    /// From any moment on, a key gets at most the burst, the payment of the time, and one request that began before
    /// the debt. It is refused no longer than its debt lasts, except for payments that killed workers have lost. CPU
    /// added by a late worker is used at that worker's time: the time until now may already have paid for it.
    #[test]
    fn a_key_gets_its_rate_and_no_more(
        steps in steps(),
        rate in (MIN_RATE..4 * CORE).prop_map(|rate| NonZeroU64::new(rate).unwrap()),
        burst_ms in 0u64..200,
        since in 0usize..300,
    ) {
        let limit = Limit::new(LimitId::of(b""), rate, Some(burst_ms), None);
        let burst_ns = burst_ms * MS;
        let mut key = Key::new();
        let start_ms = 1_000_000;
        let mut now_ms = start_ms;
        key.check(now_ms, &limit);
        let (mut used_ns, mut from_ms, mut largest_ns, mut lost_ms) = (0, now_ms, 0, 0);
        let late_ns = i128::from(income_ns(rate.get(), MAX_LATE_MS));
        // the same in units so small that nothing is rounded
        let mut model = i128::from(burst_ns) * 1000;
        for (n, step) in steps.into_iter().enumerate() {
            if n == since {
                (used_ns, from_ms, largest_ns) = (0, now_ms, 0);
            }
            match step {
                Step::Wait(ms) => {
                    now_ms += ms;
                    let full = i128::from(burst_ns) * 1000;
                    model = (model + i128::from(ms) * i128::from(rate.get())).min(full);
                }
                Step::Ask { late_ms, ns } => {
                    let last_ms = key.paid_ms();
                    let seen_ms = now_ms - late_ms;
                    let debt_ns = key.check(seen_ms, &limit);
                    // a worker that is late sees an older debt
                    let unpaid_ms = now_ms - seen_ms.max(last_ms) + lost_ms;
                    let expected = (-model).max(0) / 1000;
                    let most = expected + i128::from(income_ns(rate.get(), unpaid_ms)) + 1 + n as i128;
                    let least = expected - late_ns;
                    let debt = i128::from(debt_ns);
                    prop_assert!(debt >= least && debt <= most, "{least} <= {debt} <= {most}");
                    if debt_ns == 0 {
                        key.add(seen_ms, ns);
                        model -= i128::from(ns) * 1000;
                        used_ns += ns;
                        largest_ns = largest_ns.max(ns);
                    }
                }
                Step::Kill { late_ms } => {
                    let seen_ms = now_ms - late_ms;
                    let (_, taken_ms) = key.bucket.take_time(seen_ms, true);
                    lost_ms += taken_ms;
                }
            }
            let most = burst_ns + income_ns(rate.get(), now_ms - from_ms + MAX_LATE_MS) + largest_ns + 1;
            prop_assert!(used_ns <= most, "{used_ns} ns in {} ms", now_ms - from_ms);
            prop_assert!(key.missing_ns() <= key.used_ns);
        }
        // whatever happened, the debt is paid in the end
        let state = key.bucket.read(now_ms).unwrap();
        now_ms += limit.retry_after_s(state.debt_ns) * 1000;
        prop_assert_eq!(key.check(now_ms, &limit), 0);
    }

    /// Any numbers, in any order: no overflow, no more missing than used, and a reader sees the same as a check.
    #[test]
    fn nothing_overflows(
        steps in prop::collection::vec(
            (any::<u64>(), 0u32..64, any::<u64>(), 0u32..64, MIN_RATE..=MAX_RATE, any::<u64>(), any::<Option<u64>>()),
            0..50,
        ),
    ) {
        let mut key = Key::new();
        for (now_ms, shift, ns, ns_shift, rate, sizes_ms, max_debt_ms) in steps {
            let rate = NonZeroU64::new(rate).unwrap();
            let limit = Limit::new(LimitId::of(b""), rate, Some(sizes_ms >> shift), max_debt_ms);
            let now_ms = now_ms >> shift;
            key.add(now_ms, (ns >> ns_shift).min(u64::MAX - key.used_ns));
            prop_assert!(key.missing_ns() <= key.used_ns);
            let debt_ns = key.check(now_ms, &limit);
            prop_assert!(debt_ns <= key.used_ns);
            let max_debt_ns = limit.charges_before().then(|| u64::from(limit.max_debt_ms) * MS);
            prop_assert!(max_debt_ns.is_none_or(|most_ns| debt_ns <= most_ns));
            let expected = BucketState { rate: rate.get(), burst_ns: limit.burst_ns(), max_debt_ns, debt_ns };
            prop_assert_eq!(key.bucket.read(now_ms.min(key.paid_ms())), Some(expected));
            prop_assert_eq!(key.bucket.is_in_debt(now_ms.min(key.paid_ms()), 0), debt_ns != 0);
            prop_assert!(limit.retry_after_s(debt_ns) >= 1);
        }
    }
}
