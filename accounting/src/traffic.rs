//! The traffic log: the counts of each account in an interval, as lines of JSON, each written once.
//!
//! The accounts have totals. A [`Ledger`] beside them, in its own shared memory, has the totals that were written:
//! for each account the counters at its last line. A line is the difference. So counts that could not be written yet
//! are in a later line, and the sums of all lines are the counters.
//!
//! Lines are written in batches. Before a batch is written, the journal of the ledger gets its text, its place in the
//! file and the counters of its accounts. After the write, these counters become the written ones. A writer can be
//! killed at any instruction. The next writer finds the batch in the journal, looks in the file for the part that was
//! written, completes an incomplete line, and continues. Only one writer at a time may use journal and file; the
//! caller ensures that.

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
