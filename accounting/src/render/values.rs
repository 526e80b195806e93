//! The values of the status, in the types of the formats.

use formats::prometheus::AccountValues;
use formats::status;

use super::status::{Status, Zone};
use crate::account::{Account, Count, Snapshot};
use crate::billing::{Signal, WINDOWS};
use crate::limit::BucketState;
use crate::table::{Fill, Table};
use crate::window::Cores;
use crate::worker_totals::WorkerTotals;
use crate::workers::Worker;

/// One signal for each of [`WINDOWS`].
pub(super) type Signals = [Signal; WINDOWS.len()];

pub(super) fn server(status: &Status) -> status::Server<'_> {
    status::Server {
        version: status.version.into(),
        nginx_version: status.nginx_version.into(),
        time: (&status.time).into(),
        clock: status.clock.into(),
        max_error_ns: status.max_error_ns,
    }
}

pub(super) fn worker(worker: &Worker) -> status::Worker {
    totals(worker.worker, worker.pid, &worker.totals)
}

/// The totals of a worker. A sum over several processes has the process ID 0.
pub(super) fn totals(worker: u32, pid: u32, totals: &WorkerTotals) -> status::Worker {
    status::Worker {
        worker,
        pid,
        wakeups: totals.wakeups,
        thread_cpu_ns: totals.thread_cpu_ns(),
        charged_ns: totals.charged_ns,
        uncounted_ns: totals.uncounted_ns,
        no_request_ns: totals.no_request_ns,
        loop_ns: totals.loop_ns,
        other_ns: totals.other_ns,
        pool_threads_cpu_ns: totals.pool_threads_cpu_ns,
        pool_threads_charged_ns: totals.pool_threads_charged_ns,
        pending_ns: totals.pending_ns,
        clock_readings: totals.clock_readings,
    }
}

pub(super) fn zone(zone: &Zone, fill: &Fill) -> status::Zone {
    status::Zone {
        size_bytes: zone.size_bytes,
        used_bytes: fill.used_bytes,
        capacity: fill.capacity,
        accounts: fill.accounts,
        overflowed: fill.overflowed,
        cut: fill.cut,
    }
}

fn limit(state: &BucketState) -> status::Limit {
    let BucketState { rate, burst_ns, debt_ns, max_debt_ns, .. } = *state;
    status::Limit { rate, burst_ns, debt_ns, max_debt_ns }
}

pub(super) fn account(snapshot: Snapshot) -> status::Account {
    let Cores { ten_seconds, one_minute, five_minutes } = snapshot.cores;
    status::Account {
        cells: snapshot.totals.0,
        in_flight: snapshot.in_flight,
        cores: [ten_seconds, one_minute, five_minutes],
        peak_cpu_ns: snapshot.billing.peak_cpu_ns,
        limit: snapshot.limit.as_ref().map(limit),
        limits: snapshot.limits.iter().map(limit).collect(),
        windows: snapshot.signals,
    }
}

/// Adds the signals of an account to the sums of its zone.
pub(super) fn add(sums: &mut Signals, signals: &Signals) {
    for (sum, Signal { in_flight, requests_per_second, cores }) in sums.iter_mut().zip(signals) {
        sum.in_flight += in_flight;
        sum.requests_per_second += requests_per_second;
        sum.cores += cores;
    }
}

/// An account whose counters are read one by one.
pub(super) struct Live<'a> {
    pub(super) account: &'a Account,
    /// the table of the account
    pub(super) table: &'a Table,
    /// the monotonic time for limits and windows
    pub(super) now_ms: u64,
}

impl AccountValues for Live<'_> {
    fn cells(&self, row: usize) -> impl Iterator<Item = u64> {
        self.account.row(row)
    }

    fn in_flight(&self) -> u32 {
        self.account.in_flight().read(self.table.epoch())
    }

    fn peak_cpu_ns(&self) -> u64 {
        self.account.billing().read().peak_cpu_ns
    }

    fn ended_cpu_ns(&self) -> u64 {
        Count::sum(&self.account.by_connection_order()).cpu_ns
    }

    fn limit(&self) -> Option<status::Limit> {
        self.account.limit(self.table, self.now_ms).as_ref().map(limit)
    }

    fn windows(&self) -> Signals {
        self.account.signals(self.now_ms)
    }
}
