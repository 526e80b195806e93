//! The times at which parts of the log are written.

use crate::window::FAR_MS;

/// One instant on two clocks, in milliseconds. The wall clock can be set. Lengths are measured by the monotonic
/// clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// since 1970
    pub wall_ms: u64,
    /// since an arbitrary origin, the same in all processes
    pub monotonic_ms: u64,
}

impl Instant {
    pub(super) fn earlier(self, by_ms: u64) -> Instant {
        let Instant { wall_ms, monotonic_ms } = self;
        Instant { wall_ms: wall_ms.saturating_sub(by_ms), monotonic_ms: monotonic_ms.saturating_sub(by_ms) }
    }

    /// The end of the last interval. Intervals begin and end at multiples of their length on the wall clock.
    pub fn last_end(self, interval_ms: u64) -> Instant {
        self.earlier(self.wall_ms % interval_ms)
    }

    /// Milliseconds until the end of the current interval.
    pub fn next_end_ms(self, interval_ms: u64) -> u64 {
        interval_ms - self.wall_ms % interval_ms
    }
}

/// True if a time is further ahead than clocks of workers can differ.
pub(super) fn is_wrong(ms: u64, now_ms: u64) -> bool {
    ms > now_ms.saturating_add(FAR_MS)
}
