//! The token bucket of a limit on an account.

use core::num::{NonZeroU32, NonZeroU64};
use core::sync::atomic::Ordering::Relaxed;
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};

use super::config::{Limit, LimitId, MS, NONE_MS, burst_ns, most_missing_ns};
use super::share::signed;
use super::times::{CHECKED_MASK, END_MS, LAPSE_MS, LATE_MS, Times, UNIT_LOG2};
#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};

/// The state of a limit on an account. All zero: it belongs to no limit.
#[repr(C)]
#[derive(Debug)]
pub struct Bucket {
    /// [`LimitId`]; 0: none
    pub(super) id: AtomicU32,
    /// the place of the account's next bucket in the table; 0: there is none
    pub(crate) next: AtomicU32,
    pub(super) times: AtomicU64,
    /// CPU that was used and is not paid yet, in nanoseconds
    pub(super) missing_ns: AtomicU64,
    /// the rate at the last check
    pub(super) rate: AtomicU64,
    /// the burst, and in the upper half the largest debt, at the last check
    pub(super) sizes_ms: AtomicU64,
}

/// The state of a bucket for readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketState {
    /// nanoseconds of CPU per second, at the last check
    pub rate: u64,
    /// nanoseconds of CPU, at the last check
    pub burst_ns: u64,
    /// the largest debt in nanoseconds of CPU, at the last check; none: there is no such bound
    pub max_debt_ns: Option<u64>,
    /// nanoseconds of CPU that must be paid before requests are admitted again
    pub debt_ns: u64,
}

/// The payment of a rate over some milliseconds, in nanoseconds of CPU. It saturates far above any possible usage.
pub(super) fn income_ns(rate: u64, ms: u64) -> u64 {
    ms.saturating_mul(rate) / 1000
}

