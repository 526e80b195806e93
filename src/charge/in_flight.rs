//! Requests in flight.

use crate::charge::context::RequestId;
use crate::charge::worker::Worker;
use crate::config::zone_use::ZoneUse;
use accounting::account_set::AccountSet;

impl Worker {
    pub(super) fn enter_flight(&mut self, id: RequestId, accounts: &AccountSet, zones: *const ZoneUse) {
        self.leave_flight(id);
        let now_ns = self.laps.meter.now_ns();
        let context = self.context(id);
        context.accounts.copy_from(accounts);
        context.mark_in_flight();
        context.zones = zones;
        context.in_flight = true;
        context.active_since_flush = true;
        let so_far = context.span(now_ns);
        (context.since_ns, context.bytes) = (now_ns, so_far.bytes);
        self.put_in_front(id);
        self.zones.enter_flight(accounts, &so_far);
        self.start_flush_timer();
    }

    /// Inserts a request at the front of the list of requests in flight. It must not be in the list yet.
    fn put_in_front(&mut self, id: RequestId) {
        let next = self.first_in_flight.replace(id);
        self.context(id).next_in_flight = next;
        if let Some(next) = next {
            self.context(next).previous_in_flight = Some(id);
        }
    }

    /// Removes a request from the list of requests in flight.
    fn take_out(&mut self, id: RequestId) {
        let context = self.context(id);
        let (previous, next) = (context.previous_in_flight.take(), context.next_in_flight.take());
        if let Some(next) = next {
            self.context(next).previous_in_flight = previous;
        }
        match previous {
            Some(previous) => self.context(previous).next_in_flight = next,
            None => self.first_in_flight = next,
        }
    }

    /// Notes that a request was an owner: if it is in flight, it is active since the last flush.
    pub fn note_active(&mut self, id: RequestId) {
        let context = self.context(id);
        if context.in_flight && !context.active_since_flush {
            self.move_to_front(id);
        }
    }

    /// Marks a request as active, and moves it to the front of the list, where the active requests are.
    fn move_to_front(&mut self, id: RequestId) {
        self.context(id).active_since_flush = true;
        self.take_out(id);
        self.put_in_front(id);
    }

    /// Flushes the usage of requests in flight that were owners since the last call.
    pub fn add_active_use(&mut self) {
        let mut next = self.first_in_flight;
        while let Some(id) = next {
            let context = self.context(id);
            if !core::mem::take(&mut context.active_since_flush) {
                break;
            }
            next = context.next_in_flight;
            self.add_use(id);
        }
    }

    #[inline]
    pub(super) fn leave_flight(&mut self, id: RequestId) {
        if core::mem::take(&mut self.context(id).in_flight) {
            self.leave_flight_now(id);
        }
    }

    #[inline(never)]
    fn leave_flight_now(&mut self, id: RequestId) {
        self.take_out(id);
        let now_ns = self.laps.meter.now_ns();
        self.look(id, now_ns);
        let context = self.contexts.get(id);
        context.since_ns = now_ns;
        self.zones.leave_flight(now_ns, &context.accounts, context.bytes);
    }

    /// Reads the memory of a request in flight.
    pub(super) fn look(&mut self, id: RequestId, now_ns: u64) {
        let context = self.contexts.get(id);
        let Some(bytes) = context.request().held_bytes() else { return };
        let (from_bytes, since_ns) = (context.bytes, context.since_ns);
        (context.bytes, context.since_ns) = (bytes, now_ns);
        if bytes != from_bytes {
            self.zones.resize(now_ns, &context.accounts, since_ns, from_bytes, bytes);
        }
    }

    /// Called when the process is about to exit with open requests: adds their usage to their accounts.
    pub fn leave_all_flights(&mut self) {
        while let Some(id) = self.first_in_flight {
            self.add_use(id);
            self.give_back(id, u64::MAX);
            self.leave_flight(id);
        }
    }
}
