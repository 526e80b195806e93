//! Which of the last milliseconds were active.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Which of the last milliseconds were active, a bit for each. All zero: none.
///
/// A worker tells of a request when it is through with it, and of several when its turn of the event loop ends:
/// later than another one, maybe, that had a shorter turn. So a millisecond is counted by who sets its bit, and
/// each of them once; only what is told when its word has been reused, after some 200 ms, is not counted any more.
///
/// A time that is much later than the one of who looks was a wrong one: then it is forgotten.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Active {
    /// The end of the last one that is known, or will be in a moment. It grows, unless it was wrong.
    pub(super) known_ms: AtomicU64,
    /// time / 48 ms above, and a bit for each of them below
    pub(super) words: [AtomicU64; ACTIVE_WORDS],
}

pub(super) const ACTIVE_WORDS: usize = 5;

pub(super) const ACTIVE_BITS: u64 = 48;

pub(super) const TAG_MASK: u64 = u64::MAX >> ACTIVE_BITS;

/// So many milliseconds are counted at once, an hour. Accounts with requests in flight are brought up to date each
/// second, so a longer time in which nobody came is a wrong one, or that of a machine that stood still.
pub(super) const MOST_MS: u64 = 60 * 60 * 1000;

/// No worker that is right is so many milliseconds behind the others: its event loop would have stood still for as
/// long.
pub(super) const WRONG_MS: u64 = 10 * 60 * 1000;

impl Active {
    /// Whether all these are known already; maybe not, if there are many.
    #[inline]
    pub(super) fn has(&self, from_ms: u64, to_ms: u64) -> bool {
        let last_ms = to_ms.saturating_sub(1);
        let word = last_ms / ACTIVE_BITS;
        let start_ms = word * ACTIVE_BITS;
        let value = self.words[(word % ACTIVE_WORDS as u64) as usize].load(Relaxed);
        let mask = Self::mask(from_ms.saturating_sub(start_ms), last_ms - start_ms);
        from_ms >= start_ms && value >> ACTIVE_BITS == word & TAG_MASK && value & mask == mask
    }

    /// Bits from the first to the last one, of the 48.
    #[inline]
    pub(super) fn mask(first: u64, last: u64) -> u64 {
        (u64::MAX << first) & (u64::MAX >> (63 - last))
    }

    /// Sets them; how many were not set before.
    pub(super) fn set(&self, from_ms: u64, to_ms: u64) -> u64 {
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

    pub(super) fn set_bits(&self, word: u64, bits: u64) -> u64 {
        let tag = word & TAG_MASK;
        let cell = &self.words[(word % ACTIVE_WORDS as u64) as usize];
        let mut old = cell.load(Acquire);
        loop {
            // Known before a bit of it is set: if the cell is of a later word already, it is too late. If the cell
            // comes to be so after this, the exchange fails.
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
