//! A table of another release: its counters can be read, and copied into a table of this release.

use core::mem::size_of;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::error::Error;
use super::layout::{
    Header, LAYOUT, LAYOUT_BEFORE, MAGIC, MAGIC_BEFORE, MAGIC_WITHOUT_PROCESSES, appended, processes,
    record_bytes,
};
use super::region::Table;
use super::slot::Slot;
use crate::account::{Totals, account_bytes, read_totals};

const _: () = assert!(crate::key::MAX_KEY_BYTES == u8::MAX as usize);

/// A table of another release, whose accounts can be read.
#[derive(Clone, Copy)]
pub struct TableBefore {
    /// header and buckets are as today; records are not
    table: Table,
    /// how many appended counters each account has
    appended: usize,
}

impl Table {
    /// Opens a table that another release has made in this region for the same key, to be copied by
    /// [`crate::state::copy_before`].
    ///
    /// These are understood: tables with another number of appended counters, and those of two older releases.
    ///
    /// # Errors
    /// As for [`Table::open`].
    ///
    /// # Safety
    /// As for [`Table::open`].
    pub unsafe fn open_before(
        base: NonNull<u8>,
        bytes: usize,
        key_text: &[u8],
    ) -> Result<TableBefore, Error> {
        if bytes < size_of::<Header>() {
            return Err(Error::TooSmall);
        }
        // SAFETY: the region is readable and holds at least a header, whose beginning is never written again.
        let (magic, layout) = unsafe {
            let header = base.cast::<Header>().as_ref();
            (header.magic, header.layout)
        };
        let processes = match (magic, layout) {
            (MAGIC, _) if layout != LAYOUT => processes(bytes),
            (MAGIC_BEFORE, LAYOUT_BEFORE) => processes(bytes),
            (MAGIC_WITHOUT_PROCESSES, LAYOUT_BEFORE) => 0,
            _ => return Err(Error::Foreign),
        };
        let appended = appended(layout).ok_or(Error::Foreign)?;
        let parts = (processes, record_bytes(appended));
        // SAFETY: as the caller says. Records are reached through `TableBefore` only.
        let table = unsafe { Table::open_as((magic, layout), parts, base, bytes, key_text) }?;
        Ok(TableBefore { table, appended })
    }
}

impl TableBefore {
    /// The record of an account: the account, the length of its key, and the key.
    fn record_at(&self, slot: Slot) -> NonNull<u8> {
        let Table { base, buckets_log2, records, processes, .. } = self.table;
        // what another release has written decides nothing about memory
        let index = if slot.0 < records { slot.index() } else { Slot::OVERFLOW.index() };
        let words = processes as usize + (1 << buckets_log2);
        let offset =
            size_of::<Header>() + words * size_of::<AtomicU64>() + index * record_bytes(self.appended);
        // SAFETY: the index is below `records`, for which `plan_for` has made room within the region.
        unsafe { base.add(offset) }
    }

    fn key(&self, slot: Slot) -> &[u8] {
        // SAFETY: the account is followed by the length of the key, and by room for 255 bytes, the longest key, within
        // the record. Both were written before the slot was published, and never again.
        unsafe {
            let len_at = self.record_at(slot).add(account_bytes(self.appended));
            slice::from_raw_parts(len_at.add(1).as_ptr(), len_at.read().into())
        }
    }

    fn totals(&self, slot: Slot) -> Totals {
        // SAFETY: the record begins with an account of so many appended counters, at a multiple of 64 bytes, and
        // workers of all releases change it through atomics only.
        unsafe { read_totals(self.record_at(slot), self.appended) }
    }

    /// All accounts with their keys, the overflow account first.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (&[u8], Totals)> {
        self.table.slots().into_iter().map(|slot| (self.key(slot), self.totals(slot)))
    }

    /// Requests that were counted in the overflow account since the zone was full, and those whose key was cut.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let counters = &self.table.header().counters;
        (counters.overflowed.load(Relaxed), counters.cut.load(Relaxed))
    }
}

#[cfg(test)]
mod tests;
