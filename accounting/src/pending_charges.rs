//! Charges of one worker that it has not added to its accounts yet.
//!
//! An atomic addition costs as much as about twenty plain additions, and a request needs more than a dozen of them.
//! So a worker sums up the charges of an account in its own memory during one turn of the event loop. It adds them
//! when the turn ends.

use crate::account::{Charges, Classes, Count, Usage, cpu_bucket};
use crate::billing::{Held, Span};
use crate::limit::{Apart, Share};
use crate::table::{Slot, Table};

/// A millisecond in nanoseconds.
const MS: u64 = 1_000_000;

/// The most accounts that are summed up at the same time. A worker with more accounts in one turn flushes more often.
const PLACES: usize = 16;

/// Sums for one account.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// none: this place is empty
    slot: Option<Slot>,
    usage: Usage,
    /// `apart` is not empty
    has_apart: bool,
    /// the part of the CPU that counts only in some of the limits
    apart: Apart,
    /// requests that have ended, all of the same classes
    classes: Classes,
    ended: Count,
    /// the bucket of their CPU; it changes more often
    bucket: u8,
    in_bucket: u64,
    held: Held,
    /// the time of requests that were never in a gauge, in nanoseconds; the second number is 0 if there is none
    span: (u64, u64),
    /// an account, and the start in nanoseconds of a millisecond that is already recorded as active
    known: (Slot, u64),
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// the usage since the last charge
    pub usage: Usage,
    /// its classes
    pub classes: Classes,
    /// nanoseconds of CPU of the whole request
    pub cpu_ns: u64,
    /// its time, without the time in which [`crate::in_flight::InFlight`] has known it
    pub span: Span,
}

/// One worker's sums for the accounts of one table.
#[derive(Debug, Default)]
pub struct PendingCharges {
    /// bits of the places that are in use
    used: u32,
    /// the remainder below a byte for a millisecond, of any account
    carry: u64,
    // an account has one place, which it shares with other accounts
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

    /// Adds usage of a request. `now_ns` is the time of the clock that all workers share, in nanoseconds.
    #[inline]
    pub fn add(&mut self, table: &Table, now_ns: u64, slot: Slot, share: Share, usage: &Usage) {
        self.sums(table, now_ns, slot).add(share, usage);
    }

    /// Adds the CPU of work after a request's log line, in nanoseconds.
    #[inline]
    pub fn charge(&mut self, table: &Table, now_ns: u64, slot: Slot, share: Share, ns: u64) {
        let sums = self.sums(table, now_ns, slot);
        sums.usage.cpu_ns += ns;
        sums.set_apart(share, ns);
    }

    /// CPU that has not been added yet to this bucket of an account, in nanoseconds.
    #[inline]
    pub fn pending_ns(&self, slot: Slot, bucket: usize) -> i64 {
        let sums = &self.places[slot.index() % PLACES];
        if sums.slot != Some(slot) {
            return 0;
        }
        sums.apart.counted_ns(bucket, sums.usage.cpu_ns)
    }

    /// Takes back CPU that a check has charged to a bucket: it is charged as use now, or was not used.
    pub fn give_back(&mut self, table: &Table, now_ns: u64, slot: Slot, bucket: u8, ns: u64) {
        let sums = self.sums(table, now_ns, slot);
        sums.has_apart = true;
        sums.apart.give_back(bucket, ns);
    }

    /// Adds memory and duration of requests in flight since the last report.
    #[inline]
    pub fn hold(&mut self, table: &Table, now_ns: u64, slot: Slot, held: &Held) {
        let sums = self.sums(table, now_ns, slot);
        sums.held = sums.held.plus(held);
    }

    /// Counts a request that has ended.
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

    /// Removes CPU from the use that all limits count.
    #[inline]
    fn set_apart(&mut self, share: Share, ns: u64) {
        if share != Share::Used {
            self.has_apart = true;
            self.apart.add(share, ns);
        }
    }

    /// Records that one of the requests was in flight in this time.
    #[inline]
    fn extend(&mut self, table: &Table, slot: Slot, span: &Span) {
        if span.from_ns > self.span.1 + MS {
            self.cover(table, slot);
            self.span = (span.from_ns, span.to_ns);
        } else {
            // less than a millisecond after the last one: no other millisecond lies between them
            self.span = (self.span.0.min(span.from_ns), span.to_ns);
        }
    }

    /// Counts the milliseconds of the span as active.
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
