//! Where what was used is read from: traffic logs, or a Prometheus.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;

use super::book::{Accounts, Book, Needs, Period, Used};
use super::plan::Plan;
use crate::domains::Span;
use crate::domains::filter::Filter;
use crate::domains::line::{LastTime, Latest, Line, Member};
use crate::domains::names::Names;
use crate::domains::prometheus::{self, Counter};
use crate::domains::scrape::Scrape;
use crate::domains::time::{self, Millis};
use crate::hosts::{Gaps as HostGaps, Hosts, Seen};
use crate::input::{self, Broken, Place, fold_places};
use crate::output::complain;
use crate::progress;
use crate::range::Range;
use crate::twice::{Duplicates, Rule, Twice};

/// The arguments that say it, of all commands that charge.
#[derive(clap::Args)]
pub struct Source {
    #[command(flatten)]
    pub scrape: Scrape,

    /// The billing period: each has its own free allowances, tiers and fees
    #[arg(long, default_value = "month")]
    by: Period,

    #[command(flatten)]
    range: Range,

    #[command(flatten)]
    filter: Filter,

    /// What to do where a log does not tell what the plan charges for
    #[arg(long, default_value = "error")]
    missing: Missing,

    /// More domains than these are refused
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = crate::output::whole::<usize>)]
    max_domains: usize,

    /// What to do with lines of the same host, zone, domain and time
    #[arg(long, value_name = "WHAT", default_value = "error")]
    duplicates: Duplicates,

    #[command(flatten)]
    input: input::Options,
}

/// What to do where a log does not tell what the plan charges for.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// write no bill, and say what is missing where
    Error,
    /// take it for nothing, which is then not charged, and say so
    Zero,
}

/// What was read.
pub enum Read {
    /// this
    Accounts(Accounts, ExitCode),
    /// what is wrong was said
    Failed(ExitCode),
}

impl Source {
    /// Reads what the plans go by. `is_raw`: names are as they are in the log.
    pub fn read(&self, files: &[PathBuf], plans: &[Plan], is_raw: bool) -> anyhow::Result<Read> {
        self.range.set_zone();
        match self.scrape.url()? {
            Some(url) => self.scraped(url, plans),
            None => self.logged(files, plans, is_raw),
        }
    }

    fn logged(&self, files: &[PathBuf], plans: &[Plan], is_raw: bool) -> anyhow::Result<Read> {
        let needs = Needs::of(plans);
        let book = Book::new(needs.clone(), self.by, (self.range.from, self.range.to), self.max_domains);
        let (hosts, rule) = (Hosts::default(), Rule::new(self.duplicates, is_raw));
        let (states, summary) = fold_places(files, &self.input, Thread::default, |thread, place, line| {
            thread.line((self, is_raw), &needs, (&book, &hosts, &rule), place, line)
        });
        if summary.broken > 0 && self.input.broken(Broken::Error) == Broken::Error {
            summary.show_broken(files);
            bail!(
                "{}, and a bill of the others may be too low: there is none (--broken skip leaves broken lines out)",
                summary.are_broken()
            );
        }
        summary.report(files);
        if summary.repeated > 0 && self.duplicates == Duplicates::Error {
            bail!(
                "a bill would charge for these lines more than once: there is none (--duplicates once counts equal lines once)"
            );
        }
        if summary.unreadable > 0 {
            bail!("a bill of a part of the logs would be too low: there is none");
        }
        let (mut span, mut gaps, mut zones) = (Span::default(), Gaps::default(), Names::default());
        let (mut seen, mut twice) = (Vec::new(), Vec::new());
        for thread in states {
            span = span.with(thread.span);
            gaps.add(&thread.gaps);
            zones = zones.with(thread.zones);
            seen.push(thread.hosts);
            twice.push(thread.twice);
        }
        if !self.filter.check(&zones, &hosts.into_names().iter().map(|name| &**name).collect()) {
            return Ok(Read::Failed(ExitCode::from(2)));
        }
        // a domain may have lines of the same time in several zones
        book.check_zones().map_err(anyhow::Error::msg)?;
        rule.report(twice, files, (false, false))?;
        if let Some(gap) = gaps.report(files, plans) {
            self.missing(&gap)?;
        }
        span.report(self.range.from, self.range.to);
        HostGaps::find(seen, span.time).report();
        let Some(range) = span.range(self.range.from, self.range.to) else {
            complain("there is nothing in the logs");
            // of a time, a bill of nothing can be written
            if let Some(time) = self.range.from.or(self.range.to) {
                let accounts = book.into_accounts((time, time)).map_err(anyhow::Error::msg)?;
                return Ok(Read::Accounts(accounts, summary.status(&self.input)));
            }
            return Ok(Read::Failed(summary.status(&self.input)));
        };
        let accounts = book.into_accounts(range).map_err(anyhow::Error::msg)?;
        Ok(Read::Accounts(accounts, summary.status(&self.input)))
    }

