//! The books of all workers, in a region of memory that they share, so that any of them can show all.
//!
//! A slot belongs to one number of a worker for good, and to one process of that number at a time. What a process has
//! counted stays in its slot, and the next one goes on from there: so nothing is ever carried from one place to another,
//! sums never decrease, and a process that is killed at any instruction takes nothing with it.
//!
//! While a slot changes hands it tells which process does that. If that one is killed meanwhile, the next one who looks finds
//! it dead like any other, and begins again.

use core::mem::size_of;
use core::ptr::NonNull;
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};
use core::sync::atomic::{
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use std::collections::BTreeMap;

use crate::books::Books;
use crate::process::{Holder, Look, MAX_PROCESSES, ProcessId};
use crate::table::Error;
#[cfg(test)]
use crate::testing::{AtomicU32, AtomicU64};

const MAGIC: u64 = u64::from_le_bytes(*b"rcwork04");
/// A worker needs a slot for each of its processes that live at the same time, as after a reload.
pub const SLOTS: usize = MAX_PROCESSES;
const FIELDS: usize = 10;

/// The region. All zero, but for the magic, is an empty one.
#[repr(C)]
struct Shared {
    magic: u64,
    /// when it is looked next for processes that were killed
    look: Look,
    processes: [Process; SLOTS],
}

/// A slot.
///
/// There are two copies of the sums. The lowest bit of `sequence` tells which one is valid; the other one is written next,
/// and `sequence` counts up when it is complete. So a reader always finds one of them complete, even if the process sleeps
/// or was killed while it wrote, and knows by `sequence` if its copy was not written again meanwhile.
#[repr(C, align(64))]
struct Process {
    /// a [`Holder`]
    holder: AtomicU64,
    /// number of the worker + 1; 0: never used
    worker: AtomicU32,
    sequence: AtomicU32,
    /// sums over all processes that have had this slot
    sums: [[AtomicU64; FIELDS]; 2],
    /// what they were when the process that has it took it
    before: [AtomicU64; FIELDS],
}

/// Bytes of shared memory that the books take.
pub const BYTES: usize = size_of::<Shared>();

/// The fields of the books as they stand in shared memory; the place of `pending_ns`, which is no sum, is [`PENDING`].
fn to_fields(books: &Books) -> [u64; FIELDS] {
    [
        books.wakeups,
        books.charged_ns,
        books.no_request_ns,
        books.loop_ns,
        books.other_ns,
        books.pool_threads_cpu_ns,
        books.pending_ns,
        books.clock_readings,
        books.pool_threads_charged_ns,
        books.uncounted_ns,
    ]
}

fn from_fields(f: [u64; FIELDS]) -> Books {
    Books {
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

/// One living worker process and its books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// NGINX's number of the worker; after a reload an old and a new process can have the same
    pub worker: u32,
    /// process ID
    pub pid: u32,
    /// since its hook went in
    pub books: Books,
}

/// A place in the shared books, held by one worker process.
#[derive(Debug, Clone, Copy)]
pub struct WorkerSlot {
    at: usize,
    process: ProcessId,
}

/// A view of the shared books.
#[derive(Clone, Copy)]
pub struct Workers(NonNull<Shared>);

// SAFETY: what it points to is shared between processes anyway and is only touched through atomics, but for the magic,
// which is written before anybody else knows the region and never again.
unsafe impl Send for Workers {}
// SAFETY: as above.
unsafe impl Sync for Workers {}

impl Workers {
    /// Makes empty books.
    ///
    /// # Safety
    /// `base` must be aligned to 128 bytes and point to [`BYTES`] bytes, readable and writable for as long as any copy of
    /// the view is used, which nobody else uses yet.
    pub unsafe fn create(base: NonNull<u8>) -> Workers {
        let shared = base.cast::<Shared>();
        // SAFETY: the region is ours and large enough; all zero is valid for atomics.
        unsafe {
            shared.write_bytes(0, 1);
            (&raw mut (*shared.as_ptr()).magic).write(MAGIC);
        }
        Workers(shared)
    }

    /// Opens books that [`Workers::create`] made.
    ///
    /// # Errors
    /// [`Error::Foreign`] if there are none.
    ///
    /// # Safety
    /// As for [`Workers::create`], but others may use the books.
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

    /// Whether it falls to the caller to call [`Workers::reap`] now. Of all processes that ask each second, one is told so.
    pub fn claim_look(&self, now_ms: u64) -> bool {
        self.shared().look.claim(now_ms)
    }

    /// Frees the slots of processes that are gone. Returns how many there were. `own` is the process that calls.
    pub fn reap(&self, own: ProcessId, mut is_alive: impl FnMut(ProcessId) -> bool) -> usize {
        // slots are taken from the first one on
        let used = self.processes().iter().take_while(|process| process.worker.load(Relaxed) != 0);
        let gone = used.filter(|process| {
            let holder = Holder::of(process.holder.load(Relaxed));
            holder.process().is_some_and(|process| !is_alive(process)) && process.retire(holder, own)
        });
        gone.count()
    }

    /// Takes a slot for a process; `None` if all are taken.
    pub fn acquire(&self, worker: u32, process: ProcessId) -> Option<WorkerSlot> {
        let number = worker.checked_add(1)?;
        let used = self.processes().iter().position(|p| p.worker.load(Relaxed) == number && p.claim(process));
        let at = used.or_else(|| {
            self.processes().iter().position(|p| {
                p.worker.load(Relaxed) == 0
                    && p.worker.compare_exchange(0, number, Relaxed, Relaxed).is_ok()
                    && p.claim(process)
            })
        })?;
        let slot = self.processes().get(at)?;
        let sums = slot.sums();
        // a reader that sees one of these sees the holder of before no more
        fence(Release);
        for (before, sum) in slot.before.iter().zip(sums) {
            before.store(sum, Relaxed);
        }
        slot.write(sums);
        slot.holder.store(Holder::Holds(process).word(), Release);
        Some(WorkerSlot { at, process })
    }

    /// Gives the slot back; the books stay in the worker's sums.
    pub fn release(&self, slot: WorkerSlot) {
        if let Some(process) = self.processes().get(slot.at) {
            process.retire(Holder::Holds(slot.process), slot.process);
        }
    }

    /// Shows the books of the process that has this slot.
    #[inline]
    pub fn publish(&self, slot: WorkerSlot, books: &Books) {
        let process = &self.processes()[slot.at];
        // it may have been taken for dead
        if process.holder.load(Relaxed) == Holder::Holds(slot.process).word() {
            let mut sums = to_fields(books);
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

    /// Sums by number of the worker, over processes that are gone and those that live.
    pub fn totals(&self) -> Vec<(u32, Books)> {
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
    /// Takes a free slot, for as long as it takes to change hands.
    fn claim(&self, process: ProcessId) -> bool {
        let (free, changes) = (Holder::Nobody.word(), Holder::Changes(process).word());
        self.holder.load(Relaxed) == free
            && self.holder.compare_exchange(free, changes, Acquire, Relaxed).is_ok()
    }

    /// Frees the slot of `holder`, unless somebody else does. Each step can be done again by the next one who finds `own` dead.
    fn retire(&self, holder: Holder, own: ProcessId) -> bool {
        let changes = Holder::Changes(own).word();
        let is_ours = self.holder.compare_exchange(holder.word(), changes, Acquire, Relaxed).is_ok();
        if is_ours {
            let mut sums = self.sums();
            // nobody can take over any more what was pending
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

    /// Shows new sums. Only the process that has the slot may.
    #[inline]
    fn write(&self, sums: [u64; FIELDS]) {
        let next = self.sequence.load(Relaxed).wrapping_add(1);
        // a reader that sees one of these in the copy that it thinks valid sees by `sequence` that it is not any more
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
            // once around, unless its process writes meanwhile: it is not waited for
            if let Some(reading) = self.try_read(worker, self.sequence.load(Acquire)) {
                return Some(reading);
            }
        }
    }

    /// The copy that is valid at `sequence`; `None` if that is over.
    fn try_read(&self, worker: u32, sequence: u32) -> Option<Reading> {
        let sums = self.sums[sequence as usize & 1].each_ref().map(|sum| sum.load(Relaxed));
        let before = self.before.each_ref().map(|sum| sum.load(Relaxed));
        fence(Acquire);
        let holder = Holder::of(self.holder.load(Acquire));
        (self.sequence.load(Relaxed) == sequence).then_some(Reading { worker, holder, sums, before })
    }
}

/// What a slot holds.
struct Reading {
    worker: u32,
    holder: Holder,
    sums: [u64; FIELDS],
    before: [u64; FIELDS],
}

impl Reading {
    /// The process that has the slot, if one has.
    fn living(&self) -> Option<Worker> {
        let Holder::Holds(process) = self.holder else { return None };
        let mut fields = self.sums;
        for (field, before) in fields.iter_mut().zip(self.before) {
            *field = field.saturating_sub(before);
        }
        Some(Worker { worker: self.worker, pid: process.pid(), books: from_fields(fields) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Region, cases, killed_after, process};

    fn new(region: &Region) -> Workers {
        // SAFETY: the region is aligned, ours, and large enough; it outlives what the tests do with it.
        unsafe { Workers::create(region.base()) }
    }

    fn books(n: u64) -> Books {
        Books {
            wakeups: n,
            charged_ns: n,
            no_request_ns: n,
            loop_ns: n,
            other_ns: n,
            pending_ns: n,
            pool_threads_cpu_ns: n,
            clock_readings: n,
            pool_threads_charged_ns: n,
            uncounted_ns: n,
        }
    }

    /// What is left of books when their process is gone.
    fn retired(n: u64) -> Books {
        Books { pending_ns: 0, no_request_ns: 2 * n, ..books(n) }
    }

    #[test]
    fn a_region_that_holds_something_else_is_refused() {
        let region = Region::new(BYTES);
        // SAFETY: the region is aligned, ours, and large enough.
        assert_eq!(unsafe { Workers::open(region.base()) }.err(), Some(Error::Foreign));
        let slot = new(&region).acquire(0, process(1)).unwrap();
        // SAFETY: as above.
        let opened = unsafe { Workers::open(region.base()) }.unwrap();
        opened.publish(slot, &books(5));
        assert_eq!(opened.living(), [Worker { worker: 0, pid: 1, books: books(5) }]);
    }

    #[test]
    fn books_of_a_worker_that_exits_stay_in_its_sums() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let slot = workers.acquire(3, process(100)).unwrap();
        workers.publish(slot, &books(7));
        assert_eq!(workers.totals(), [(3, books(7))]);
        workers.release(slot);
        assert_eq!(workers.living(), []);
        assert_eq!(workers.totals(), [(3, retired(7))]);
    }

    #[test]
    fn the_next_process_of_a_worker_starts_from_zero_and_its_sums_go_on() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        workers.publish(workers.acquire(0, process(100)).unwrap(), &books(7));
        assert_eq!(workers.reap(process(1), |id| id.pid() != 100), 1);
        assert_eq!(workers.reap(process(1), |id| id.pid() != 100), 0);
        let slot = workers.acquire(0, process(101)).unwrap();
        assert_eq!(workers.living(), [Worker { worker: 0, pid: 101, books: Books::default() }]);
        assert_eq!(workers.totals(), [(0, retired(7))]);
        workers.publish(slot, &books(1));
        assert_eq!(workers.living(), [Worker { worker: 0, pid: 101, books: books(1) }]);
        let expected = Books { pending_ns: 1, no_request_ns: 15, ..books(8) };
        assert_eq!(workers.totals(), [(0, expected)]);
    }

    #[test]
    fn after_a_reload_two_processes_have_the_same_number() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let old = workers.acquire(0, process(100)).unwrap();
        let new = workers.acquire(0, process(101)).unwrap();
        workers.publish(old, &books(5));
        workers.publish(new, &books(2));
        assert_eq!(
            workers.living().iter().map(|w| (w.worker, w.pid)).collect::<Vec<_>>(),
            [(0, 100), (0, 101)]
        );
        assert_eq!(workers.totals(), [(0, books(7))]);
    }

    #[test]
    fn a_process_that_was_taken_for_dead_does_not_disturb_its_successor() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let mistaken = workers.acquire(0, process(100)).unwrap();
        workers.publish(mistaken, &books(9));
        workers.reap(process(1), |_| false);
        let slot = workers.acquire(0, process(101)).unwrap();
        workers.publish(slot, &books(1));
        workers.publish(mistaken, &books(2));
        workers.release(mistaken);
        assert_eq!(workers.living(), [Worker { worker: 0, pid: 101, books: books(1) }]);
    }

    #[test]
    fn slots_can_all_be_taken_and_come_free_again_for_the_same_number() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let slots: Vec<WorkerSlot> =
            (0..SLOTS as u32).map(|n| workers.acquire(n / 2, process(1000 + n)).unwrap()).collect();
        assert!(workers.acquire(0, process(1)).is_none());
        assert_eq!(workers.living().len(), SLOTS);
        workers.release(slots[5]);
        assert!(workers.acquire(3, process(1)).is_none(), "its sums are worker 2's");
        assert!(workers.acquire(2, process(1)).is_some());
        assert!(workers.acquire(u32::MAX, process(1)).is_none());
    }

    #[test]
    fn of_a_worker_killed_while_it_published_the_books_before_are_seen() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let slot = workers.acquire(0, process(100)).unwrap();
        workers.publish(slot, &books(1));
        let place = &workers.processes()[slot.at];
        // as far as `publish` got
        let next = place.sequence.load(Relaxed) + 1;
        place.sums[next as usize & 1][1].store(2, Relaxed);
        assert_eq!(workers.living(), [Worker { worker: 0, pid: 100, books: books(1) }]);
        assert_eq!(workers.reap(process(1), |_| false), 1);
        assert_eq!(workers.totals(), [(0, retired(1))]);
        let slot = workers.acquire(0, process(101)).unwrap();
        workers.publish(slot, &books(4));
        assert_eq!(workers.living()[0].books, books(4));
    }

    #[test]
    fn a_reader_that_was_overtaken_looks_again() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let slot = workers.acquire(0, process(100)).unwrap();
        workers.publish(slot, &books(1));
        let place = &workers.processes()[slot.at];
        let sequence = place.sequence.load(Relaxed);
        assert_eq!(place.try_read(0, sequence).unwrap().sums, [1; FIELDS]);
        workers.publish(slot, &books(2));
        // its copy is what is written next
        assert!(place.try_read(0, sequence).is_none());
        workers.publish(slot, &books(3));
        assert!(place.try_read(0, sequence).is_none());
        assert_eq!(place.read().unwrap().sums, [3; FIELDS]);
    }

    #[test]
    fn a_slot_of_a_worker_that_was_killed_while_it_changed_hands_is_free_again() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let slot = workers.acquire(0, process(100)).unwrap();
        workers.publish(slot, &books(1));
        workers.processes()[slot.at].holder.store(Holder::Changes(process(102)).word(), Relaxed);
        assert_eq!(workers.living(), []);
        assert_eq!(workers.reap(process(1), |id| id.pid() == 102), 0, "it goes on");
        let next = workers.acquire(0, process(101)).unwrap();
        assert_ne!(next.at, slot.at);
        assert_eq!(workers.reap(process(1), |id| id.pid() != 102), 1);
        assert_eq!(workers.acquire(0, process(103)).unwrap().at, slot.at);
        assert_eq!(workers.totals(), [(0, retired(1))]);
    }

    /// What a worker does from its start to its end, but for requests.
    fn life(workers: &Workers, own: ProcessId, gone: &[ProcessId]) {
        workers.reap(own, |id| !gone.contains(&id));
        let slot = workers.acquire(0, own).unwrap();
        for n in 1..=2 {
            workers.publish(slot, &books(n));
        }
        workers.reap(own, |id| !gone.contains(&id));
        workers.release(slot);
    }

    #[test]
    fn whenever_workers_are_killed_their_slots_are_free_again_and_sums_do_not_fall() {
        let region = Region::new(BYTES);
        let mut kills = 0;
        // one after the other, each in the middle of what it does about the one before
        let most = if cfg!(miri) { 4 } else { u32::MAX };
        for first in (0..most).step_by(1) {
            for second in (0..most).step_by(3) {
                let workers = new(&region);
                let old = workers.acquire(0, process(99)).unwrap();
                workers.publish(old, &books(5));
                let mut gone = vec![process(99)];
                let mut was_killed = [false; 2];
                for (was_killed, (pid, writes)) in was_killed.iter_mut().zip([(100, first), (101, second)]) {
                    let total = workers.totals()[0].1.charged_ns;
                    *was_killed = killed_after(writes, || life(&workers, process(pid), &gone));
                    kills += u32::from(*was_killed);
                    gone.push(process(pid));
                    assert!(workers.totals()[0].1.charged_ns >= total);
                }
                let counted = workers.totals()[0].1.charged_ns;
                assert!((5..=9).contains(&counted), "{counted}");
                workers.reap(process(1), |id| !gone.contains(&id));
                assert_eq!(workers.totals(), [(0, retired(counted))]);
                let used: Vec<&Process> =
                    workers.processes().iter().filter(|p| p.worker.load(Relaxed) != 0).collect();
                assert!(used.iter().all(|p| p.holder.load(Relaxed) == 0), "a slot is not free");
                assert!(used.len() <= 2, "{} slots", used.len());
                if !was_killed[1] {
                    break;
                }
            }
            if !killed_after(first, || life(&new(&region), process(100), &[])) {
                break;
            }
        }
        assert!(kills > if cfg!(miri) { 4 } else { 1_000 }, "{kills}");
    }

    #[test]
    fn a_reader_sees_all_fields_of_the_same_instant_and_sums_never_fall() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let (processes, publications) = if cfg!(miri) { (2, 4) } else { (300, 300) };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for pid in 1..=processes {
                    let slot = workers.acquire(0, process(pid)).unwrap();
                    for n in 1..=publications {
                        workers.publish(slot, &books(n));
                    }
                    if pid % 2 == 0 {
                        workers.release(slot)
                    } else {
                        assert_eq!(workers.reap(process(1), |_| false), 1)
                    }
                }
                done.store(true, Relaxed);
            });
            let mut last = Books::default();
            let mut is_over = false;
            while !is_over {
                // once more after the last one
                is_over = done.load(Relaxed);
                for worker in workers.living() {
                    assert_eq!(worker.books, books(worker.books.wakeups), "torn");
                }
                for (_, total) in workers.totals() {
                    // pending moves to no_request, and nothing else differs
                    let decided = Books { pending_ns: 0, no_request_ns: total.charged_ns, ..total };
                    assert_eq!(decided, Books { pending_ns: 0, ..books(total.wakeups) }, "torn");
                    assert!(total.no_request_ns + total.pending_ns <= 2 * total.charged_ns, "torn");
                    let now = to_fields(&total);
                    let fell = to_fields(&last).iter().zip(now).position(|(&before, now)| now < before);
                    assert!(fell.is_none_or(|at| at == PENDING), "{last:?} {total:?}");
                    last = total;
                }
            }
        });
        let sum = u64::from(processes) * publications;
        assert_eq!(workers.totals(), [(0, retired(sum))]);
    }

    #[test]
    fn processes_that_begin_at_once_get_different_slots() {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let (threads, rounds) = if cfg!(miri) { (2, 2) } else { (4, 200) };
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for n in 1..=rounds {
                        let pid = thread * 10_000 + n;
                        let slot = workers.acquire(thread % 2, process(pid)).unwrap();
                        workers.publish(slot, &books(1));
                        assert!(workers.living().iter().any(|w| w.pid == pid && w.books == books(1)));
                        workers.release(slot);
                    }
                });
            }
        });
        let each = u64::from(threads / 2 * rounds);
        assert_eq!(workers.totals(), [(0, retired(each)), (1, retired(each))]);
        let used = workers.processes().iter().filter(|p| p.worker.load(Relaxed) != 0).count();
        assert!(used <= 2 * threads as usize, "{used} slots for {threads} processes at a time");
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn sums_are_what_all_processes_have_counted(
            steps in prop::collection::vec((0u32..3, 0u8..4, 1u64..1 << 40), 1..40),
        ) {
            let region = Region::new(BYTES);
            let workers = new(&region);
            let mut slots = [None; 3];
            let mut counted = [0u64; 3];
            for (at, (number, step, ns)) in steps.into_iter().enumerate() {
                let n = number as usize;
                match (step, slots[n]) {
                    (0 | 1, None) => slots[n] = Some((workers.acquire(number, process(100 + at as u32)).unwrap(), 0)),
                    (0 | 1, Some((slot, ns_before))) => {
                        let books = Books { charged_ns: ns_before + ns, ..Books::default() };
                        workers.publish(slot, &books);
                        counted[n] += ns;
                        slots[n] = Some((slot, ns_before + ns));
                    }
                    (2, Some((slot, _))) => { workers.release(slot); slots[n] = None }
                    (3, Some((slot, _))) => {
                        prop_assert_eq!(workers.reap(process(1), |id| id != slot.process), 1);
                        slots[n] = None;
                    }
                    _ => {}
                }
                let living: Vec<_> = workers.living().iter().map(|w| (w.worker, w.books.charged_ns)).collect();
                let expected: Vec<_> =
                    (0..3).filter_map(|n| slots[n as usize].map(|(_, charged_ns)| (n, charged_ns))).collect();
                prop_assert_eq!(living, expected);
                for (worker, total) in workers.totals() {
                    prop_assert_eq!(total.charged_ns, counted[worker as usize]);
                }
            }
        }
    }
}
