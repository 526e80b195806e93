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
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::account::{Account, CacheStatus, Outcome, Settlement, Usage};
    use crate::table::{ACTIVE_THRESHOLD_NS, Slot, Table};
    use crate::testing::{Region, cases, zeroed};

    /// What is told later than this after a later millisecond may not be counted.
    const LATE_MS: u64 = (ACTIVE_WORDS as u64 - 1) * ACTIVE_BITS;

    #[test]
    fn each_millisecond_is_counted_once_whoever_tells_of_it() {
        let sums = zeroed::<Account>();
        let sums = sums.measures();
        let active_ms = || sums.read().active_ms;
        sums.cover(1_000, 1_001, || false);
        sums.cover(1_000, 1_001, || false);
        assert_eq!(active_ms(), 1);
        sums.cover(1_100, 1_110, || false);
        assert_eq!(active_ms(), 11, "nothing was in flight in between");
        sums.cover(1_050, 1_105, || false);
        assert_eq!(active_ms(), 61, "who is late has filled the gap");
        sums.cover(1_150, 1_151, || true);
        assert_eq!(active_ms(), 61 + 41, "somebody was in flight in between");
        sums.cover(1_001, 1_050, || false);
        assert_eq!(active_ms(), 151, "it is all known now");
        sums.cover(1_000_000, 1_000_001, || true);
        assert_eq!(active_ms(), 999_001, "many words at once");
        sums.cover(1_000, 999_000, || false);
        assert_eq!(active_ms(), 999_001);
        sums.cover(5_000_000, 5_000_000, || false);
        sums.cover(5_000_001, 5_000_000, || false);
        assert_eq!(active_ms(), 999_001, "no time is no time");
    }

    #[test]
    fn a_time_that_was_wrong_stops_no_active_time() {
        for wrong_ms in [1_000_000 + 2 * WRONG_MS, 1 << 40, u64::MAX / 1_000_000] {
            let sums = zeroed::<Account>();
            let sums = sums.measures();
            sums.cover(1_000_000, 1_000_010, || false);
            sums.cover(wrong_ms, wrong_ms + 1, || true);
            let before_ms = sums.read().active_ms;
            assert!(before_ms <= 11 + MOST_MS, "{wrong_ms} {before_ms}");
            for ms in 1_001_000..1_002_000 {
                sums.cover(ms, ms + 1, || false);
            }
            assert_eq!(sums.read().active_ms - before_ms, 999, "{wrong_ms}");
            sums.cover(1_002_000, 1_002_010, || true);
            assert_eq!(sums.read().active_ms - before_ms, 1_009);
        }
    }

    #[test]
    fn a_worker_with_an_old_time_brings_nothing_twice() {
        let sums = zeroed::<Account>();
        let sums = sums.measures();
        let (begin_ms, steps) = (10_000_000, if cfg!(miri) { 3 } else { 2 * WRONG_MS / 100 });
        let cover = |ms: u64| sums.cover(ms, ms + 1, || true);
        cover(begin_ms);
        for step in 1..=steps {
            cover(begin_ms + 100 * step);
            if step == steps {
                cover(begin_ms);
            }
        }
        cover(begin_ms + 100 * steps + 1);
        assert_eq!(sums.read().active_ms, 100 * steps + 2);
    }

    #[test]
    fn an_account_that_slept_for_years_is_active_at_once() {
        for gap_ms in [48, 240, 48 << 16, (48 << 16) - 240, 240 << 16, (240 << 16) + 240, 1 << 40] {
            let account = zeroed::<Account>();
            let sums = account.measures();
            sums.cover(gap_ms, gap_ms + 3, || false);
            for n in 2..5 {
                sums.cover(n * gap_ms + 3_200, n * gap_ms + 3_210, || false);
            }
            // the number of a word in its cell comes again after 4.4 hours
            let expected = if gap_ms == 240 << 16 { 13 } else { 33 };
            assert_eq!(sums.read().active_ms, expected, "{gap_ms}");
        }
    }

    #[test]
    fn no_millisecond_is_counted_twice_or_lost_between_threads() {
        let account = zeroed::<Account>();
        let (threads, to_ms) = if cfg!(miri) { (2, 60) } else { (4, 40_000) };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for ms in 1..=to_ms {
                        account.measures().cover(ms, ms + 1, || false);
                    }
                });
            }
        });
        assert_eq!(account.measures().read().active_ms, to_ms);
    }

    #[test]
    fn memory_is_not_lost_by_rounding() {
        let mut carry = 0;
        // 5,120 bytes for 13 µs a thousand times are 66,560 bytes for a millisecond
        let sum: u64 = (0..1000).map(|_| Memory::new(5_120, 13_000).byte_ms(&mut carry)).sum();
        assert!((66_559..=66_560).contains(&sum), "{sum}");
        let gigabyte = Memory::new(1_000_000_000, 1_000_000_000).byte_ms(&mut 0);
        assert!((999_999_999_900..=1_000_000_000_000).contains(&gigabyte), "{gigabyte}");
        // each second, of one worker
        let terabyte = Memory::new(1_000_000_000_000, 1_000_000_000).byte_ms(&mut 0);
        assert!((999_999_999_999_900..=1_000_000_000_000_000).contains(&terabyte), "{terabyte}");
    }

    fn measured(table: &Table, slot: Slot, now_ms: u64) -> Measures {
        table.refresh(slot, now_ms);
        table.account(slot).measures().read()
    }

    #[test]
    fn a_second_is_active_from_its_threshold_on() {
        let region = Region::new(10_000);
        let table = region.table().unwrap();
        let account = table.account(Slot::OVERFLOW);
        let mut now_ms = 50_000;
        for (threshold_ns, cpu_ns, is_active) in [
            (10_000_000, 9_999_999, false),
            (10_000_000, 10_000_000, true),
            (0, 1, true),
            (999_999_999, 999_999_998, false),
            // threads can use more than a core
            (2_000_000_000, 1_999_999_999, false),
        ] {
            let before = measured(&table, Slot::OVERFLOW, now_ms);
            table.set_active_threshold(threshold_ns);
            for part in [cpu_ns / 3, cpu_ns / 3, cpu_ns - cpu_ns / 3 * 2] {
                let usage = Usage { cpu_ns: part, ..Usage::default() };
                account.settle(&table, now_ms + 999, &Settlement { usage, ..Settlement::default() });
            }
            let during = measured(&table, Slot::OVERFLOW, now_ms + 999);
            assert_eq!(during, before, "it is not over");
            now_ms += 1000;
            let after = measured(&table, Slot::OVERFLOW, now_ms);
            let (billable_ns, waived_ns) = if is_active { (cpu_ns, 0) } else { (0, cpu_ns) };
            assert_eq!(after.active_seconds - before.active_seconds, u64::from(is_active), "{cpu_ns}");
            assert_eq!(after.billable_cpu_ns - before.billable_cpu_ns, billable_ns);
            assert_eq!(after.waived_cpu_ns - before.waived_cpu_ns, waived_ns);
            now_ms += 5_000;
        }
        assert_eq!(account.measures().read().peak_cpu_ns, 1_999_999_999);
    }

    #[test]
    fn a_wakeup_of_seconds_is_so_many_active_seconds_and_no_peak_of_several_cores() {
        let region = Region::new(10_000);
        let table = region.table().unwrap();
        let usage = Usage { cpu_ns: 3_200_000_000, ..Usage::default() };
        table.account(Slot::OVERFLOW).add(10_500, &usage);
        let measures = measured(&table, Slot::OVERFLOW, 11_000);
        assert_eq!((measures.active_seconds, measures.billable_cpu_ns), (4, 3_200_000_000));
        assert_eq!(measures.peak_cpu_ns, 1_000_000_000);
    }

    #[test]
    fn each_log_has_peaks_of_its_own() {
        let account = zeroed::<Account>();
        let sums = account.measures();
        sums.judge(70, 10);
        assert_eq!((sums.peak_of_log(0), sums.peak_of_log(1), sums.peak_of_log(2)), (70, 70, 0));
        sums.forget_peak(0, 70);
        sums.judge(20, 10);
        assert_eq!((sums.peak_of_log(0), sums.peak_of_log(1)), (20, 70));
        sums.forget_peak(0, 19);
        assert_eq!(sums.peak_of_log(0), 20, "there was a higher one meanwhile");
        assert_eq!(sums.read().peak_cpu_ns, 70);
    }

    #[test]
    fn who_counts_no_more_leaves_no_second_behind() {
        let region = Region::new(10_000);
        let table = region.table().unwrap();
        table.account(Slot::OVERFLOW).add(10_500, &Usage { cpu_ns: 30_000_000, ..Usage::default() });
        table.conclude();
        table.conclude();
        let measures = table.account(Slot::OVERFLOW).measures().read();
        assert_eq!((measures.billable_cpu_ns, measures.active_seconds), (30_000_000, 1));
    }

    /// Of four workers, each with a clock and turns of its own.
    #[derive(Debug, Clone)]
    struct Add {
        worker: usize,
        gap_ms: u64,
        late_ms: u64,
        cpu_ns: u64,
        refreshes: bool,
    }

    fn adds() -> impl Strategy<Value = Vec<Add>> {
        let add = (0usize..4, 0u64..2_500, 0u64..3_000, 0u64..30_000_000, any::<bool>()).prop_map(
            |(worker, gap_ms, late_ms, cpu_ns, refreshes)| Add { worker, gap_ms, late_ms, cpu_ns, refreshes },
        );
        prop::collection::vec(add, 0..if cfg!(miri) { 10 } else { 100 })
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn all_cpu_is_billable_or_waived_or_in_the_running_second(start_ms in 0u64..1 << 40, adds in adds()) {
            let region = Region::new(10_000);
            let table = region.table().unwrap();
            let account = table.account(Slot::OVERFLOW);
            let (mut now_ms, mut sum_ns, mut last) = (start_ms + 3_000, 0, 0);
            for add in adds {
                now_ms += add.gap_ms;
                let usage = Usage { cpu_ns: add.cpu_ns, ..Usage::default() };
                account.add(now_ms - add.late_ms * (add.worker as u64 % 2), &usage);
                sum_ns += add.cpu_ns;
                if add.refreshes {
                    table.refresh(Slot::OVERFLOW, now_ms);
                }
                let judged_ns = account.measures().judged_ns();
                prop_assert!(judged_ns <= sum_ns && judged_ns >= last);
                last = judged_ns;
            }
            table.refresh(Slot::OVERFLOW, now_ms + 4_000);
            prop_assert_eq!(account.measures().judged_ns(), sum_ns);
            prop_assert_eq!(account.usage().cpu_ns, sum_ns);
        }

        #[test]
        fn seconds_are_judged_as_they_were(start_s in 0u64..1 << 30, adds in prop::collection::vec((0u64..3_000, 0u64..12_000_000), 0..60)) {
            let region = Region::new(10_000);
            let table = region.table().unwrap();
            let mut model = std::collections::BTreeMap::<u64, u64>::new();
            let mut now_ms = start_s * 1000;
            for (gap_ms, cpu_ns) in adds {
                now_ms += gap_ms;
                table.account(Slot::OVERFLOW).add(now_ms, &Usage { cpu_ns, ..Usage::default() });
                *model.entry(now_ms / 1000).or_default() += cpu_ns;
            }
            let measures = measured(&table, Slot::OVERFLOW, now_ms + 1000);
            let active: Vec<u64> = model.values().copied().filter(|&ns| ns >= ACTIVE_THRESHOLD_NS).collect();
            prop_assert_eq!(measures.active_seconds, active.len() as u64);
            prop_assert_eq!(measures.billable_cpu_ns, active.iter().sum::<u64>());
            prop_assert_eq!(measures.waived_cpu_ns, model.values().sum::<u64>() - active.iter().sum::<u64>());
            prop_assert_eq!(measures.peak_cpu_ns, model.values().copied().max().unwrap_or(0));
        }

        /// Told in any order, as long as nobody is too late.
        #[test]
        fn active_time_is_the_union_of_all_spans(
            start_ms in 1u64..1 << 40, spans in prop::collection::vec((0u64..60, 0u64..LATE_MS, 1u64..90), 0..60),
        ) {
            let account = zeroed::<Account>();
            let mut union = BTreeSet::new();
            let mut end_ms = start_ms + LATE_MS;
            for (gap_ms, late_ms, length_ms) in spans {
                end_ms += gap_ms;
                // it begins within what is known of still
                let from_ms = (end_ms - late_ms).max(end_ms / ACTIVE_BITS * ACTIVE_BITS - LATE_MS + ACTIVE_BITS);
                let to_ms = (from_ms + length_ms).min(end_ms);
                account.measures().cover(from_ms, to_ms, || false);
                union.extend(from_ms..to_ms);
                prop_assert_eq!(account.measures().read().active_ms, union.len() as u64);
            }
        }

        #[test]
        fn signals_are_what_a_plain_count_says(
            start_s in 100u64..1 << 31, steps in prop::collection::vec((0u64..4_000, 0u32..3, 0u64..5_000), 1..60),
        ) {
            let region = Region::new(10_000);
            let table = region.table().unwrap();
            let account = table.account(Slot::OVERFLOW);
            let mut log = Vec::new();
            let mut now_ms = start_s * 1000;
            for (gap_ms, requests, in_flight_ms) in steps {
                now_ms += gap_ms;
                let usage = Usage { cpu_ns: 7_000_000, ..Usage::default() };
                let duration_ns = in_flight_ms * 1_000_000;
                account.settle(&table, now_ms, &Settlement { usage, duration_ns, ..Settlement::default() });
                for _ in 0..requests {
                    let cache = CacheStatus::None;
                    account.finish(&Outcome { status: 200, cache, connection_order: 1, response_bytes: 1, cpu_ns: 1 });
                }
                log.push((now_ms / 1000, f64::from(requests), in_flight_ms as f64 / 1e3));
                table.refresh(Slot::OVERFLOW, now_ms);
                let second = now_ms / 1000;
                let model = |first: u64, seconds: u64| {
                    let of = || log.iter().filter(move |&&(at, ..)| at >= first && at < second);
                    let sum = |part: fn(&(u64, f64, f64)) -> f64| of().map(part).sum::<f64>() / seconds as f64;
                    Signal {
                        in_flight: sum(|entry| entry.2),
                        requests_per_second: sum(|entry| entry.1),
                        cores: of().count() as f64 * 0.007 / seconds as f64,
                    }
                };
                let expected = [model(second - 6, 6), model((second / 10 - 6) * 10, 60 + second % 10)];
                for (seen, expected) in account.signals(now_ms).iter().zip(&expected) {
                    for (seen, expected) in [
                        (seen.in_flight, expected.in_flight),
                        (seen.requests_per_second, expected.requests_per_second),
                        (seen.cores, expected.cores),
                    ] {
                        prop_assert!((seen - expected).abs() < 1e-9, "{} {}", seen, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_restored_is_no_signal() {
        let region = Region::new(10_000);
        let table = region.table().unwrap();
        let account = table.account(Slot::OVERFLOW);
        account.restore(&crate::account::Totals([1_000_000_000; crate::account::COUNTERS]));
        account.add(50_000, &Usage { cpu_ns: 1, ..Usage::default() });
        table.refresh(Slot::OVERFLOW, 52_000);
        assert_eq!(
            account.signals(52_000).map(|signal| (signal.in_flight, signal.requests_per_second)),
            [(0.0, 0.0); 2]
        );
    }

    #[test]
    fn counts_that_wrap_around_are_signals_all_the_same() {
        let account = zeroed::<Account>();
        let take = |second, requests, duration_ns| account.signals.take(second, || (requests, duration_ns));
        account.signals.skip(u64::from(u32::MAX) - 1, 0);
        take(100, u64::from(u32::MAX) + 4, 3_000_000);
        // somebody who has read earlier
        take(100, u64::from(u32::MAX) + 2, 1_000_000);
        let [six, _] = account.signals(101_000);
        assert_eq!((six.requests_per_second * 6.0, six.in_flight * 6_000.0), (5.0, 3.0));
    }
}
