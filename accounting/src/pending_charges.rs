//! Charges of one worker that it has not added to its accounts yet.
//!
//! An atomic addition takes as long as about twenty plain additions, and a request needs more than a dozen of them.
//! So a worker sums up the charges of an account in its own memory during one turn of the event loop. It adds them
//! when the turn ends.

use crate::account::{Charges, Classes, Count, Usage, cpu_bucket};
use crate::billing::{Held, Span};
use crate::limit::{Apart, Share};
use crate::table::{Slot, Table};

/// A millisecond in nanoseconds.
const MS: u64 = 1_000_000;

/// Accounts that are summed up at the same time. A worker that serves more of them in one turn adds more often.
const PLACES: usize = 16;

/// Sums for one account.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// none: there is nothing
    slot: Option<Slot>,
    usage: Usage,
    /// there is something in `apart`
    has_apart: bool,
    /// the part of the CPU that not all limits count
    apart: Apart,
    /// requests that ended, all of the same classes
    classes: Classes,
    ended: Count,
    /// and those of the same bucket of CPU, which changes more often
    bucket: u8,
    in_bucket: u64,
    held: Held,
    /// when requests that were never known to be in flight were, in nanoseconds; the second is 0 if none was
    span: (u64, u64),
    /// this millisecond of this account is known to be active: its start in nanoseconds
    known: (Slot, u64),
}

/// A request that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// what is new of it
    pub usage: Usage,
    /// where it belongs
    pub classes: Classes,
    /// nanoseconds of CPU of the whole request
    pub cpu_ns: u64,
    /// its time, but for what it was in flight, as [`crate::in_flight::InFlight`] knows it
    pub span: Span,
}

/// One worker's sums for the accounts of one table.
#[derive(Debug, Default)]
pub struct PendingCharges {
    /// which places hold something, as bits
    used: u32,
    /// what was less than a byte for a millisecond, whosoever it was
    carry: u64,
    // an account has one place, and shares it with others
    places: [Sums; PLACES],
}

impl PendingCharges {
    /// The sums for this account.
    #[inline]
    fn sums(&mut self, table: &Table, now_ns: u64, slot: Slot) -> &mut Sums {
        let at = slot.index() % PLACES;
        let sums = &mut self.places[at];
        if sums.slot != Some(slot) {
            sums.flush(table, now_ns, &mut self.carry);
            sums.slot = Some(slot);
            self.used |= 1 << at;
        }
        sums
    }

    /// A request has used this. `now_ns` is the time of the clock that all workers share, in nanoseconds.
    #[inline]
    pub fn add(&mut self, table: &Table, now_ns: u64, slot: Slot, share: Share, usage: &Usage) {
        self.sums(table, now_ns, slot).add(share, usage);
    }

    /// What came after a request's log line has used `ns` nanoseconds of CPU.
    #[inline]
    pub fn charge(&mut self, table: &Table, now_ns: u64, slot: Slot, share: Share, ns: u64) {
        let sums = self.sums(table, now_ns, slot);
        sums.usage.cpu_ns += ns;
        sums.set_apart(share, ns);
    }

    /// What a bucket of an account has not got yet, in nanoseconds of CPU; by its place.
    #[inline]
    pub fn pending_ns(&self, slot: Slot, bucket: usize) -> i64 {
        let sums = &self.places[slot.index() % PLACES];
        if sums.slot != Some(slot) {
            return 0;
        }
        sums.apart.counted_ns(bucket, sums.usage.cpu_ns)
    }

    /// What was charged before to a bucket of an account is charged as use now, or was not used.
    pub fn give_back(&mut self, table: &Table, now_ns: u64, slot: Slot, bucket: u8, ns: u64) {
        let sums = self.sums(table, now_ns, slot);
        sums.has_apart = true;
        sums.apart.give_back(bucket, ns);
    }

    /// Requests in flight have held this since it was last told.
    #[inline]
    pub fn hold(&mut self, table: &Table, now_ns: u64, slot: Slot, held: &Held) {
        let sums = self.sums(table, now_ns, slot);
        sums.held = sums.held.plus(held);
    }

