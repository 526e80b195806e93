//! What other ways to charge than by CPU need to know of an account, and what an autoscaler looks at.

use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::window::{Over, Windows};

/// A request, or a part of the time of one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// when it began, in nanoseconds of the clock that all workers share
    pub from_ns: u64,
    /// when it ended
    pub to_ns: u64,
    /// bytes of memory that it held meanwhile
    pub bytes: u64,
}

/// What requests have held in some time: to be added to their account.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// nanoseconds in flight, each request for itself
    pub duration_ns: u64,
    /// memory times time
    pub memory: Memory,
}

/// Memory times time, in bytes times 1024 ns: what is below that is less than a millionth of a byte for a second.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Memory(u64);

impl Memory {
    /// So many bytes for so many nanoseconds.
    #[inline]
    pub fn new(bytes: u64, ns: u64) -> Memory {
        Memory(((u128::from(bytes) * u128::from(ns)) >> 10) as u64)
    }

    /// The sum.
    #[inline]
    #[must_use]
    pub fn plus(self, other: Memory) -> Memory {
        Memory(self.0.wrapping_add(other.0))
    }

    /// Half of it.
    #[must_use]
    pub fn half(self) -> Memory {
        Memory(self.0 / 2)
    }

    /// In bytes times milliseconds. What is below that is carried to the next call, so that it is not lost on average.
    #[inline]
    pub(crate) fn byte_ms(self, carry: &mut u64) -> u64 {
        // 1024 ns are 16 / 15,625 ms
        let parts = self.0.saturating_mul(16).saturating_add(*carry);
        *carry = parts % 15_625;
        parts / 15_625
    }
}

impl Held {
    /// So many requests for so many nanoseconds, with so many bytes altogether.
    #[inline]
    pub fn new(requests: u64, bytes: u64, ns: u64) -> Held {
        Held { duration_ns: requests.wrapping_mul(ns), memory: Memory::new(bytes, ns) }
    }

    /// The sum.
    #[inline]
    #[must_use]
    pub fn plus(&self, other: &Held) -> Held {
        Held {
            duration_ns: self.duration_ns.wrapping_add(other.duration_ns),
            memory: self.memory.plus(other.memory),
        }
    }
}

impl Span {
    /// Its length in nanoseconds.
    #[inline]
    pub fn ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }

    /// What one request has held in it.
    #[inline]
    pub fn held(&self) -> Held {
        let ns = self.ns();
        Held { duration_ns: ns, memory: Memory::new(self.bytes, ns) }
    }
}

/// Traffic logs that a zone can have: each is told the peaks of its own intervals.
pub const LOGS: usize = 2;

/// Sums in shared memory; all zero at first.
#[repr(C)]
#[derive(Debug)]
pub struct Sums {
    /// nanoseconds that requests were in flight, each for itself
    pub(crate) duration_ns: AtomicU64,
    /// memory of requests times the time that they were in flight, in bytes times milliseconds
    pub(crate) memory_byte_ms: AtomicU64,
    /// milliseconds in which at least one was
    pub(crate) active_ms: AtomicU64,
    active: Active,
    /// seconds in which the CPU reached the threshold
    pub(crate) active_seconds: AtomicU64,
    /// CPU in them, in nanoseconds
    pub(crate) billable_cpu_ns: AtomicU64,
    /// CPU in other seconds, in nanoseconds
    pub(crate) waived_cpu_ns: AtomicU64,
    /// the most CPU of one second, in nanoseconds: of all, and since each log has taken it
    peaks_ns: [AtomicU64; 1 + LOGS],
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

/// Which of the last milliseconds were active, a bit for each. All zero: none.
///
/// A worker tells of a request when it is through with it, and of several when its turn of the event loop ends: later than
/// another one, maybe, that had a shorter turn. So a millisecond is counted by who sets its bit, and each of them once; only what
/// is told when its word has been reused, after some 200 ms, is not counted any more.
///
/// A time that is much later than the one of who looks was a wrong one: then it is forgotten.
#[repr(C)]
#[derive(Debug)]
struct Active {
    /// The end of the last one that is known, or will be in a moment. It grows, unless it was wrong.
    known_ms: AtomicU64,
    /// time / 48 ms above, and a bit for each of them below
    words: [AtomicU64; ACTIVE_WORDS],
}

const ACTIVE_WORDS: usize = 5;
const ACTIVE_BITS: u64 = 48;
const TAG_MASK: u64 = u64::MAX >> ACTIVE_BITS;
/// So many milliseconds are counted at once, an hour. Accounts with requests in flight are brought up to date each second, so a
/// longer time in which nobody came is a wrong one, or that of a machine that stood still.
const MOST_MS: u64 = 60 * 60 * 1000;
/// No worker that is right is so many milliseconds behind the others: its event loop would have stood still for as long.
const WRONG_MS: u64 = 10 * 60 * 1000;

impl Active {
    /// Whether all these are known already; maybe not, if there are many.
    #[inline]
    fn has(&self, from_ms: u64, to_ms: u64) -> bool {
        let last_ms = to_ms.saturating_sub(1);
        let word = last_ms / ACTIVE_BITS;
        let start_ms = word * ACTIVE_BITS;
        let value = self.words[(word % ACTIVE_WORDS as u64) as usize].load(Relaxed);
        let mask = Self::mask(from_ms.saturating_sub(start_ms), last_ms - start_ms);
        from_ms >= start_ms && value >> ACTIVE_BITS == word & TAG_MASK && value & mask == mask
    }

