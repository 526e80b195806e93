//! The configuration of a limit.

use core::hash::Hasher;
use core::num::{NonZeroU32, NonZeroU64};

use siphasher::sip::SipHasher13;

/// A millisecond in nanoseconds.
pub(super) const MS: u64 = 1_000_000;

/// The value of a burst or a largest debt that is not configured.
pub(super) const NONE_MS: u32 = u32::MAX;

/// Identifies a limit of a zone. The same limit has the same number in all workers, after a reload, and in another
/// binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitId(pub(super) NonZeroU32);

impl LimitId {
    /// The number for a text that describes the limit.
    pub fn of(text: &[u8]) -> LimitId {
        let mut hasher = SipHasher13::new();
        hasher.write(text);
        let hash = hasher.finish();
        LimitId(NonZeroU32::new((hash >> 32) as u32 ^ hash as u32).unwrap_or(NonZeroU32::MAX))
    }
}

/// A configured limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub(super) id: LimitId,
    /// nanoseconds of CPU per second
    pub(super) rate: NonZeroU64,
    /// [`NONE_MS`]: the payment of one second
    pub(super) burst_ms: u32,
    /// the largest debt
    pub(super) max_debt_ms: u32,
}

impl Limit {
    /// `burst_ms`: CPU that may be used beyond the rate, in milliseconds; the default is the payment of one second.
    /// `max_debt_ms`: the largest debt.
    pub fn new(id: LimitId, rate: NonZeroU64, burst_ms: Option<u64>, max_debt_ms: Option<u64>) -> Limit {
        // 49 days of CPU are as good as more
        let ms =
            |ms: Option<u64>| ms.map_or(NONE_MS, |ms| u32::try_from(ms).unwrap_or(NONE_MS).min(NONE_MS - 1));
        Limit { id, rate, burst_ms: ms(burst_ms), max_debt_ms: ms(max_debt_ms) }
    }

    /// The seconds until a debt is paid; at least 1, since `Retry-After` has whole seconds.
    pub fn retry_after_s(&self, debt_ns: u64) -> u64 {
        debt_ns.div_ceil(self.rate.get()).max(1)
    }

    /// CPU that may be used beyond the rate, in nanoseconds.
    pub fn burst_ns(&self) -> u64 {
        burst_ns(self.rate.get(), self.burst_ms)
    }

    /// True if the expected CPU of a request is charged when it is admitted.
    #[inline]
    pub fn charges_before(&self) -> bool {
        self.max_debt_ms != NONE_MS
    }
}

pub(super) fn burst_ns(rate: u64, burst_ms: u32) -> u64 {
    if burst_ms == NONE_MS { rate } else { u64::from(burst_ms) * MS }
}

/// The most CPU that can be missing in a bucket.
pub(super) fn most_missing_ns(rate: u64, burst_ms: u32, max_debt_ms: u32) -> u64 {
    if max_debt_ms == NONE_MS { u64::MAX } else { burst_ns(rate, burst_ms) + u64::from(max_debt_ms) * MS }
}
