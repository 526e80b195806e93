//! `cpu-report`: tables and figures from the logs that NGINX writes with the request CPU module.
//!
//! Each sub-command is a module of its own, with its arguments (`Args`) and a function `run`. `input` reads log files, `output`
//! writes tables, CSV and JSON, `range` and `zone` are the time that a report is of.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod bill;
mod domains;
mod factors;
mod help;
mod hosts;
mod input;
mod output;
mod progress;
mod range;
mod twice;
mod zone;

#[derive(Parser)]
#[command(
    name = "cpu-report",
    version,
    about = "Tables and figures from the logs of NGINX's request CPU module"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Domains(domains::Args),
    Bill(bill::Args),
    Compare(bill::CompareArgs),
    /// What makes requests dear, from access logs
    Factors(factors::Args),
    /// Write a script that completes arguments in a shell
    Completions(help::CompletionsArgs),
    /// Write man pages, one for each command
    Man(help::ManArgs),
}

/// Status 0 if all is well, 1 if something could not be read or written, 2 if the arguments are wrong.
fn main() -> ExitCode {
    let mut command = help::formatted(Cli::command());
    let matches = command.get_matches_mut();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    let result = match &cli.command {
        Command::Domains(args) => domains::run(args),
        Command::Bill(args) => bill::run(args),
        Command::Compare(args) => bill::run_compare(args),
        Command::Factors(args) => factors::run(args),
        Command::Completions(args) => help::completions(args, Cli::command()),
        Command::Man(args) => help::man(args, Cli::command()),
    };
    match result {
        Ok(status) => status,
        // the reader of a pipe, such as head, has seen enough
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("{error:#}"));
            match error.downcast_ref::<output::Wrong>() {
                Some(_) => ExitCode::from(2),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(kind))
}
