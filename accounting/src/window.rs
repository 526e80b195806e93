//! CPU over the last seconds, kept in rings of time buckets that writers of all workers share without a lock.

use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Workers read the time at the start of an event-loop turn, so their times differ by seconds at most. A time in
/// shared memory that is further ahead than this, in milliseconds, is wrong, and does not prevent later additions.
pub(crate) const FAR_MS: u64 = 60_000;

/// The low bits of a bucket are nanoseconds (up to 4.8 hours of CPU in one bucket). The other bits are the round of
/// the ring.
const NS_BITS: u32 = 44;
const NS_MASK: u64 = (1 << NS_BITS) - 1;
const ROUND_MASK: u64 = (1 << (64 - NS_BITS)) - 1;
/// Below this value, a sum of a few values cannot reach the mask: 73 minutes.
const AMPLE: u64 = 1 << (NS_BITS - 2);
/// The most rounds by which a worker's time may be late and still be recognised as late. That is minutes.
const MAX_ROUNDS_AHEAD: u64 = 16;

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
        if old >> NS_BITS == round && old & NS_MASK < AMPLE && ns < AMPLE {
            // If a new round begins right here, the CPU goes to the wrong end of the window, but is not lost.
            cell.fetch_add(ns, Relaxed);
            return;
        }
        let ns = ns.min(NS_MASK);
        loop {
            let new = match round.wrapping_sub(old >> NS_BITS) & ROUND_MASK {
                0 => old & !NS_MASK | ((old & NS_MASK) + ns).min(NS_MASK),
                // The bucket has begun a new round meanwhile: this worker's time is older than the whole window. (An
                // untouched bucket looks the same when the round number wraps around, after 145 days.)
                ahead if ahead > ROUND_MASK - MAX_ROUNDS_AHEAD && old != 0 => return,
                _ => round << NS_BITS | ns,
            };
            match cell.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => old = seen,
            }
        }
    }

    /// CPU cores over the last `buckets` whole buckets and the current one, as CPU time / time. `buckets` is at most
    /// `N - 1`. With `N - 2`, a reader whose time is one bucket late misses nothing. `open` is not in the ring yet.
    pub fn cores(&self, now_ms: u64, buckets: u64, open: Over) -> f64 {
        let buckets = buckets.min(N as u64 - 1);
        let sum_ns = self.sum_ns(now_ms / MS, 0..=buckets, open);
        cores(sum_ns, buckets * MS + now_ms % MS)
    }

    /// CPU in nanoseconds of the buckets at these distances before this one. `open` is not in the ring yet.
    fn sum_ns(&self, bucket: u64, back: RangeInclusive<u64>, open: Over) -> u64 {
        let open_back = bucket.checked_sub(open.second * 1000 / MS);
        let open_ns = if open_back.is_some_and(|at| back.contains(&at)) { open.ns } else { 0 };
        let of = |bucket: u64| {
            let (cell, round) = self.cell(bucket * MS);
            let value = cell.load(Relaxed);
            if value >> NS_BITS == round { value & NS_MASK } else { 0 }
        };
        open_ns + back.filter_map(|back| bucket.checked_sub(back)).map(of).sum::<u64>()
    }

    #[inline]
    fn cell(&self, at_ms: u64) -> (&AtomicU64, u64) {
        // rounds begin with 1, so that an untouched bucket belongs to no time
        let bucket = at_ms / MS;
        (&self.0[(bucket % N as u64) as usize], (bucket / N as u64 + 1) & ROUND_MASK)
    }
}

fn cores(ns: u64, span_ms: u64) -> f64 {
    if span_ms == 0 { 0.0 } else { ns as f64 / (span_ms as f64 * 1e6) }
}

/// The CPU of one second.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// the number of the second: time / 1 s
    pub second: u64,
    /// nanoseconds of CPU
    pub ns: u64,
}

/// The most seconds by which a worker's time may be late and still be recognised as late.
const MAX_LATE: u64 = 64;

/// The CPU of the current second, shared by all workers: the upper bits are the number of the second, the lower bits
/// are nanoseconds. All zero: it was never used.
///
/// A worker that adds in a later second takes out the earlier one by a compare-and-swap. Nothing else takes out a
/// second. So each nanosecond is in exactly one second that was taken out, or is still here. A worker that is late
/// adds to the current second.
#[repr(transparent)]
#[derive(Debug)]
pub struct Second(AtomicU64);

