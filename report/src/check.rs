//! `cpu-report check`: which requests of a configuration are measured, and what is probably wrong in it.

mod address;
mod findings;
mod level;
mod location;
mod model;
mod report;
mod rules;
mod server;
mod text;
mod variables;
mod zone;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

use crate::nginx_conf::Dump;
use crate::nginx_conf::tree::{self, Directive};
use crate::output::{self, Wrong};
use model::Model;
use report::Report;

/// The largest configuration that is read.
const MAX_BYTES: u64 = 64 << 20;

/// Check a configuration of NGINX: which requests are measured, and what is probably wrong
///
/// Reads the output of "nginx -T". Prints for each server and location in which zones its requests are counted, and
/// names mistakes with file and line.
#[derive(clap::Args)]
#[command(after_help = "Status:
  0  nothing is wrong
  1  there are warnings
  2  the configuration cannot be read, or the result cannot be written

Examples:
  nginx -T 2>/dev/null | cpu-report check
  cpu-report check --nginx /usr/sbin/nginx
  cpu-report check --json saved.conf")]
pub struct Args {
    /// The output of "nginx -T"; "-" is standard input, which is the default
    #[arg(value_name = "FILE", conflicts_with = "nginx")]
    file: Option<PathBuf>,

    /// Run this NGINX with -T, and read its output
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,

    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Runs `cpu-report check`. Status 1 means warnings, so all that cannot be read or written has status 2.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let report = check(args).map_err(|error| Wrong(format!("{error:#}")))?;
    write(&mut output::stdout(), &report, args.json).map_err(unwritten)?;
    Ok(if report.has_warnings() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Writes the result. The error is one of `io`, by which `main` recognises that the reader of a pipe has gone.
fn write(out: &mut impl Write, report: &Report, json: bool) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, report)?;
        writeln!(out)?;
    } else {
        text::write(out, report)?;
    }
    out.flush()
}

fn unwritten(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => error.into(),
        _ => Wrong(format!("the result cannot be written: {error}")).into(),
    }
}

fn check(args: &Args) -> anyhow::Result<Report> {
    let (text, name) = read(args)?;
    let dump = Dump::of(&text, &name);
    let directives = tree::read(&dump)?;
    if directives.is_empty() {
        bail!("{name}: there is no configuration in it; nginx -T prints one");
    }
    refuse_second_http(&directives)?;
    let model = Model::of(&directives);
    let findings = rules::find(&model);
    Ok(Report::of(&dump, &model, findings))
}

/// NGINX accepts one `http` (`ngx_http_block`), so two configurations may be in the text.
fn refuse_second_http(directives: &[Directive]) -> anyhow::Result<()> {
    match directives.iter().filter(|directive| directive.name() == "http").nth(1) {
        Some(second) => bail!("{}: \"http\" is duplicate", second.place),
        None => Ok(()),
    }
}

/// The text, and a name for messages.
fn read(args: &Args) -> anyhow::Result<(Vec<u8>, String)> {
    if let Some(nginx) = &args.nginx {
        return Ok((run_nginx(nginx)?, nginx.display().to_string()));
    }
    match args.file.as_deref().filter(|file| *file != Path::new("-")) {
        Some(file) => {
            let name = file.display().to_string();
            let text = File::open(file).and_then(read_all).with_context(|| name.clone())?;
            Ok((text, name))
        }
        None if args.file.is_none() && io::stdin().is_terminal() => {
            bail!("name a file with the output of \"nginx -T\", or use --nginx")
        }
        None => Ok((read_all(io::stdin().lock())?, "standard input".to_owned())),
    }
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 64 MB"));
    }
    Ok(text)
}

/// The output of `nginx -T`. Messages of NGINX go to standard error if it refuses the configuration.
fn run_nginx(nginx: &Path) -> anyhow::Result<Vec<u8>> {
    let name = nginx.display();
    let output = Command::new(nginx).arg("-T").stdin(Stdio::null()).output();
    let output = output.with_context(|| name.to_string())?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        bail!("{name} -T fails: {}", messages.trim().replace('\n', "; "));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests;
