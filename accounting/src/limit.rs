//! A limit on the CPU of one key: token buckets of its account, shared by all workers, without a lock.
//!
//! A bucket holds what was used and is not paid yet. It is full when nothing is missing, and empty when as much as `burst` is
//! missing. What is missing beyond that is the debt; while there is one, requests are refused. Time pays, `rate` per second, and a
//! full bucket takes no more.
//!
//! An account has a bucket for each of its limits, [`MAX_BUCKETS`] at most. CPU of a request that a limit has checked counts in the
//! bucket of that limit. CPU that no limit has checked counts in all of them. The first bucket is in the account. Others are made when
//! a second limit checks a request of the key, in memory of the table, and each refers to the next one: see
//! [`Table::check`](crate::table::Table::check).
//!
//! Whoever finds that time has passed since the last payment takes that time by one compare-and-swap, and then pays for it. A
//! worker that is killed between the two takes some milliseconds' income with it, and nothing else. Clocks of workers may be
//! late: who comes with an older time than the last payment's pays nothing. If it is older by more than [`LATE_MS`], the last payment's
//! time was ahead, and time goes on from the older one: so a clock that was ahead stops the income for a second at most.
//!
//! With `max_debt`, what a request is expected to use is charged when it is let in. This is a charge as any other: it is in the
//! bucket from then on, and time pays it, also where the worker is killed before the request ends.

use core::hash::Hasher;
use core::num::{NonZeroU32, NonZeroU64};
use core::sync::atomic::Ordering::Relaxed;

use siphasher::sip::SipHasher13;

#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};

/// Nanoseconds of a core in a second, one core's rate.
const CORE: u64 = 1_000_000_000;
/// The least rate, 0.001 cores.
const MIN_RATE: u64 = CORE / 1000;
/// The highest rate, 100,000 cores.
const MAX_RATE: u64 = CORE * 100_000;
/// A millisecond in nanoseconds.
const MS: u64 = 1_000_000;

/// An account has as many buckets. Where it has more limits, one takes over a bucket that is full, and if there is none, it shares the
/// last one: rate and burst of that one are those of its last check then.
pub const MAX_BUCKETS: usize = 4;

/// When no request was checked for so long, in milliseconds, what the key uses is not limited. So where a limit is taken away
/// and comes back, or the key has none for a while, no debt of hours has grown meanwhile. What a request uses in this
/// time, and after it, while it is the only one, is not paid for: it was let in, and nobody had to wait for it.
const LAPSE_MS: u64 = 10 * 60 * 1000;

/// A worker's time may be so much late, in milliseconds: it reads its clock right before. A time that is older by more than that
/// says that the one before was ahead.
const LATE_MS: u64 = 1000;

/// A burst or a largest debt that is not given.
const NONE_MS: u32 = u32::MAX;

/// Tells limits of a zone apart. The same limit has the same number in all workers, after a reload, and in another binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitId(NonZeroU32);

impl LimitId {
    /// Of a text that says what is limited, and how.
    pub fn of(text: &[u8]) -> LimitId {
        let mut hasher = SipHasher13::new();
        hasher.write(text);
        let hash = hasher.finish();
        LimitId(NonZeroU32::new((hash >> 32) as u32 ^ hash as u32).unwrap_or(NonZeroU32::MAX))
    }
}

/// A limit, as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    id: LimitId,
    /// nanoseconds of CPU per second
    rate: NonZeroU64,
    /// [`NONE_MS`]: what the rate brings in a second
    burst_ms: u32,
    /// a debt is never more than that
    max_debt_ms: u32,
}

impl Limit {
    /// `burst_ms`: what may be used beyond the rate, in milliseconds of CPU; without it, what the rate brings in a second.
    /// `max_debt_ms`: as much a debt is at most.
    pub fn new(id: LimitId, rate: NonZeroU64, burst_ms: Option<u64>, max_debt_ms: Option<u64>) -> Limit {
        // 49 days of CPU are as good as more
        let ms =
            |ms: Option<u64>| ms.map_or(NONE_MS, |ms| u32::try_from(ms).unwrap_or(NONE_MS).min(NONE_MS - 1));
        Limit { id, rate, burst_ms: ms(burst_ms), max_debt_ms: ms(max_debt_ms) }
    }

    /// After how many seconds a debt of so many nanoseconds is paid; at least 1, as `Retry-After` takes whole ones.
    pub fn retry_after_s(&self, debt_ns: u64) -> u64 {
        debt_ns.div_ceil(self.rate.get()).max(1)
    }

    /// What may be used beyond the rate, in nanoseconds of CPU.
    pub fn burst_ns(&self) -> u64 {
        burst_ns(self.rate.get(), self.burst_ms)
    }

