//! `cpu-report factors`: what makes requests dear.

use std::process::ExitCode;

/// The arguments of `cpu-report factors`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
