//! The layout of a log's memory.

use core::cell::UnsafeCell;
use core::mem::size_of;
use core::sync::atomic::{AtomicU32, AtomicU64};

use formats::line::FIELDS;

use crate::table::ACCOUNT_BYTES;

/// Changes with the meaning of anything in a region, because a new binary continues with the region of the old one.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"rctraf02");

pub(super) const LAYOUT: u64 = (size_of::<Header>() as u64) << 32 | size_of::<Baseline>() as u64;

/// The largest batch in bytes. A line is never divided, and is always shorter.
pub const BATCH_BYTES: usize = 64 * 1024;

/// The most lines of a batch: as many as fit if they have the smallest length, 298 bytes.
pub(super) const BATCH_LINES: usize = 220;

/// The states of the journal.
pub(super) mod state {
    /// The journal is empty.
    pub const IDLE: u32 = 0;
    /// A batch is being written. If its writer is dead, the next one must look at the file.
    pub const WRITING: u32 = 1;
    /// A batch of which `written` bytes were written before an error.
    pub const TORN: u32 = 2;
    /// A batch that is in the file up to `text_bytes`.
    pub const WRITTEN: u32 = 3;
}

pub(super) const RETIRED: u32 = 1;

pub(super) const CLOSED: u32 = 2;

#[repr(C, align(64))]
pub(super) struct Header {
    pub(super) magic: u64,
    pub(super) layout: u64,
    /// the table of the accounts
    pub(super) table: [u64; 2],
    pub(super) records: u32,
    /// the number of this log in its zone: the index of its peaks in the accounts
    pub(super) log: u32,
    pub(super) retired: AtomicU32,
    /// the name of the log, as [`name_of`](super::ledger::name_of)
    pub(super) name: AtomicU64,
    /// end of the last part that was completely written, on the monotonic clock
    pub(super) done_ms: AtomicU64,
    pub(super) next_try_ms: AtomicU64,
    /// the error that was reported; 0 after a successful write
    pub(super) failing: AtomicU32,
    pub(super) lock: Lock,
    pub(super) journal: Journal,
}

/// Room for the caller's lock.
#[repr(C, align(64))]
pub(super) struct Lock(pub(super) UnsafeCell<[u64; 8]>);

#[repr(C, align(64))]
pub(super) struct Journal {
    pub(super) state: AtomicU32,
    pub(super) lines: AtomicU32,
    pub(super) text_bytes: AtomicU32,
    pub(super) written: AtomicU32,
    /// the file, and its size before the batch
    pub(super) file: [AtomicU64; 2],
    pub(super) at: AtomicU64,
    /// end of the part
    pub(super) end_ms: AtomicU64,
    pub(super) counted: [Counted; BATCH_LINES],
    pub(super) text: UnsafeCell<[u8; BATCH_BYTES]>,
}

/// A line of a batch.
#[repr(C)]
pub(super) struct Counted {
    pub(super) slot: AtomicU32,
    /// the end of the line in the text
    pub(super) end: AtomicU32,
    pub(super) reading: [AtomicU64; FIELDS],
    /// the peak in the line
    pub(super) peak_ns: AtomicU64,
}

/// The written counters of an account. All zero: nothing was written.
#[repr(C)]
pub(super) struct Baseline {
    pub(super) reading: [AtomicU64; FIELDS],
    /// end of the last part that has a line of this account
    pub(super) end_ms: AtomicU64,
}

/// Bytes of shared memory that a log needs per account of its zone.
pub const BASELINE_BYTES: usize = size_of::<Baseline>();

/// Bytes of shared memory for a log of a zone of `zone_bytes` bytes. There is room only for as many accounts as the
/// zone can have.
pub fn region_bytes(zone_bytes: usize) -> usize {
    size_of::<Header>() + (zone_bytes / ACCOUNT_BYTES + 1) * BASELINE_BYTES
}