    fn scraped(&self, url: &str, plans: &[Plan]) -> anyhow::Result<Read> {
        let needs = Needs::of(plans);
        if needs.members.contains(&Member::Peak) {
            bail!(
                "{} is not in Prometheus: the gauge there is the peak since the account began. Use traffic logs, or \"percentile_cores\"",
                blame(plans, Member::Peak)
            );
        }
        let (prometheus, (from, to)) = self.scrape.open(url, &self.range, self.duplicates)?;
        // CPU comes first: it is what the others are missing beside
        let others = needs.members.iter().filter(|member| **member != Member::Cpu);
        let mut members: Vec<Member> = std::iter::once(Member::Cpu).chain(others.copied()).collect();
        let charged_for = members.len();
        // these tell whether there were requests; where they are missing, no fee is charged
        if plans.iter().any(Plan::has_fees) {
            let more = [Member::Requests, Member::Active];
            members.extend(more.iter().filter(|member| !needs.members.contains(member)));
        }
        let counters: Vec<Counter> = members.iter().filter_map(|member| counter(*member)).collect();
        let book = Book::new(needs, self.by, (Some(from), Some(to)), self.max_domains);
        let progress = progress::bar((to - from) as u64 / 1000, &self.input);
        let is_too_large = AtomicBool::new(false);
        let add = |at: usize, zone: &str, key: &str, time: (Millis, Millis), value: u128| {
            let mut used = Used::default();
            let member = *members.get(at)?;
            // a counter that grows by more in five minutes is none of the module's
            let Ok(value) = u64::try_from(value) else {
                is_too_large.store(true, Ordering::Relaxed);
                return None;
            };
            *used.get_mut(member as usize)? = value;
            book.see_zone(zone);
            let is_served = value > 0 && SERVED.contains(&member);
            book.add(key, time, &used, is_served);
            // the first point is that of the beginning
            Some((time.0.max(from), time.1)).filter(|(begin, end)| begin < end)
        };
        let done = |until| progress.set_position((until - from) as u64 / 1000);
        let found = prometheus.read(&counters, &add, &self.filter, (from, to), done);
        progress.finish_and_clear();
        let found = found?;
        if !prometheus.check(&self.filter, (from, to))? {
            return Ok(Read::Failed(ExitCode::from(2)));
        }
        if is_too_large.load(Ordering::Relaxed) {
            bail!(
                "a counter grew by 2^64 or more within five minutes, so there is no bill: choose series with --match"
            );
        }
        book.check_zones().map_err(anyhow::Error::msg)?;
        found.report_twice(self.duplicates)?;
        found.report_gaps();
        if let Some(doubt) = &found.doubt {
            self.missing(doubt)?;
        }
        // a key without requests has no counter of them
        let lacks = |(member, at): (&Member, &Option<String>)| {
            let instance = at.clone().filter(|_| *member != Member::Requests)?;
            Some((*member, instance))
        };
        let missing = members.iter().zip(&found.missing).take(charged_for).find_map(lacks);
        if let Some((member, instance)) = missing {
            self.missing(&format!(
                "instance {instance} has no counter of \"{}\" for a part of the time, which {} charges for",
                member.name(),
                blame(plans, member)
            ))?;
        }
        found.report_span((from, to));
        let accounts = book.into_accounts((from, to)).map_err(anyhow::Error::msg)?;
        Ok(Read::Accounts(accounts, ExitCode::SUCCESS))
    }

    fn missing(&self, what: &str) -> anyhow::Result<()> {
        match self.missing {
            Missing::Error => bail!("{what}; there is no bill (--missing zero takes it for nothing)"),
            Missing::Zero => complain(&format!("{what}; it is taken for nothing, and not charged")),
        }
        Ok(())
    }
}

