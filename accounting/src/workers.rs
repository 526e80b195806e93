//! The books of all workers, in a region of memory that they share, so that any of them can show all.

use core::mem::size_of;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use crate::books::Books;
use crate::table::Error;

const MAGIC: u64 = u64::from_le_bytes(*b"rcwork01");
/// Worker processes that can be shown at a time, and numbers of workers whose sums are kept.
pub const SLOTS: usize = 512;
const FIELDS: usize = 7;
/// Stands for a pid while the books of a dead worker are carried over.
const BUSY: u32 = u32::MAX;

/// The region. All zero, but for the magic, is an empty one.
#[repr(C)]
struct Shared {
    magic: u64,
    processes: [Process; SLOTS],
    /// sums of worker processes that are gone, by number of the worker
    retired: [[AtomicU64; FIELDS]; SLOTS],
}

#[repr(C, align(128))]
struct Process {
    /// 0: free
    pid: AtomicU32,
    worker: AtomicU32,
    /// odd while the fields are written
    sequence: AtomicU32,
    fields: [AtomicU64; FIELDS],
}

/// Bytes of shared memory that the books take.
pub const BYTES: usize = size_of::<Shared>();

fn to_fields(books: &Books) -> [u64; FIELDS] {
    [
        books.wakeups,
        books.charged_ns,
        books.no_request_ns,
        books.loop_ns,
        books.other_ns,
        books.pool_threads_cpu_ns,
        books.pending_ns,
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
    }
}

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
pub struct Seat(usize);

/// A view of the shared books.
#[derive(Clone, Copy)]
pub struct Workers(NonNull<Shared>);

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

    /// Carries the books of processes that are gone over to their workers' sums. Returns how many there were.
    pub fn bury(&self, alive: impl Fn(u32) -> bool) -> usize {
        let mut dead = 0;
        for process in &self.shared().processes {
            let pid = process.pid.load(Relaxed);
            if pid == 0 || pid == BUSY || alive(pid) {
                continue;
            }
            if process.pid.compare_exchange(pid, BUSY, Acquire, Relaxed).is_ok() {
                self.retire(process);
                dead += 1;
            }
        }
        dead
    }

    fn retire(&self, process: &Process) {
        let worker = process.worker.load(Relaxed) as usize;
        let mut books = from_fields(process.fields.each_ref().map(|field| field.swap(0, Relaxed)));
        // nobody can take over any more what was pending
        books.pending_to_no_request(books.pending_ns);
        if let Some(sums) = self.shared().retired.get(worker) {
            for (sum, value) in sums.iter().zip(to_fields(&books)) {
                sum.fetch_add(value, Relaxed);
            }
        }
        process.sequence.store(0, Relaxed);
        process.pid.store(0, Release);
    }

    /// Takes a seat for a process; `None` if all are taken.
    pub fn sit(&self, worker: u32, pid: u32) -> Option<Seat> {
        let processes = &self.shared().processes;
        let at = processes.iter().position(|p| p.pid.compare_exchange(0, pid, Acquire, Relaxed).is_ok())?;
        processes[at].worker.store(worker, Relaxed);
        Some(Seat(at))
    }

    /// Gives the seat back; the books stay in the worker's sums.
    pub fn leave(&self, seat: Seat) {
        self.retire(&self.shared().processes[seat.0]);
    }

    /// Shows the books of the process that has this seat.
    #[inline]
    pub fn publish(&self, seat: Seat, books: &Books) {
        let process = &self.shared().processes[seat.0];
        let sequence = process.sequence.load(Relaxed);
        process.sequence.store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        for (field, value) in process.fields.iter().zip(to_fields(books)) {
            field.store(value, Relaxed);
        }
        process.sequence.store(sequence.wrapping_add(2), Release);
    }

    /// The living workers, by number.
    pub fn living(&self) -> Vec<Worker> {
        let mut workers: Vec<Worker> = self.shared().processes.iter().filter_map(read).collect();
        workers.sort_by_key(|w| (w.worker, w.pid));
        workers
    }

    /// Sums by number of the worker, over processes that are gone and those that live.
    pub fn totals(&self) -> Vec<(u32, Books)> {
        let living = self.living();
        let mut totals = Vec::new();
        for (number, sums) in self.shared().retired.iter().enumerate() {
            let mut fields = sums.each_ref().map(|sum| sum.load(Relaxed));
            let mut known = fields.iter().any(|&value| value != 0);
            for worker in living.iter().filter(|w| w.worker as usize == number) {
                known = true;
                for (sum, value) in fields.iter_mut().zip(to_fields(&worker.books)) {
                    *sum += value;
                }
            }
            if known {
                totals.push((number as u32, from_fields(fields)));
            }
        }
        totals
    }
}

/// The books of one process, all of the same instant unless it died while it wrote them.
fn read(process: &Process) -> Option<Worker> {
    let mut fields = [0; FIELDS];
    // a writer takes some nanoseconds
    for _ in 0..1000 {
        let before = process.sequence.load(Acquire);
        fields = process.fields.each_ref().map(|field| field.load(Relaxed));
        fence(Acquire);
        if before & 1 == 0 && process.sequence.load(Relaxed) == before {
            break;
        }
        core::hint::spin_loop();
    }
    let pid = process.pid.load(Acquire);
    (pid != 0 && pid != BUSY).then(|| Worker {
        worker: process.worker.load(Relaxed),
        pid,
        books: from_fields(fields),
    })
}
