//! Reading the counters of an account.

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
    /// Reads cells, each given by its place in the table and its place there.
    pub fn read_cells<const N: usize>(&self, cells: [(usize, usize); N]) -> [u64; N] {
        let rows = self.rows();
        cells.map(|(row, at)| {
            rows.get(row).and_then(|cells| cells.get(at)).map_or(0, |cell| cell.load(Relaxed))
        })
    }

    /// The counter at this place of the table, by its cells.
    pub fn row(&self, row: usize) -> impl Iterator<Item = u64> {
        let cells = self.rows().get(row).copied().unwrap_or_default();
        cells.iter().map(|cell| cell.load(Relaxed))
    }

    /// All counters, each read once.
    pub fn totals(&self) -> Totals {
        let mut totals = [0; COUNTERS];
        let mut rest = &mut totals[..];
        // from the end: CPU of seconds that are over, which comes later in the table, is read before all CPU, so
        // that it is not more
        for counters in self.rows().into_iter().rev() {
            let (before, cells) = rest.split_at_mut(rest.len().saturating_sub(counters.len()));
            for (cell, counter) in cells.iter_mut().zip(counters) {
                *cell = counter.load(Relaxed);
            }
            rest = before;
        }
        Totals(totals)
    }

    /// Adds what an account before this one has counted. It is in no window: its CPU is not of the last minutes.
    ///
    /// CPU that was in no second that was over is waived: that of the second in which it was last saved, or of a
    /// time when seconds were not counted.
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

    /// Requests that are open, over all workers.
    pub fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// What was added.
    pub fn usage(&self) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.load(Relaxed),
            wakeups: self.wakeups.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
        }
    }

    /// Requests that ended, as [`CLASSES`](super::CLASSES); the last one: no class.
    pub fn responses(&self) -> [u64; CLASSES.len() + 1] {
        self.responses.each_ref().map(|requests| requests.load(Relaxed))
    }

    /// As [`CacheStatus::NAMES`](super::CacheStatus::NAMES).
    pub fn by_cache_status(&self) -> [Count; 8] {
        self.by_cache.each_ref().map(read_tally)
    }

    /// As [`ORDERS`](super::ORDERS).
    pub fn by_connection_order(&self) -> [Count; 4] {
        self.by_order.each_ref().map(read_tally)
    }

    /// As [`SIZES`](super::SIZES).
    pub fn by_response_size(&self) -> [Count; 10] {
        self.by_size.each_ref().map(read_tally)
    }

    /// TLS handshakes of connections whose first request has ended, as [`SESSIONS`](super::SESSIONS).
    pub fn tls_handshakes(&self) -> [Count; SESSIONS.len()] {
        self.by_session.each_ref().map(read_tally)
    }

    /// Requests per bucket, not cumulative: as [`CPU_BOUNDS_NS`](super::CPU_BOUNDS_NS), then those above.
    pub fn by_request_cpu(&self) -> [u64; CPU_BUCKETS] {
        self.by_cpu.each_ref().map(|requests| requests.load(Relaxed))
    }

    /// What other ways to charge than by CPU need to know.
    pub fn billing(&self) -> &billing::Sums {
        &self.billing
    }

    /// What an autoscaler looks at, over each of [`WINDOWS`]. To be read after
    /// [`Table::refresh`](crate::table::Table::refresh).
    pub fn signals(&self, now_ms: u64) -> [Signal; WINDOWS.len()] {
        self.signals.read(now_ms, &self.windows, self.second.read(now_ms / 1000))
    }

    /// CPU cores over the last time.
    pub fn cores(&self, now_ms: u64) -> Cores {
        self.windows.cores(now_ms, self.second.read(now_ms / 1000))
    }

    /// Nothing was ever counted, and nothing is open. `epoch` is the table's.
    pub fn is_untouched(&self, epoch: u32) -> bool {
        self.usage() == Usage::default()
            && self.responses.iter().all(|requests| requests.load(Relaxed) == 0)
            && self.in_flight.read(epoch) == 0
    }
}
