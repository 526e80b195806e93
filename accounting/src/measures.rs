//! What other ways to charge than by CPU need to know of an account.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limit::parse_decimal;

/// Traffic logs that a zone can have: each is told the peaks of its own intervals.
pub const LOGS: usize = 2;

/// From what CPU on a second is active, in nanoseconds: a number of cores from 0 to 100, or a percentage of one (`1%`), without
/// sign or exponent. Parts of a nanosecond are dropped. `None` if it is none of these.
pub fn parse_active_threshold(text: &[u8]) -> Option<u64> {
    let ns = match text.strip_suffix(b"%") {
        Some(percent) => parse_decimal(percent)? / 100,
        None => parse_decimal(text)?,
    };
    (ns <= 100_000_000_000).then_some(ns)
}

/// Sums in shared memory; all zero at first.
#[repr(C)]
#[derive(Debug)]
pub struct Sums {
    /// nanoseconds that requests were in flight, each for itself
    pub(crate) duration_ns: AtomicU64,
    /// milliseconds in which at least one was
    pub(crate) active_ms: AtomicU64,
    /// seconds in which the CPU reached the threshold
    pub(crate) active_seconds: AtomicU64,
    /// CPU in them, in nanoseconds
    pub(crate) billable_cpu_ns: AtomicU64,
    /// CPU in other seconds, in nanoseconds
    pub(crate) waived_cpu_ns: AtomicU64,
    /// memory of requests times the time that they were in flight, in bytes times milliseconds
    pub(crate) memory_byte_ms: AtomicU64,
    /// the most CPU of one second, in nanoseconds: of all, and since each log has taken it
    pub(crate) peaks_ns: [AtomicU64; 1 + LOGS],
}

/// What other ways to charge than by CPU need to know of an account, read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Measures {
    /// nanoseconds that requests were in flight, each for itself
    pub duration_ns: u64,
    /// the active interval: milliseconds in which at least one request was in flight
    pub active_ms: u64,
    /// seconds in which the account's CPU was at or above the zone's threshold
    pub active_seconds: u64,
    /// CPU in these seconds, in nanoseconds
    pub billable_cpu_ns: u64,
    /// CPU in all other seconds that are over, in nanoseconds
    pub waived_cpu_ns: u64,
    /// memory held by requests times the time that they held it, in bytes times milliseconds; 10^12 are a GB-second
    pub memory_byte_ms: u64,
    /// the most CPU that was used within one second, in nanoseconds
    pub peak_cpu_ns: u64,
}

impl Measures {
    /// Whole milliseconds of [`Measures::duration_ns`], as every reader is told: what they differ by adds up.
    pub fn duration_ms(&self) -> u64 {
        self.duration_ns / 1_000_000
    }
}

impl Sums {
    /// All that only grows by additions.
    pub(crate) fn counters(&self) -> [&AtomicU64; NAMES.len()] {
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
    pub fn read(&self) -> Measures {
        let [duration_ns, active_ms, active_seconds, billable_cpu_ns, waived_cpu_ns, memory_byte_ms] =
            self.counters().map(|counter| counter.load(Relaxed));
        let peak_cpu_ns = self.peaks_ns[0].load(Relaxed);
        Measures {
            duration_ns,
            active_ms,
            active_seconds,
            billable_cpu_ns,
            waived_cpu_ns,
            memory_byte_ms,
            peak_cpu_ns,
        }
    }

    /// The most CPU of one second, in nanoseconds, since a log has forgotten it.
    pub fn peak_of_log(&self, log: usize) -> u64 {
        self.peaks_ns[1..].get(log).map_or(0, |peak| peak.load(Relaxed))
    }

    /// A log has written a peak: it starts anew, if there was no higher one meanwhile.
    pub fn forget_peak(&self, log: usize, written_ns: u64) {
        if let Some(peak) = self.peaks_ns[1..].get(log) {
            let _ = peak.compare_exchange(written_ns, 0, Relaxed, Relaxed);
        }
    }
}

/// Names of [`Sums::counters`].
pub(crate) const NAMES: [&str; 6] =
    ["duration_ns", "active_ms", "active_seconds", "billable_cpu_ns", "waived_cpu_ns", "memory_byte_ms"];

/// Windows of [`Signal`]s, in seconds: that of panic, and the stable one.
pub const WINDOWS: [u64; 2] = [6, 60];

/// What an autoscaler looks at, as an average over one of [`WINDOWS`].
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Signal {
    /// requests in flight
    pub in_flight: f64,
    /// requests that ended per second
    pub requests_per_second: f64,
    /// CPU seconds per second
    pub cores: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_cores_or_a_percentage_of_one() {
        let parse = |text: &str| parse_active_threshold(text.as_bytes());
        assert_eq!(parse("1%"), Some(crate::table::ACTIVE_THRESHOLD_NS));
        for (text, ns) in [
            ("0", 0),
            ("0%", 0),
            ("0.0", 0),
            ("0.01", 10_000_000),
            ("0.5%", 5_000_000),
            ("100%", 1_000_000_000),
            ("1", 1_000_000_000),
            ("1.5", 1_500_000_000),
            ("0.0000000019", 1),
            ("100", 100_000_000_000),
            ("10000%", 100_000_000_000),
        ] {
            assert_eq!(parse(text), Some(ns), "{text}");
        }
        for text in [
            "",
            "%",
            "x",
            "-1",
            "+1",
            "1e3",
            ".5",
            "1.",
            "1%%",
            "% 1",
            "1 %",
            "100.000000001",
            "10000.1%",
            "1,5",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("99999999999999999999"), None);
    }
}
