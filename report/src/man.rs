//! `cpu-report man`: man pages, one for the program and one for each command.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;

use crate::help::with_notes;

/// Man pages are for terminals of this width.
const MAN_WIDTH: usize = 72;

/// The arguments of `cpu-report man`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  cpu-report man /usr/local/share/man/man1")]
pub struct Args {
    /// The folder of the pages; it is created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Runs `cpu-report man`: a page for the program, and one for each command.
pub fn run(args: &Args, command: Command) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.folder).with_context(|| args.folder.display().to_string())?;
    let mut command = with_notes(command, MAN_WIDTH).disable_help_subcommand(true);
    command.build();
    let commands =
        command.get_subcommands().map(|one| (format!("cpu-report-{}", one.get_name()), one.clone()));
    let all: Vec<(String, Command)> =
        [("cpu-report".to_owned(), command.clone())].into_iter().chain(commands).collect();
    for (name, command) in all {
        let file = args.folder.join(format!("{name}.1"));
        let mut page = Vec::new();
        let usage = name.replacen('-', " ", 2).replacen(' ', "-", 1);
        // clap keeps names while the program runs, and there are few
        let name: &'static str = Box::leak(name.into_boxed_str());
        Man::new(command.name(name).bin_name(usage)).render(&mut page)?;
        fs::write(&file, unfilled(&String::from_utf8_lossy(&page)))
            .with_context(|| file.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A page with notes that the formatter leaves as they are: their lines are broken already, and their columns
/// stand below each other.
fn unfilled(page: &str) -> String {
    const NOTES: &str = "\n.SH EXTRA\n";
    let Some((before, notes)) = page.split_once(NOTES) else { return page.to_owned() };
    let (notes, after) = notes.split_at(notes.find("\n.SH ").map_or(notes.len(), |end| end + 1));
    format!("{before}{NOTES}.nf\n{notes}.fi\n{after}")
}
