//! The traffic log: `request_cpu_log PATH zone=NAME [interval=TIME]`.
//!
//! What is written, and how a writer that was killed loses nothing, is in [`accounting::traffic`]; here is who
//! writes, when, and where. Each log has a ledger in shared memory of its own, which outlives reloads and
//! binary upgrades as the accounts do ([`crate::persist::memory`]).
//!
//! All workers look at the end of an interval whether there is something to be done, and a compare-and-swap in
//! the ledger tells one of them to do it; if it has not done it a second later, another one is told so. That
//! this is not a second one while the first one writes is seen to by a robust mutex of the ledger, which nobody
//! waits for: its owner is a thread that writes, and the kernel takes it from a thread that has ended, however
//! that came, and from no other (`set_robust_list(2)`). So a writer that hangs, since its disk does, is waited
//! for: it may go on writing at any time. What was counted meanwhile stays in the accounts.
//!
//! When NGINX ends, its master writes what is left, after its workers; so it does when a reload removes a log.
//! A worker that was told to finish leaves writing to its successors; unless they have other accounts, since
//! then nobody else would do it.

pub mod file;
pub mod job;
pub mod last;
pub mod lock;
pub mod log;
pub mod memory;
pub mod writer;
