//! Upkeep of the accounts: finished seconds, and killed processes.

use core::sync::atomic::Ordering::Release;

use super::region::Table;
use super::slot::Slot;
use crate::process::{MOST_DEAD, ProcessId};

impl Table {
    /// Call this before you read an account: finished seconds are classified, and while a request is in flight,
    /// active time is counted up to now. `now_ms` is the time of the shared clock.
    pub fn refresh(&self, slot: Slot, now_ms: u64) {
        self.account(slot).refresh(self, now_ms);
    }

    /// Classifies the last second of each account, when all processes have stopped counting.
    pub fn conclude(&self) {
        let threshold_ns = self.active_threshold_ns();
        let slots = [Slot::OVERFLOW].into_iter().chain(self.published());
        slots.for_each(|slot| self.account(slot).conclude(threshold_ns));
    }

    /// True if the caller must call [`Table::reap`] now. Of all processes that ask in a second, one gets the order.
    pub fn claim_look(&self, now_ms: u64) -> bool {
        self.header().counters.look.claim(now_ms)
    }

    /// Finds dead processes that had requests in flight here. Returns their number. `now_ms` is the time of the
    /// shared clock.
    ///
    /// The order of the steps matters: if this process is killed in between, the dead processes are still in the
    /// register, and the next search begins again. It does no harm if the epoch changes twice: living workers add
    /// their requests once more.
    pub fn reap(&self, now_ms: u64, mut is_alive: impl FnMut(ProcessId) -> bool) -> usize {
        let mut count = 0;
        loop {
            let dead = self.register().find_dead(&mut is_alive);
            if dead.count() > 0 {
                self.next_epoch(now_ms);
                self.register().reap(&dead);
            }
            count += dead.count();
            if dead.count() < MOST_DEAD {
                return count;
            }
        }
    }

    /// Removes the requests in flight of dead processes. `now_ms` is the time of the shared clock: active time is
    /// counted up to now, because nobody knew of the death before.
    pub(crate) fn next_epoch(&self, now_ms: u64) {
        let epoch = self.epoch();
        for slot in [Slot::OVERFLOW].into_iter().chain(self.published()) {
            let account = self.account(slot);
            if account.in_flight().read(epoch) != 0 {
                account.cover_on(now_ms);
            }
        }
        self.header().epoch.fetch_add(1, Release);
    }
}
