//! The times of the last payment and of the last check of a bucket.

/// The most buckets of an account. If an account has more limits, a new limit takes over a full bucket. If there is
/// none, it shares the last bucket, whose rate and burst are then those of its last check.
pub const MAX_BUCKETS: usize = 4;

/// After so many milliseconds without a check, the key's CPU is not limited. So if a limit is removed and added
/// again, or the key has no limit for a while, no debt of hours grows meanwhile. CPU in this time is not paid for;
/// neither is the CPU after it of a request that is the only one: it was admitted, and no other request had to wait
/// for it.
pub(super) const LAPSE_MS: u64 = 10 * 60 * 1000;

/// The most milliseconds by which a worker's time can be late: the worker reads its clock right before. If a time is
/// older than the last one by more than this, the last one was ahead.
pub(super) const LATE_MS: u64 = 1000;

/// The time up to which a bucket is paid, in milliseconds, and the time of the last check, in units of 64 ms. Both
/// are in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Times(pub(super) u64);

/// Bits for the time of the last check, which wraps around every 12 days.
pub(super) const CHECKED_BITS: u32 = 24;

pub(super) const CHECKED_MASK: u64 = (1 << CHECKED_BITS) - 1;

/// Milliseconds in a unit of the last check, as a power of two.
pub(super) const UNIT_LOG2: u32 = 6;

/// The largest millisecond: 34 years after the start of the machine.
pub(super) const END_MS: u64 = (1 << (u64::BITS - CHECKED_BITS)) - 1;

impl Times {
    pub(super) fn new(paid_ms: u64, checked: u64) -> Times {
        Times(paid_ms << CHECKED_BITS | checked)
    }

    pub(super) fn paid_ms(self) -> u64 {
        self.0 >> CHECKED_BITS
    }

    pub(super) fn checked(self) -> u64 {
        self.0 & CHECKED_MASK
    }

    /// The milliseconds since the last check of a request; 0 if its time is ahead.
    pub(super) fn age_ms(self, now_ms: u64) -> u64 {
        let age = (now_ms >> UNIT_LOG2).wrapping_sub(self.checked()) & CHECKED_MASK;
        if age > CHECKED_MASK / 2 { 0 } else { age << UNIT_LOG2 }
    }
}
