//! Averages over windows, for autoscalers.

use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::window::{Over, Windows};

pub use formats::status::Signal;

/// Windows of [`Signal`]s, in seconds: the panic window, and the stable window.
pub const WINDOWS: [u64; 2] = [6, 60];

/// The number of buckets of each kind.
pub(super) const BUCKETS: u64 = 7;

/// Buckets of `seconds` each.
pub(super) struct Buckets<'a> {
    pub(super) seconds: u64,
    /// time / `seconds` + 1 of the content of each bucket; the number repeats after 136 years
    pub(super) tags: &'a [AtomicU32; BUCKETS as usize],
    /// as [`Pair`]
    pub(super) sums: &'a [AtomicU64; BUCKETS as usize],
}

impl Buckets<'_> {
    pub(super) fn add(&self, second: u64, added: Pair) {
        let bucket = second / self.seconds;
        let (at, tag) = Self::place(bucket);
        if self.tags[at].load(Relaxed) != tag {
            // In this order: a worker that is killed in between leaves an old bucket. An addition of another worker
            // in between is lost. That needs two seconds that are closed at the same time, and affects only
            // autoscalers.
            self.sums[at].store(0, Relaxed);
            self.tags[at].store(tag, Release);
        }
        let _ = self.sums[at].fetch_update(Relaxed, Relaxed, |sum| Some(Pair::of(sum).plus(added).packed()));
    }

    /// The sums of the buckets from the first to the last one.
    pub(super) fn sum(&self, first: u64, last: u64) -> [u64; 2] {
        let mut sums = [0; 2];
        for bucket in first..=last {
            let (at, tag) = Self::place(bucket);
            if self.tags[at].load(Acquire) == tag {
                let Pair { requests, ms } = Pair::of(self.sums[at].load(Relaxed));
                sums[0] += u64::from(requests);
                sums[1] += u64::from(ms);
            }
        }
        sums
    }

    pub(super) fn place(bucket: u64) -> (usize, u32) {
        ((bucket % BUCKETS) as usize, (bucket + 1) as u32)
    }
}

/// Requests that ended, and milliseconds in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) requests: u32,
    pub(super) ms: u32,
}

impl Pair {
    pub(super) fn of(packed: u64) -> Pair {
        Pair { requests: (packed >> 32) as u32, ms: packed as u32 }
    }

    pub(super) fn packed(self) -> u64 {
        u64::from(self.requests) << 32 | u64::from(self.ms)
    }

    pub(super) fn plus(self, other: Pair) -> Pair {
        Pair { requests: self.requests.saturating_add(other.requests), ms: self.ms.saturating_add(other.ms) }
    }

    /// The lower halves of the totals.
    pub(super) fn of_totals(requests: u64, duration_ns: u64) -> Pair {
        Pair { requests: requests as u32, ms: (duration_ns / 1_000_000) as u32 }
    }

    /// The difference; none if it is zero, or if `earlier` is later.
    pub(super) fn since(self, earlier: Pair) -> Option<Pair> {
        let requests = self.requests.wrapping_sub(earlier.requests);
        let ms = self.ms.wrapping_sub(earlier.ms);
        let is_more = requests.cast_signed() >= 0 && ms.cast_signed() >= 0 && (requests, ms) != (0, 0);
        is_more.then_some(Pair { requests, ms })
    }
}

/// Requests and durations of the last seconds. All zero: none.
///
/// The worker that finds a finished second adds the increase of the totals to the bucket of that second. So counting
/// a request costs nothing more.
#[repr(C)]
#[derive(Debug)]
pub struct Signals {
    /// for seconds, and for groups of ten seconds
    pub(super) tags: [[AtomicU32; BUCKETS as usize]; 2],
    pub(super) sums: [[AtomicU64; BUCKETS as usize]; 2],
    /// the totals that are already in buckets, as [`Pair`]
    pub(super) taken: AtomicU64,
}

impl Signals {
    pub(super) fn seconds(&self) -> Buckets<'_> {
        Buckets { seconds: 1, tags: &self.tags[0], sums: &self.sums[0] }
    }

    pub(super) fn tens(&self) -> Buckets<'_> {
        Buckets { seconds: 10, tags: &self.tags[1], sums: &self.sums[1] }
    }

    /// Adds a finished second; `totals` returns the current totals.
    pub(crate) fn close_second(&self, second: u64, totals: impl Fn() -> (u64, u64)) {
        let mut taken = self.taken.load(Relaxed);
        loop {
            // read after the value that they are compared with
            let (requests, duration_ns) = totals();
            let now = Pair::of_totals(requests, duration_ns);
            let Some(added) = now.since(Pair::of(taken)) else { return };
            match self.taken.compare_exchange_weak(taken, now.packed(), Relaxed, Relaxed) {
                Ok(_) => {
                    self.seconds().add(second, added);
                    self.tens().add(second, added);
                    return;
                }
                Err(seen) => taken = seen,
            }
        }
    }

    /// Leaves these totals out of all windows: they were counted before.
    pub(crate) fn skip(&self, requests: u64, duration_ns: u64) {
        self.taken.store(Pair::of_totals(requests, duration_ns).packed(), Relaxed);
    }

    /// The signals at `now_ms`, over whole finished seconds: 6 of them; and 60, plus up to 9 back to the begin of a
    /// group of ten. `open` is in no window yet.
    pub(crate) fn read(&self, now_ms: u64, windows: &Windows, open: Over) -> [Signal; WINDOWS.len()] {
        let second = now_ms / 1000;
        let signal = |[requests, ms]: [u64; 2], seconds: u64, cores| Signal {
            in_flight: ms as f64 / (seconds * 1000) as f64,
            requests_per_second: requests as f64 / seconds as f64,
            cores,
        };
        let six = match second.checked_sub(1) {
            Some(last) => self.seconds().sum(second.saturating_sub(6), last),
            None => [0; 2],
        };
        let sixty = self.tens().sum((second / 10).saturating_sub(6), second / 10);
        [
            signal(six, 6, windows.six_seconds(now_ms, open)),
            signal(sixty, 60 + second % 10, windows.sixty_seconds(now_ms, open)),
        ]
    }
}
