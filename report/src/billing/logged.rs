//! Reads usage from traffic logs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::book::{Book, Needs, Used};
use super::plan::Plan;
use super::source::{Read, SERVED, Source, blame};
use crate::input::{self, Broken, LinePlace, fold_places};
use crate::output::complain;
use crate::select::Names;
use crate::time::{self};
use crate::traffic::{self, Duplicates, Hosts, LastTime, Latest, Line, Member, Rule, Seen, Span, Twice};

/// Reads the accounts from files. `is_raw`: names are as they are in the log.
pub fn read(source: &Source, files: &[PathBuf], plans: &[Plan], is_raw: bool) -> anyhow::Result<Read> {
    let needs = Needs::of(plans);
    let book = Book::new(needs.clone(), source.by, (source.range.from, source.range.to), source.max_domains);
    let (hosts, rule) = (Hosts::default(), Rule::new(source.duplicates, is_raw));
    let (states, summary) = fold_places(files, &source.input, Thread::default, |thread, place, line| {
        thread.line((source, is_raw), &needs, (&book, &hosts, &rule), place, line)
    });
    if summary.broken > 0 && source.input.broken(Broken::Error) == Broken::Error {
        summary.show_broken(files);
        bail!(
            "{}, so there is no bill: it could be too low (--broken skip leaves broken lines out)",
            summary.are_broken()
        );
    }
    summary.report(files);
    if summary.repeated > 0 && source.duplicates == Duplicates::Error {
        bail!(
            "there is no bill: it would charge for these lines more than once (--duplicates once counts \
             equal lines once)"
        );
    }
    if summary.unreadable > 0 {
        bail!("there is no bill: a bill of a part of the logs would be too low");
    }
    let (mut span, mut gaps, mut zones) = (Span::default(), Lacks::default(), Names::default());
    let (mut seen, mut twice) = (Vec::new(), Vec::new());
    for thread in states {
        span = span.with(thread.span);
        gaps.add(&thread.gaps);
        zones = zones.with(thread.zones);
        seen.push(thread.hosts);
        twice.push(thread.twice);
    }
    if !source.filter.check(&zones, &hosts.into_names().iter().map(|name| &**name).collect()) {
        return Ok(Read::Failed(ExitCode::from(2)));
    }
    // a domain may have lines of the same time in several zones
    book.check_zones().map_err(anyhow::Error::msg)?;
    rule.report(twice, files, (false, false))?;
    if let Some(gap) = gaps.report(files, plans) {
        source.missing(&gap)?;
    }
    span.report(source.range.from, source.range.to);
    traffic::Gaps::find(seen, span.time).report();
    let Some(range) = span.range(source.range.from, source.range.to) else {
        complain("the logs contain no lines of this time");
        // with a time range, an empty bill can be written
        if let Some(time) = source.range.from.or(source.range.to) {
            let accounts = book.into_accounts((time, time)).map_err(anyhow::Error::msg)?;
            return Ok(Read::Accounts(accounts, summary.status(&source.input)));
        }
        return Ok(Read::Failed(summary.status(&source.input)));
    };
    let accounts = book.into_accounts(range).map_err(anyhow::Error::msg)?;
    Ok(Read::Accounts(accounts, summary.status(&source.input)))
}

/// Lines that lack a member.
#[derive(Clone, Debug)]
struct Gap {
    first: LinePlace,
    last: LinePlace,
    lines: u64,
    domain: String,
}

/// By member.
#[derive(Debug, Default)]
struct Lacks([Option<Gap>; Member::ALL.len()]);

impl Lacks {
    fn note(&mut self, member: Member, place: LinePlace, domain: &str) {
        let Some(gap) = self.0.get_mut(member as usize) else { return };
        match gap {
            Some(gap) => {
                // a thread gets blocks in order
                gap.last = place;
                gap.lines += 1;
            }
            None => *gap = Some(Gap { first: place, last: place, lines: 1, domain: domain.to_owned() }),
        }
    }