impl Bucket {
    /// True if the bucket belongs to a limit.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.id.load(Relaxed) != 0
    }

    /// True if the bucket belongs to this limit.
    #[inline]
    pub(crate) fn is_of(&self, limit: &Limit) -> bool {
        self.id.load(Relaxed) == limit.id.0.get()
    }

    /// Gives a free bucket to this limit. False if another limit was first.
    pub(crate) fn assign(&self, limit: &Limit) -> bool {
        let id = limit.id.0.get();
        self.id.compare_exchange(0, id, Relaxed, Relaxed).map_or_else(|seen| seen == id, |_| true)
    }

    /// Gives the bucket of a limit that is not configured any more to this one, with its debt: so a changed limit
    /// keeps its debt.
    pub(crate) fn inherit(&self, limit: &Limit, is_configured: impl Fn(LimitId) -> bool) -> bool {
        let id = self.id.load(Relaxed);
        NonZeroU32::new(id).is_some_and(|id| !is_configured(LimitId(id)))
            && self.id.compare_exchange(id, limit.id.0.get(), Relaxed, Relaxed).is_ok()
    }

    /// Gives a bucket to this limit if nothing is missing in it: such a bucket is like a new one. `unused`: only if
    /// no request was checked for a long time either, so that no running request was checked by the bucket's old
    /// limit.
    pub(crate) fn reuse_full(&self, now_ms: u64, limit: &Limit, unused: bool) -> bool {
        let now_ms = now_ms.min(END_MS);
        let id = self.id.load(Relaxed);
        let times = Times(self.times.load(Relaxed));
        let income_ns = income_ns(self.rate.load(Relaxed), now_ms.saturating_sub(times.paid_ms()));
        let is_full = self.missing_ns.load(Relaxed) <= income_ns;
        let is_unused = times.age_ms(now_ms) > LAPSE_MS;
        // a bucket that was never checked has just got its limit
        times.paid_ms() != 0
            && is_full
            && (is_unused || !unused)
            && self.id.compare_exchange(id, limit.id.0.get(), Relaxed, Relaxed).is_ok()
    }

    /// Checks a request: it is admitted, or the result is the debt in nanoseconds. `now_ms` is a monotonic clock that
    /// all workers share. `pending_ns` is CPU that will be added next. With a largest debt, `expected_ns` is charged
    /// to an admitted request, as far as the bound allows; the result is this charge.
    ///
    /// # Errors
    /// The debt, if there is one.
    #[inline]
    pub fn check(
        &self,
        now_ms: u64,
        limit: &Limit,
        pending_ns: i64,
        expected_ns: impl Fn() -> u64,
    ) -> Result<u64, NonZeroU64> {
        // the elapsed time is paid at the rate that was in force
        self.pay_until(now_ms, true);
        let sizes_ms = u64::from(limit.max_debt_ms) << 32 | u64::from(limit.burst_ms);
        for (field, value) in [(&self.rate, limit.rate.get()), (&self.sizes_ms, sizes_ms)] {
            if field.load(Relaxed) != value {
                field.store(value, Relaxed);
            }
        }
        let unpaid_ns = self.missing_ns.load(Relaxed).saturating_add_signed(pending_ns);
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

    /// True if requests are refused now. `pending_ns` is CPU that will be added next.
    pub(crate) fn is_in_debt(&self, now_ms: u64, pending_ns: i64) -> bool {
        let ms = now_ms.min(END_MS).saturating_sub(Times(self.times.load(Relaxed)).paid_ms());
        let rate = self.rate.load(Relaxed);
        let missing_ns = self.missing_ns.load(Relaxed).saturating_add_signed(pending_ns);
        missing_ns.saturating_sub(income_ns(rate, ms)) > burst_ns(rate, self.sizes_ms.load(Relaxed) as u32)
    }

    /// Adds CPU that was used, or takes back CPU that was charged before and was not used.
    #[inline]
    pub fn add(&self, now_ms: u64, ns: i64) {
        // time in which the bucket was full does not pay for later use
        let times = self.pay_until(now_ms, false);
        if ns < 0 || times.age_ms(now_ms.min(END_MS)) <= LAPSE_MS {
            self.change(ns);
        }
    }

    pub(super) fn change(&self, ns: i64) {
        if ns == 0 {
            return;
        }
        let sizes_ms = self.sizes_ms.load(Relaxed);
        let most_ns = most_missing_ns(self.rate.load(Relaxed), sizes_ms as u32, (sizes_ms >> 32) as u32);
        let _ = self.missing_ns.fetch_update(Relaxed, Relaxed, |missing_ns| {
            // the bucket may already miss more, if there was no largest debt before
            Some(missing_ns.saturating_add_signed(ns).min(most_ns))
        });
    }

    /// Pays for the time since the last payment.
    #[inline]
    pub(super) fn pay_until(&self, now_ms: u64, checks: bool) -> Times {
        let now_ms = now_ms.min(END_MS);
        let (times, ms) = self.take_time(now_ms, checks);
        if ms != 0 {
            self.pay(income_ns(self.rate.load(Relaxed), ms));
        }
        times
    }

    /// Takes the time since the last payment. The caller must pay for it.
    pub(super) fn take_time(&self, now_ms: u64, checks: bool) -> (Times, u64) {
        let times = Times(self.times.load(Relaxed));
        let paid_ms = times.paid_ms();
        let checked = if checks {
            now_ms >> UNIT_LOG2 & CHECKED_MASK
        } else if times.age_ms(now_ms) > LAPSE_MS {
            // a value that is long ago even after the units wrap around
            (now_ms >> UNIT_LOG2).wrapping_sub((LAPSE_MS >> UNIT_LOG2) + 2) & CHECKED_MASK
        } else {
            times.checked()
        };
        let is_ahead = paid_ms.saturating_sub(now_ms) > LATE_MS;
        let new = Times::new(if is_ahead { now_ms.max(1) } else { paid_ms.max(now_ms).max(1) }, checked);
        if new == times {
            return (times, 0);
        }
        // if this fails, another worker has taken the time and pays
        let taken = self.times.compare_exchange(times.0, new.0, Relaxed, Relaxed).is_ok();
        // before the first check there was no limit
        (new, if taken && paid_ms != 0 { now_ms.saturating_sub(paid_ms) } else { 0 })
    }

    pub(super) fn pay(&self, ns: u64) {
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
