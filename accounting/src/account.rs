//! The account of one key: counters in shared memory that all workers add to with relaxed atomics.

mod add;
mod cells;
mod classes;
mod count;
mod count_requests;
mod limits;
mod memory;
mod read;
mod snapshot;
mod totals;
mod usage;
mod view;

pub use cells::Account;
pub use classes::{CLASSES, CacheStatus, Classes, Handshake, Outcome, cpu_bucket, size_class};
pub use count::Count;
pub use formats::classes::{CPU_BOUNDS_NS, ORDERS, SESSIONS, SIZES};
pub(crate) use memory::{account_bytes, read_totals};
pub use snapshot::Snapshot;
pub use totals::{COUNTERS, Totals, counter_names};
pub use usage::{Charges, Usage};
pub use view::TableView;

#[cfg(test)]
pub(crate) mod tests;
