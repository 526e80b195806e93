//! `cpu-report domains`: what each domain used.

pub mod filter;
pub mod line;
pub mod matcher;
pub mod names;
mod overlap;
pub mod pattern;
pub mod prometheus;
pub mod scrape;
pub mod series;
pub mod store;
mod table;
pub mod time;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::hosts::{Gaps, Hosts, Seen};
use crate::input::{self, Place, fold_places};
use crate::output::{self, Wrong, complain};
use crate::progress;
use crate::range::Range;
use crate::twice::{Duplicates, Rule, Twice};
use filter::Filter;
use line::{LastTime, Latest, Line};
use names::Names;
use prometheus::Counter;
use scrape::Scrape;
use store::{Metric, Peak, Plan, Store, Usage};
use table::{Sort, Wanted};
use time::{By, Millis, SLOT_MS};

const ABOUT: &str = "\
What each domain used: requests, GB sent (10^9 bytes), CPU time, average cores, their peak and 95th percentile, the cores of the highest second where the logs tell it, CPU time per request \
and per GB, and the share of responses with 4xx and 5xx, and of requests that limits refused, where there are any. It is read from traffic logs, the files that `request_cpu_log` writes, \
or with --prometheus from the counters of a fleet. What several servers used adds up.";

const NOTES: &str = "\
Times:
  Times are UTC, or those of --time-zone; slots of five minutes are always those of UTC.
  A line counts for the time from `interval_ms` before its `time` to its `time`, evenly: where that spans the \
border of two hours, or of --from, each side gets its part in proportion.
  Average cores are CPU time by the time from --from to --to; without these, from the first line's begin to the last line's end. \
Peak and 95 % are of slots of five minutes (12:00, 12:05, …) of that time: the highest, and that which 95 % of all slots do not \
exceed (nearest rank). A slot in which a domain used nothing counts as 0. With --by, they are those of each hour, day or month, \
and times in which a domain used nothing have no row.
  Peak 1s is the CPU of the highest second on one server, of lines with `peak_cpu_ns`; in the rows for all and the rest, that of \
one of their domains. A line tells one that ended in its interval: it counts in each row, and in the time from --from to --to, where \
that has at least a second of the interval, or half of a shorter one. There is none for --prometheus.

Zones:
  A request can be counted in several zones, so each zone has a table of its own, and its own row for all.

Lines that stand twice:
  Lines of the same host, zone, domain and time come from a file and its copy, or from two servers
  of one name. Each is counted, and a message names the first two. --duplicates once counts equal
  lines once; --duplicates error shows no table. A message tells if a server has no lines for some
  time.

Prometheus:
  Asked for are the 24 hours until now, or --from and --to, both at a border of five minutes. What the counters of an instance have \
grown by from one border to the next was used in between. A counter that is lower than before has begun anew; one that has done \
so and is higher again within five minutes is not noticed. Used is what was scraped: what was counted after the last scrape \
of an instance that ends is missing. VictoriaMetrics answers as well.

Memory:
  A log may be larger than memory. For each domain some 250 bytes are kept, and for each five minutes in which it used something \
4 bytes, or 8 where that is more than 4 s of CPU; with --by, up to seven times that for each hour, day or month.

Exit status:
  0  fine, also if broken lines were skipped (not with --strict)
  1  a file could not be read, or all lines are broken, or Prometheus gave no answer
  2  wrong arguments

Examples:
  cpu-report domains /var/log/nginx/traffic.log*
  cpu-report domains --from 2026-01-01 --to 2026-02-01 --top 20 --sort p95 edge-*/traffic.log.gz
  cpu-report domains --by day --domain '*.example.com' --cores --format csv traffic.log >days.csv
  lz4 -dc traffic.log.lz4 | cpu-report domains --format json - | jq '.rows[0]'
  cpu-report domains --prometheus http://localhost:9090 --from 2026-01-01 --to 2026-02-01";

/// The arguments of `cpu-report domains`.
#[derive(clap::Args)]
#[command(about = "What each domain used, from traffic logs or from Prometheus", long_about = ABOUT, after_long_help = NOTES)]
pub struct Args {
    /// Traffic logs, plain or compressed (gzip, xz, zstd, bzip2); "-" is standard input
    #[arg(value_name = "FILE", required_unless_present = "prometheus", conflicts_with = "prometheus")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    scrape: Scrape,

    /// A row for each five minutes, hour, day or month
    #[arg(long)]
    by: Option<By>,

    #[command(flatten)]
    range: Range,

