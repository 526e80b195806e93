//! The accounts and the worker totals for readers: as JSON and in Prometheus' text format.
//!
//! Hundreds of thousands of accounts are hundreds of megabytes of text, and most of a second of work. So an [`Answer`]
//! is written in small steps. Between the steps, the caller may send the text so far, or do other work. The answer
//! stores its position and one bit for each slot to be shown. Nothing else grows with the number of accounts. Each
//! account is read when it is written. In Prometheus' format it is read once for each family.

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
