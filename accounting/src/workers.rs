//! The worker totals of all workers, in a shared region of memory, so that each worker can show all of them.
//!
//! A slot belongs to one worker number for ever, and to one process with this number at a time. The counts of a
//! process stay in its slot, and the next process continues from there. So nothing is ever moved from one place to
//! another, sums never decrease, and a process that is killed at any instruction loses nothing.
//!
//! While a slot is acquired or released, it names the process that does so. If that process is killed meanwhile, the
//! next search finds it dead like any other, and begins again.

use core::mem::size_of;
use core::ptr::NonNull;
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};
use core::sync::atomic::{
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use std::collections::BTreeMap;

use crate::process::{Holder, Look, MAX_PROCESSES, ProcessId};
use crate::table::Error;
#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};
use crate::worker_totals::WorkerTotals;

const MAGIC: u64 = u64::from_le_bytes(*b"rcwork04");
/// A worker needs a slot for each of its processes that live at the same time, for example after a reload.
pub const SLOTS: usize = MAX_PROCESSES;
const FIELDS: usize = 10;

/// The region. All zero except the magic number: it is empty.
#[repr(C)]
struct Shared {
    magic: u64,
    /// the time of the next search for killed processes
    look: Look,
    processes: [Process; SLOTS],
}

/// A slot.
///
/// It has two copies of the sums. The lowest bit of `sequence` selects the valid copy. The other copy is written
/// next, and `sequence` is incremented when it is complete. So a reader always finds a complete copy, even if the
/// process sleeps or was killed during a write. `sequence` shows the reader if its copy was written again meanwhile.
#[repr(C, align(64))]
struct Process {
    /// a [`Holder`]
    holder: AtomicU64,
    /// number of the worker + 1; 0: never used
    worker: AtomicU32,
    sequence: AtomicU32,
    /// sums over all processes that have held this slot
    sums: [[AtomicU64; FIELDS]; 2],
    /// the sums when the current process acquired the slot
    before: [AtomicU64; FIELDS],
}

/// Bytes of shared memory that the worker totals take.
pub const BYTES: usize = size_of::<Shared>();

/// The fields of the worker totals as they are in shared memory. The place of `pending_ns`, which is not a sum, is
/// [`PENDING`].
fn to_fields(totals: &WorkerTotals) -> [u64; FIELDS] {
    [
        totals.wakeups,
        totals.charged_ns,
        totals.no_request_ns,
        totals.loop_ns,
        totals.other_ns,
        totals.pool_threads_cpu_ns,
        totals.pending_ns,
        totals.clock_readings,
        totals.pool_threads_charged_ns,
        totals.uncounted_ns,
    ]
}

fn from_fields(f: [u64; FIELDS]) -> WorkerTotals {
    WorkerTotals {
        wakeups: f[0],
        charged_ns: f[1],
        no_request_ns: f[2],
        loop_ns: f[3],
        other_ns: f[4],
        pool_threads_cpu_ns: f[5],
        pending_ns: f[6],
        clock_readings: f[7],
        pool_threads_charged_ns: f[8],
        uncounted_ns: f[9],
    }
}

const NO_REQUEST: usize = 2;
const PENDING: usize = 6;

/// One living worker process and its worker totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// NGINX's number of the worker; after a reload, an old and a new process can have the same number
    pub worker: u32,
    /// process ID
    pub pid: u32,
    /// since its event-loop hook was set
    pub totals: WorkerTotals,
}

/// A slot of the shared worker totals, held by one worker process.
#[derive(Debug, Clone, Copy)]
pub struct WorkerSlot {
    at: usize,
    process: ProcessId,
}

/// A view of the shared worker totals.
#[derive(Clone, Copy)]
pub struct Workers(NonNull<Shared>);

// SAFETY: what it points to is shared between processes anyway and is only touched through atomics, but for the magic,
// which is written before anybody else knows the region and never again.
unsafe impl Send for Workers {}
// SAFETY: as above.
unsafe impl Sync for Workers {}