    #[command(flatten)]
    filter: Filter,

    /// So many domains have rows of their own, the others one together; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    top: usize,

    /// What comes first; also what --top goes by
    #[arg(long, short, value_name = "FIGURE", default_value = "cpu")]
    sort: Sort,

    /// Show cores, and no CPU time
    #[arg(long, conflicts_with = "seconds")]
    cores: bool,

    /// Show CPU time, and no cores
    #[arg(long)]
    seconds: bool,

    #[command(flatten)]
    output: output::Options,

    /// So many domains are told apart while reading; those that come later are added to the rest
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = output::whole::<usize>)]
    max_domains: usize,

    /// What to do with lines of the same host, zone, domain and time
    #[arg(long, value_name = "WHAT", default_value = "count")]
    duplicates: Duplicates,

    #[command(flatten)]
    input: input::Options,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.output.columns.is_empty() && (args.cores || args.seconds) {
        return Err(Wrong("--columns cannot be used with --cores or --seconds".to_owned()).into());
    }
    args.output.check(&table::columns())?;
    args.range.set_zone();
    match args.scrape.url()? {
        Some(url) => from_prometheus(args, url),
        None => from_logs(args),
    }
}

fn from_logs(args: &Args) -> anyhow::Result<ExitCode> {
    let store = Store::new(Plan {
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
        Some(range) => write(args, store, range)?,
        None => {
            complain("there is nothing in the logs");
            // programs get their columns
            if args.output.format != output::Format::Table {
                let time = args.range.from.or(args.range.to).unwrap_or(0);
                write(args, store, (time, time))?;
            }
        }
    }
    Ok(summary.status(&args.input))
}

const COUNTERS: [(Metric, Counter); 6] = [
    (Metric::Cpu, prometheus::CPU),
    (Metric::Sent, prometheus::SENT),
    (Metric::Requests, prometheus::REQUESTS),
    (Metric::Responses4xx, Counter { query: "nginx_request_cpu_requests_total{class=\"4xx\",}", scale: 1.0 }),
    (Metric::Responses5xx, Counter { query: "nginx_request_cpu_requests_total{class=\"5xx\",}", scale: 1.0 }),
    (
        Metric::Refused,
        Counter {
            // labels are those of the other counters
            query: "sum without (dry_run) (nginx_request_cpu_limit_refused_requests_total{dry_run=\"no\",})",
            scale: 1.0,
        },
    ),
];

fn from_prometheus(args: &Args, url: &str) -> anyhow::Result<ExitCode> {
    if args.sort == Sort::PeakSecond {
        let why = "the gauge in Prometheus is the peak since the account began. Use traffic logs";
        return Err(Wrong(format!("--sort peak-second: {why}")).into());
    }
    let (prometheus, (from, to)) = args.scrape.open(url, &args.range, args.duplicates)?;
    let store = Store::new(Plan {
        from: Some(from),
        to: Some(to),
        by: args.by,
        max_domains: args.max_domains,
        peaks: false,
    });
    let progress = progress::bar((to - from) as u64 / 1000, &args.input);
    let add = |at: usize, zone: &str, key: &str, time: (Millis, Millis), value: u128| {
        let (metric, _) = COUNTERS.get(at)?;
        let mut usage = Usage::default();
        usage[*metric] = value;
        store.add(store.zone(zone)?, key, time, &usage, Peak::default())
    };
    let counters = COUNTERS.map(|(_, counter)| counter);
    let done = |until| progress.set_position((until - from) as u64 / 1000);
    let found = prometheus.read(&counters, &add, &args.filter, (from, to), done);
    progress.finish_and_clear();
    let found = found?;
    if !prometheus.check(&args.filter, (from, to))? {
        return Ok(ExitCode::from(2));
    }
    found.report_twice(args.duplicates)?;
    found.report_gaps();
    found.doubt.iter().for_each(|doubt| complain(doubt));
    found.report_span((from, to));
    write(args, store, (from, to))?;
    Ok(ExitCode::SUCCESS)
}

fn write(args: &Args, store: Store, range: (Millis, Millis)) -> anyhow::Result<()> {
    let zones = store.into_zones();
    let wanted = Wanted {
        range,
        by: args.by,
        top: if args.top == 0 { usize::MAX } else { args.top },
        sort: args.sort,
        seconds: !args.cores,
        cores: !args.seconds,
        format: args.output.format,
        peak_second: zones
            .iter()
            .flat_map(|(_, domains)| domains)
            .any(|domain| domain.peak != Peak::default()),
        refused: zones
            .iter()
            .flat_map(|(_, domains)| domains)
            .any(|domain| domain.total[Metric::Refused] > 0),
    };
    if zones.iter().flat_map(|(_, domains)| domains).any(|domain| domain.name.is_none()) {
        complain(&format!(
            "there are more than {} domains: those that came later are in the rest (--max-domains, --domain)",
            args.max_domains
        ));
    }
    table::write(&wanted, &zones, output::stdout(), &args.output.layout())?;
    Ok(())
}

/// The time that lines cover.
#[derive(Debug, Default)]
pub struct Span {
    /// begin and end
    pub time: Option<(Millis, Millis)>,
    /// of the longest line
    pub longest_ms: i64,
}

impl Span {
    /// A line covers this.
    pub fn add(&mut self, begin: Millis, end: Millis) {
        let (first, last) = self.time.unwrap_or((begin, end));
        self.time = Some((first.min(begin), last.max(end)));
    }

    /// Of both.
    pub fn with(mut self, other: Self) -> Self {
        if let Some((begin, end)) = other.time {
            self.add(begin, end);
        }
        self.longest_ms = self.longest_ms.max(other.longest_ms);
        self
    }

    /// What is asked for, or else what there is.
    pub fn range(&self, from: Option<Millis>, to: Option<Millis>) -> Option<(Millis, Millis)> {
        let from = from.or(self.time.map(|(begin, _)| begin))?;
        let to = to.or(self.time.map(|(_, end)| end))?;
        (from < to).then_some((from, to))
    }

    /// Says what is not known of that time.
    pub fn report(&self, from: Option<Millis>, to: Option<Millis>) {
        if self.longest_ms > SLOT_MS {
            complain(&format!(
                "lines are of up to {} s: peak and 95 % cannot be finer than that, though they are of five minutes",
                self.longest_ms / 1000
            ));
        }
        let Some((begin, end)) = self.time else {
            if from.is_some() && to.is_some() {
                complain("no line is of that time, so nothing is known of it; it counts as idle");
            }
            return;
        };
        if from.is_some_and(|from| begin - from > SLOT_MS) {
            complain(&format!(
                "nothing is known of the time before {}; it counts as idle",
                time::format(begin)
            ));
        }
        if to.is_some_and(|to| to - end > SLOT_MS) {
            complain(&format!("nothing is known of the time after {}; it counts as idle", time::format(end)));
        }
    }
}

/// How many lines tell their highest second.
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
        let is_sorted = args.sort == Sort::PeakSecond;
        if self.known == 0 && self.missing > 0 && is_sorted {
            complain(
                "--sort peak-second: no line has \"peak_cpu_ns\", so domains are in the order of their names",
            );
        }
        if self.known > 0 && self.missing > 0 && (is_sorted || !args.seconds) {
            complain(&format!(
                "{} of {} lines have no \"peak_cpu_ns\": peak 1s is that of the others",
                self.missing,
                self.known + self.missing
            ));
        }
    }
}

