//! Records which of the last milliseconds were active.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Records which of the last milliseconds were active, one bit for each. All bits zero: none was.
///
/// A worker reports a request when it has finished it, and it reports several at the end of its event-loop turn. So
/// reports may arrive later than those of another worker with a shorter turn. The worker that sets the bit of a
/// millisecond counts it, so each millisecond is counted once. A report is lost only if its word has been reused,
/// after some 200 ms.
///
/// A recorded time that is much later than the reader's time must be wrong, and is then forgotten.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Active {
    /// The end of the last recorded millisecond, or of one that is being recorded. It grows, unless it was wrong.
    pub(super) known_ms: AtomicU64,
    /// the upper bits are time / 48 ms; below, one bit for each of these milliseconds
    pub(super) words: [AtomicU64; ACTIVE_WORDS],
}

pub(super) const ACTIVE_WORDS: usize = 5;

pub(super) const ACTIVE_BITS: u64 = 48;

pub(super) const TAG_MASK: u64 = u64::MAX >> ACTIVE_BITS;

/// The most milliseconds that are counted at once: an hour. Accounts with requests in flight are updated each second,
/// so a longer gap comes from a wrong time, or from a machine that was suspended.
pub(super) const MOST_MS: u64 = 60 * 60 * 1000;

/// A difference between workers' times that is certainly an error: a worker's event loop would have to stand still
/// for so many milliseconds.
pub(super) const WRONG_MS: u64 = 10 * 60 * 1000;

impl Active {
    /// True if all these milliseconds are already recorded. It may be false for a long span.
    #[inline]
    pub(super) fn has(&self, from_ms: u64, to_ms: u64) -> bool {
        let last_ms = to_ms.saturating_sub(1);
        let word = last_ms / ACTIVE_BITS;
        let start_ms = word * ACTIVE_BITS;
        let value = self.words[(word % ACTIVE_WORDS as u64) as usize].load(Relaxed);
        let mask = Self::mask(from_ms.saturating_sub(start_ms), last_ms - start_ms);
        from_ms >= start_ms && value >> ACTIVE_BITS == word & TAG_MASK && value & mask == mask
    }

    /// The bits from the first to the last one, of the 48.
    #[inline]
    pub(super) fn mask(first: u64, last: u64) -> u64 {
        (u64::MAX << first) & (u64::MAX >> (63 - last))
    }

    /// Sets the bits. Returns how many were not set before.
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
            // Recorded before its bit is set: if the cell already belongs to a later word, it is too late. If the
            // cell changes after this, the exchange fails.
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
