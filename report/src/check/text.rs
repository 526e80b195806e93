//! The result as text.

use std::fmt;
use std::io::{self, Write};

use super::findings::{Finding, Severity};
use super::report::{Counted, Report, Server, Zone};
use crate::output::style::plain;
use crate::output::{counted, printable};

/// Writes the result. Names come from files, so hidden characters in them are shown.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut text = Text(out);
    text.line(format!("{}, {}", report.file, counted(report.files as u64, "file", "files")))?;
    if let Some(module) = &report.module {
        text.line(format!("module {} ({})", module.path, module.at))?;
    }
    text.zones(&report.zones)?;
    text.servers(&report.servers)?;
    for block in &report.other_blocks {
        text.line(format!(
            "\n{} ({})\n  not measured: the module measures HTTP only",
            block.block, block.at
        ))?;
    }
    text.findings(&report.findings)
}

struct Text<'a, W>(&'a mut W);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.not_counted {
            Some(reason) => write!(f, "not counted: {reason}"),
            None => write!(f, "counted in {}", self.zones.join(", ")),
        }
    }
}

impl<W: Write> Text<'_, W> {
    fn line(&mut self, lines: impl AsRef<str>) -> io::Result<()> {
        for line in lines.as_ref().split('\n') {
            writeln!(self.0, "{}", plain(&printable(line)))?;
        }
        Ok(())
    }

    fn zones(&mut self, zones: &[Zone]) -> io::Result<()> {
        for Zone { name, key, size_bytes, capacity, state, logs, servers, at } in zones {
            let size = size_bytes.map_or_else(|| "?".to_owned(), shown_size);
            let capacity = capacity.map_or_else(String::new, |accounts| {
                format!(", about {}", counted(accounts, "account", "accounts"))
            });
            self.line(format!("\nzone {name} ({at})\n  key {key}\n  size {size}{capacity}"))?;
            if let Some(state) = state {
                self.line(format!("  state {state}"))?;
            }
            for log in logs {
                self.line(format!("  traffic log {log}"))?;
            }
            self.line(format!("  counts requests of {}", counted(*servers as u64, "server", "servers")))?;
        }
        Ok(())
    }

    fn servers(&mut self, servers: &[Server]) -> io::Result<()> {
        for Server { names, listen, at, counted, locations } in servers {
            let names = if names.is_empty() { "without a name".to_owned() } else { names.join(" ") };
            self.line(format!("\nserver {names} ({at})\n  listens on {}\n  {counted}", listen.join(", ")))?;
            // a location that does as its server need not be named
            for location in
                locations.iter().filter(|location| location.is_status || location.counted != *counted)
            {
                let status = if location.is_status { "shows the status, " } else { "" };
                self.line(format!(
                    "  location {} ({}): {status}{}",
                    location.location, location.at, location.counted
                ))?;
            }
        }
        Ok(())
    }

    fn findings(&mut self, findings: &[Finding]) -> io::Result<()> {
        let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
        let notes = findings.len() - warnings;
        self.line(format!(
            "\n{}, {}",
            counted(warnings as u64, "warning", "warnings"),
            counted(notes as u64, "note", "notes")
        ))?;
        for Finding { severity, place, message, .. } in findings {
            let place = place.as_ref().map_or_else(String::new, |place| format!("{place}: "));
            let severity = match severity {
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            self.line(format!("{place}{severity}: {message}"))?;
        }
        Ok(())
    }
}

/// A size as it is written in a configuration.
fn shown_size(bytes: u64) -> String {
    match bytes {
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}m", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{}k", bytes >> 10),
        bytes => bytes.to_string(),
    }
}
