//! Reads the counters of an account.

use core::sync::atomic::Ordering::Relaxed;

use formats::classes::SESSIONS;

use super::cells::Account;
use super::classes::{CLASSES, CPU_BUCKETS};
use super::count::{Count, read_tally};
use super::totals::{BILLABLE, COUNTERS, CPU, Totals, WAIVED};
use super::usage::Usage;
use crate::billing::{self, Signal, WINDOWS};
use crate::gauge::Gauge;
use crate::window::Cores;

impl Account {
    /// Reads cells, each given by the place of its counter in the table and its place in the counter.
    pub fn read_cells<const N: usize>(&self, cells: [(usize, usize); N]) -> [u64; N] {
        let rows = self.rows();
        cells.map(|(row, at)| {
            rows.get(row).and_then(|cells| cells.get(at)).map_or(0, |cell| cell.load(Relaxed))
        })
    }

    /// The cells of the counter at this place of the table.
    pub fn row(&self, row: usize) -> impl Iterator<Item = u64> {
        let cells = self.rows().get(row).copied().unwrap_or_default();
        cells.iter().map(|cell| cell.load(Relaxed))
    }

    /// All counters, each read once.
    pub fn totals(&self) -> Totals {
        let mut totals = [0; COUNTERS];
        let mut rest = &mut totals[..];
        // from the end: the CPU of seconds that are over comes later in the table and is read before all CPU, so it
        // is never more than all CPU
        for counters in self.rows().into_iter().rev() {
            let (before, cells) = rest.split_at_mut(rest.len().saturating_sub(counters.len()));
            for (cell, counter) in cells.iter_mut().zip(counters) {
                *cell = counter.load(Relaxed);
            }
            rest = before;
        }
        Totals(totals)
    }

    /// Adds the counters of an earlier account. They are in no window: their CPU is not of the last minutes.
    ///
    /// CPU that was not in a finished second is waived: the CPU of the second in which the account was last saved, or
    /// of a time when seconds were not counted.
    pub fn restore(&self, totals: &Totals) {
        let mut totals = totals.0;
        let unjudged_ns = totals[CPU].saturating_sub(totals[BILLABLE]);
        totals[WAIVED] = totals[WAIVED].max(unjudged_ns);
        let counters = self.rows().into_iter().flatten();
        for (counter, total) in counters.zip(totals).filter(|&(_, total)| total != 0) {
            counter.fetch_add(total, Relaxed);
        }
        let requests = self.by_order.iter().map(|tally| tally[0].load(Relaxed)).sum();
        self.signals.skip(requests, self.billing.duration_ns.load(Relaxed));
    }

    /// Requests in flight, over all workers.
    pub fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// The usage that was added.
    pub fn usage(&self) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.load(Relaxed),
            wakeups: self.wakeups.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
        }
    }

    /// Requests that have ended, by [`CLASSES`]; the last number counts requests without a class.
    pub fn responses(&self) -> [u64; CLASSES.len() + 1] {
        self.responses.each_ref().map(|requests| requests.load(Relaxed))
    }

    /// Counts by [`CacheStatus::NAMES`](super::CacheStatus::NAMES).
    pub fn by_cache_status(&self) -> [Count; 8] {
        self.by_cache.each_ref().map(read_tally)
    }

    /// Counts by [`ORDERS`](super::ORDERS).
    pub fn by_connection_order(&self) -> [Count; 4] {
        self.by_order.each_ref().map(read_tally)
    }

    /// Counts by [`SIZES`](super::SIZES).
    pub fn by_response_size(&self) -> [Count; 10] {
        self.by_size.each_ref().map(read_tally)
    }

    /// TLS handshakes of connections whose first request has ended, by [`SESSIONS`].
    pub fn tls_handshakes(&self) -> [Count; SESSIONS.len()] {
        self.by_session.each_ref().map(read_tally)
    }

    /// Requests in each bucket of [`CPU_BOUNDS_NS`](super::CPU_BOUNDS_NS), not cumulative, and requests above all
    /// bounds.
    pub fn by_request_cpu(&self) -> [u64; CPU_BUCKETS] {
        self.by_cpu.each_ref().map(|requests| requests.load(Relaxed))
    }

    /// The billing metrics.
    pub fn billing(&self) -> &billing::Sums {
        &self.billing
    }

    /// The signals for autoscalers over each of [`WINDOWS`]. Call [`Table::refresh`](crate::table::Table::refresh)
    /// before.
    pub fn signals(&self, now_ms: u64) -> [Signal; WINDOWS.len()] {
        self.signals.read(now_ms, &self.windows, self.second.read(now_ms / 1000))
    }

    /// Average CPU cores over the last seconds and minutes.
    pub fn cores(&self, now_ms: u64) -> Cores {
        self.windows.cores(now_ms, self.second.read(now_ms / 1000))
    }

    /// True if nothing was ever counted, and no request is in flight. `epoch` is the table's.
    pub fn is_untouched(&self, epoch: u32) -> bool {
        self.usage() == Usage::default()
            && self.responses.iter().all(|requests| requests.load(Relaxed) == 0)
            && self.in_flight.read(epoch) == 0
    }
}
