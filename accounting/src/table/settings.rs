//! Settings and counts of a zone: when it is saved, its threshold, its own counts.

use core::sync::atomic::Ordering::Relaxed;

use super::layout::{NEVER, ORPHANED};
use super::region::Table;
use crate::window::FAR_MS;

impl Table {
    /// Counts a request that was counted in the overflow account since the zone is full.
    pub fn count_overflowed(&self) {
        self.header().counters.overflowed.fetch_add(1, Relaxed);
    }

    /// Counts a request whose key was cut.
    pub fn count_cut(&self) {
        self.header().counters.cut.fetch_add(1, Relaxed);
    }

    /// Adds what a table before this one has counted.
    pub(crate) fn restore_counts(&self, overflowed: u64, cut: u64) {
        self.header().counters.overflowed.fetch_add(overflowed, Relaxed);
        self.header().counters.cut.fetch_add(cut, Relaxed);
    }

    /// When the accounts are to be saved next, [`NEVER`] at first.
    pub fn save_due_ms(&self) -> u64 {
        self.header().counters.save_due_ms.load(Relaxed)
    }

    /// Sets when the accounts are to be saved next.
    pub fn set_save_due(&self, at_ms: u64) {
        self.header().counters.save_due_ms.store(at_ms, Relaxed);
    }

    /// Whether it falls to the caller to save the accounts now; if so, they are due again at `next_ms`. Of all
    /// processes that ask, one is told so. Should it die at that, the accounts are saved the next time. A time that
    /// lies much further ahead than `next_ms` is a wrong one: they are due.
    pub fn claim_save(&self, now_ms: u64, next_ms: u64) -> bool {
        let due = &self.header().counters.save_due_ms;
        let due_ms = due.load(Relaxed);
        let is_wrong = due_ms != NEVER && due_ms > next_ms.saturating_add(FAR_MS);
        (now_ms >= due_ms || is_wrong) && due.compare_exchange(due_ms, next_ms, Relaxed, Relaxed).is_ok()
    }

    /// Notes whether any configuration has this table. If none has, it falls to the workers that still count there
    /// to keep what they count.
    pub fn set_orphaned(&self, orphaned: bool) {
        self.header().counters.orphaned.store(if orphaned { ORPHANED } else { 0 }, Relaxed);
    }

    /// See [`Table::set_orphaned`].
    pub fn is_orphaned(&self) -> bool {
        self.header().counters.orphaned.load(Relaxed) == ORPHANED
    }

    /// Notes the file that the accounts were saved in: a number that changes with each writing, or 0 if that is not
    /// known, and one of its name.
    pub fn set_saved_as(&self, file: [u64; 2]) {
        let [a, b] = &self.header().counters.saved_as;
        a.store(file[0], Relaxed);
        b.store(file[1], Relaxed);
    }

    /// See [`Table::set_saved_as`].
    pub fn saved_as(&self) -> [u64; 2] {
        self.header().counters.saved_as.each_ref().map(|number| number.load(Relaxed))
    }

    /// Sets how much CPU in a second makes it an active one, in nanoseconds, for seconds that are not over yet.
    pub fn set_active_threshold(&self, ns: u64) {
        self.header().active_threshold_ns.store(ns, Relaxed);
    }
}