    /// Bits from the first to the last one, of the 48.
    #[inline]
    fn mask(first: u64, last: u64) -> u64 {
        (u64::MAX << first) & (u64::MAX >> (63 - last))
    }

    /// Sets them; how many were not set before.
    fn set(&self, from_ms: u64, to_ms: u64) -> u64 {
        let Some(last_ms) = to_ms.checked_sub(1).filter(|&last_ms| last_ms >= from_ms) else { return 0 };
        let mut added = 0;
        for word in from_ms / ACTIVE_BITS..=last_ms / ACTIVE_BITS {
            let start_ms = word * ACTIVE_BITS;
            self.known_ms.fetch_max(to_ms.min(start_ms + ACTIVE_BITS), Release);
            let first = from_ms.saturating_sub(start_ms);
            let last = (last_ms - start_ms).min(ACTIVE_BITS - 1);
            added += self.set_bits(word, Self::mask(first, last));
        }
        added
    }

    fn set_bits(&self, word: u64, bits: u64) -> u64 {
        let tag = word & TAG_MASK;
        let cell = &self.words[(word % ACTIVE_WORDS as u64) as usize];
        let mut old = cell.load(Acquire);
        loop {
            // Known before a bit of it is set: if the cell is of a later word already, it is too late. If the cell comes to be so
            // after this, the exchange fails.
            if self.known_ms.load(Relaxed) > (word + ACTIVE_WORDS as u64) * ACTIVE_BITS {
                return 0;
            }
            let before = if old >> ACTIVE_BITS == tag { old & !(TAG_MASK << ACTIVE_BITS) } else { 0 };
            let new = tag << ACTIVE_BITS | before | bits;
            match cell.compare_exchange_weak(old, new, Release, Acquire) {
                Ok(_) => return u64::from((bits & !before).count_ones()),
                Err(seen) => old = seen,
            }
        }
    }
}

impl Measures {
    /// Whole milliseconds of [`Measures::duration_ns`], as every reader is told: what they differ by adds up.
    pub fn duration_ms(&self) -> u64 {
        self.duration_ns / 1_000_000
    }
}

impl Sums {
    /// A request was in flight from one millisecond to another, which is the first one after it. `begun`: at least one has been
    /// since the time up to which milliseconds are known.
    #[inline]
    pub(crate) fn cover(&self, from_ms: u64, to_ms: u64, begun: impl Fn() -> bool) {
        if !self.active.has(from_ms, to_ms) {
            self.cover_more(from_ms, to_ms, begun());
        }
    }

