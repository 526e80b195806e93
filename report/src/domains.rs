//! `cpu-report domains`: the usage of each domain.

mod args;
mod domain;
mod fleet;
mod logs;
mod report;
mod store;
mod table;

use std::process::ExitCode;

use crate::output::Wrong;
pub use args::Args;

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.output.columns.is_empty() && (args.cores || args.seconds) {
        return Err(Wrong("--columns cannot be used with --cores or --seconds".to_owned()).into());
    }
    args.output.check(&table::columns())?;
    args.range.set_zone();
    match args.scrape.url()? {
        Some(url) => fleet::read(args, url),
        None => logs::read(args),
    }
}
