//! What a reader gets to see: the accounts and the books as JSON and in Prometheus' text format.

use std::borrow::Cow;
use std::io;

use crate::account::Snapshot;
use crate::books::Books;
use crate::table::{Slot, Table};
use crate::workers::Worker;

mod json;
pub mod negotiate;
mod prometheus;

/// How much is shown of an account.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    #[default]
    Full,
    /// No histograms and no breakdowns.
    Low,
}

/// One zone, and the accounts of it that are shown.
pub struct Zone<'a> {
    /// its name in the configuration
    pub name: Cow<'a, str>,
    /// size of its shared memory
    pub size_bytes: u64,
    /// its accounts
    pub table: Table,
    /// which of them are shown, each once; an overflow account that nothing was counted in is left out all the same
    pub slots: Vec<Slot>,
}

/// All that is shown.
pub struct Status<'a> {
    /// the module's
    pub version: &'a str,
    /// as `1.28.3`
    pub nginx_version: &'a str,
    /// UTC, as `2026-01-31T12:00:00.000Z`
    pub time: &'a str,
    /// name of the clock
    pub clock: &'a str,
    /// largest error of a lap in nanoseconds
    pub max_error_ns: u64,
    /// monotonic milliseconds, as the accounts' windows know them
    pub now_ms: u64,
    /// worker processes that live
    pub workers: Vec<Worker>,
    /// sums by number of the worker, processes that are gone included
    pub worker_totals: Vec<(u32, Books)>,
    /// zones, in the order of the configuration
    pub zones: Vec<Zone<'a>>,
    /// how much is shown
    pub detail: Detail,
}

/// Writes the status as JSON.
///
/// # Errors
/// Those of `out`.
pub fn json(status: &Status<'_>, out: impl io::Write) -> io::Result<()> {
    json::write(status, out)
}

/// Writes the status in Prometheus' text format 0.0.4.
///
/// # Errors
/// Those of `out`, and [`io::ErrorKind::OutOfMemory`] if the accounts do not fit into memory.
pub fn prometheus(status: &Status<'_>, out: impl io::Write) -> io::Result<()> {
    prometheus::write(status, out)
}

/// Writes why there is no status: a JSON object with the member `error`, or a line of text.
///
/// # Errors
/// Those of `out`.
pub fn error(format: negotiate::Format, message: &str, mut out: impl io::Write) -> io::Result<()> {
    match format {
        negotiate::Format::Json => {
            out.write_all(b"{\"error\":")?;
            serde_json::to_writer(&mut out, message)?;
            out.write_all(b"}\n")
        }
        negotiate::Format::Prometheus => writeln!(out, "{message}"),
    }
}

/// The accounts of a zone that are shown, each read once, when its turn comes. An overflow account that nothing was
/// ever counted in is left out.
fn shown<'a>(zone: &'a Zone<'_>, now_ms: u64) -> impl Iterator<Item = (&'a [u8], Snapshot)> {
    let table = &zone.table;
    let epoch = table.epoch();
    zone.slots
        .iter()
        .map(move |&slot| (slot, table.account(slot).snapshot(now_ms, epoch)))
        .filter(|(slot, snapshot)| *slot != Slot::OVERFLOW || !snapshot.is_untouched())
        .map(|(slot, snapshot)| (table.key(slot), snapshot))
}

#[cfg(test)]
mod tests;
