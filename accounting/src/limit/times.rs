//! When a bucket was paid, and when it was checked.

/// An account has as many buckets. Where it has more limits, one takes over a bucket that is full, and if there is
/// none, it shares the last one: rate and burst of that one are those of its last check then.
pub const MAX_BUCKETS: usize = 4;

/// When no request was checked for so long, in milliseconds, what the key uses is not limited. So where a limit is
/// taken away and comes back, or the key has none for a while, no debt of hours has grown meanwhile. What a request
/// uses in this time, and after it, while it is the only one, is not paid for: it was let in, and nobody had to
/// wait for it.
pub(super) const LAPSE_MS: u64 = 10 * 60 * 1000;

/// A worker's time may be so much late, in milliseconds: it reads its clock right before. A time that is older by
/// more than that says that the one before was ahead.
pub(super) const LATE_MS: u64 = 1000;

/// Up to when a bucket is paid, in milliseconds, and when a request was last checked, in units of 64 ms. Both in
/// one word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Times(pub(super) u64);

/// Bits for the time of the last check, which begins anew each 12 days.
pub(super) const CHECKED_BITS: u32 = 24;

pub(super) const CHECKED_MASK: u64 = (1 << CHECKED_BITS) - 1;

/// Milliseconds in one unit of the last check, as a power of two.
pub(super) const UNIT_LOG2: u32 = 6;

/// The last millisecond that there is: 34 years after the machine has started.
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

    /// How long ago a request was checked, in milliseconds; 0 if that is ahead.
    pub(super) fn age_ms(self, now_ms: u64) -> u64 {
        let age = (now_ms >> UNIT_LOG2).wrapping_sub(self.checked()) & CHECKED_MASK;
        if age > CHECKED_MASK / 2 { 0 } else { age << UNIT_LOG2 }
    }
}
