//! The formats that the module writes and `cpu-report` reads.
//!
//! [`counters`] is the table of all counters of an account. Everything else follows from it: the members of the
//! status ([`status`]), the line of the traffic log ([`mod@line`]), the columns of the state file ([`state`]), the
//! families of Prometheus, the types of the live page and the reference documentation ([`mod@reference`]).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod classes;
mod counter;
pub mod counters;
pub mod key;
pub mod line;
pub mod reference;
pub mod state;
pub mod status;
mod table;

/// The version of the formats: of the status document and of the traffic log's line.
pub const VERSION: u32 = 1;