impl Workers {
    /// Makes empty worker totals.
    ///
    /// # Safety
    /// `base` must be aligned to 128 bytes and point to [`BYTES`] bytes, readable and writable for as long as any
    /// copy of the view is used, which nobody else uses yet.
    pub unsafe fn create(base: NonNull<u8>) -> Workers {
        let shared = base.cast::<Shared>();
        // SAFETY: the region is ours and large enough; all zero is valid for atomics.
        unsafe {
            shared.write_bytes(0, 1);
            (&raw mut (*shared.as_ptr()).magic).write(MAGIC);
        }
        Workers(shared)
    }

    /// Opens worker totals that [`Workers::create`] made.
    ///
    /// # Errors
    /// [`Error::Foreign`] if there are none.
    ///
    /// # Safety
    /// As for [`Workers::create`], but others may use the worker totals.
    pub unsafe fn open(base: NonNull<u8>) -> Result<Workers, Error> {
        let workers = Workers(base.cast());
        if workers.shared().magic == MAGIC { Ok(workers) } else { Err(Error::Foreign) }
    }

    fn shared(&self) -> &Shared {
        // SAFETY: `create` and `open` take care that the region lives and is ours; after its creation it only changes
        // through atomics.
        unsafe { self.0.as_ref() }
    }

    fn processes(&self) -> &[Process] {
        &self.shared().processes
    }

    /// True if the caller must call [`Workers::reap`] now. Of all processes that ask in a second, one gets the order.
    pub fn claim_look(&self, now_ms: u64) -> bool {
        self.shared().look.claim(now_ms)
    }

    /// Frees the slots of dead processes. Returns their number. `own` is the calling process.
    pub fn reap(&self, own: ProcessId, mut is_alive: impl FnMut(ProcessId) -> bool) -> usize {
        // slots are used from the first one on
        let used = self.processes().iter().take_while(|process| process.worker.load(Relaxed) != 0);
        let gone = used.filter(|process| {
            let holder = Holder::of(process.holder.load(Relaxed));
            holder.process().is_some_and(|process| !is_alive(process)) && process.retire(holder, own)
        });
        gone.count()
    }

    /// Acquires a slot for a process; `None` if all are in use.
    pub fn acquire(&self, worker: u32, process: ProcessId) -> Option<WorkerSlot> {
        let number = worker.checked_add(1)?;
        let used = self
            .processes()
            .iter()
            .position(|p| p.worker.load(Relaxed) == number && p.begin_acquire(process));
        let at = used.or_else(|| {
            self.processes().iter().position(|p| {
                p.worker.load(Relaxed) == 0
                    && p.worker.compare_exchange(0, number, Relaxed, Relaxed).is_ok()
                    && p.begin_acquire(process)
            })
        })?;
        let slot = self.processes().get(at)?;
        let sums = slot.sums();
        // a reader that sees one of these stores does not see the previous holder any more
        fence(Release);
        for (before, sum) in slot.before.iter().zip(sums) {
            before.store(sum, Relaxed);
        }
        slot.write(sums);
        slot.holder.store(Holder::Holds(process).word(), Release);
        Some(WorkerSlot { at, process })
    }

    /// Releases the slot. The worker totals stay in the sums of the worker.
    pub fn release(&self, slot: WorkerSlot) {
        if let Some(process) = self.processes().get(slot.at) {
            process.retire(Holder::Holds(slot.process), slot.process);
        }
    }

    /// Publishes the worker totals of the process that holds this slot.
    #[inline]
    pub fn publish(&self, slot: WorkerSlot, totals: &WorkerTotals) {
        let process = &self.processes()[slot.at];
        // the process may have been taken for dead
        if process.holder.load(Relaxed) == Holder::Holds(slot.process).word() {
            let mut sums = to_fields(totals);
            for (sum, before) in sums.iter_mut().zip(&process.before) {
                *sum += before.load(Relaxed);
            }
            process.write(sums);
        }
    }

