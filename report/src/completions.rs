//! `cpu-report completions`: scripts that complete arguments in a shell.

use std::io;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use crate::output;

/// The arguments of `cpu-report completions`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cpu-report completions bash >/etc/bash_completion.d/cpu-report
  cpu-report completions zsh >/usr/local/share/zsh/site-functions/_cpu-report
  cpu-report completions fish >~/.config/fish/completions/cpu-report.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs `cpu-report completions`.
pub fn run(args: &Args, mut command: Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "cpu-report", &mut script);
    // clap_complete 4.6 regards the hyphen of the program's name as a border of commands, in one of two places
    let script = String::from_utf8_lossy(&script).replace("cpu__subcmd__report", "cpu__report");
    let mut out = output::stdout();
    io::Write::write_all(&mut out, script.as_bytes())?;
    io::Write::flush(&mut out)?;
    Ok(ExitCode::SUCCESS)
}
