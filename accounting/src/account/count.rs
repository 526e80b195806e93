//! A number of requests and their CPU.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number of requests or handshakes, and their CPU: a copy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// number of requests or handshakes
    pub requests: u64,
    /// their CPU in nanoseconds
    pub cpu_ns: u64,
}

impl Count {
    /// The sum of all counts.
    pub fn sum(counts: &[Count]) -> Count {
        counts.iter().fold(Count::default(), |sum, one| Count {
            requests: sum.requests + one.requests,
            cpu_ns: sum.cpu_ns + one.cpu_ns,
        })
    }
}

/// A number of requests, and their CPU in nanoseconds.
pub(super) type Tally = [AtomicU64; 2];

#[inline]
pub(super) fn add_tally([requests, cpu_ns]: &Tally, count: &Count) {
    requests.fetch_add(count.requests, Relaxed);
    cpu_ns.fetch_add(count.cpu_ns, Relaxed);
}

pub(super) fn read_tally([requests, cpu_ns]: &Tally) -> Count {
    Count { requests: requests.load(Relaxed), cpu_ns: cpu_ns.load(Relaxed) }
}