    /// A request has ended.
    #[inline]
    pub fn finish(&mut self, table: &Table, now_ns: u64, slot: Slot, share: Share, ended: &Ended) {
        let sums = self.sums(table, now_ns, slot);
        let &Ended { ref usage, classes, cpu_ns, ref span } = ended;
        sums.add(share, usage);
        if sums.classes != classes {
            sums.flush_ended(table, slot);
            sums.classes = classes;
        }
        let bucket = cpu_bucket(cpu_ns);
        if sums.bucket != bucket {
            sums.flush_bucket(table, slot);
            sums.bucket = bucket;
        }
        sums.in_bucket += 1;
        sums.ended.requests += 1;
        sums.ended.cpu_ns += cpu_ns;
        if span.to_ns > span.from_ns {
            sums.held = sums.held.plus(&span.held());
            sums.extend(table, slot, span);
        }
    }

    /// Adds all sums to their accounts.
    #[inline]
    pub fn flush(&mut self, table: &Table, now_ns: u64) {
        while self.used != 0 {
            let at = self.used.trailing_zeros() as usize;
            self.used &= self.used - 1;
            self.places[at].flush(table, now_ns, &mut self.carry);
        }
    }
}

impl Sums {
    #[inline]
    fn add(&mut self, share: Share, usage: &Usage) {
        self.usage = self.usage.plus(usage);
        self.set_apart(share, usage.cpu_ns);
    }

    /// CPU that is part of the sum may be no use.
    #[inline]
    fn set_apart(&mut self, share: Share, ns: u64) {
        if share != Share::Used {
            self.has_apart = true;
            self.apart.add(share, ns);
        }
    }

    /// One of the requests was in flight in this time.
    #[inline]
    fn extend(&mut self, table: &Table, slot: Slot, span: &Span) {
        if span.from_ns > self.span.1 + MS {
            self.cover(table, slot);
            self.span = (span.from_ns, span.to_ns);
        } else {
            // less than a millisecond after the one before: there is no other one between the two
            self.span = (self.span.0.min(span.from_ns), span.to_ns);
        }
    }

    /// Counts the milliseconds of the span.
    #[cold]
    #[inline(never)]
    fn cover(&mut self, table: &Table, slot: Slot) {
        let (from_ns, to_ns) = core::mem::take(&mut self.span);
        if to_ns != 0 {
            table.account(slot).cover(table, from_ns, to_ns);
            self.known = (slot, to_ns / MS * MS);
        }
    }

    #[cold]
    #[inline(never)]
    fn flush(&mut self, table: &Table, now_ns: u64, carry: &mut u64) {
        if let Some(slot) = self.slot {
            let held = core::mem::take(&mut self.held);
            let charges = Charges {
                usage: core::mem::take(&mut self.usage),
                duration_ns: held.duration_ns,
                memory_byte_ms: held.memory.byte_ms(carry),
            };
            if core::mem::take(&mut self.has_apart) {
                let apart = core::mem::take(&mut self.apart);
                table.account(slot).add_charges_apart(table, now_ns / MS, &charges, Some(&apart));
            } else {
                table.account(slot).add_charges(table, now_ns / MS, &charges);
            }
            let (from_ns, to_ns) = self.span;
            if self.known.0 == slot && from_ns >= self.known.1 && to_ns < self.known.1 + MS {
                self.span = (0, 0);
            } else {
                self.cover(table, slot);
            }
            self.flush_ended(table, slot);
            self.flush_bucket(table, slot);
            self.slot = None;
        }
    }

    #[cold]
    #[inline(never)]
    fn flush_ended(&mut self, table: &Table, slot: Slot) {
        let ended = core::mem::take(&mut self.ended);
        if ended.requests != 0 {
            table.account(slot).count(&self.classes, &ended);
        }
    }

    fn flush_bucket(&mut self, table: &Table, slot: Slot) {
        let requests = core::mem::take(&mut self.in_bucket);
        if requests != 0 {
            table.account(slot).count_cpu(self.bucket, requests);
        }
    }
}

#[cfg(test)]
mod tests;
