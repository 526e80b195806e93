//! What a reader gets to see: the accounts and the worker totals as JSON and in Prometheus' text format.
//!
//! Hundreds of thousands of accounts are hundreds of megabytes of text, and most of a second of work. So an
//! [`Answer`] is written in small steps, between which the caller may send what there is, or do something else. It
//! knows its place and the slots to be shown, a bit for each: nothing grows with the number of accounts but that.
//! Each account is read when it is written, in Prometheus' format once for each family.

mod answer;
mod json;
pub mod negotiate;
mod prometheus;
mod shown;
mod status;
pub mod turns;
mod values;

pub use answer::{Answer, error};
pub use formats::counters::Detail;
pub use status::{Only, Status, Zone};

#[cfg(test)]
mod tests;
