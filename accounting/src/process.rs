//! Processes as shared memory knows them, and a register of those that use a piece of it.
//!
//! Whatever a process may leave behind when it is killed stands beside its [`ProcessId`]. So each piece of shared
//! memory tells by itself who has to be looked for, and no other piece has to agree.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};

/// A process, in one word: its number, and when it was started, which another process of that number does not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId(u64);

/// Linux gives lower numbers than 2^22 (`PID_MAX_LIMIT`).
const PID_BITS: u32 = 22;
/// The start in ticks of a hundredth of a second goes on for 697 years.
const START_BITS: u32 = 41;
/// Is set in a word while this process changes what the word stands for.
const CHANGING: u64 = 1 << 63;

impl ProcessId {
    /// A process by its number, and its start in clock ticks since the system was booted (field 22 of
    /// `/proc/PID/stat`); 0 if that is not known. None for a number that no process has.
    pub fn new(pid: u32, started: u64) -> Option<ProcessId> {
        let known = pid != 0 && pid < 1 << PID_BITS;
        known.then(|| ProcessId((started & ((1 << START_BITS) - 1)) << PID_BITS | u64::from(pid)))
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        (self.0 & ((1 << PID_BITS) - 1)) as u32
    }

    /// When it was started; 0 if that is not known.
    pub fn started(self) -> u64 {
        self.0 >> PID_BITS & ((1 << START_BITS) - 1)
    }

    /// Whether a process of this number that was started at `started` is this one. Where one of the two starts is
    /// not known, the number decides.
    pub fn is_same_start(self, started: u64) -> bool {
        self.started() == 0 || started == 0 || self.started() == started & ((1 << START_BITS) - 1)
    }
}

/// Who has something: nobody, a process, or one that is taking it or giving it back right now. The last one is as
/// easily found dead as the second: so nothing is ever in the hands of nobody known.
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

/// So many processes can be in a register at most.
pub(crate) const MAX_PROCESSES: usize = 1024;

/// Places for processes, each a word: 0, or a [`ProcessId`].
#[derive(Clone, Copy)]
pub(crate) struct Register<'a> {
    pub(crate) places: &'a [AtomicU64],
    /// places behind these were never used
    pub(crate) used: &'a AtomicU32,
}

/// The place of a process in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessSlot(u32);

/// As many dead processes are taken out at once; there may be more.
pub(crate) const MOST_DEAD: usize = 32;

/// Processes that were found dead, by their places.
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
    /// The process is in the register from now on; None if there is no room.
    pub(crate) fn acquire(&self, process: ProcessId) -> Option<ProcessSlot> {
        self.places.iter().zip(0..).find_map(|(place, at)| {
            let is_taken = place.load(Relaxed) == 0 && {
                // before the process is there, so that it is found
                self.used.fetch_max(at + 1, Relaxed);
                place.compare_exchange(0, process.0, AcqRel, Relaxed).is_ok()
            };
            is_taken.then_some(ProcessSlot(at))
        })
    }

    /// Whether it still is.
    pub(crate) fn has(&self, place: ProcessSlot, process: ProcessId) -> bool {
        self.places.get(place.0 as usize).is_some_and(|word| word.load(Relaxed) == process.0)
    }

    /// It is not any more.
    pub(crate) fn release(&self, place: ProcessSlot, process: ProcessId) {
        if let Some(word) = self.places.get(place.0 as usize) {
            let _ = word.compare_exchange(process.0, 0, Release, Relaxed);
        }
    }

    /// Those that are gone, [`MOST_DEAD`] of them at most. They stay in the register until [`Register::reap`] is
    /// called: what they have left has to be put in order first, and by the next one who looks if this one is
    /// killed meanwhile.
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

    /// Takes out those that were found dead, unless somebody else has done so.
    pub(crate) fn reap(&self, dead: &Dead) {
        for &(at, word) in dead.found.iter().take(dead.count) {
            if let Some(place) = self.places.get(at as usize) {
                let _ = place.compare_exchange(word, 0, Release, Relaxed);
            }
        }
    }
}

/// How often it is looked for processes that were killed, in milliseconds.
pub(crate) const LOOK_MS: u64 = 1_000;

/// When it is looked next: of all processes that ask in time, one is told to look.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Look(AtomicU64);

impl Look {
    /// Not looked yet.
    pub(crate) const fn new() -> Look {
        Look(AtomicU64::new(0))
    }

    /// Whether it falls to the caller to look now. Should it be killed at that, another one looks a little later. A
    /// time that lies further ahead than it could is a wrong one.
    pub(crate) fn claim(&self, now_ms: u64) -> bool {
        let due_ms = self.0.load(Relaxed);
        let is_due = now_ms >= due_ms || due_ms - now_ms > 10 * LOOK_MS;
        // processes look at their timers when they come to it, so one that is a little early is in time
        is_due && self.0.compare_exchange(due_ms, now_ms + LOOK_MS * 9 / 10, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests;
