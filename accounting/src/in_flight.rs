//! Counts requests in flight. Requests of a killed worker do not stay counted.
//!
//! The gauge of an account contains the number of an epoch. When a worker is found dead, the epoch of the table
//! changes, which empties every gauge. Each living worker then adds its own requests again; it also counts them in
//! its own memory.
//!
//! A worker raises a gauge of a table only while it is in the register of this table. So any process that knows the
//! table can find the dead workers that have requests in flight there ([`Table::reap`]), whatever other tables they
//! used.

use crate::billing::{Held, Span};
use crate::process::{ProcessId, ProcessSlot};
use crate::table::{Slot, Table};
use crate::window::FAR_MS;

/// One worker's requests in flight in one table, with their memory.
///
/// An account's active time grows while its gauge is not zero. So a request counts the time up to its begin before it
/// raises the gauge, and the time up to its end before it lowers the gauge. In between, any process may count from
/// the last counted time on. All times are in nanoseconds of the clock that all workers share.
#[derive(Debug)]
pub struct InFlight {
    process: Option<ProcessId>,
    /// the slot in the table's register; without one, requests are in no gauge
    place: Option<ProcessSlot>,
    epoch: u32,
    /// by slot: index in `open` + 1; 0: no request is in flight
    places: Vec<u32>,
    open: Vec<Open>,
}

/// One account's requests in flight.
#[derive(Debug)]
struct Open {
    slot: Slot,
    count: u32,
    /// memory of all these requests
    bytes: u64,
    /// memory and duration are reported up to this time
    since_ns: u64,
}

impl Open {
    /// Memory and duration since the last call. A clock that is a little late takes nothing back.
    fn flush(&mut self, now_ns: u64) -> Held {
        let ns = now_ns.saturating_sub(self.since_ns);
        let was_wrong = self.since_ns - now_ns.min(self.since_ns) > FAR_MS * 1_000_000;
        self.since_ns = if was_wrong { now_ns } else { self.since_ns.max(now_ns) };
        Held::new(u64::from(self.count), self.bytes, ns)
    }
}

impl InFlight {
    /// For the calling process. If its ID is not known, its requests are in no gauge.
    pub fn new(process: Option<ProcessId>) -> InFlight {
        InFlight { process, place: None, epoch: 0, places: Vec::new(), open: Vec::new() }
    }

    /// A request of this account is in flight from now on. `so_far` is its time up to now. It holds this amount of
    /// memory from now on. Returns memory and duration of the account's requests.
    pub fn enter(&mut self, table: &Table, slot: Slot, so_far: &Span) -> Held {
        let now_ns = so_far.to_ns;
        self.follow(table, now_ns);
        let account = table.account(slot);
        account.cover(table, so_far.from_ns, now_ns);
        let Some(open) = self.open_or_make(slot, now_ns) else { return so_far.held() };
        let held = open.flush(now_ns);
        open.count += 1;
        open.bytes += so_far.bytes;
        if self.place.is_some() {
            account.in_flight().update(self.epoch, |n| n.saturating_add(1));
        }
        held.plus(&so_far.held())
    }

    /// A request has left flight; it held this number of bytes. Returns memory and duration of the account's
    /// requests.
    pub fn leave(&mut self, table: &Table, slot: Slot, now_ns: u64, bytes: u64) -> Held {
        self.follow(table, now_ns);
        let (epoch, is_counted) = (self.epoch, self.place.is_some());
        let Some(open) = self.open_at(slot) else { return Held::default() };
        let held = open.flush(now_ns);
        open.count -= 1;
        open.bytes = open.bytes.saturating_sub(bytes);
        let is_last = open.count == 0;
        let account = table.account(slot);
        account.cover_on(now_ns / 1_000_000);
        if is_counted {
            account.in_flight().update(epoch, |n| n.saturating_sub(1));
        }
        if is_last {
            self.close(slot);
        }
        held
    }

