//! Everything that an answer shows.

use formats::counters::Detail;

use crate::key::Cut;
use crate::table::{Slot, Table};
use crate::worker_totals::WorkerTotals;
use crate::workers::Worker;

/// One zone, and which of its accounts are shown.
pub struct Zone {
    /// its name in the configuration
    pub name: String,
    /// size of its shared memory
    pub size_bytes: u64,
    /// its accounts
    pub table: Table,
    /// what is shown of it; otherwise it is all that the zone has when the answer begins
    pub only: Option<Only>,
}

/// The account of one key, asked for by the key or by its shown form.
#[derive(Debug, Default, Clone)]
pub struct Only {
    /// of this key
    pub slot: Option<Slot>,
    /// Of the key that is shown like this. It is looked for among all keys, and may be there besides the other one.
    pub shown_as: Option<Cut>,
}

/// All that is shown.
pub struct Status {
    /// the module's
    pub version: &'static str,
    /// as `1.28.3`
    pub nginx_version: &'static str,
    /// UTC, as `2026-01-31T12:00:00.000Z`
    pub time: String,
    /// name of the clock
    pub clock: &'static str,
    /// largest error of a lap in nanoseconds
    pub max_error_ns: u64,
    /// worker processes that live
    pub workers: Vec<Worker>,
    /// sums by number of the worker, processes that are gone included
    pub worker_totals: Vec<(u32, WorkerTotals)>,
    /// zones, in the order of the configuration
    pub zones: Vec<Zone>,
    /// how much is shown
    pub detail: Detail,
}
