//! The traffic log: what each account has counted in an interval, as lines of JSON, each of them written once.
//!
//! The accounts know totals. What of these has been written is known by a [`Ledger`] beside them, in shared memory
//! of its own: for each account the counters as they were in its last line. A line is the difference, so whatever
//! could not be written yet is in a later one, and the sums of all lines are the counters.
//!
//! Lines are written in batches. Before a batch is written, its text, its place in the file and what its accounts
//! have counted by then stand in the ledger's journal; after that, these counters become the ones that were
//! written. A writer can be killed at any instruction: who comes next finds the batch in the journal, looks at the
//! file for how much of it is there, completes a line that was torn, and goes on. Of all writers one at a time may
//! touch journal and file; the caller takes care of that.

mod append;
mod commit;
mod instant;
mod layout;
mod ledger;
mod part;
mod reading;
mod recover;
mod schedule;
mod step;

pub use crate::billing::LOGS;
pub use append::{About, Append, Written};
pub use formats::line::{MAX_INTERVAL_MS, tolerance_ms};
pub use instant::Instant;
pub use layout::{BASELINE_BYTES, BATCH_BYTES, region_bytes};
pub use ledger::{Ledger, name_of};
pub use part::Part;

#[cfg(test)]
use self::{layout::*, reading::*};

#[cfg(test)]
mod tests;
