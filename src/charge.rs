//! This layer adds laps to requests, accounts and limits.
//!
//! [`worker`] holds the state of a worker process. The other files add the methods for one kind of event each.
//! [`charging`] implements the traits of the layer below.

pub mod accounts;
pub mod charging;
mod connected;
pub mod connections;
pub mod context;
mod counted_by;
mod in_flight;
pub mod limit;
pub mod lookup;
mod multiplex;
pub mod phases;
pub mod process;
pub mod reading;
mod requests;
mod share;
mod stream;
mod unnoticed;
pub mod verdict;
pub mod worker;
