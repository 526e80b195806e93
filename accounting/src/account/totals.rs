//! A copy of the counters of an account that only grow.

use formats::classes::RESPONSES;
use formats::counters::{CELLS, COUNTERS as TABLE, cell, first_cell};

use super::count::Count;
use super::usage::Usage;
use crate::billing::BillingMetrics;

pub(super) const CPU: usize = cell("cpu_ns");

pub(super) const BILLABLE: usize = cell("billable_cpu_ns");

pub(super) const WAIVED: usize = cell("waived_cpu_ns");

pub(super) const RESPONSE_CELLS: usize = cell("responses");

/// The number of an account's counters that only grow: the cells of the table.
pub const COUNTERS: usize = CELLS;

/// The counters of an account that only grow, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals(pub [u64; COUNTERS]);

impl Totals {
    /// Requests that have ended.
    pub fn requests(&self) -> u64 {
        self.0[RESPONSE_CELLS..RESPONSE_CELLS + RESPONSES.len()].iter().sum()
    }

    /// The usage.
    pub fn usage(&self) -> Usage {
        let [cpu_ns, wakeups, sent_bytes, received_bytes] =
            const { [cell("cpu_ns"), cell("wakeups"), cell("sent_bytes"), cell("received_bytes")] }
                .map(|cell| self.0[cell]);
        Usage { cpu_ns, wakeups, sent_bytes, received_bytes }
    }

    pub(super) fn billing(&self, peak_cpu_ns: u64) -> BillingMetrics {
        BillingMetrics {
            duration_ns: self.0[const { cell("duration_ms") }],
            active_ms: self.0[const { cell("active_ms") }],
            active_seconds: self.0[const { cell("active_seconds") }],
            billable_cpu_ns: self.0[BILLABLE],
            waived_cpu_ns: self.0[WAIVED],
            memory_byte_ms: self.0[const { cell("memory_byte_ms") }],
            peak_cpu_ns,
        }
    }

    /// The cells of the counter at this place of the table; 0 for those that it does not have.
    pub(super) fn numbers<const N: usize>(&self, row: usize) -> [u64; N] {
        let cells = self.row(row);
        core::array::from_fn(|at| cells.get(at).copied().unwrap_or(0))
    }

    /// The tallies of the counter at this place of the table.
    pub(super) fn counts<const N: usize>(&self, row: usize) -> [Count; N] {
        let (tallies, _) = self.row(row).as_chunks();
        let read = |&[requests, cpu_ns]: &[u64; 2]| Count { requests, cpu_ns };
        core::array::from_fn(|at| tallies.get(at).map_or(Count::default(), read))
    }

    /// The cells of the counter at this place of the table.
    pub fn row(&self, row: usize) -> &[u64] {
        let cells = TABLE.get(row).map_or(0, |counter| counter.shape.cells());
        self.0.get(first_cell(row)..).and_then(|rest| rest.get(..cells)).unwrap_or_default()
    }
}

/// Names of the counters of an account that only grow, in the order of [`Totals`].
pub fn counter_names() -> impl Iterator<Item = String> {
    let mut columns = formats::state::columns();
    columns.sort_by_key(|&(_, cell)| cell);
    columns.into_iter().map(|(name, _)| name)
}
