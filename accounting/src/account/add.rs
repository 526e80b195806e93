//! Additions to an account.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::cells::Account;
use super::usage::{Charges, Usage};
use super::view::TableView;
use crate::limit::{Apart, DRY_RUN};
use crate::threshold::ACTIVE_THRESHOLD_NS;
use crate::window::Over;

/// The most CPU that a thread can use in a second, in nanoseconds.
pub(super) const SECOND_NS: u64 = 1_000_000_000;

impl Account {
    /// Adds the usage of a request. `now_ms` is the time of the monotonic clock that all workers share. The default
    /// threshold for active seconds applies.
    pub fn add(&self, now_ms: u64, usage: &Usage) {
        self.add_shares(now_ms, usage, &[0; DRY_RUN.len()]);
    }

    /// As [`Account::add`]. `refused_ns` is the CPU of refused requests, in the order of [`DRY_RUN`].
    pub fn add_shares(&self, now_ms: u64, usage: &Usage, refused_ns: &[u64; DRY_RUN.len()]) {
        let apart = refused_ns.iter().any(|&ns| ns != 0).then(|| Apart::refused(*refused_ns));
        let charges = Charges { usage: *usage, ..Charges::default() };
        self.add_all(None, now_ms, &charges, apart.as_ref(), || ACTIVE_THRESHOLD_NS);
    }

    /// Adds charges of requests. `table` is the table of this account. `now_ms` is the time of the clock that all
    /// workers share.
    #[inline]
    pub fn add_charges(&self, table: &impl TableView, now_ms: u64, charges: &Charges) {
        self.add_charges_apart(table, now_ms, charges, None);
    }

    /// As [`Account::add_charges`]. The CPU in `apart` counts only in some of the limits.
    #[inline]
    pub fn add_charges_apart(
        &self,
        table: &impl TableView,
        now_ms: u64,
        charges: &Charges,
        apart: Option<&Apart>,
    ) {
        self.add_all(Some(table), now_ms, charges, apart, || table.active_threshold_ns());
    }

    #[inline]
    pub(super) fn add_all(
        &self,
        table: Option<&dyn TableView>,
        now_ms: u64,
        charges: &Charges,
        apart: Option<&Apart>,
        threshold_ns: impl Fn() -> u64,
    ) {
        let add = |counter: &AtomicU64, value: u64| {
            if value != 0 {
                counter.fetch_add(value, Relaxed);
            }
        };
        let Charges { usage, duration_ns, memory_byte_ms } = charges;
        if let Some(apart) = apart {
            self.add_limited(table, now_ms, usage.cpu_ns, apart);
        } else if usage.cpu_ns != 0 {
            if self.bucket.is_live() {
                self.add_limited(table, now_ms, usage.cpu_ns, &Apart::default());
            } else {
                self.cpu_ns.fetch_add(usage.cpu_ns, Relaxed);
            }
        }
        // After the sum that contains this CPU. And before new CPU is mixed with the CPU of the second that is over.
        if usage.cpu_ns >= SECOND_NS {
            self.add_seconds(now_ms, usage.cpu_ns, threshold_ns());
        } else if usage.cpu_ns | duration_ns != 0
            && let Some(over) = self.second.add(now_ms / 1000, usage.cpu_ns)
        {
            self.judge(over, threshold_ns());
        }
        add(&self.billing.duration_ns, *duration_ns);
        add(&self.billing.memory_byte_ms, *memory_byte_ms);
        add(&self.wakeups, usage.wakeups);
        add(&self.sent_bytes, usage.sent_bytes);
        add(&self.received_bytes, usage.received_bytes);
    }

    /// More than a second of CPU was not used within this second alone. Each whole second of CPU counts as a second
    /// that is over.
    #[cold]
    #[inline(never)]
    pub(super) fn add_seconds(&self, now_ms: u64, ns: u64, threshold_ns: u64) {
        let (second, whole) = (now_ms / 1000, ns / SECOND_NS);
        if let Some(over) = self.second.add(second, ns % SECOND_NS) {
            self.judge(over, threshold_ns);
        }
        self.windows.add(Over { second, ns: whole * SECOND_NS });
        self.billing.judge_all(whole, SECOND_NS, threshold_ns);
    }

    /// Counts a second that is over.
    #[cold]
    #[inline(never)]
    pub(super) fn judge(&self, over: Over, threshold_ns: u64) {
        if over.ns != 0 {
            self.windows.add(over);
            self.billing.judge(over.ns, threshold_ns);
        }
        self.close_signals(over.second);
    }

    pub(super) fn close_signals(&self, second: u64) {
        self.signals.close_second(second, || {
            let requests = self.by_order.iter().map(|tally| tally[0].load(Relaxed)).sum();
            (requests, self.billing.duration_ns.load(Relaxed))
        });
    }

    /// Updates the values that depend on time: see [`Table::refresh`](crate::table::Table::refresh).
    pub(crate) fn refresh(&self, table: &impl TableView, now_ms: u64) {
        if self.in_flight.read(table.epoch()) != 0 {
            self.cover_on(now_ms);
        }
        let second = now_ms / 1000;
        let open = self.second.read(second);
        if let Some(over) = self.second.close(second) {
            self.judge(over, table.active_threshold_ns());
        } else if open.second < second {
            // no CPU, but possibly requests in flight
            self.close_signals(open.second);
        }
    }

    /// Counts the last second, when all processes have stopped counting: see
    /// [`Table::conclude`](crate::table::Table::conclude).
    pub(crate) fn conclude(&self, threshold_ns: u64) {
        self.billing.judge(self.second.close_last(), threshold_ns);
    }

    /// Counts active time up to `now_ms`: a request has been in flight since the last counted millisecond.
    pub(crate) fn cover_on(&self, now_ms: u64) {
        self.billing.cover(now_ms, now_ms + 1, || true);
    }

    /// Counts active time between these times, in nanoseconds: a request was in flight.
    #[inline]
    pub(crate) fn cover(&self, table: &impl TableView, from_ns: u64, to_ns: u64) {
        let begun = || self.in_flight.read(table.epoch()) != 0;
        self.billing.cover(from_ns / 1_000_000, to_ns / 1_000_000 + 1, begun);
    }

    /// Adds CPU to the buckets of limits.
    #[inline(never)]
    pub(super) fn add_limited(&self, table: Option<&dyn TableView>, now_ms: u64, cpu_ns: u64, apart: &Apart) {
        for (n, bucket) in self.buckets(table).enumerate() {
            bucket.add(now_ms, apart.counted_ns(n, cpu_ns));
        }
        // before the sum that contains them
        for (refused, &ns) in self.refused.iter().zip(&apart.refused_ns).filter(|&(_, &ns)| ns != 0) {
            refused[1].fetch_add(ns, Relaxed);
        }
        self.cpu_ns.fetch_add(cpu_ns, Relaxed);
    }

    /// Adds to a counter of one cell, by its place in the table: see [`formats::counters::row`].
    pub fn add_to(&self, row: usize, value: u64) {
        if let Some([cell]) = self.rows().get(row) {
            cell.fetch_add(value, Relaxed);
        }
    }
}
