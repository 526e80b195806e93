//! `cpu-report`: tables and figures from the logs that NGINX writes with the request CPU module.
//!
//! Each command is a folder of its own, with its arguments (`Args`) and a function `run`. No command imports
//! another. What commands share lies beneath them, in layers. A folder imports only folders of lower layers:
//!
//! | layer | folders | contents |
//! | --- | --- | --- |
//! | 6 | `domains`, `bill`, `compare`, `factors`, `check`, `completions`, `man` | the commands |
//! | 5 | `billing` | price plans, accounts and prices, for `bill` and `compare` |
//! | 4 | `prometheus` | the counters of a fleet, from Prometheus' HTTP API |
//! | 3 | `traffic` | lines of the traffic log, and sums of them |
//! | 2 | `input`, `select`, `time`, `help`, `nginx_conf` | log files; choices; times; help; NGINX's configuration |
//! | 1 | `output` | tables, CSV, JSON, and messages |
//!
//! Folders of one layer do not import each other. Within a folder, no files form a circle. The file beside a
//! folder (`input.rs` beside `input/`) says which names of the folder others may use. `traffic/line.rs`
//! imports nothing of this program, so that it can become a crate. `tests/layers.rs` checks the table.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod bill;
mod billing;
mod check;
mod compare;
mod completions;
mod domains;
mod factors;
mod help;
mod input;
mod man;
mod nginx_conf;
mod output;
mod prometheus;
mod select;
mod time;
mod traffic;

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
    Compare(compare::Args),
    Factors(factors::Args),
    Check(check::Args),
    /// Write a script that completes arguments in a shell
    Completions(completions::Args),
    /// Write man pages, one for each command
    Man(man::Args),
}

/// Status 0 if all is well, 1 if something could not be read or written, 2 if the arguments are wrong.
fn main() -> ExitCode {
    let mut command = help::formatted(Cli::command());
    let matches = command.get_matches_mut();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    let result = match &cli.command {
        Command::Domains(args) => domains::run(args),
        Command::Bill(args) => bill::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Factors(args) => factors::run(args),
        Command::Check(args) => check::run(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
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
