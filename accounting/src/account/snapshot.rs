//! All counters of an account at one time.

use formats::classes::{RESPONSES, SESSIONS};
use formats::counters::row;

use super::cells::Account;
use super::classes::CPU_BUCKETS;
use super::count::Count;
use super::totals::Totals;
use super::usage::Usage;
use super::view::TableView;
use crate::billing::{BillingMetrics, Signal, WINDOWS};
use crate::limit::{BucketState, DRY_RUN};
use crate::window::Cores;

/// All counters of an account at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// All counters that only grow, in the order of the table.
    pub totals: Totals,
    /// Requests that have ended.
    pub requests: u64,
    /// Their CPU up to their log lines, in nanoseconds.
    pub requests_cpu_ns: u64,
    /// Requests by [`CLASSES`](super::CLASSES).
    pub responses: [u64; 5],
    /// Requests that have ended without a class of status.
    pub other_responses: u64,
    /// All charges: of ended requests, of running ones up to their last flush, and of work after the log line.
    pub usage: Usage,
    /// Requests in flight.
    pub in_flight: u32,
    /// Average CPU cores over the last seconds and minutes.
    pub cores: Cores,
    /// Counts by [`CacheStatus::NAMES`](super::CacheStatus::NAMES).
    pub by_cache_status: [Count; 8],
    /// Counts by [`ORDERS`](super::ORDERS).
    pub by_connection_order: [Count; 4],
    /// Counts by [`SIZES`](super::SIZES).
    pub by_response_size: [Count; 10],
    /// Requests in each bucket of [`CPU_BOUNDS_NS`](super::CPU_BOUNDS_NS), not cumulative, and requests above all
    /// bounds.
    pub by_request_cpu: [u64; CPU_BUCKETS],
    /// Handshakes by [`SESSIONS`].
    pub tls_handshakes: [Count; SESSIONS.len()],
    /// As [`Account::limit`].
    pub limit: Option<BucketState>,
    /// As [`Account::limits`], if there are several limits.
    pub limits: Vec<BucketState>,
    /// Requests that limits refused, by [`DRY_RUN`].
    pub refused: [Count; DRY_RUN.len()],
    /// The billing metrics.
    pub billing: BillingMetrics,
    /// The signals over each of [`WINDOWS`].
    pub signals: [Signal; WINDOWS.len()],
}

impl Snapshot {
    /// Adds the limits of the account. `table` is the table of this account.
    #[must_use]
    pub fn with_limits(mut self, account: &Account, table: &impl TableView, now_ms: u64) -> Snapshot {
        self.limit = account.limit(table, now_ms);
        if account.limits(table, now_ms).nth(1).is_some() {
            self.limits = account.limits(table, now_ms).collect();
        }
        self
    }
}

impl Account {
    /// A copy of all counters, each read once. `epoch` is the table's. Limits are not included: see
    /// [`Snapshot::with_limits`].
    pub fn snapshot(&self, now_ms: u64, epoch: u32) -> Snapshot {
        let peak_cpu_ns = self.billing.read().peak_cpu_ns;
        let totals = self.totals();
        let by_connection_order = totals.counts(ROW_ORDERS);
        let total = Count::sum(&by_connection_order);
        let [responses @ .., other_responses]: [u64; RESPONSES.len()] = totals.numbers(ROW_RESPONSES);
        Snapshot {
            requests: total.requests,
            requests_cpu_ns: total.cpu_ns,
            responses,
            other_responses,
            usage: totals.usage(),
            in_flight: self.in_flight.read(epoch),
            cores: self.cores(now_ms),
            by_cache_status: totals.counts(ROW_CACHE_STATUSES),
            by_connection_order,
            by_response_size: totals.counts(ROW_SIZES),
            by_request_cpu: totals.numbers(ROW_CPU),
            tls_handshakes: totals.counts(ROW_SESSIONS),
            limit: None,
            limits: Vec::new(),
            refused: totals.counts(ROW_REFUSED),
            billing: totals.billing(peak_cpu_ns),
            signals: self.signals(now_ms),
            totals,
        }
    }
}

pub(super) const ROW_RESPONSES: usize = row("responses");

pub(super) const ROW_ORDERS: usize = row("by_connection_order");

pub(super) const ROW_CACHE_STATUSES: usize = row("by_cache_status");

pub(super) const ROW_SIZES: usize = row("by_response_size");

pub(super) const ROW_SESSIONS: usize = row("tls_handshakes");

pub(super) const ROW_CPU: usize = row("by_request_cpu");

pub(super) const ROW_REFUSED: usize = row("limit");