    /// The process does not use the table any more; none of its requests is in flight.
    pub fn release(&mut self, table: &Table) {
        for open in core::mem::take(&mut self.open).iter().filter(|_| self.place.is_some()) {
            let account = table.account(open.slot);
            account.in_flight().update(self.epoch, |n| n.saturating_sub(open.count));
        }
        self.places = Vec::new();
        if let (Some(place), Some(process)) = (self.place.take(), self.process) {
            table.register().release(place, process);
        }
    }

    /// A request holds another amount of memory from now on. Returns memory and duration of the account's requests.
    pub fn resize(&mut self, slot: Slot, now_ns: u64, from_bytes: u64, to_bytes: u64) -> Held {
        let Some(open) = self.open_at(slot) else { return Held::default() };
        let held = open.flush(now_ns);
        open.bytes = (open.bytes + to_bytes).saturating_sub(from_bytes);
        held
    }

    /// Time has passed: reports memory and duration of each account's requests in flight, and counts active time.
    pub fn pass(&mut self, table: &Table, now_ns: u64, mut tell: impl FnMut(Slot, &Held)) {
        self.follow(table, now_ns);
        for open in &mut self.open {
            table.account(open.slot).cover_on(now_ns / 1_000_000);
            tell(open.slot, &open.flush(now_ns));
        }
    }

    /// Adds this worker's requests again if the table's epoch has changed. They were in flight all the time.
    #[inline]
    pub fn follow(&mut self, table: &Table, now_ns: u64) {
        if self.epoch != table.epoch() {
            self.begin_epoch(table, now_ns);
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_epoch(&mut self, table: &Table, now_ns: u64) {
        // first: if a gauge is not zero, the process that raised it must be in the register
        self.register(table);
        self.epoch = table.epoch();
        self.add_all(table, now_ns);
    }

    /// Puts the process into the table's register if it is not there, from time to time: the register may have been
    /// full, or the process may have been taken for dead.
    pub fn stay_registered(&mut self, table: &Table, now_ns: u64) {
        self.follow(table, now_ns);
        let was_counted = self.place.is_some();
        self.register(table);
        if !was_counted && self.place.is_some() {
            self.add_all(table, now_ns);
        }
    }

    /// True if the gauges contain the requests in flight.
    pub fn is_registered(&self) -> bool {
        self.place.is_some()
    }

    fn register(&mut self, table: &Table) {
        let Some(process) = self.process else { return };
        let register = table.register();
        if !self.place.is_some_and(|place| register.has(place, process)) {
            self.place = register.acquire(process);
        }
    }

    fn add_all(&self, table: &Table, now_ns: u64) {
        for open in self.open.iter().filter(|_| self.place.is_some()) {
            let account = table.account(open.slot);
            account.cover_on(now_ns / 1_000_000);
            account.in_flight().update(self.epoch, |n| n.saturating_add(open.count));
        }
    }

    /// None if there is no memory.
    fn open_or_make(&mut self, slot: Slot, now_ns: u64) -> Option<&mut Open> {
        let at = slot.index();
        if at >= self.places.len() {
            self.places.try_reserve(at + 1 - self.places.len()).ok()?;
            self.places.resize(at + 1, 0);
        }
        if *self.places.get(at)? == 0 {
            self.open.try_reserve(1).ok()?;
            self.open.push(Open { slot, count: 0, bytes: 0, since_ns: now_ns });
            *self.places.get_mut(at)? = self.open.len() as u32;
        }
        self.open_at(slot)
    }

    fn open_at(&mut self, slot: Slot) -> Option<&mut Open> {
        let place = *self.places.get(slot.index())?;
        self.open.get_mut((place as usize).checked_sub(1)?)
    }

    /// The account has no request in flight any more.
    fn close(&mut self, slot: Slot) {
        let place = core::mem::take(&mut self.places[slot.index()]) as usize;
        self.open.swap_remove(place - 1);
        if let Some(moved) = self.open.get(place - 1) {
            self.places[moved.slot.index()] = place as u32;
        }
    }
}

#[cfg(test)]
mod tests;
