//! The schedule of the log's parts, and the choice of their writer.

use core::sync::atomic::Ordering::Relaxed;

use formats::line::tolerance_ms;

use super::instant::{Instant, is_wrong};
use super::ledger::Ledger;

impl Ledger {
    /// True if the last part must be written at `now`. If the end of the last part is later than `now`, its time was
    /// wrong.
    pub fn is_due(&self, now: Instant, interval_ms: u64) -> bool {
        let end = now.last_end(interval_ms);
        let done_ms = self.header().done_ms.load(Relaxed);
        done_ms.saturating_add(tolerance_ms(interval_ms)) < end.monotonic_ms
            || is_wrong(done_ms, now.monotonic_ms)
    }

    /// True if the caller must write the part that is due. Of all processes that ask, one gets the order. If it is
    /// killed or does not complete the part, another process gets the order at `again_ms`.
    pub fn claim(&self, now_ms: u64, again_ms: u64) -> bool {
        let next_try_ms = self.next_try_ms();
        (now_ms >= next_try_ms || is_wrong(next_try_ms, again_ms))
            && self.header().next_try_ms.compare_exchange(next_try_ms, again_ms, Relaxed, Relaxed).is_ok()
    }

    /// The time before which no process needs to ask.
    pub fn next_try_ms(&self) -> u64 {
        self.header().next_try_ms.load(Relaxed)
    }

    /// Sets the time of the next attempt.
    pub fn set_next_try(&self, at_ms: u64) {
        self.header().next_try_ms.store(at_ms, Relaxed);
    }

    /// The end of a part that is written at `now`: the end of its interval, unless that was long ago.
    pub fn end_of_part(&self, now: Instant, interval_ms: u64) -> Instant {
        let end = now.last_end(interval_ms);
        let late_ms = now.wall_ms - end.wall_ms;
        let is_new = end.monotonic_ms > self.header().done_ms.load(Relaxed);
        if late_ms <= tolerance_ms(interval_ms) && is_new { end } else { now }
    }
}