    /// Whether what a request is expected to use is charged when it is let in.
    #[inline]
    pub fn charges_before(&self) -> bool {
        self.max_debt_ms != NONE_MS
    }
}

fn burst_ns(rate: u64, burst_ms: u32) -> u64 {
    if burst_ms == NONE_MS { rate } else { u64::from(burst_ms) * MS }
}

/// The most that can be missing in a bucket.
fn most_missing_ns(rate: u64, burst_ms: u32, max_debt_ms: u32) -> u64 {
    if max_debt_ms == NONE_MS { u64::MAX } else { burst_ns(rate, burst_ms) + u64::from(max_debt_ms) * MS }
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
pub enum Share {
    /// No limit has checked it, or there is one limit only: it counts in all buckets.
    #[default]
    Used,
    /// The limit of this bucket has checked it: it counts there.
    Checked(u8),
    /// A refused request's: it is in no debt. Otherwise a key that keeps asking would be refused for ever. So is what a request has
    /// used that ended before limits are checked, if it would be in debt.
    Refused,
    /// Of a request that a limit with `dry_run` would have refused. It is in no debt either: so the debt is what it were if
    /// such requests were refused.
    RefusedDryRun,
}

/// CPU that not all buckets of an account count, in nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// all of it
    total_ns: u64,
    /// refused requests', as [`DRY_RUN`]
    pub(crate) refused_ns: [u64; DRY_RUN.len()],
    /// what limits have checked, by bucket; less what was charged before
    by_bucket_ns: [i64; MAX_BUCKETS],
}

impl Apart {
    /// Of refused requests only, as [`DRY_RUN`].
    pub fn refused(refused_ns: [u64; DRY_RUN.len()]) -> Apart {
        Apart { total_ns: refused_ns.iter().sum(), refused_ns, ..Apart::default() }
    }

    /// Adds CPU of a share that is not [`Share::Used`].
    #[inline]
    pub fn add(&mut self, share: Share, ns: u64) {
        match share {
            Share::Used => return,
            Share::Checked(bucket) => self.add_to(bucket, signed(ns)),
            Share::Refused => self.refused_ns[0] += ns,
            Share::RefusedDryRun => self.refused_ns[1] += ns,
        }
        self.total_ns += ns;
    }

    /// A part of what a request has used was charged before, or is not used any more.
    #[inline]
    pub fn give_back(&mut self, bucket: u8, ns: u64) {
        self.add_to(bucket, -signed(ns));
    }

    fn add_to(&mut self, bucket: u8, ns: i64) {
        if let Some(sum_ns) = self.by_bucket_ns.get_mut(usize::from(bucket)) {
            *sum_ns = sum_ns.saturating_add(ns);
        }
    }

    /// What a bucket counts of so much CPU, of which this is a part.
    #[inline]
    pub fn counted_ns(&self, bucket: usize, cpu_ns: u64) -> i64 {
        let checked_ns = self.by_bucket_ns.get(bucket).copied().unwrap_or(0);
        signed(cpu_ns.saturating_sub(self.total_ns)).saturating_add(checked_ns)
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// Kinds of refusals: real ones, and those that `dry_run` only counts. As the values of the label `dry_run`.
pub use formats::classes::DRY_RUN;

/// The state of a limit on an account. All zero is one that no limit has.
#[repr(C)]
#[derive(Debug)]
pub struct Bucket {
    /// [`LimitId`]; 0: none
    id: AtomicU32,
    /// where the account's next bucket is, as the table knows it; 0: there is none
    pub(crate) next: AtomicU32,
    times: AtomicU64,
    /// what was used and is not paid yet
    missing_ns: AtomicU64,
    /// of the last check
    rate: AtomicU64,
    /// of the last check: the burst, and the largest debt in the upper half
    sizes_ms: AtomicU64,
}

/// Up to when a bucket is paid, in milliseconds, and when a request was last checked, in units of 64 ms. Both in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Times(u64);

/// Bits for the time of the last check, which begins anew each 12 days.
const CHECKED_BITS: u32 = 24;
const CHECKED_MASK: u64 = (1 << CHECKED_BITS) - 1;
/// Milliseconds in one unit of the last check, as a power of two.
const UNIT_LOG2: u32 = 6;
/// The last millisecond that there is: 34 years after the machine has started.
const END_MS: u64 = (1 << (u64::BITS - CHECKED_BITS)) - 1;

impl Times {
    fn new(paid_ms: u64, checked: u64) -> Times {
        Times(paid_ms << CHECKED_BITS | checked)
    }

    fn paid_ms(self) -> u64 {
        self.0 >> CHECKED_BITS
    }

    fn checked(self) -> u64 {
        self.0 & CHECKED_MASK
    }

    /// How long ago a request was checked, in milliseconds; 0 if that is ahead.
    fn age_ms(self, now_ms: u64) -> u64 {
        let age = (now_ms >> UNIT_LOG2).wrapping_sub(self.checked()) & CHECKED_MASK;
        if age > CHECKED_MASK / 2 { 0 } else { age << UNIT_LOG2 }
    }
}

/// What a reader gets to see of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketState {
    /// nanoseconds of CPU per second, as of the last check
    pub rate: u64,
    /// nanoseconds of CPU, as of the last check
    pub burst_ns: u64,
    /// nanoseconds of CPU that a debt is at most, as of the last check; none: there is no such bound
    pub max_debt_ns: Option<u64>,
    /// nanoseconds of CPU that have to be paid until requests are let in again
    pub debt_ns: u64,
}

/// What a rate brings in some milliseconds, in nanoseconds of CPU. It saturates far above what can have been used.
fn income_ns(rate: u64, ms: u64) -> u64 {
    ms.saturating_mul(rate) / 1000
}

impl Bucket {
    /// Whether a limit has it.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.id.load(Relaxed) != 0
    }

