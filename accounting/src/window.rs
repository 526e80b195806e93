//! CPU over the last seconds, kept in rings of time buckets that writers of all workers share without a lock.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Low bits of a bucket hold nanoseconds (up to 4.8 hours of CPU in one bucket), the others the round of the ring
/// that they belong to.
const NS_BITS: u32 = 44;
const NS_MASK: u64 = (1 << NS_BITS) - 1;
const ROUND_MASK: u64 = (1 << (64 - NS_BITS)) - 1;

/// A ring of `N` buckets, each `MS` milliseconds long. All zero is a valid empty ring.
#[repr(transparent)]
#[derive(Debug)]
pub struct Ring<const N: usize, const MS: u64>([AtomicU64; N]);

impl<const N: usize, const MS: u64> Ring<N, MS> {
    /// Adds `ns` nanoseconds of CPU at the time `now_ms`.
    #[inline]
    pub fn add(&self, now_ms: u64, ns: u64) {
        let (cell, round) = self.cell(now_ms);
        let mut old = cell.load(Relaxed);
        loop {
            let sum = if old >> NS_BITS == round { (old & NS_MASK) + ns.min(NS_MASK) } else { ns };
            let new = round << NS_BITS | sum.min(NS_MASK);
            match cell.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => old = seen,
            }
        }
    }

    /// CPU cores used over the last `buckets` whole buckets and the running one, as CPU time / time.
    pub fn cores(&self, now_ms: u64, buckets: u64) -> f64 {
        let buckets = buckets.min(N as u64 - 1);
        let mut sum_ns = 0;
        for back in 0..=buckets {
            let Some(at_ms) = now_ms.checked_sub(back * MS) else { break };
            let (cell, round) = self.cell(at_ms);
            let value = cell.load(Relaxed);
            if value >> NS_BITS == round {
                sum_ns += value & NS_MASK;
            }
        }
        let span_ms = buckets * MS + now_ms % MS;
        if span_ms == 0 { 0.0 } else { sum_ns as f64 / (span_ms as f64 * 1e6) }
    }

    #[inline]
    fn cell(&self, at_ms: u64) -> (&AtomicU64, u64) {
        // the round starts at 1, so that an untouched bucket belongs to no time
        let bucket = at_ms / MS;
        (&self.0[(bucket % N as u64) as usize], (bucket / N as u64 + 1) & ROUND_MASK)
    }
}

/// CPU of one account over the last 10 seconds, 1 minute and 5 minutes.
#[repr(C)]
#[derive(Debug)]
pub struct Windows {
    seconds: Ring<11, 1_000>,
    tens: Ring<31, 10_000>,
}

/// CPU cores, as averages over windows.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Cores {
    /// over the last 10 seconds
    pub ten_seconds: f64,
    /// over the last minute
    pub one_minute: f64,
    /// over the last 5 minutes
    pub five_minutes: f64,
}

impl Windows {
    /// Adds `ns` nanoseconds of CPU at the time `now_ms`, of a monotonic clock that all workers share.
    #[inline]
    pub fn add(&self, now_ms: u64, ns: u64) {
        self.seconds.add(now_ms, ns);
        self.tens.add(now_ms, ns);
    }

    /// The windows as seen at `now_ms`.
    pub fn cores(&self, now_ms: u64) -> Cores {
        Cores {
            ten_seconds: self.seconds.cores(now_ms, 10),
            one_minute: self.tens.cores(now_ms, 6),
            five_minutes: self.tens.cores(now_ms, 30),
        }
    }
}
