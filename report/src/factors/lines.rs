//! Reads one line in a thread.

use std::fmt;

use super::alien::Alien;
use super::args::Args;
use super::fields::{Field, Fields};
use super::json::{self, Faults};
use super::line::LineReader;
use super::misfit::Misfit;
use super::record::Record;
use super::shared::SharedNames;
use super::tally::FactorSums;
use super::value;
use crate::select::Pattern;
use crate::time::{self, Millis};

/// The fields that a line's time can be taken from.
pub const TIMES: [Field; 3] = [Field::Msec, Field::Iso8601, Field::TimeLocal];

/// Why a line was not taken.
pub enum Broken<'r> {
    Misfit(Misfit<'r>),
    Alien(Alien),
    NoTime,
}

impl fmt::Display for Broken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::Alien(alien) => alien.fmt(f),
            Self::NoTime => {
                f.write_str("it has no time for --from and --to: $msec, $time_iso8601 or $time_local")
            }
        }
    }
}

/// The state of a thread between lines.
#[derive(Default)]
pub struct LineThread {
    pub tally: FactorSums,
    /// for each option of [`Args::asked`], whether a line had its variable
    pub had: Vec<bool>,
    /// the first line that could be read
    pub sample: Vec<u8>,
    /// the text of the time, and the time
    pub last_time: (Vec<u8>, Option<Millis>),
}

impl LineThread {
    /// Adds a line to the sums. Returns the reason if it cannot.
    pub fn line<'r>(
        &mut self,
        args: &Args,
        asked: &[(String, Vec<Field>)],
        reader: &'r LineReader,
        shared: &SharedNames,
        line: &[u8],
    ) -> Result<(), Broken<'r>> {
        // large, so it is not moved
        let mut record = Record::default();
        let faults = match reader.read_into(line, &mut record) {
            Ok(faults) => faults,
            Err(_) if json::is_traffic_log(line) => {
                self.tally.traffic_log += 1;
                return Ok(());
            }
            Err(misfit) => {
                let alien = if args.has_format() { None } else { Alien::of(line) };
                self.tally.has_combined |=
                    matches!(alien, Some(Alien::Common | Alien::Combined | Alien::Main));
                self.tally.has_host |= alien == Some(Alien::WithHost);
                return Err(alien.map_or(Broken::Misfit(misfit), Broken::Alien));
            }
        };
        if faults != Faults::default() {
            self.tally.faults.add(faults);
        }
        // with --field, CPU of a traffic log may look like CPU of requests
        let is_suspect = record.cpu_ns.is_none() || !args.field.is_empty();
        if is_suspect && json::is_traffic_log(line) {
            self.tally.traffic_log += 1;
            return Ok(());
        }
        if !asked.is_empty() {
            self.had.resize(asked.len(), false);
            for (had, (_, fields)) in self.had.iter_mut().zip(asked) {
                *had |= fields.iter().any(|field| record.fields.has(*field));
            }
            if self.sample.is_empty() {
                self.sample = line.to_vec();
            }
        }
        self.record(args, &record, shared)
    }

    fn record<'r>(
        &mut self,
        args: &Args,
        record: &Record<'_>,
        shared: &SharedNames,
    ) -> Result<(), Broken<'r>> {
        if args.range.from.is_some() || args.range.to.is_some() {
            if !TIMES.iter().any(|field| record.fields.get(*field).is_some()) {
                self.tally.without_time += 1;
                return Ok(());
            }
            let time = self.time(&record.fields).ok_or(Broken::NoTime)?;
            if args.range.from.is_some_and(|from| time < from) || args.range.to.is_some_and(|to| time >= to) {
                self.tally.left_out += 1;
                return Ok(());
            }
        }
        if !args.domain.is_empty()
            && !record.domain().is_some_and(|domain| matches(&args.domain, &shared.name(domain)))
        {
            self.tally.left_out += 1;
            return Ok(());
        }
        if record.is_subrequest() {
            self.tally.subrequests += 1;
            return Ok(());
        }
        match record.cpu_ns {
            Some(cpu_ns) => self.tally.record(record, cpu_ns, shared),
            None => self.tally.without_cpu += 1,
        }
        Ok(())
    }

    fn time(&mut self, fields: &Fields<'_>) -> Option<Millis> {
        if let Some(seconds) = fields.get(Field::Msec) {
            return i64::try_from(value::nanoseconds(seconds)? / 1_000_000).ok();
        }
        let text = fields.get(Field::Iso8601).or_else(|| fields.get(Field::TimeLocal))?;
        // many consecutive lines have the same second
        if *text != *self.last_time.0 {
            self.last_time.0 = text.to_vec();
            let text = std::str::from_utf8(text).ok();
            // a variable of the user's own may be any of the three
            let seconds = |text: &str| i64::try_from(value::nanoseconds(text.as_bytes())? / 1_000_000).ok();
            self.last_time.1 = text.and_then(|text| {
                time::parse(text).or_else(|| time::parse_local(text)).or_else(|| seconds(text))
            });
        }
        self.last_time.1
    }
}

/// Whether a domain is one of those asked for.
fn matches(patterns: &[Pattern], domain: &[u8]) -> bool {
    let domain = String::from_utf8_lossy(domain);
    patterns.iter().any(|pattern| pattern.matches(&domain))
}
