//! A limit on the CPU of one key: a token bucket in its account, shared by all workers, without a lock.
//!
//! A bucket does not hold what is left but what was paid. An account's counters only grow, and so does what is paid for it:
//! CPU that was used and is not paid yet is what is missing in the bucket, which is full when all is paid, and empty when
//! as much as `burst` is missing. What is missing beyond that is the debt; while there is one, requests are refused. Time
//! pays, `rate` per second, but never more than was used: a full bucket takes no more. So CPU is charged to an account as
//! ever, by plain additions, and a limit costs nothing more there.
//!
//! Whoever finds that time has passed since the last payment takes that time by one compare-and-swap, and then pays for it. A
//! worker that is killed between the two takes some milliseconds' income with it, and nothing else. Clocks of workers may be
//! late by the length of a turn of their event loops: who comes with an older time than the last payment's pays nothing. If it is
//! older by a minute, the last payment's time was a wrong one, and time goes on from the older one.

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::window::FAR_MS;

/// Nanoseconds of a core in a second, one core's rate.
const CORE: u64 = 1_000_000_000;
/// The least rate, 0.001 cores.
const MIN_RATE: u64 = CORE / 1000;
/// The highest rate, 100,000 cores.
const MAX_RATE: u64 = CORE * 100_000;

/// When no request was checked for so long, in milliseconds, what the key uses is not limited. So where a limit is taken away
/// and comes back, or the key has none for a while, no debt of hours has grown meanwhile. What a request uses in this
/// time, and after it, while it is the only one, is not paid for: it was let in, and nobody had to wait for it.
const LAPSE_MS: u64 = 10 * 60 * 1000;

/// A limit, as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// nanoseconds of CPU per second
    rate: NonZeroU64,
    /// nanoseconds of CPU
    burst_ns: u64,
}

impl Limit {
    /// `burst_ns`: what may be used beyond the rate, in nanoseconds of CPU; without it, what the rate brings in a second.
    pub fn new(rate: NonZeroU64, burst_ns: Option<u64>) -> Limit {
        Limit { rate, burst_ns: burst_ns.unwrap_or(rate.get()) }
    }

    /// After how many seconds a debt of so many nanoseconds is paid; at least 1, as `Retry-After` takes whole ones.
    pub fn retry_after_s(&self, debt_ns: u64) -> u64 {
        debt_ns.div_ceil(self.rate.get()).max(1)
    }
}

/// A number of cores, as nanoseconds of CPU per second: a decimal number from 0.001 to 100000, without sign or exponent.
/// Decimals after the ninth are dropped. `None` if it is not such a number.
pub fn parse_cores(text: &[u8]) -> Option<NonZeroU64> {
    NonZeroU64::new(parse_decimal(text)?).filter(|rate| (MIN_RATE..=MAX_RATE).contains(&rate.get()))
}

/// A decimal number without sign or exponent, in billionths; decimals after the ninth are dropped. `None` if it is none, or too
/// large.
pub fn parse_decimal(text: &[u8]) -> Option<u64> {
    let (whole, decimals) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], Some(&text[point + 1..])),
        None => (text, None),
    };
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if !digits(whole) || decimals.is_some_and(|decimals| !digits(decimals)) {
        return None;
    }
    let mut rate = 0u64;
    for digit in whole {
        rate = rate.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    rate = rate.checked_mul(CORE)?;
    let mut place = CORE;
    for digit in decimals.into_iter().flatten() {
        place /= 10;
        rate = rate.checked_add(place * u64::from(digit - b'0'))?;
    }
    Some(rate)
}

/// What CPU is to the limits on an account. All of it is in the account's `cpu_ns`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Share {
    /// It is paid for.
    #[default]
    Used,
    /// A refused request's: it is in no debt. Otherwise a key that keeps asking would be refused for ever.
    Refused,
    /// Of a request that a limit with `dry_run` would have refused. It is in no debt either: so the debt is what it were if
    /// such requests were refused.
    RefusedDryRun,
}

