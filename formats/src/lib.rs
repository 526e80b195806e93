//! The formats that the module writes and `cpu-report` reads.
//!
//! [`counters`] is the table of all counters of an account. Everything else about accounts follows from it: the
//! members of the status document ([`status`]), the families of Prometheus ([`prometheus`]), the line of the traffic
//! log ([`mod@line`]), the columns of the state file ([`state`]), the types of the live page and the reference
//! documentation ([`mod@reference`]). Names, order and units of all else in these formats are declared here too.
//! `accounting` only delivers values.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod classes;
mod counter;
pub mod counters;
pub mod key;
pub mod line;
pub mod prometheus;
pub mod reference;
pub mod state;
pub mod status;
mod table;
pub mod version;

pub use version::VERSION;
