//! What the tests of several files need.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use proptest::prelude::ProptestConfig;

use crate::account::{Account, Count, Outcome, cpu_bucket};
use crate::limit::Bucket;
use crate::table::{Error, Table};
use crate::window::{Ring, Second, Windows};

/// Memory as a shared zone has it: aligned, and full of what was there before.
pub struct Region {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is only memory; those who share it take care of themselves.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub fn new(bytes: usize) -> Region {
        let layout = Layout::from_size_align(bytes.max(1), 128).unwrap();
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        // SAFETY: all of it is ours.
        unsafe { base.write_bytes(0xA5, layout.size()) };
        Region { base, layout }
    }

    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// A new table in it; the region must outlive it.
    pub fn table(&self) -> Result<Table, Error> {
        // SAFETY: the region is aligned and ours; tests keep it as long as the table.
        unsafe { Table::create(self.base, self.bytes(), [1, 2], b"$host") }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// How many cases a property is tried with. Miri, which is some hundred times slower, gets a few, and no files.
pub fn cases() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() }
    } else {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }
}

/// A value of a type for which all zero is valid, as shared memory has it.
pub fn zeroed<T: Zeroed>() -> Box<T> {
    // SAFETY: `Zeroed` says that it is.
    Box::new(unsafe { std::mem::zeroed() })
}

/// # Safety
/// All zero must be a valid value.
pub unsafe trait Zeroed {}
// SAFETY: made of atomics only.
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