    /// Whether this limit has it.
    #[inline]
    pub(crate) fn is_of(&self, limit: &Limit) -> bool {
        self.id.load(Relaxed) == limit.id.0.get()
    }

    /// Gives a bucket that no limit has to this one. False if another limit was first.
    pub(crate) fn claim(&self, limit: &Limit) -> bool {
        let id = limit.id.0.get();
        self.id.compare_exchange(0, id, Relaxed, Relaxed).map_or_else(|seen| seen == id, |_| true)
    }

    /// Gives the bucket of a limit that is in no configuration any more to this one, with its debt: so a debt stays when a limit is
    /// changed.
    pub(crate) fn take_over(&self, limit: &Limit, is_configured: impl Fn(LimitId) -> bool) -> bool {
        let id = self.id.load(Relaxed);
        NonZeroU32::new(id).is_some_and(|id| !is_configured(LimitId(id)))
            && self.id.compare_exchange(id, limit.id.0.get(), Relaxed, Relaxed).is_ok()
    }

    /// Gives a bucket to this limit in which nothing is missing: such a bucket is as good as a new one. `unused`: only if no request
    /// was checked for a long time either, so that no request is open that the bucket's limit has checked.
    pub(crate) fn take_full(&self, now_ms: u64, limit: &Limit, unused: bool) -> bool {
        let now_ms = now_ms.min(END_MS);
        let id = self.id.load(Relaxed);
        let times = Times(self.times.load(Relaxed));
        let income_ns = income_ns(self.rate.load(Relaxed), now_ms.saturating_sub(times.paid_ms()));
        let is_full = self.missing_ns.load(Relaxed) <= income_ns;
        let is_unused = times.age_ms(now_ms) > LAPSE_MS;
        // one that was never checked was claimed just now
        times.paid_ms() != 0
            && is_full
            && (is_unused || !unused)
            && self.id.compare_exchange(id, limit.id.0.get(), Relaxed, Relaxed).is_ok()
    }

    /// Whether a request is let in; otherwise the debt in nanoseconds. `now_ms` is a monotonic clock's that all workers
    /// share, and `ahead_ns` is what will be added next. With a largest debt, `expected_ns` is charged to who is let in, as far as
    /// that leaves room for it: the result.
    ///
    /// # Errors
    /// The debt, if there is one.
    #[inline]
    pub fn check(
        &self,
        now_ms: u64,
        limit: &Limit,
        ahead_ns: i64,
        expected_ns: impl Fn() -> u64,
    ) -> Result<u64, NonZeroU64> {
        // time that has passed is paid by the rate that was in force
        self.pass(now_ms, true);
        let sizes_ms = u64::from(limit.max_debt_ms) << 32 | u64::from(limit.burst_ms);
        for (field, value) in [(&self.rate, limit.rate.get()), (&self.sizes_ms, sizes_ms)] {
            if field.load(Relaxed) != value {
                field.store(value, Relaxed);
            }
        }
        let unpaid_ns = self.missing_ns.load(Relaxed).saturating_add_signed(ahead_ns);
        let most_ns = most_missing_ns(limit.rate.get(), limit.burst_ms, limit.max_debt_ms);
        let debt_ns = unpaid_ns.min(most_ns).saturating_sub(limit.burst_ns());
        match NonZeroU64::new(debt_ns) {
            Some(debt_ns) => Err(debt_ns),
            None if limit.charges_before() => {
                let charged_ns = expected_ns().min(most_ns.saturating_sub(unpaid_ns));
                self.change(signed(charged_ns));
                Ok(charged_ns)
            }
            None => Ok(0),
        }
    }

