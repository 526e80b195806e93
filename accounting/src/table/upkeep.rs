//! Upkeep of the accounts: seconds that are over, and processes that were killed.

use core::sync::atomic::Ordering::Release;

use super::region::Table;
use super::slot::Slot;
use crate::process::{MOST_DEAD, ProcessId};

impl Table {
    /// To be called before an account is read: seconds that are over are judged, and while a request is in flight
    /// its time counts up to now. `now_ms` is the shared clock's.
    pub fn refresh(&self, slot: Slot, now_ms: u64) {
        self.account(slot).refresh(self, now_ms);
    }

    /// Nobody counts any more: the last second of each account is judged too.
    pub fn conclude(&self) {
        let threshold_ns = self.active_threshold_ns();
        let slots = [Slot::OVERFLOW].into_iter().chain(self.published());
        slots.for_each(|slot| self.account(slot).conclude(threshold_ns));
    }

    /// Whether it falls to the caller to call [`Table::reap`] now. Of all processes that ask each second, one is
    /// told so.
    pub fn claim_look(&self, now_ms: u64) -> bool {
        self.header().counters.look.claim(now_ms)
    }

    /// Looks for processes that had requests in flight here and are gone; how many there were. `now_ms` is the
    /// shared clock's.
    ///
    /// In this order: whoever is killed in between leaves the dead in the register, and the next one who looks
    /// finds them there and begins again. An epoch that moves twice does no harm: the living add their requests
    /// once more.
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

    /// Requests in flight of processes that are gone are gone too. `now_ms` is the shared clock's: until now,
    /// nobody knew.
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
