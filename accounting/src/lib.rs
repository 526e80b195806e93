//! The pure part of the module: no NGINX, no I/O, no global state.
//!
//! Data flows one way. A [`meter::Meter`] divides the worker's CPU time into laps. A lap is charged to a request
//! ([`request::RequestMeter`]) and to the worker's [`worker_totals::WorkerTotals`]. The usage of a request is added
//! to its accounts ([`account::Account`]) in a shared [`table::Table`]. A reader renders the tables ([`render`]). A
//! file keeps the accounts when the memory of a table is gone ([`state`]). The traffic log gets the counts of each
//! interval ([`traffic`]).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub use formats::key;

pub mod account;
pub mod account_set;
pub mod arguments;
pub mod billing;
pub mod gauge;
pub mod in_flight;
pub mod limit;
pub mod meter;
pub mod parameters;
pub mod pending_charges;
pub mod pool;
pub mod process;
pub mod render;
pub mod request;
pub mod state;
pub mod table;
pub mod threshold;
pub mod traffic;
pub mod window;
pub mod worker_totals;
pub mod workers;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod testing;
