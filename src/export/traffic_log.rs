//! The traffic log: `request_cpu_log PATH zone=NAME [interval=TIME]`.
//!
//! [`accounting::traffic`] defines the lines, and prevents losses if a writer is killed. This folder defines which
//! process writes, when, and into which file. Each log has a ledger in its own shared memory. Like the accounts, it
//! outlives reloads and binary upgrades ([`crate::persist::memory`]).
//!
//! At the end of an interval, all workers check whether a log is due. A compare-and-swap in the ledger selects one of
//! them to write. If that worker has not written after a second, another one is selected. A robust mutex in the ledger
//! prevents a second writer while the first one writes. No worker waits for the mutex. Its owner is the writing
//! thread. The kernel releases the mutex when this thread ends, for whatever reason, and at no other time
//! (`set_robust_list(2)`). A writer may hang because its disk hangs, and it may continue at any time, so other workers
//! do not write in the meantime. The usage that is counted in the meantime stays in the accounts.
//!
//! When NGINX ends, its master writes the rest, after its workers have ended. The master also writes the rest when a
//! reload removes a log. A worker that was told to finish leaves writing to its successors. If its successors have
//! other accounts, it writes itself, since no other process would.

pub mod file;
pub mod job;
pub mod last;
pub mod lock;
pub mod log;
pub mod memory;
pub mod writer;
