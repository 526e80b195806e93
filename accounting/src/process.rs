//! Processes as shared memory identifies them, and a register of the processes that use a piece of it.
//!
//! Anything that a killed process may leave behind stands beside its [`ProcessId`]. So each piece of shared memory
//! names the processes to look for, and no other piece has to agree.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};

/// A process in one word: its ID, and its start time, which distinguishes it from other processes with this ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId(u64);

/// Process IDs of Linux are below 2^22 (`PID_MAX_LIMIT`).
const PID_BITS: u32 = 22;
/// The start time in hundredths of a second is enough for 697 years.
const START_BITS: u32 = 41;
/// The bit is set in a word while this process changes the thing that the word stands for.
const CHANGING: u64 = 1 << 63;

impl ProcessId {
    /// A process by its ID and its start time in clock ticks since boot (field 22 of `/proc/PID/stat`); 0 if that is
    /// not known. None for an ID that no process can have.
    pub fn new(pid: u32, started: u64) -> Option<ProcessId> {
        let known = pid != 0 && pid < 1 << PID_BITS;
        known.then(|| ProcessId((started & ((1 << START_BITS) - 1)) << PID_BITS | u64::from(pid)))
    }

    /// The process ID.
    pub fn pid(self) -> u32 {
        (self.0 & ((1 << PID_BITS) - 1)) as u32
    }

    /// The start time; 0 if that is not known.
    pub fn started(self) -> u64 {
        self.0 >> PID_BITS & ((1 << START_BITS) - 1)
    }

    /// True if a process with the same ID and the start time `started` is this process. If one of the two start times
    /// is not known, the ID decides.
    pub fn is_same_start(self, started: u64) -> bool {
        self.started() == 0 || started == 0 || self.started() == started & ((1 << START_BITS) - 1)
    }
}

/// The holder of a thing: nobody, a process, or a process that is acquiring or releasing it right now. A dead process
/// is found in the last state as easily as in the second one, so nothing is ever held by an unknown process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    Holds(ProcessId),
    Changes(ProcessId),
}

impl Holder {
    pub(crate) fn of(word: u64) -> Holder {
        match (word & !CHANGING, word & CHANGING != 0) {
            (0, _) => Holder::Nobody,
            (process, false) => Holder::Holds(ProcessId(process)),
            (process, true) => Holder::Changes(ProcessId(process)),
        }
    }

    pub(crate) fn word(self) -> u64 {
        match self {
            Holder::Nobody => 0,
            Holder::Holds(ProcessId(process)) => process,
            Holder::Changes(ProcessId(process)) => process | CHANGING,
        }
    }

    pub(crate) fn process(self) -> Option<ProcessId> {
        match self {
            Holder::Nobody => None,
            Holder::Holds(process) | Holder::Changes(process) => Some(process),
        }
    }
}

/// The most processes in a register.
pub(crate) const MAX_PROCESSES: usize = 1024;

/// Slots for processes, each a word: 0, or a [`ProcessId`].
#[derive(Clone, Copy)]
pub(crate) struct Register<'a> {
    pub(crate) places: &'a [AtomicU64],
    /// later slots were never used
    pub(crate) used: &'a AtomicU32,
}

/// The slot of a process in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessSlot(u32);

/// The most dead processes that are reaped at once; there may be more.
pub(crate) const MOST_DEAD: usize = 32;

/// Processes that were found dead, by slot.
pub(crate) struct Dead {
    found: [(u32, u64); MOST_DEAD],
    count: usize,
}

impl Dead {
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl Register<'_> {
    /// Puts the process into the register. None if there is no room.
    pub(crate) fn acquire(&self, process: ProcessId) -> Option<ProcessSlot> {
        self.places.iter().zip(0..).find_map(|(place, at)| {
            let is_taken = place.load(Relaxed) == 0 && {
                // before the process is there, so that searches reach its slot
                self.used.fetch_max(at + 1, Relaxed);
                place.compare_exchange(0, process.0, AcqRel, Relaxed).is_ok()
            };
            is_taken.then_some(ProcessSlot(at))
        })
    }

    /// True if the process is still in this slot.
    pub(crate) fn has(&self, place: ProcessSlot, process: ProcessId) -> bool {
        self.places.get(place.0 as usize).is_some_and(|word| word.load(Relaxed) == process.0)
    }

    /// Removes the process from the register.
    pub(crate) fn release(&self, place: ProcessSlot, process: ProcessId) {
        if let Some(word) = self.places.get(place.0 as usize) {
            let _ = word.compare_exchange(process.0, 0, Release, Relaxed);
        }
    }

    /// Finds dead processes, [`MOST_DEAD`] of them at most. They stay in the register until [`Register::reap`] is
    /// called: their remains must be cleaned up first. If this process is killed meanwhile, the next one does it.
    pub(crate) fn find_dead(&self, mut is_alive: impl FnMut(ProcessId) -> bool) -> Dead {
        let mut dead = Dead { found: [(0, 0); MOST_DEAD], count: 0 };
        let used = self.used.load(Acquire) as usize;
        for (place, at) in self.places.iter().take(used).zip(0..) {
            let word = place.load(Acquire);
            if word != 0 && !is_alive(ProcessId(word)) {
                let Some(free) = dead.found.get_mut(dead.count) else { break };
                *free = (at, word);
                dead.count += 1;
            }
        }
        dead
    }

    /// Removes the processes that were found dead, unless another process has done so.
    pub(crate) fn reap(&self, dead: &Dead) {
        for &(at, word) in dead.found.iter().take(dead.count) {
            if let Some(place) = self.places.get(at as usize) {
                let _ = place.compare_exchange(word, 0, Release, Relaxed);
            }
        }
    }
}

/// The milliseconds between two searches for killed processes.
pub(crate) const LOOK_MS: u64 = 1_000;

/// The time of the next search. Of all processes that ask at that time, one gets the order to search.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Look(AtomicU64);

impl Look {
    /// No search has been done yet.
    pub(crate) const fn new() -> Look {
        Look(AtomicU64::new(0))
    }

    /// True if the caller must search now. If it is killed during the search, another process searches a little
    /// later. A time that is too far ahead must be wrong.
    pub(crate) fn claim(&self, now_ms: u64) -> bool {
        let due_ms = self.0.load(Relaxed);
        let is_due = now_ms >= due_ms || due_ms - now_ms > 10 * LOOK_MS;
        // processes handle their timers late, so a process that is a little early is in time
        is_due && self.0.compare_exchange(due_ms, now_ms + LOOK_MS * 9 / 10, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests;
