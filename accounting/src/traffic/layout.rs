//! The layout of a log's memory.

use core::cell::UnsafeCell;
use core::mem::size_of;
use core::sync::atomic::{AtomicU32, AtomicU64};

use formats::line::FIELDS;

use crate::table::ACCOUNT_BYTES;

/// Changes with the meaning of anything in a region, since a new binary goes on with the region of the one before.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"rctraf02");

pub(super) const LAYOUT: u64 = (size_of::<Header>() as u64) << 32 | size_of::<Baseline>() as u64;

/// Largest batch in bytes; a line is never divided, and always shorter.
pub const BATCH_BYTES: usize = 64 * 1024;

/// Most lines of a batch: as many as there is room for, if they are of the shortest kind, of 298 bytes.
pub(super) const BATCH_LINES: usize = 220;

/// What the journal holds.
pub(super) mod state {
    /// Nothing.
    pub const IDLE: u32 = 0;
    /// A batch that is being written: who finds it there without its writer has to look at the file.
    pub const WRITING: u32 = 1;
    /// A batch of which `written` bytes were written, before there was an error.
    pub const TORN: u32 = 2;
    /// A batch that is in the file, up to `text_bytes`.
    pub const WRITTEN: u32 = 3;
}

pub(super) const RETIRED: u32 = 1;

pub(super) const CLOSED: u32 = 2;

#[repr(C, align(64))]
pub(super) struct Header {
    pub(super) magic: u64,
    pub(super) layout: u64,
    /// the table whose accounts these are
    pub(super) table: [u64; 2],
    pub(super) records: u32,
    /// which of the logs of its zone this is: where the accounts keep its peaks
    pub(super) log: u32,
    pub(super) retired: AtomicU32,
    /// of its log, as [`name_of`]
    pub(super) name: AtomicU64,
    /// end of the last part that was written as a whole, on the monotonic clock
    pub(super) done_ms: AtomicU64,
    pub(super) next_try_ms: AtomicU64,
    /// the error that was reported, until something could be written again
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
    /// where it ends in the text
    pub(super) end: AtomicU32,
    pub(super) reading: [AtomicU64; FIELDS],
    /// the peak that it tells
    pub(super) peak_ns: AtomicU64,
}

/// What has been written of an account. All zero: nothing.
#[repr(C)]
pub(super) struct Baseline {
    pub(super) reading: [AtomicU64; FIELDS],
    /// end of the last part with a line of it
    pub(super) end_ms: AtomicU64,
}

/// Bytes of shared memory that a log takes per account of its zone.
pub const BASELINE_BYTES: usize = size_of::<Baseline>();

/// Bytes of shared memory for a log of a zone of `zone_bytes` bytes, without room for accounts that cannot be there.
pub fn region_bytes(zone_bytes: usize) -> usize {
    size_of::<Header>() + (zone_bytes / ACCOUNT_BYTES + 1) * BASELINE_BYTES
}
