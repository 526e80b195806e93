//! The billing metrics of an account in shared memory.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use super::active::{Active, MOST_MS, WRONG_MS};

/// The most traffic logs of a zone. Each log gets the peaks of its own intervals.
pub const LOGS: usize = 2;

/// Sums in shared memory; they begin with zero.
#[repr(C)]
#[derive(Debug)]
pub struct Sums {
    /// nanoseconds in flight, summed over the requests
    pub(crate) duration_ns: AtomicU64,
    /// memory of requests times their time in flight, in bytes times milliseconds
    pub(crate) memory_byte_ms: AtomicU64,
    /// milliseconds in which at least one request was in flight
    pub(crate) active_ms: AtomicU64,
    pub(super) active: Active,
    /// seconds in which the CPU reached the threshold
    pub(crate) active_seconds: AtomicU64,
    /// CPU in these seconds, in nanoseconds
    pub(crate) billable_cpu_ns: AtomicU64,
    /// CPU in other seconds, in nanoseconds
    pub(crate) waived_cpu_ns: AtomicU64,
    /// the most CPU of one second, in nanoseconds: of the whole time, and since each log's last reset
    pub(super) peaks_ns: [AtomicU64; 1 + LOGS],
}

/// A copy of the billing metrics of an account.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct BillingMetrics {
    /// nanoseconds in flight, summed over the requests
    pub duration_ns: u64,
    /// the active interval: milliseconds in which at least one request was in flight
    pub active_ms: u64,
    /// seconds in which the account's CPU was at or above the zone's threshold
    pub active_seconds: u64,
    /// CPU in these seconds, in nanoseconds
    pub billable_cpu_ns: u64,
    /// CPU in all other finished seconds, in nanoseconds
    pub waived_cpu_ns: u64,
    /// memory of requests times the time that they held it, in bytes times milliseconds; 10^12 are a GB-second
    pub memory_byte_ms: u64,
    /// the most CPU that was used within one second, in nanoseconds
    pub peak_cpu_ns: u64,
}

impl BillingMetrics {
    /// Whole milliseconds of [`BillingMetrics::duration_ns`], as all readers show them: differences of these add up.
    pub fn duration_ms(&self) -> u64 {
        self.duration_ns / 1_000_000
    }
}

impl Sums {
    /// Counts a request that was in flight from one millisecond to another; the second one is not included. `begun`:
    /// at least one request has been in flight since the last recorded millisecond.
    #[inline]
    pub(crate) fn cover(&self, from_ms: u64, to_ms: u64, begun: impl Fn() -> bool) {
        if !self.active.has(from_ms, to_ms) {
            self.cover_more(from_ms, to_ms, begun());
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn cover_more(&self, from_ms: u64, to_ms: u64, begun: bool) {
        // after `begun`, which means since this time or an earlier one
        let known_ms = self.active.known_ms.load(Acquire);
        if known_ms > to_ms.saturating_add(WRONG_MS) {
            // Nothing is counted at once: if the time of this worker is wrong, the next worker continues without it.
            let _ = self.active.known_ms.compare_exchange(known_ms, 0, Relaxed, Relaxed);
            return;
        }
        let goes_on = begun && known_ms != 0 && to_ms.saturating_sub(known_ms) <= MOST_MS;
        let first_ms = if goes_on { from_ms.min(known_ms) } else { from_ms };
        let first_ms = first_ms.max(to_ms.saturating_sub(MOST_MS));
        let added_ms = self.active.set(first_ms, to_ms);
        if added_ms != 0 {
            self.active_ms.fetch_add(added_ms, Relaxed);
        }
    }

    /// Classifies a finished second with this CPU: active or not.
    pub(crate) fn judge(&self, ns: u64, threshold_ns: u64) {
        self.judge_all(1, ns, threshold_ns);
    }

    /// Classifies several seconds with this CPU each.
    pub(crate) fn judge_all(&self, seconds: u64, ns: u64, threshold_ns: u64) {
        let sum_ns = seconds * ns;
        if sum_ns == 0 {
            return;
        }
        if ns >= threshold_ns {
            self.active_seconds.fetch_add(seconds, Relaxed);
            self.billable_cpu_ns.fetch_add(sum_ns, Relaxed);
        } else {
            self.waived_cpu_ns.fetch_add(sum_ns, Relaxed);
        }
        for peak in self.peaks_ns.iter().filter(|peak| peak.load(Relaxed) < ns) {
            peak.fetch_max(ns, Relaxed);
        }
    }

    /// CPU of all classified seconds, in nanoseconds.
    #[cfg(test)]
    pub(crate) fn judged_ns(&self) -> u64 {
        self.billable_cpu_ns.load(Relaxed) + self.waived_cpu_ns.load(Relaxed)
    }

    /// All values that only grow by additions.
    #[cfg(test)]
    pub(crate) fn counters(&self) -> [&AtomicU64; 6] {
        [
            &self.duration_ns,
            &self.active_ms,
            &self.active_seconds,
            &self.billable_cpu_ns,
            &self.waived_cpu_ns,
            &self.memory_byte_ms,
        ]
    }

    /// A copy.
    pub fn read(&self) -> BillingMetrics {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        BillingMetrics {
            duration_ns: read(&self.duration_ns),
            active_ms: read(&self.active_ms),
            active_seconds: read(&self.active_seconds),
            billable_cpu_ns: read(&self.billable_cpu_ns),
            waived_cpu_ns: read(&self.waived_cpu_ns),
            memory_byte_ms: read(&self.memory_byte_ms),
            peak_cpu_ns: read(&self.peaks_ns[0]),
        }
    }

    /// The most CPU of one second since a log's last reset, in nanoseconds.
    pub fn peak_of_log(&self, log: usize) -> u64 {
        self.peaks_ns[1..].get(log).map_or(0, |peak| peak.load(Relaxed))
    }

    /// Resets the peak of a log that has written it, unless there was a higher one meanwhile.
    pub fn forget_peak(&self, log: usize, written_ns: u64) {
        if let Some(peak) = self.peaks_ns[1..].get(log) {
            let _ = peak.compare_exchange(written_ns, 0, Relaxed, Relaxed);
        }
    }
}