    fn add(&mut self, other: &Self) {
        for (gap, other) in self.0.iter_mut().zip(&other.0) {
            let Some(other) = other else { continue };
            match gap {
                None => *gap = Some(other.clone()),
                Some(gap) => {
                    if other.first < gap.first {
                        gap.first = other.first;
                        gap.domain.clone_from(&other.domain);
                    }
                    gap.last = gap.last.max(other.last);
                    gap.lines += other.lines;
                }
            }
        }
    }

    /// The message about missing members, if any are missing.
    fn report(&self, files: &[PathBuf], plans: &[Plan]) -> Option<String> {
        let name = |place: LinePlace| {
            files
                .get(place.file)
                .map(|file| format!("{}:{}", input::name(file), place.line))
                .unwrap_or_default()
        };
        let lacks =
            Member::ALL.iter().zip(&self.0).filter_map(|(member, gap)| Some((*member, gap.as_ref()?)));
        let lacks: Vec<(Member, &Gap)> = lacks.collect();
        let (member, gap) = *lacks.iter().max_by_key(|(_, gap)| gap.lines)?;
        let members: Vec<String> = lacks.iter().map(|(member, _)| format!("\"{}\"", member.name())).collect();
        let lines = match gap.lines {
            1 => format!("{} has", name(gap.first)),
            lines => format!("{lines} lines from {} to {} have", name(gap.first), name(gap.last)),
        };
        Some(format!(
            "{lines} no {}, first of the domain {}; {} needs it, and older versions of the module do not \
             log it",
            members.join(", "),
            gap.domain,
            blame(plans, member)
        ))
    }
}

/// Whether requests ended or were in flight. CPU alone is no proof: some of it is known only after a request,
/// or comes from the end of its connection. Lines of older versions do not tell of requests in flight, so for
/// them CPU and bytes count too.
fn is_served(line: &Line<'_>) -> bool {
    let is_some = |member: &Member| member.of(line).is_some_and(|number| number > 0);
    let is_old = [Member::Duration, Member::Active].iter().all(|member| member.of(line).is_none());
    SERVED.iter().any(is_some)
        || (is_old && [Member::Cpu, Member::Sent, Member::Received].iter().any(is_some))
}

/// The state of a thread between lines.
#[derive(Default)]
struct Thread {
    span: Span,
    gaps: Lacks,
    time: LastTime,
    zone: Latest<bool>,
    /// whether the book has noted the zone
    is_zone_seen: bool,
    zones: Names,
    hosts: Seen,
    twice: Twice,
}

impl Thread {
    fn line(
        &mut self,
        (source, is_raw): (&Source, bool),
        needs: &Needs,
        (book, hosts, rule): (&Book, &Hosts, &Rule),
        place: LinePlace,
        line: &[u8],
    ) -> Result<(), String> {
        let line = Line::read(line, is_raw)?;
        let (begin, end) = self.time.interval(&line)?;
        let is_zone = self.zone.get(&line.zone, || {
            self.is_zone_seen = false;
            self.zones.add(&line.zone);
            Ok(source.filter.takes_zone(&line.zone))
        })?;
        let host = self.hosts.get(&line.host, hosts, || source.filter.takes_host(&line.host));
        // lines of other domains also prove that there was a log at the time
        let (first, last) = time::clip(begin, end, source.range.from, source.range.to);
        if first < last {
            self.span.add(first, last);
            // only percentiles depend on it
            if !needs.samples.is_empty() {
                self.span.longest_ms = self.span.longest_ms.max(end - begin);
            }
            host.cover((first, last), end - begin);
            if is_zone && host.is_taken && source.filter.takes_domain(&line.key) {
                let mut used = Used::default();
                for member in &needs.members {
                    match (member.of(&line), used.get_mut(*member as usize)) {
                        (Some(number), Some(used)) => *used = number,
                        _ => self.gaps.note(*member, place, &line.key),
                    }
                }
                if !self.is_zone_seen {
                    book.add_zone(&line.zone);
                    self.is_zone_seen = true;
                }
                let number = host.number;
                book.add_if(&line.key, (begin, end), &used, is_served(&line), |ends| {
                    rule.counts(&mut self.twice, Some(ends), number, (place, &line, (begin, end)))
                });
            }
        }
        Ok(())
    }
}
