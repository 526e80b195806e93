//! Prometheus: the counters of a fleet, read through its HTTP API.

mod answer;
mod client;
mod counters;
mod gaps;
mod growth;
mod matcher;
mod overlap;
mod promql;
mod scrape;

pub use counters::{CPU, Counter, REQUESTS, SENT};
pub use scrape::Scrape;
