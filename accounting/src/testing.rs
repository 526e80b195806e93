//! Functions that the tests of several files use.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use proptest::prelude::ProptestConfig;

use crate::account::{Account, Count, Outcome, cpu_bucket};
use crate::limit::Bucket;
use crate::process::ProcessId;
use crate::table::{Error, Table};
use crate::window::{Ring, Second, Windows};
use crate::worker_totals::WorkerTotals;

/// Memory like that of a shared zone: aligned, and with arbitrary old content.
pub struct Region {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is only memory; code that shares it synchronises its own accesses.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub fn new(bytes: usize) -> Region {
        let layout = Layout::from_size_align(bytes.max(1), 128).unwrap();
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        // SAFETY: the whole allocation belongs to this function.
        unsafe { base.write_bytes(0xA5, layout.size()) };
        Region { base, layout }
    }

    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// Creates a table in the region. The region must outlive it.
    pub fn table(&self) -> Result<Table, Error> {
        // SAFETY: the region is aligned, and no other code uses it. Tests keep it as long as the table.
        unsafe { Table::create(self.base, self.bytes(), [1, 2], b"$host") }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the memory was allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Number of cases for each property. Miri is some hundred times slower: it gets only a few cases, and no files.
pub fn cases() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() }
    } else {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }
}

/// A value that is all zero, as in new shared memory. All zero is valid for its type.
pub fn zeroed<T: Zeroed>() -> Box<T> {
    // SAFETY: `Zeroed` guarantees that all zero is valid.
    Box::new(unsafe { std::mem::zeroed() })
}

/// # Safety
/// All zero must be a valid value.
pub unsafe trait Zeroed {}
// SAFETY: the type consists only of atomics.
unsafe impl Zeroed for Account {}
// SAFETY: as above.
unsafe impl Zeroed for Windows {}
// SAFETY: as above.
unsafe impl Zeroed for Second {}
// SAFETY: as above.
unsafe impl Zeroed for Bucket {}
// SAFETY: as above.
unsafe impl<const N: usize, const MS: u64> Zeroed for Ring<N, MS> {}

impl Account {
    /// Counts one request that ended.
    pub fn finish(&self, outcome: &Outcome) {
        self.count(&outcome.classes(), &Count { requests: 1, cpu_ns: outcome.cpu_ns });
        self.count_cpu(cpu_bucket(outcome.cpu_ns), 1);
    }
}

/// The totals of a worker in the example documents. All figures differ.
pub fn totals() -> WorkerTotals {
    WorkerTotals {
        wakeups: 10,
        charged_ns: 1_000_000_000,
        no_request_ns: 200,
        loop_ns: 30,
        other_ns: 4,
        pending_ns: 5,
        clock_readings: 4,
        pool_threads_cpu_ns: 6,
        pool_threads_charged_ns: 3,
        uncounted_ns: 70,
    }
}

/// Fails if a chapter of the documentation does not contain a text. With the example counter, which is not documented,
/// nothing is checked.
pub fn documented(chapter: &str, text: &str) {
    if cfg!(miri) || cfg!(feature = "example-counter") {
        return;
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src").join(chapter);
    let found = std::fs::read_to_string(&path).unwrap().contains(text);
    assert!(found, "docs/src/{chapter} must say: {text}");
}

/// The counters that were appended to the account after the first release, each with its index in the table.
pub fn appended() -> impl Iterator<Item = (usize, &'static formats::counters::Counter)> {
    let has_cells = |counter: &formats::counters::Counter| counter.shape.cells() > 0;
    formats::counters::COUNTERS
        .iter()
        .enumerate()
        .filter(move |&(row, counter)| has_cells(counter) && Account::OFFSETS[row] >= Account::APPENDED_AT)
}

/// A process with this process ID.
pub fn process(pid: u32) -> ProcessId {
    ProcessId::new(pid, 77).unwrap()
}

thread_local! {
    /// how many more times this thread may write to shared memory before it is killed
    static WRITES_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The panic value of a killed thread.
struct Killed;

/// Called before each write to shared memory.
fn before_write() {
    match WRITES_LEFT.get() {
        Some(0) => resume_unwind(Box::new(Killed)),
        Some(left) => WRITES_LEFT.set(Some(left - 1)),
        None => {}
    }
}

/// Runs `f`, and kills it before the write to shared memory that follows after `writes` others. Returns whether it was
/// killed.
pub fn killed_after(writes: u32, f: impl FnOnce()) -> bool {
    WRITES_LEFT.set(Some(writes));
    let result = catch_unwind(AssertUnwindSafe(f));
    WRITES_LEFT.set(None);
    match result {
        Ok(()) => false,
        Err(reason) if reason.is::<Killed>() => true,
        Err(reason) => resume_unwind(reason),
    }
}

macro_rules! counted {
    ($name:ident, $value:ty) => {
        /// The atomic of this name. It counts the writes to it.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(core::sync::atomic::$name);

        // not every function is used for each type
        #[allow(dead_code)]
        impl $name {
            pub const fn new(value: $value) -> Self {
                Self(core::sync::atomic::$name::new(value))
            }

            pub fn store(&self, value: $value, order: Ordering) {
                before_write();
                self.0.store(value, order);
            }

            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                before_write();
                self.0.fetch_add(value, order)
            }

            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                before_write();
                self.0.fetch_max(value, order)
            }

            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                before_write();
                self.0.fetch_update(set, fetch, f)
            }

            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                before_write();
                self.0.compare_exchange(old, new, success, failure)
            }

            pub fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                before_write();
                self.0.compare_exchange_weak(old, new, success, failure)
            }
        }

        impl Deref for $name {
            type Target = core::sync::atomic::$name;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    };
}

counted!(AtomicU32, u32);
counted!(AtomicU64, u64);