    #[cold]
    #[inline(never)]
    fn cover_more(&self, from_ms: u64, to_ms: u64, begun: bool) {
        // after `begun`, which is since that time or an earlier one
        let known_ms = self.active.known_ms.load(Acquire);
        if known_ms > to_ms.saturating_add(WRONG_MS) {
            // Nothing is counted at once: if it is this worker that is wrong, the next one goes on as if it had not come.
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

    /// A second with so much CPU is over: it is active, or it is not.
    pub(crate) fn judge(&self, ns: u64, threshold_ns: u64) {
        self.judge_all(1, ns, threshold_ns);
    }

    /// As many seconds with so much CPU each.
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

    /// CPU of all seconds that were judged, in nanoseconds.
    #[cfg(test)]
    pub(crate) fn judged_ns(&self) -> u64 {
        self.billable_cpu_ns.load(Relaxed) + self.waived_cpu_ns.load(Relaxed)
    }

    /// All that only grows by additions.
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
    pub fn read(&self) -> Measures {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Measures {
            duration_ns: read(&self.duration_ns),
            active_ms: read(&self.active_ms),
            active_seconds: read(&self.active_seconds),
            billable_cpu_ns: read(&self.billable_cpu_ns),
            waived_cpu_ns: read(&self.waived_cpu_ns),
            memory_byte_ms: read(&self.memory_byte_ms),
            peak_cpu_ns: read(&self.peaks_ns[0]),
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

/// Windows of [`Signal`]s, in seconds: that of panic, and the stable one.
pub const WINDOWS: [u64; 2] = [6, 60];

pub use formats::status::Signal;

/// How many buckets there are of each kind.
const BUCKETS: u64 = 7;

/// Buckets of `seconds` each.
struct Buckets<'a> {
    seconds: u64,
    /// time / `seconds` + 1 of what a bucket holds; in 136 years it comes again
    tags: &'a [AtomicU32; BUCKETS as usize],
    /// as [`Pair`]
    sums: &'a [AtomicU64; BUCKETS as usize],
}

impl Buckets<'_> {
    fn add(&self, second: u64, added: Pair) {
        let bucket = second / self.seconds;
        let (at, tag) = Self::place(bucket);
        if self.tags[at].load(Relaxed) != tag {
            // In this order: who is killed in between leaves an old bucket. What another one adds in between is lost, but only
            // for an autoscaler, and as two seconds would have to be closed at the same time for that.
            self.sums[at].store(0, Relaxed);
            self.tags[at].store(tag, Release);
        }
        let _ = self.sums[at].fetch_update(Relaxed, Relaxed, |sum| Some(Pair::of(sum).plus(added).packed()));
    }

    /// The sums of buckets, the last one included.
    fn sum(&self, first: u64, last: u64) -> [u64; 2] {
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

    fn place(bucket: u64) -> (usize, u32) {
        ((bucket % BUCKETS) as usize, (bucket + 1) as u32)
    }
}

/// Requests that ended, and milliseconds in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    requests: u32,
    ms: u32,
}

impl Pair {
    fn of(packed: u64) -> Pair {
        Pair { requests: (packed >> 32) as u32, ms: packed as u32 }
    }

    fn packed(self) -> u64 {
        u64::from(self.requests) << 32 | u64::from(self.ms)
    }

    fn plus(self, other: Pair) -> Pair {
        Pair { requests: self.requests.saturating_add(other.requests), ms: self.ms.saturating_add(other.ms) }
    }

    /// The lower halves of what was counted.
    fn of_totals(requests: u64, duration_ns: u64) -> Pair {
        Pair { requests: requests as u32, ms: (duration_ns / 1_000_000) as u32 }
    }

    /// None if there is nothing more, or `earlier` is not.
    fn since(self, earlier: Pair) -> Option<Pair> {
        let requests = self.requests.wrapping_sub(earlier.requests);
        let ms = self.ms.wrapping_sub(earlier.ms);
        let is_more = requests.cast_signed() >= 0 && ms.cast_signed() >= 0 && (requests, ms) != (0, 0);
        is_more.then_some(Pair { requests, ms })
    }
}

/// What was counted in the last seconds. All zero: nothing.
///
/// What has come up is added when a second is over, by who finds that, to the bucket of that second: so there is nothing to
/// be done for it while requests are counted.
#[repr(C)]
#[derive(Debug)]
pub struct Signals {
    /// of seconds, and of ten of them
    tags: [[AtomicU32; BUCKETS as usize]; 2],
    sums: [[AtomicU64; BUCKETS as usize]; 2],
    /// totals as far as they are in buckets, as [`Pair`]
    taken: AtomicU64,
}

impl Signals {
    fn seconds(&self) -> Buckets<'_> {
        Buckets { seconds: 1, tags: &self.tags[0], sums: &self.sums[0] }
    }

    fn tens(&self) -> Buckets<'_> {
        Buckets { seconds: 10, tags: &self.tags[1], sums: &self.sums[1] }
    }

    /// A second is over; the totals are of now.
    pub(crate) fn take(&self, second: u64, totals: impl Fn() -> (u64, u64)) {
        let mut taken = self.taken.load(Relaxed);
        loop {
            // read after what they are compared with
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

    /// What was counted until now was counted before these seconds.
    pub(crate) fn skip(&self, requests: u64, duration_ns: u64) {
        self.taken.store(Pair::of_totals(requests, duration_ns).packed(), Relaxed);
    }

    /// As seen at `now_ms`, over whole seconds that are over: 6 of them; and 60, or up to 9 more, from where a whole ten of them
    /// begins. `open` is in no window yet.
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

#[cfg(test)]
mod tests;
