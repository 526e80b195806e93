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
            for (slot, count) in open(&self.counts) {
                table.account(slot).in_flight().update(epoch, |n| n.saturating_add(count));
            }
        }
    }
}

/// Accounts that have requests open.
fn open(counts: &[u32]) -> impl Iterator<Item = (Slot, u32)> {
    // the index is a slot's, which is 32 bits wide
    counts.iter().enumerate().filter(|(_, count)| **count != 0).map(|(at, &count)| (Slot(at as u32), count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::Spare;
    use crate::testing::{Region, cases};

    fn table_with(region: &Region, accounts: usize) -> (Table, Vec<Slot>) {
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let slots = (0..accounts).map(|n| table.find_or_insert(&[n as u8], &mut spare).slot).collect();
        (table, slots)
    }

    fn read(table: &Table, slot: Slot) -> u32 {
        table.account(slot).in_flight().read(table.epoch())
    }

    #[test]
    fn requests_of_a_killed_worker_are_gone_when_the_others_have_followed() {
        let region = Region::new(65_536);
        let (table, slots) = table_with(&region, 1);
        let (mut killed, mut living) = (InFlight::default(), InFlight::default());
        killed.enter(&table, slots[0]);
        killed.enter(&table, slots[0]);
        living.enter(&table, slots[0]);
        assert_eq!(read(&table, slots[0]), 3);
        table.next_epoch();
        living.follow(&table);
        living.follow(&table);
        assert_eq!(read(&table, slots[0]), 1);
    }

    #[test]
    fn a_request_that_did_not_enter_does_not_leave() {
        let region = Region::new(65_536);
        let (table, slots) = table_with(&region, 1);
        let (mut one, mut other) = (InFlight::default(), InFlight::default());
        one.enter(&table, slots[0]);
        other.leave(&table, slots[0]);
        other.leave(&table, Slot::OVERFLOW);
        assert_eq!(read(&table, slots[0]), 1);
    }

    #[test]
    fn a_worker_that_has_not_seen_the_new_epoch_changes_nothing_of_it() {
        let region = Region::new(65_536);
        let (table, slots) = table_with(&region, 1);
        let gauge = table.account(slots[0]).in_flight();
        gauge.update(7, |n| n + 5);
        gauge.update(6, |n| n + 1);
        assert_eq!((gauge.read(7), gauge.read(6)), (5, 0));
        // also where the number of the epoch wraps around
        let gauge = table.account(Slot::OVERFLOW).in_flight();
        gauge.update(u32::MAX, |n| n + 5);
        gauge.update(1, |n| n + 1);
        gauge.update(u32::MAX, |n| n + 1);
        assert_eq!(gauge.read(1), 1);
    }

    #[test]
    fn threads_leave_nothing_behind() {
        let region = Region::new(65_536);
        let (table, slots) = table_with(&region, 3);
        let (threads, rounds) = if cfg!(miri) { (2, 5) } else { (4, 3_000) };
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let slots = &slots;
                scope.spawn(move || {
                    let mut worker = InFlight::default();
                    for n in 0..rounds {
                        let slot = slots[(n + thread) % slots.len()];
                        worker.enter(&table, slot);
                        if n % 100 == 0 {
                            table.next_epoch();
                        }
                        worker.leave(&table, slot);
                    }
                    worker.enter(&table, slots[0]);
                });
            }
        });
        // an epoch may have ended after a thread was done, which did not follow it any more
        assert!(read(&table, slots[0]) <= threads as u32);
        assert_eq!(read(&table, slots[1]), 0);
        assert_eq!(read(&table, slots[2]), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter(usize, usize),
        Leave(usize, usize),
        /// the worker is killed, a new one takes its place and notices
        Kill(usize),
        Follow(usize),
    }

    const WORKERS: usize = 3;
    const ACCOUNTS: usize = 3;

    fn step() -> impl Strategy<Value = Step> {
        let both = (0..WORKERS, 0..ACCOUNTS);
        prop_oneof![
            4 => both.clone().prop_map(|(worker, account)| Step::Enter(worker, account)),
            3 => both.prop_map(|(worker, account)| Step::Leave(worker, account)),
            1 => (0..WORKERS).prop_map(Step::Kill),
            1 => (0..WORKERS).prop_map(Step::Follow),
        ]
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn the_gauge_is_what_living_workers_have_open_once_each_has_followed(
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let region = Region::new(65_536);
            let (table, slots) = table_with(&region, ACCOUNTS);
            let mut workers: [InFlight; WORKERS] = Default::default();
            let mut open = [[0u32; ACCOUNTS]; WORKERS];
            for step in steps {
                match step {
                    Step::Enter(worker, account) => {
                        workers[worker].enter(&table, slots[account]);
                        open[worker][account] += 1;
                    }
                    Step::Leave(worker, account) => {
                        workers[worker].leave(&table, slots[account]);
                        open[worker][account] = open[worker][account].saturating_sub(1);
                    }
                    Step::Kill(worker) => {
                        workers[worker] = InFlight::default();
                        open[worker] = [0; ACCOUNTS];
                        table.next_epoch();
                    }
                    Step::Follow(worker) => workers[worker].follow(&table),
                }
                // never more than there are
                for account in 0..ACCOUNTS {
                    let sum: u32 = open.iter().map(|open| open[account]).sum();
                    prop_assert!(read(&table, slots[account]) <= sum);
                }
            }
            for worker in &mut workers {
                worker.follow(&table);
            }
            for account in 0..ACCOUNTS {
                let sum: u32 = open.iter().map(|open| open[account]).sum();
                prop_assert_eq!(read(&table, slots[account]), sum);
            }
        }
    }
}