/// Whose fault it is that a member is needed.
fn blame(plans: &[Plan], member: Member) -> String {
    let of = |plan: &Plan| {
        let item = plan.items.iter().find(|item| item.measure.members().contains(&member))?;
        Some(format!("the item \"{}\" of the plan \"{}\"", item.name, plan.name))
    };
    plans.iter().find_map(of).unwrap_or_else(|| "nothing".to_owned())
}

fn counter(member: Member) -> Option<Counter> {
    let (query, scale) = match member {
        Member::Requests => return Some(prometheus::REQUESTS),
        Member::Cpu => return Some(prometheus::CPU),
        Member::Sent => return Some(prometheus::SENT),
        Member::Received => ("nginx_request_cpu_received_bytes_total{}", 1.0),
        Member::Duration => ("nginx_request_cpu_duration_seconds_total{}", 1e3),
        Member::Active => ("nginx_request_cpu_active_interval_seconds_total{}", 1e3),
        Member::ActiveSeconds => ("nginx_request_cpu_active_seconds_total{}", 1.0),
        Member::Billable => ("nginx_request_cpu_billable_seconds_total{}", 1e9),
        Member::Waived => ("nginx_request_cpu_waived_seconds_total{}", 1e9),
        Member::Memory => ("nginx_request_cpu_memory_byte_seconds_total{}", 1e3),
        Member::Peak => return None,
    };
    Some(Counter { query, scale })
}

// ---- lines --------------------------------------------------------------------------------------------------------

/// Lines that lack a member.
#[derive(Clone, Debug)]
struct Gap {
    first: Place,
    last: Place,
    lines: u64,
    domain: String,
}

/// By member.
#[derive(Debug, Default)]
struct Gaps([Option<Gap>; Member::ALL.len()]);

impl Gaps {
    fn note(&mut self, member: Member, place: Place, domain: &str) {
        let Some(gap) = self.0.get_mut(member as usize) else { return };
        match gap {
            Some(gap) => {
                // blocks come in order to a thread
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

    /// What is missing, if anything is.
    fn report(&self, files: &[PathBuf], plans: &[Plan]) -> Option<String> {
        let name = |place: Place| {
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
            "{lines} no {}, first of the domain {}; {} needs it, and older versions of the module do not log it",
            members.join(", "),
            gap.domain,
            blame(plans, member)
        ))
    }
}

/// These grow while requests are in flight, or when one ends.
const SERVED: [Member; 3] = [Member::Requests, Member::Duration, Member::Active];

/// Whether requests ended or were in flight. CPU alone does not tell: some of it is known only after a request, or is
/// that of its connection's end. Lines of older versions do not say what was in flight, so that all they say counts.
fn is_served(line: &Line<'_>) -> bool {
    let is_some = |member: &Member| line.member(*member).is_some_and(|number| number > 0);
    let is_old = [Member::Duration, Member::Active].iter().all(|member| line.member(*member).is_none());
    SERVED.iter().any(is_some)
        || (is_old && [Member::Cpu, Member::Sent, Member::Received].iter().any(is_some))
}

/// What a thread keeps from line to line.
#[derive(Default)]
struct Thread {
    span: Span,
    gaps: Gaps,
    time: LastTime,
    zone: Latest<bool>,
    /// whether the book knows of it
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
        place: Place,
        line: &[u8],
    ) -> Result<(), String> {
        let line = Line::read(line, is_raw)?;
        let (begin, end) = line.interval(&mut self.time)?;
        let is_zone = self.zone.get(&line.zone, || {
            self.is_zone_seen = false;
            self.zones.see(&line.zone);
            Ok(source.filter.takes_zone(&line.zone))
        })?;
        let host = self.hosts.get(&line.host, hosts, || source.filter.takes_host(&line.host));
        // lines of others tell too that there was a log at the time
        let (first, last) = time::clip(begin, end, source.range.from, source.range.to);
        if first < last {
            self.span.add(first, last);
            // which matters to percentiles alone
            if !needs.samples.is_empty() {
                self.span.longest_ms = self.span.longest_ms.max(end - begin);
            }
            host.cover((first, last), end - begin);
            if is_zone && host.is_taken && source.filter.takes_domain(&line.key) {
                let mut used = Used::default();
                for member in &needs.members {
                    match (line.member(*member), used.get_mut(*member as usize)) {
                        (Some(number), Some(used)) => *used = number,
                        _ => self.gaps.note(*member, place, &line.key),
                    }
                }
                if !self.is_zone_seen {
                    book.see_zone(&line.zone);
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
