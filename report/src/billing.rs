//! Billing: price plans, usage, and the price of each domain. `bill` and `compare` use it.

pub mod book;
pub mod charge;
pub mod decimal;
mod fields;
mod file;
mod logged;
mod metric;
pub mod parts;
pub mod plan;
mod pool;
mod quantity;
mod reader;
mod scraped;
pub mod source;
pub mod tiers;

use std::path::PathBuf;

pub use file::read as read_plan;
use plan::Plan;
#[cfg(test)]
pub use reader::parse as parse_plan;
use source::{Read, Source};

/// Reads the accounts that the plans need. `is_raw`: names are as they are in the log.
pub fn read(source: &Source, files: &[PathBuf], plans: &[Plan], is_raw: bool) -> anyhow::Result<Read> {
    source.range.set_zone();
    match source.scrape.url()? {
        Some(url) => scraped::read(source, url, plans),
        None => logged::read(source, files, plans, is_raw),
    }
}
