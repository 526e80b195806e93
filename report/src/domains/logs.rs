//! Reads the usage of domains from traffic logs.

use std::process::ExitCode;

use super::args::Args;
use super::report;
use super::store::{Store, StoreOptions};
use super::table::TableSort;
use crate::input::{LinePlace, fold_places};
use crate::output::{self, complain};
use crate::select::Names;
use crate::time::{self};
use crate::traffic::{Gaps, Hosts, LastTime, Latest, Line, Peak, Rule, Seen, Span, Twice, Usage};

pub fn read(args: &Args) -> anyhow::Result<ExitCode> {
    let store = Store::new(StoreOptions {
        from: args.range.from,
        to: args.range.to,
        by: args.by,
        max_domains: args.max_domains,
        peaks: !args.seconds,
    });
    let (hosts, rule) = (Hosts::default(), Rule::new(args.duplicates, args.output.raw));
    let (states, summary) = fold_places(&args.files, &args.input, Thread::default, |thread, place, line| {
        thread.line(args, (&store, &hosts, &rule), place, line)
    });
    summary.report(&args.files);
    let (mut peaks, mut span, mut zones) = (Peaks::default(), Span::default(), Names::default());
    let (mut seen, mut twice) = (Vec::new(), Vec::new());
    for state in states {
        peaks = peaks.with(state.peaks);
        span = span.with(state.span);
        zones = zones.with(state.zones);
        seen.push(state.hosts);
        twice.push(state.twice);
    }
    if !args.filter.check(&zones, &hosts.into_names().iter().map(|name| &**name).collect()) {
        return Ok(ExitCode::from(2));
    }
    rule.report(twice, &args.files, (true, summary.repeated > 0))?;
    peaks.report(args);
    span.report(args.range.from, args.range.to);
    Gaps::find(seen, span.time).report_in_one();
    match span.range(args.range.from, args.range.to) {
        Some(range) => report::write(args, store, range)?,
        None => {
            complain("the logs contain no lines of this time");
            // programs get their columns
            if args.output.format != output::Format::Table {
                let time = args.range.from.or(args.range.to).unwrap_or(0);
                report::write(args, store, (time, time))?;
            }
        }
    }
    Ok(summary.status(&args.input))
}

/// The number of lines with a highest second.
#[derive(Clone, Copy, Default)]
struct Peaks {
    known: u64,
    missing: u64,
}

impl Peaks {
    fn with(self, other: Self) -> Self {
        Self { known: self.known + other.known, missing: self.missing + other.missing }
    }

    /// Says where a highest second may not be the highest.
    fn report(self, args: &Args) {
        let is_sorted = args.sort == TableSort::PeakSecond;
        if self.known == 0 && self.missing > 0 && is_sorted {
            complain("--sort peak-second: no line has \"peak_cpu_ns\", so domains are sorted by name");
        }
        if self.known > 0 && self.missing > 0 && (is_sorted || !args.seconds) {
            complain(&format!(
                "{} of {} lines have no \"peak_cpu_ns\": peak 1s is taken from the others",
                self.missing,
                self.known + self.missing
            ));
        }
    }
}

/// The state of a thread between lines.
#[derive(Default)]
struct Thread {
    span: Span,
    peaks: Peaks,
    time: LastTime,
    zone: Latest<Option<u32>>,
    zones: Names,
    hosts: Seen,
    twice: Twice,
}

impl Thread {
    fn line(
        &mut self,
        args: &Args,
        (store, hosts, rule): (&Store, &Hosts, &Rule),
        place: LinePlace,
        line: &[u8],
    ) -> Result<(), String> {
        let line = Line::read(line, args.output.raw)?;
        let (begin, end) = self.time.interval(&line)?;
        let zone = self.zone.get(&line.zone, || {
            self.zones.add(&line.zone);
            match args.filter.takes_zone(&line.zone) {
                true => store.zone(&line.zone).map(Some).ok_or_else(|| "there are too many zones".to_owned()),
                false => Ok(None),
            }
        })?;
        let host = self.hosts.get(&line.host, hosts, || args.filter.takes_host(&line.host));
        // lines of other domains also prove that there was a log at the time
        let (first, last) = time::clip(begin, end, args.range.from, args.range.to);
        if first < last {
            self.span.add(first, last);
            self.span.longest_ms = self.span.longest_ms.max(end - begin);
            host.cover((first, last), end - begin);
            if let Some(zone) = zone.filter(|_| host.is_taken && args.filter.takes_domain(&line.key)) {
                let peak = Peak::of(&line);
                match peak.ns() {
                    Some(_) => self.peaks.known += 1,
                    None => self.peaks.missing += 1,
                }
                let number = host.number;
                store.add_if(zone, &line.key, (begin, end), &Usage::of(&line), peak, |ends| {
                    rule.counts(&mut self.twice, ends, number, (place, &line, (begin, end)))
                });
            }
        }
        Ok(())
    }
}