/// Kinds of refusals: real ones, and those that `dry_run` only counts. As the values of the label `dry_run`.
pub const DRY_RUN: [&str; 2] = ["no", "yes"];

/// The state of a limit on an account. All zero is one that was never checked.
#[repr(C)]
#[derive(Debug)]
pub struct Bucket {
    /// when a request was last checked, in milliseconds; 0: never
    checked_ms: AtomicU64,
    /// up to when it is paid
    last_ms: AtomicU64,
    paid_ns: AtomicU64,
    /// of the last check
    rate: AtomicU64,
    burst_ns: AtomicU64,
}

/// What a reader gets to see of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketState {
    /// nanoseconds of CPU per second, as of the last check
    pub rate: u64,
    /// nanoseconds of CPU, as of the last check
    pub burst_ns: u64,
    /// nanoseconds of CPU that have to be paid until requests are let in again
    pub debt_ns: u64,
}

/// What a rate brings in some milliseconds, in nanoseconds of CPU. It saturates far above what can have been used.
fn income_ns(rate: u64, ms: u64) -> u64 {
    ms.saturating_mul(rate) / 1000
}

impl Bucket {
    /// Whether a request was ever checked.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.checked_ms.load(Relaxed) != 0
    }

    /// Whether a request is let in; otherwise the debt in nanoseconds. `now_ms` is a monotonic clock's that all workers
    /// share, `used_ns` reads what was used by now, and `ahead_ns` is what will be added to that next.
    ///
    /// # Errors
    /// The debt, if there is one.
    #[inline]
    pub fn check(
        &self,
        now_ms: u64,
        limit: &Limit,
        used_ns: impl Fn() -> u64,
        ahead_ns: u64,
    ) -> Result<(), NonZeroU64> {
        // time that has passed is paid by the rate that was in force
        self.earn(now_ms, &used_ns);
        for (field, value) in [(&self.rate, limit.rate.get()), (&self.burst_ns, limit.burst_ns)] {
            if field.load(Relaxed) != value {
                field.store(value, Relaxed);
            }
        }
        let checked_ms = self.checked_ms.load(Relaxed);
        if checked_ms < now_ms.max(1) || checked_ms - now_ms > FAR_MS {
            self.checked_ms.store(now_ms.max(1), Relaxed);
        }
        // what was paid first: what is used only grows
        let paid_ns = self.paid_ns.load(Relaxed);
        let unpaid_ns = used_ns().saturating_add(ahead_ns).saturating_sub(paid_ns);
        NonZeroU64::new(unpaid_ns.saturating_sub(limit.burst_ns)).map_or(Ok(()), Err)
    }

    /// Pays for the time since the last payment. To be called before `used_ns` grows too: time in which the bucket was full
    /// does not pay for what is used later.
    #[inline]
    pub fn earn(&self, now_ms: u64, used_ns: impl Fn() -> u64) {
        if let Some(ns) = self.take_time(now_ms, &used_ns) {
            self.pay(ns, used_ns());
        }
    }

    /// Takes the time since the last payment; what it brings has to be paid by the caller.
    fn take_time(&self, now_ms: u64, used_ns: impl Fn() -> u64) -> Option<u64> {
        let last_ms = self.last_ms.load(Relaxed);
        let ms = now_ms.saturating_sub(last_ms);
        if last_ms == 0 {
            // the first check: before the time is there, so that nobody sees a debt for what was never limited
            self.paid_ns.fetch_max(used_ns(), Relaxed);
        } else if ms == 0 && last_ms - now_ms <= FAR_MS {
            return None;
        }
        // who loses this has nothing to pay: the other does
        let taken = self.last_ms.compare_exchange(last_ms, now_ms.max(1), Relaxed, Relaxed).is_ok();
        (taken && last_ms != 0).then(|| income_ns(self.rate.load(Relaxed), ms))
    }

    fn pay(&self, ns: u64, used_ns: u64) {
        let _ = self.paid_ns.fetch_update(Relaxed, Relaxed, |paid_ns| {
            let sum_ns = paid_ns.saturating_add(ns).min(used_ns);
            (sum_ns > paid_ns).then_some(sum_ns)
        });
    }

    /// What has just been added to `used_ns` is paid at once if no request was checked for a long time.
    pub fn lapse(&self, now_ms: u64, added_ns: u64, used_ns: impl Fn() -> u64) {
        if now_ms.saturating_sub(self.checked_ms.load(Relaxed)) > LAPSE_MS {
            self.pay(added_ns, used_ns());
        }
    }

    /// The state at a time; none if no request was ever checked.
    pub fn read(&self, now_ms: u64, used_ns: impl Fn() -> u64) -> Option<BucketState> {
        if !self.is_live() {
            return None;
        }
        let (rate, burst_ns) = (self.rate.load(Relaxed), self.burst_ns.load(Relaxed));
        let ms = now_ms.saturating_sub(self.last_ms.load(Relaxed));
        let paid_ns = self.paid_ns.load(Relaxed).saturating_add(income_ns(rate, ms));
        Some(BucketState {
            rate,
            burst_ns,
            debt_ns: used_ns().saturating_sub(paid_ns).saturating_sub(burst_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{cases, zeroed};

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;

    fn limit(cores: &str, burst_ns: u64) -> Limit {
        Limit::new(parse_cores(cores.as_bytes()).unwrap(), Some(burst_ns))
    }

    fn debt(result: Result<(), NonZeroU64>) -> u64 {
        result.map_or_else(NonZeroU64::get, |()| 0)
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
        assert_eq!(Limit::new(rate, None).burst_ns, S / 2);
        assert_eq!(Limit::new(rate, Some(0)).burst_ns, 0);
    }

    #[test]
    fn a_client_may_come_again_when_the_debt_is_paid() {
        let limit = limit("0.5", 0);
        assert_eq!(limit.retry_after_s(1), 1, "never at once");
        assert_eq!(limit.retry_after_s(S / 2), 1);
        assert_eq!(limit.retry_after_s(S / 2 + 1), 2);
        assert_eq!(limit.retry_after_s(u64::MAX), u64::MAX.div_ceil(S / 2));
    }

    /// An account's bucket, and what was used.
    struct Key {
        bucket: Box<Bucket>,
        used_ns: u64,
    }

    impl Key {
        fn new() -> Key {
            Key { bucket: zeroed::<Bucket>(), used_ns: 0 }
        }

        fn check(&self, now_ms: u64, limit: &Limit) -> u64 {
            debt(self.bucket.check(now_ms, limit, || self.used_ns, 0))
        }

        /// As `Account::add`.
        fn add(&mut self, now_ms: u64, ns: u64) {
            let is_live = self.bucket.is_live();
            if is_live {
                self.bucket.earn(now_ms, || self.used_ns);
            }
            self.used_ns += ns;
            if is_live {
                self.bucket.lapse(now_ms, ns, || self.used_ns);
            }
        }

        fn missing_ns(&self) -> u64 {
            self.used_ns - self.bucket.paid_ns.load(Relaxed)
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
        let (key, limit) = (Key::new(), limit("1", 10));
        assert_eq!(debt(key.bucket.check(5, &limit, || 0, 10)), 0);
        assert_eq!(debt(key.bucket.check(5, &limit, || 0, 25)), 15);
        assert_eq!(debt(key.bucket.check(5, &limit, || 0, u64::MAX)), u64::MAX - 10);
    }

    #[test]
    fn what_was_used_before_the_first_check_is_in_no_debt() {
        let (mut key, limit) = (Key::new(), limit("0.001", 0));
        key.add(1, 1_000 * S);
        assert_eq!(key.bucket.read(5, || key.used_ns), None);
        assert_eq!(key.check(5, &limit), 0);
        key.add(5, 1);
        assert_eq!(key.check(5, &limit), 1);
        let state = BucketState { rate: MIN_RATE, burst_ns: 0, debt_ns: 1 };
        assert_eq!(key.bucket.read(5, || key.used_ns), Some(state));
        assert_eq!(key.bucket.read(6, || key.used_ns), Some(BucketState { debt_ns: 0, ..state }));
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
        assert_eq!(key.bucket.read(1_250, || key.used_ns).unwrap().rate, CORE / 10);
    }

    #[test]
    fn a_debt_stays_while_its_clients_wait_and_what_is_not_limited_makes_none() {
        let (mut key, limit) = (Key::new(), limit("0.1", 0));
        key.check(1_000, &limit);
        key.add(1_000, 1_000 * S);
        let later_ms = 1_000 + 5 * LAPSE_MS;
        // the limit is taken away: the key uses a core for an hour
        for n in 0..3_600 {
            key.add(later_ms + n * 1_000, S);
        }
        let now_ms = later_ms + 3_600_000;
        assert_eq!(key.check(now_ms, &limit), 1_000 * S - (now_ms - 1_000) * MS / 10);
        key.add(now_ms, S);
        assert_eq!(
            key.check(now_ms, &limit),
            1_001 * S - (now_ms - 1_000) * MS / 10,
            "and it is limited again"
        );
    }

    #[test]
    fn years_without_a_request_fill_the_bucket_once() {
        for cores in ["0.001", "1", "100000"] {
            let (mut key, limit) = (Key::new(), limit(cores, 100));
            key.check(1, &limit);
            key.add(1, S);
            let years_ms = 1_000 * 365 * 86_400_000;
            assert_eq!(key.check(years_ms, &limit), 0);
            assert_eq!(key.missing_ns(), 0);
            key.add(years_ms, 300);
            assert_eq!(key.check(years_ms, &limit), 200);
            assert_eq!(key.check(u64::MAX, &limit), 0);
        }
    }

    #[test]
    fn a_worker_whose_time_was_ahead_does_not_stop_the_income() {
        let (mut key, limit) = (Key::new(), limit("0.5", 0));
        key.check(10_000, &limit);
        key.check(1_810_000, &limit);
        key.add(11_000, 100 * MS);
        assert_eq!(key.check(11_000, &limit), 100 * MS);
        assert_eq!(key.check(11_200, &limit), 0);
        assert!(
            key.bucket.checked_ms.load(Relaxed) <= 11_200,
            "nor does it look as if requests were still checked"
        );
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_from_there() {
        let (mut key, limit) = (Key::new(), limit("0.5", 0));
        key.check(10 * FAR_MS, &limit);
        key.add(10 * FAR_MS, S);
        assert_eq!(key.check(10 * FAR_MS - 5_000, &limit), S, "a late worker");
        assert_eq!(key.check(10 * FAR_MS + 1_000, &limit), S / 2, "has set nothing back");
        assert_eq!(key.check(1_000, &limit), S / 2);
        assert_eq!(key.check(1_500, &limit), S / 4);
        assert_eq!(key.check(2_000, &limit), 0);
    }

    #[test]
    fn many_threads_are_paid_once() {
        let (threads, rounds) = if cfg!(miri) { (2, 30) } else { (4, 20_000) };
        let (bucket, limit) = (zeroed::<Bucket>(), limit("1", 0));
        let used = AtomicU64::new(0);
        let used_ns = || used.load(Relaxed);
        bucket.check(1, &limit, used_ns, 0).unwrap();
        used.store(u64::MAX / 2, Relaxed);
        let clock = AtomicU64::new(1);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        // each comes with a time that may be late by now
                        let now_ms = clock.fetch_add(1, Relaxed) + 1;
                        let _ = bucket.check(now_ms, &limit, used_ns, 0);
                    }
                });
            }
        });
        // the last time may have lost against an earlier one
        let _ = bucket.check(clock.load(Relaxed), &limit, used_ns, 0);
        assert_eq!(bucket.paid_ns.load(Relaxed), threads * rounds * MS);
    }

    const MAX_LATE_MS: u64 = 20;

    #[derive(Debug, Clone)]
    enum Step {
        /// so many milliseconds pass
        Wait(u64),
        /// a worker, whose time is so much late, is asked by a client, and uses so much if it lets it in
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

        /// From any moment on a key gets no more than the burst, what its rate brings in the time, and one request that
        /// began within; and it is refused no longer than its debt lasts, but for what killed workers have taken along. What
        /// a late worker adds is used at its time: it may be paid by the time until now.
        #[test]
        fn a_key_gets_its_rate_and_no_more(
            steps in steps(),
            rate in (MIN_RATE..4 * CORE).prop_map(|rate| NonZeroU64::new(rate).unwrap()),
            burst_ns in prop_oneof![Just(0), 0..200 * MS],
            since in 0usize..300,
        ) {
            let limit = Limit::new(rate, Some(burst_ns));
            let mut key = Key::new();
            let start_ms = 1_000_000;
            let mut now_ms = start_ms;
            key.check(now_ms, &limit);
            let (mut used_ns, mut from_ms, mut largest_ns, mut lost_ms) = (0, now_ms, 0, 0);
            let late_ns = i128::from(income_ns(rate.get(), MAX_LATE_MS));
            // the same in nanoseconds of a second, which nothing is lost of
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
                        let last_ms = key.bucket.last_ms.load(Relaxed);
                        let seen_ms = now_ms - late_ms;
                        let debt_ns = key.check(seen_ms, &limit);
                        // who is late sees a debt that is as old
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
                        let last_ms = key.bucket.last_ms.load(Relaxed);
                        if key.bucket.take_time(seen_ms, || key.used_ns).is_some() {
                            lost_ms += seen_ms - last_ms;
                        }
                    }
                }
                let most = burst_ns + income_ns(rate.get(), now_ms - from_ms + MAX_LATE_MS) + largest_ns + 1;
                prop_assert!(used_ns <= most, "{used_ns} ns in {} ms", now_ms - from_ms);
                prop_assert!(key.bucket.paid_ns.load(Relaxed) <= key.used_ns);
            }
            // whatever happened, it comes to an end
            let state = key.bucket.read(now_ms, || key.used_ns).unwrap();
            now_ms += limit.retry_after_s(state.debt_ns) * 1000;
            prop_assert_eq!(key.check(now_ms, &limit), 0);
        }

        /// Any numbers, in any order: no overflow, no more paid than used, and a reader sees what a check would see.
        #[test]
        fn nothing_overflows(
            steps in prop::collection::vec((any::<u64>(), 0u32..64, any::<u64>(), 0u32..64, MIN_RATE..=MAX_RATE, any::<u64>()), 0..50),
        ) {
            let mut key = Key::new();
            for (now_ms, shift, ns, ns_shift, rate, burst_ns) in steps {
                let limit = Limit::new(NonZeroU64::new(rate).unwrap(), Some(burst_ns));
                let now_ms = now_ms >> shift;
                key.add(now_ms, (ns >> ns_shift).min(u64::MAX - key.used_ns));
                prop_assert!(key.bucket.paid_ns.load(Relaxed) <= key.used_ns);
                let debt_ns = key.check(now_ms, &limit);
                prop_assert!(key.bucket.paid_ns.load(Relaxed) <= key.used_ns);
                prop_assert!(debt_ns <= key.used_ns);
                let expected = BucketState { rate, burst_ns, debt_ns };
                let read = key.bucket.read(now_ms.min(key.bucket.last_ms.load(Relaxed)), || key.used_ns);
                prop_assert_eq!(read, Some(expected));
                prop_assert!(limit.retry_after_s(debt_ns) >= 1);
            }
        }
    }
}
