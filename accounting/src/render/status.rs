//! The data that an answer shows.

use formats::counters::Detail;

use crate::key::Cut;
use crate::table::{Slot, Table};
use crate::worker_totals::WorkerTotals;
use crate::workers::Worker;

/// One zone, and the accounts of it that are shown.
pub struct Zone {
    /// its name in the configuration
    pub name: String,
    /// size of its shared memory
    pub size_bytes: u64,
    /// its accounts
    pub table: Table,
    /// the selected account; if none, all accounts that the zone has when the answer begins
    pub only: Option<Only>,
}

/// The account of one key, requested by the key or by its shown form.
#[derive(Debug, Default, Clone)]
pub struct Only {
    /// the account with this key
    pub slot: Option<Slot>,
    /// The account whose key is shown like this. It is searched among all keys, and may exist in addition to `slot`.
    pub shown_as: Option<Cut>,
}

/// All data that is shown.
pub struct Status {
    /// version of the module
    pub version: &'static str,
    /// version of NGINX, like `1.28.3`
    pub nginx_version: &'static str,
    /// UTC, like `2026-01-31T12:00:00.000Z`
    pub time: String,
    /// name of the clock
    pub clock: &'static str,
    /// largest error of a lap in nanoseconds
    pub max_error_ns: u64,
    /// living worker processes
    pub workers: Vec<Worker>,
    /// sums by worker number, including processes that have ended
    pub worker_totals: Vec<(u32, WorkerTotals)>,
    /// zones, in the order of the configuration
    pub zones: Vec<Zone>,
    /// level of detail
    pub detail: Detail,
}