    /// The living workers, by number.
    pub fn living(&self) -> Vec<Worker> {
        let slots = self.processes().iter().filter_map(Process::read);
        let mut workers: Vec<Worker> = slots.filter_map(|slot| slot.living()).collect();
        workers.sort_by_key(|w| (w.worker, w.pid));
        workers
    }

    /// Sums by worker number, over dead and living processes.
    pub fn totals(&self) -> Vec<(u32, WorkerTotals)> {
        let mut totals = BTreeMap::new();
        for slot in self.processes().iter().filter_map(Process::read) {
            let total = totals.entry(slot.worker).or_insert([0; FIELDS]);
            for (total, sum) in total.iter_mut().zip(slot.sums) {
                *total += sum;
            }
        }
        totals.into_iter().map(|(worker, fields)| (worker, from_fields(fields))).collect()
    }
}

impl Process {
    /// Marks a free slot as being acquired.
    fn begin_acquire(&self, process: ProcessId) -> bool {
        let (free, changes) = (Holder::Nobody.word(), Holder::Changes(process).word());
        self.holder.load(Relaxed) == free
            && self.holder.compare_exchange(free, changes, Acquire, Relaxed).is_ok()
    }

    /// Frees the slot of `holder`, unless another process does. Each step can be repeated by the next process that
    /// finds `own` dead.
    fn retire(&self, holder: Holder, own: ProcessId) -> bool {
        let changes = Holder::Changes(own).word();
        let is_ours = self.holder.compare_exchange(holder.word(), changes, Acquire, Relaxed).is_ok();
        if is_ours {
            let mut sums = self.sums();
            // no request can take over the pending CPU any more
            sums[NO_REQUEST] += core::mem::take(&mut sums[PENDING]);
            self.write(sums);
            self.holder.store(Holder::Nobody.word(), Release);
        }
        is_ours
    }

    /// The valid copy, for the process that may write.
    fn sums(&self) -> [u64; FIELDS] {
        let valid = self.sequence.load(Relaxed) as usize & 1;
        self.sums[valid].each_ref().map(|sum| sum.load(Relaxed))
    }

    /// Publishes new sums. Only the process that holds the slot may call it.
    #[inline]
    fn write(&self, sums: [u64; FIELDS]) {
        let next = self.sequence.load(Relaxed).wrapping_add(1);
        // a reader of the copy that is written now sees by `sequence` that this copy is not valid any more
        fence(Release);
        for (place, sum) in self.sums[next as usize & 1].iter().zip(sums) {
            place.store(sum, Relaxed);
        }
        self.sequence.store(next, Release);
    }

    /// All fields, of the same instant. `None` if the slot was never used.
    fn read(&self) -> Option<Reading> {
        let worker = self.worker.load(Relaxed).checked_sub(1)?;
        loop {
            // try each copy once, unless the process writes meanwhile: do not wait for it
            if let Some(reading) = self.try_read(worker, self.sequence.load(Acquire)) {
                return Some(reading);
            }
        }
    }

    /// The valid copy at `sequence`; `None` if it was written again.
    fn try_read(&self, worker: u32, sequence: u32) -> Option<Reading> {
        let sums = self.sums[sequence as usize & 1].each_ref().map(|sum| sum.load(Relaxed));
        let before = self.before.each_ref().map(|sum| sum.load(Relaxed));
        fence(Acquire);
        let holder = Holder::of(self.holder.load(Acquire));
        (self.sequence.load(Relaxed) == sequence).then_some(Reading { worker, holder, sums, before })
    }
}

/// The content of a slot.
struct Reading {
    worker: u32,
    holder: Holder,
    sums: [u64; FIELDS],
    before: [u64; FIELDS],
}

impl Reading {
    /// The process that holds the slot, if there is one.
    fn living(&self) -> Option<Worker> {
        let Holder::Holds(process) = self.holder else { return None };
        let mut fields = self.sums;
        for (field, before) in fields.iter_mut().zip(self.before) {
            *field = field.saturating_sub(before);
        }
        Some(Worker { worker: self.worker, pid: process.pid(), totals: from_fields(fields) })
    }
}

#[cfg(test)]
mod tests;
