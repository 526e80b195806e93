//! Requests that are open, counted so that a killed worker's do not stay for ever.
//!
//! The gauge of an account carries the number of an epoch. When a worker is found dead the epoch of the table moves
//! on, which empties every gauge; each living worker then adds its own requests again, which it also counts for itself.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::table::{Slot, Table};

/// `epoch << 32 | requests`, shared by all workers.
#[repr(transparent)]
#[derive(Debug)]
pub struct Gauge(AtomicU64);

impl Gauge {
    fn update(&self, epoch: u32, change: impl Fn(u32) -> u32) {
        let mut old = self.0.load(Relaxed);
        loop {
            let tag = (old >> 32) as u32;
            if tag.wrapping_sub(epoch).cast_signed() > 0 {
                // the epoch moved on meanwhile; the caller adds its own requests again when it sees that
                return;
            }
            let count = if tag == epoch { old as u32 } else { 0 };
            let new = u64::from(epoch) << 32 | u64::from(change(count));
            match self.0.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => old = seen,
            }
        }
    }

    /// Open requests, as of `epoch`.
    pub fn read(&self, epoch: u32) -> u32 {
        let value = self.0.load(Relaxed);
        if (value >> 32) as u32 == epoch { value as u32 } else { 0 }
    }
}

/// One worker's open requests in one table.
#[derive(Debug, Default)]
pub struct InFlight {
    epoch: u32,
    // by slot
    counts: Vec<u32>,
}

impl InFlight {
    /// A request of this account is open from now on.
    pub fn enter(&mut self, table: &Table, slot: Slot) {
        self.follow(table);
        let at = slot.index();
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        table.account(slot).in_flight().update(self.epoch, |n| n.saturating_add(1));
    }

    /// A request that entered has ended.
    pub fn leave(&mut self, table: &Table, slot: Slot) {
        self.follow(table);
        if let Some(count @ 1..) = self.counts.get_mut(slot.index()) {
            *count -= 1;
            table.account(slot).in_flight().update(self.epoch, |n| n.saturating_sub(1));
        }
    }

    /// Adds this worker's requests again if the table's epoch has moved on.
    pub fn follow(&mut self, table: &Table) {
        let epoch = table.epoch();
        if self.epoch != epoch {
            self.epoch = epoch;
            for (at, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count != 0) {
                if let Some(slot) = table.slot(at) {
                    table.account(slot).in_flight().update(epoch, |n| n.saturating_add(count));
                }
            }
        }
    }

    /// Takes all of this worker's requests out again: it is about to exit with requests open.
    pub fn leave_all(&mut self, table: &Table) {
        self.follow(table);
        for (at, count) in self.counts.drain(..).enumerate().filter(|(_, count)| *count != 0) {
            if let Some(slot) = table.slot(at) {
                table.account(slot).in_flight().update(self.epoch, |n| n.saturating_sub(count));
            }
        }
    }
}
