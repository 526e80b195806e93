//! `cpu-report domains`: what each domain used.

use std::process::ExitCode;

/// The arguments of `cpu-report domains`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