/// What a thread keeps from line to line.
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
        place: Place,
        line: &[u8],
    ) -> Result<(), String> {
        let line = Line::read(line, args.output.raw)?;
        let (begin, end) = line.interval(&mut self.time)?;
        let zone = self.zone.get(&line.zone, || {
            self.zones.see(&line.zone);
            match args.filter.takes_zone(&line.zone) {
                true => store.zone(&line.zone).map(Some).ok_or_else(|| "there are too many zones".to_owned()),
                false => Ok(None),
            }
        })?;
        let host = self.hosts.get(&line.host, hosts, || args.filter.takes_host(&line.host));
        // lines of others tell too that there was a log at the time
        let (first, last) = time::clip(begin, end, args.range.from, args.range.to);
        if first < last {
            self.span.add(first, last);
            self.span.longest_ms = self.span.longest_ms.max(end - begin);
            host.cover((first, last), end - begin);
            if let Some(zone) = zone.filter(|_| host.is_taken && args.filter.takes_domain(&line.key)) {
                let peak = line.peak();
                match peak.ns() {
                    Some(_) => self.peaks.known += 1,
                    None => self.peaks.missing += 1,
                }
                let number = host.number;
                store.add_if(zone, &line.key, (begin, end), &line.usage(), peak, |ends| {
                    rule.counts(&mut self.twice, ends, number, (place, &line, (begin, end)))
                });
            }
        }
        Ok(())
    }
}