    /// Whether requests are refused now. `ahead_ns` is what will be added next.
    pub(crate) fn is_in_debt(&self, now_ms: u64, ahead_ns: i64) -> bool {
        let ms = now_ms.min(END_MS).saturating_sub(Times(self.times.load(Relaxed)).paid_ms());
        let rate = self.rate.load(Relaxed);
        let missing_ns = self.missing_ns.load(Relaxed).saturating_add_signed(ahead_ns);
        missing_ns.saturating_sub(income_ns(rate, ms)) > burst_ns(rate, self.sizes_ms.load(Relaxed) as u32)
    }

    /// Adds what was used, or takes back what was charged before and was not used.
    #[inline]
    pub fn add(&self, now_ms: u64, ns: i64) {
        // time in which the bucket was full does not pay for what is used later
        let times = self.pass(now_ms, false);
        if ns < 0 || times.age_ms(now_ms.min(END_MS)) <= LAPSE_MS {
            self.change(ns);
        }
    }

    fn change(&self, ns: i64) {
        if ns == 0 {
            return;
        }
        let sizes_ms = self.sizes_ms.load(Relaxed);
        let most_ns = most_missing_ns(self.rate.load(Relaxed), sizes_ms as u32, (sizes_ms >> 32) as u32);
        let _ = self.missing_ns.fetch_update(Relaxed, Relaxed, |missing_ns| {
            // what is there already may be more, where the largest debt was none before
            Some(missing_ns.saturating_add_signed(ns).min(most_ns))
        });
    }

    /// Pays for the time since the last payment.
    #[inline]
    fn pass(&self, now_ms: u64, checks: bool) -> Times {
        let now_ms = now_ms.min(END_MS);
        let (times, ms) = self.take_time(now_ms, checks);
        if ms != 0 {
            self.pay(income_ns(self.rate.load(Relaxed), ms));
        }
        times
    }

    /// Takes the time since the last payment; what it brings has to be paid by the caller.
    fn take_time(&self, now_ms: u64, checks: bool) -> (Times, u64) {
        let times = Times(self.times.load(Relaxed));
        let paid_ms = times.paid_ms();
        let checked = if checks {
            now_ms >> UNIT_LOG2 & CHECKED_MASK
        } else if times.age_ms(now_ms) > LAPSE_MS {
            // so that it is long ago also when the units begin anew
            (now_ms >> UNIT_LOG2).wrapping_sub((LAPSE_MS >> UNIT_LOG2) + 2) & CHECKED_MASK
        } else {
            times.checked()
        };
        let is_ahead = paid_ms.saturating_sub(now_ms) > LATE_MS;
        let new = Times::new(if is_ahead { now_ms.max(1) } else { paid_ms.max(now_ms).max(1) }, checked);
        if new == times {
            return (times, 0);
        }
        // who loses this has nothing to pay: the other does
        let taken = self.times.compare_exchange(times.0, new.0, Relaxed, Relaxed).is_ok();
        // before the first check there was no limit
        (new, if taken && paid_ms != 0 { now_ms.saturating_sub(paid_ms) } else { 0 })
    }

    fn pay(&self, ns: u64) {
        let _ = self.missing_ns.fetch_update(Relaxed, Relaxed, |missing_ns| {
            (missing_ns != 0).then(|| missing_ns.saturating_sub(ns))
        });
    }

    /// The state at a time; none if no request was ever checked.
    pub fn read(&self, now_ms: u64) -> Option<BucketState> {
        if !self.is_live() {
            return None;
        }
        let (rate, sizes_ms) = (self.rate.load(Relaxed), self.sizes_ms.load(Relaxed));
        let (burst_ms, max_debt_ms) = (sizes_ms as u32, (sizes_ms >> 32) as u32);
        let burst_ns = burst_ns(rate, burst_ms);
        let ms = now_ms.min(END_MS).saturating_sub(Times(self.times.load(Relaxed)).paid_ms());
        let missing_ns = self.missing_ns.load(Relaxed).min(most_missing_ns(rate, burst_ms, max_debt_ms));
        Some(BucketState {
            rate,
            burst_ns,
            max_debt_ns: (max_debt_ms != NONE_MS).then_some(u64::from(max_debt_ms) * MS),
            debt_ns: missing_ns.saturating_sub(income_ns(rate, ms)).saturating_sub(burst_ns),
        })
    }

    /// How long ago a request was checked, in milliseconds.
    pub(crate) fn age_ms(&self, now_ms: u64) -> u64 {
        Times(self.times.load(Relaxed)).age_ms(now_ms.min(END_MS))
    }
}

#[cfg(test)]
mod tests;
