//! Settings and counts of a zone: the time of the next save, the threshold, and counts of the zone itself.

use core::sync::atomic::Ordering::Relaxed;

use super::layout::{NEVER, ORPHANED};
use super::region::Table;
use crate::window::FAR_MS;

impl Table {
    /// Counts a request that was counted in the overflow account because the zone is full.
    pub fn count_overflowed(&self) {
        self.header().counters.overflowed.fetch_add(1, Relaxed);
    }

    /// Counts a request whose key was cut.
    pub fn count_cut(&self) {
        self.header().counters.cut.fetch_add(1, Relaxed);
    }

    /// Adds the counts of an earlier table.
    pub(crate) fn restore_counts(&self, overflowed: u64, cut: u64) {
        self.header().counters.overflowed.fetch_add(overflowed, Relaxed);
        self.header().counters.cut.fetch_add(cut, Relaxed);
    }

    /// The time of the next save; [`NEVER`] at first.
    pub fn save_due_ms(&self) -> u64 {
        self.header().counters.save_due_ms.load(Relaxed)
    }

    /// Sets the time of the next save.
    pub fn set_save_due(&self, at_ms: u64) {
        self.header().counters.save_due_ms.store(at_ms, Relaxed);
    }

    /// True if the caller must save the accounts now. If so, the next save is due at `next_ms`. Of all processes that
    /// ask, one gets the order. If it is killed before the save is complete, the accounts are saved the next time. A
    /// time that is much later than `next_ms` must be wrong: then a save is due.
    pub fn claim_save(&self, now_ms: u64, next_ms: u64) -> bool {
        let due = &self.header().counters.save_due_ms;
        let due_ms = due.load(Relaxed);
        let is_wrong = due_ms != NEVER && due_ms > next_ms.saturating_add(FAR_MS);
        (now_ms >= due_ms || is_wrong) && due.compare_exchange(due_ms, next_ms, Relaxed, Relaxed).is_ok()
    }

    /// Sets whether no configuration has this table any more. If so, the workers that still count there must save the
    /// counts.
    pub fn set_orphaned(&self, orphaned: bool) {
        self.header().counters.orphaned.store(if orphaned { ORPHANED } else { 0 }, Relaxed);
    }

    /// See [`Table::set_orphaned`].
    pub fn is_orphaned(&self) -> bool {
        self.header().counters.orphaned.load(Relaxed) == ORPHANED
    }

    /// Sets the file of the last save: a number that changes with each writing, or 0 if that is not known, and a
    /// number of its name.
    pub fn set_saved_as(&self, file: [u64; 2]) {
        let [a, b] = &self.header().counters.saved_as;
        a.store(file[0], Relaxed);
        b.store(file[1], Relaxed);
    }

    /// See [`Table::set_saved_as`].
    pub fn saved_as(&self) -> [u64; 2] {
        self.header().counters.saved_as.each_ref().map(|number| number.load(Relaxed))
    }

    /// Sets the CPU of a second, in nanoseconds, from which a second is active. It applies to seconds that are not
    /// over yet.
    pub fn set_active_threshold(&self, ns: u64) {
        self.header().active_threshold_ns.store(ns, Relaxed);
    }
}