impl Second {
    /// Adds `ns` nanoseconds of CPU in this second. Returns an earlier second that is over now, which the caller must
    /// classify.
    #[inline]
    #[must_use]
    pub fn add(&self, second: u64, ns: u64) -> Option<Over> {
        let old = self.0.load(Relaxed);
        if old >> NS_BITS == second & ROUND_MASK && old & NS_MASK < AMPLE && ns < AMPLE {
            // if the second ends right here, this counts in the next one
            self.0.fetch_add(ns, Relaxed);
            return None;
        }
        self.advance(second, ns)
    }

    #[cold]
    #[inline(never)]
    fn advance(&self, second: u64, ns: u64) -> Option<Over> {
        let (ns, mut excess_ns) = (ns & NS_MASK, ns & !NS_MASK);
        let mut old = self.0.load(Relaxed);
        loop {
            let (sum_ns, ahead) = (old & NS_MASK, ahead(old, second));
            let (new, over) = if ahead == 0 && sum_ns + ns <= NS_MASK {
                (old + ns, None)
            } else {
                // no second comes before the very first one
                let over = Over { second: second.saturating_sub(ahead), ns: sum_ns };
                ((second & ROUND_MASK) << NS_BITS | ns, (old != 0).then_some(over))
            };
            match self.0.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                // CPU that does not fit is classified at once: hours of CPU in one addition
                Ok(_) if excess_ns != 0 => {
                    excess_ns += over.map_or(0, |over| over.ns);
                    return Some(Over { second, ns: excess_ns });
                }
                Ok(_) => return over,
                Err(seen) => old = seen,
            }
        }
    }

    /// Takes out the CPU of an earlier second.
    #[must_use]
    pub fn close(&self, second: u64) -> Option<Over> {
        let mut old = self.0.load(Relaxed);
        loop {
            let (sum_ns, ahead) = (old & NS_MASK, ahead(old, second));
            if sum_ns == 0 || ahead == 0 {
                return None;
            }
            match self.0.compare_exchange_weak(old, (second & ROUND_MASK) << NS_BITS, Relaxed, Relaxed) {
                Ok(_) => return Some(Over { second: second.saturating_sub(ahead), ns: sum_ns }),
                Err(seen) => old = seen,
            }
        }
    }

    /// Takes out everything: no worker adds any more, and the time is not known.
    #[must_use]
    pub fn close_last(&self) -> u64 {
        self.0.fetch_and(!NS_MASK, Relaxed) & NS_MASK
    }

    /// The content, as seen from this second.
    pub fn read(&self, second: u64) -> Over {
        let value = self.0.load(Relaxed);
        Over { second: second.saturating_sub(ahead(value, second)), ns: value & NS_MASK }
    }
}

/// The number of seconds by which this second is later than that of a cell; 0 if it is earlier. A second without CPU
/// is never later: the cell may be 12 days old, when the number was the same.
fn ahead(cell: u64, second: u64) -> u64 {
    let ahead = second.wrapping_sub(cell >> NS_BITS) & ROUND_MASK;
    let late = ahead > ROUND_MASK - MAX_LATE && cell & NS_MASK != 0;
    if late { 0 } else { ahead }
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
    /// Adds the CPU of a finished second.
    pub fn add(&self, over: Over) {
        let at_ms = over.second * 1000;
        self.seconds.add(at_ms, over.ns);
        self.tens.add(at_ms, over.ns);
    }

    /// The windows at `now_ms`. `open` was not added yet.
    pub fn cores(&self, now_ms: u64, open: Over) -> Cores {
        Cores {
            ten_seconds: self.seconds.cores(now_ms, 10, open),
            one_minute: self.tens.cores(now_ms, 6, open),
            five_minutes: self.tens.cores(now_ms, 30, open),
        }
    }

    /// CPU cores over the last 6 finished seconds.
    pub fn six_seconds(&self, now_ms: u64, open: Over) -> f64 {
        cores(self.seconds.sum_ns(now_ms / 1000, 1..=6, open), 6_000)
    }

    /// CPU cores over the last 60 finished seconds, and up to 9 more, back to the begin of a group of ten.
    pub fn sixty_seconds(&self, now_ms: u64, open: Over) -> f64 {
        let second = now_ms / 1000;
        // the current second is not included, nor is CPU of it that a worker with an early clock has closed
        let open = if open.second < second { open } else { Over::default() };
        cores(self.tens.sum_ns(second / 10, 0..=6, open), (60 + second % 10) * 1000)
    }
}

#[cfg(test)]
mod tests;
