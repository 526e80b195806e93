//! `cpu-report factors`: what makes requests dear, from access logs.

mod alien;
mod cell;
mod chart;
mod conf;
mod fields;
mod figures;
mod format;
mod json;
mod line;
mod spread;
mod table;
mod tally;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::domains::pattern::Pattern;
use crate::domains::time::{self, Millis};
use crate::input::{self, fold};
use crate::output::{self, complain};
use crate::range::Range;
use alien::Alien;
use fields::{Field, Fields, Names, Part, Record};
use figures::{Figure, Kind, Wanted};
use format::LogFormat;
use json::Faults;
use line::{Misfit, Reader};
use tally::{Shared, Tally};

const ABOUT: &str = "\
Reads access logs that have $request_cpu_time or $request_cpu_ns in their log_format, and shows what moves the CPU per request: its \
order in the connection, the cache status, the response size; and the CPU seconds per GB (10^9 bytes) of each domain.";

/// The fields that a line's time can be taken from.
const TIMES: [Field; 3] = [Field::Msec, Field::Iso8601, Field::TimeLocal];

/// A drawing has bars of so many domains, if --top does not ask for fewer.
const DRAWN_DOMAINS: usize = 20;

const NOTES: &str = "\
Log formats:
  Without --log-format, lines are those of the README's and the demonstration's log_format,
    $host $request_uri $status $bytes_sent $request_time $request_cpu_time $connection_requests
    $upstream_cache_status $ssl_protocol $tls_key $ssl_session_reused $request_cpu_subrequest
  (the last five may be missing, and others may follow), or JSON objects whose members are named like variables. \
Of members with the same name, the last one counts, as in jq.
  With --log-format, they are of that format; \"escape=\" is heeded.

What the figures are made of:
  CPU      $request_cpu_ns or $request_cpu_time
  order    $connection_requests; by kind of key where there is $tls_key (a variable of your own, by map) or, up to TLS 1.2, \
$ssl_cipher; by new and resumed TLS sessions where there is $ssl_session_reused; by any variable with --split
  cache    $upstream_cache_status; NONE is what no cache was asked for
  size     $bytes_sent or $body_bytes_sent
  domain   $server_name or $host, and bytes
  by       any variable, with --by; values are cut at 255 bytes, and each takes 0.1 to 2 KB of memory
  A figure that the log does not tell enough for is left out, with a message.
  Up to 64 groups of the figure by order and 64 cache statuses are told apart while reading, and 6 groups are shown. \
Domains and values of --by have the bounds --max-domains and --max-values: of more, which ones have rows can differ \
from run to run; the sums stay right. All others are one row, \"all others\". In CSV and JSON, the column \"row\" is \
\"rest\" for it, and \"value\" for all else.
  --field takes one of them from another variable, or member of JSON: the roles are cpu (in seconds), cpu_ns, order, cache, \
bytes, domain, cipher, session and time.

Subrequests:
  With \"log_subrequest on\", NGINX writes a line for each subrequest as well, with the CPU of the whole request so far. \
Lines with $request_cpu_subrequest 1 are left out, so that no request counts twice; without that variable in the log, \
they cannot be told apart.

Numbers:
  \"± 95 %\" is half the width of the interval that the mean is in with a probability of 95 %, if requests are independent of \
each other; percentiles are right to 1 %.

Exit status:
  0  fine, also if broken lines were skipped (not with --strict)
  1  a file could not be read or written, or all lines are broken, or there is no figure
  2  wrong arguments

Examples:
  cpu-report factors /var/log/nginx/access.log*
  cpu-report factors --figure order --domain '*.example.com' --svg figures/ access.log
  cpu-report factors --log-format '$remote_addr [$time_local] \"$request\" $status $bytes_sent $host $request_cpu_time' access.log
  cpu-report factors --log-format-from /etc/nginx/nginx.conf:main --from 2026-01-31T12:00:00Z access.log
  cpu-report factors --by uri --top 50 access.log
  cpu-report factors --field cpu=cpu_s --split datacenter --format csv access.json.gz >figures.csv";

/// The arguments of `cpu-report factors`.
#[derive(clap::Args)]
#[command(about = "What makes requests dear, from access logs", long_about = ABOUT, after_long_help = NOTES)]
pub struct Args {
    /// Access logs, plain or compressed (gzip, xz, zstd, bzip2); "-" is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The log's log_format, as it stands in nginx.conf: the text, or all that follows on its name
    #[arg(long, value_name = "FORMAT", value_parser = parse_format, help_heading = "Log")]
    log_format: Option<LogFormat>,

    /// The same, from a configuration file and the files that it includes. NAME may be missing if there is one format
    #[arg(long, value_name = "CONF:NAME", conflicts_with = "log_format", help_heading = "Log")]
    log_format_from: Option<String>,

    /// Take a figure's field from this variable, or JSON member. May be repeated
    #[arg(long, value_name = "ROLE=VARIABLE", help_heading = "Log")]
    field: Vec<String>,

    /// Only these figures
    #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
    figure: Vec<Kind>,

    /// Split the figure by order by the values of this variable, and not by kinds of keys
    #[arg(long, value_name = "VARIABLE")]
    split: Option<String>,

    /// Only requests to these domains; "*", "?" and "[…]" as in file names, upper and lower case are the same. May be repeated
    #[arg(long, short, value_name = "PATTERN", value_parser = Pattern::parse)]
    domain: Vec<Pattern>,

    /// CPU per request by the values of this variable: request_uri, status, http_user_agent, … Of $request in the log,
    /// request_method, request_uri and uri (the path) are taken. Other figures are made where --figure asks for them
    #[arg(long, value_name = "VARIABLE")]
    by: Option<String>,

    #[command(flatten)]
    range: Range,

    /// So many domains, or values of --by, have rows of their own, those with the most CPU, and the others one together; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    top: usize,

    /// Mark what is of fewer requests than this
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = output::whole::<u64>)]
    min_requests: u64,

    #[command(flatten)]
    output: output::Options,

    /// Draw the figures as well, as order.svg, cache.svg, size.svg, domain.svg and by.svg in this folder. domain.svg and by.svg have at most 20 bars
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,

    /// So many domains are told apart while reading; the others are added up in one row
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = output::whole::<usize>)]
    max_domains: usize,

    /// So many values of --by are told apart while reading; the others are added up in one row
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = output::whole::<usize>)]
    max_values: usize,

    #[command(flatten)]
    input: input::Options,
}

impl Args {
    /// Options that ask for a variable, with the fields of which the log must have one.
    fn asked(&self) -> Vec<(String, Vec<Field>)> {
        let mut asked = Vec::new();
        for role in &self.field {
            asked.extend(fields::field_of_role(role).map(|field| (format!("--field {role}"), vec![field])));
        }
        asked.extend(self.split.is_some().then(|| ("--split".to_owned(), vec![Field::Split])));
        asked.extend(self.by.as_deref().map(|name| {
            let part = Part::of(name.strip_prefix('$').unwrap_or(name));
            ("--by".to_owned(), part.map_or(&[Field::By][..], Part::fields).to_vec())
        }));
        asked
    }

    fn has_format(&self) -> bool {
        self.log_format.is_some() || self.log_format_from.is_some()
    }
}

fn parse_format(text: &str) -> Result<LogFormat, format::Error> {
    LogFormat::parse(text)
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.output.check(&table::columns())?;
    args.range.set_zone();
    let mut kinds: Vec<Kind> = Vec::new();
    kinds.extend(args.by.is_some().then_some(Kind::By));
    for kind in if args.figure.is_empty() && args.by.is_none() { &Kind::ALL[..] } else { &args.figure } {
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    let reader = match reader(args) {
        Ok(reader) => reader,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Ok(ExitCode::from(2));
        }
    };
    let shared = Shared::new(args.max_domains, args.max_values, reader.by(), reader.is_escaped());
    // a log_format was looked at already
    let asked = if args.has_format() { Vec::new() } else { args.asked() };
    let (threads, summary) = fold(&args.files, &args.input, Thread::default, |thread, line| {
        thread.line(args, &asked, &reader, &shared, line)
    });
    summary.report(&args.files);
    summary.report_copies(&args.files);
    if let Some(missing) = missing(&threads, &asked, &reader) {
        complain(&missing);
        return Ok(ExitCode::from(2));
    }
    let mut tally = Tally::default();
    threads.into_iter().for_each(|thread| tally.add(thread.tally, &shared));

    let names = reader.names();
    say_what_was_left_out(&tally, names);
    let wanted =
        Wanted { min_requests: args.min_requests, top: if args.top == 0 { usize::MAX } else { args.top } };
    let mut figures: Vec<Figure> = Vec::new();
    for kind in &kinds {
        match wanted.figure(*kind, &tally, names) {
            Some(figure) => figures.push(figure),
            None if tally.requests == 0 => {}
            // it is said that these are 0
            None if *kind == Kind::Order && tally.zero_orders > 0 => {}
            None => complain(&format!(
                "no figure \"{}\": the log does not tell {}, which log_format needs to have",
                kind.title(names),
                kind.variables(names)
            )),
        }
    }
    if figures.is_empty() {
        complain(if tally.requests == 0 && tally.left_out > 0 {
            "none of the requests is of those that were asked for"
        } else {
            "there is nothing to draw a figure of"
        });
        return Ok(ExitCode::FAILURE);
    }
    for figure in figures.iter().filter(|figure| figure.requests < tally.requests) {
        let missing = tally.requests - figure.requests;
        if figure.kind == Kind::Order && missing == tally.zero_orders {
            continue;
        }
        complain(&format!(
            "{} of {} {} not in \"{}\": no line of them tells {}",
            output::grouped(missing),
            output::counted(tally.requests, "request", "requests"),
            if missing == 1 { "is" } else { "are" },
            figure.title,
            figure.kind.variables(names)
        ));
    }
    // in a table they stand below it
    if args.output.format != output::Format::Table {
        figures.iter().flat_map(|figure| &figure.notes).for_each(|note| complain(note));
    }
    let head = table::Head { requests: tally.requests, min_requests: args.min_requests };
    table::write(&figures, &head, args.output.format, output::stdout(), &args.output.layout())?;
    if let Some(folder) = &args.svg {
        // more bars than these cannot be told apart
        let few = Wanted { top: wanted.top.min(DRAWN_DOMAINS), ..wanted };
        let drawn = figures.iter().filter_map(|figure| few.figure(figure.kind, &tally, names));
        draw(&drawn.collect::<Vec<_>>(), folder)?;
    }
    if tally.without_time > 0 && args.input.broken(input::Broken::Skip) == input::Broken::Error {
        return Ok(ExitCode::FAILURE);
    }
    Ok(summary.status(&args.input))
}

/// What to say of an option that asks for a variable that no line has; nothing where no line could be read.
fn missing(threads: &[Thread], asked: &[(String, Vec<Field>)], reader: &Reader) -> Option<String> {
    let sample = threads.iter().map(|thread| &thread.sample).find(|sample| !sample.is_empty())?;
    let (option, fields) = asked.iter().enumerate().find_map(|(at, asked)| {
        let had = threads.iter().any(|thread| thread.had.get(at) == Some(&true));
        (!had).then_some(asked)
    })?;
    const MOST: usize = 1000;
    let known: Vec<String> = if reader.is_json(sample) {
        json::member_names(sample, MOST)
    } else {
        // the last variables of the format may be missing
        let words = sample.split(|byte| *byte == b' ').count();
        reader.variables().take(words).map(str::to_owned).collect()
    };
    let variables = reader.names().any_of(fields);
    Some(format!("no line has {variables}, which {option} asks for; lines have {}", output::list(known)))
}

/// A line on stderr for each kind of lines that are in no figure, or that are no valid JSON.
fn say_what_was_left_out(tally: &Tally, names: &Names) {
    let lines = |count: u64| output::counted(count, "line", "lines");
    if tally.without_cpu > 0 {
        let variables = names.any_of(&[Field::CpuNs, Field::CpuSeconds]);
        let were = if tally.without_cpu == 1 { "is without" } else { "are without" };
        let left = if tally.without_cpu == 1 { "was left out" } else { "were left out" };
        complain(&format!("{} {were} {variables}, and {left}", lines(tally.without_cpu)));
    }
    if tally.without_time > 0 {
        let times = names.any_of(&TIMES);
        let were = if tally.without_time == 1 { "is" } else { "are" };
        let left = if tally.without_time == 1 { "was" } else { "were" };
        complain(&format!(
            "{} {were} without {times}, which --from and --to need, and {left} left out: add one to the log_format, \
             or name it with --field time=VARIABLE",
            lines(tally.without_time)
        ));
    }
    if tally.traffic_log > 0 {
        complain(&format!("{} of a traffic log: cpu-report domains reads them", lines(tally.traffic_log)));
    }
    if tally.subrequests > 0 {
        let were = if tally.subrequests == 1 { "is of a subrequest" } else { "are of subrequests" };
        let left = if tally.subrequests == 1 { "was left out" } else { "were left out" };
        complain(&format!(
            "{} {were} (${} is 1), and {left}: the line of the main request has the CPU of all",
            lines(tally.subrequests),
            names.name(Field::Subrequest)
        ));
    }
    if tally.zero_orders > 0 {
        complain(&format!(
            "{} 0 as ${}, which counts from 1, and {} in no figure by order",
            output::counted(tally.zero_orders, "request has", "requests have"),
            names.name(Field::Order),
            if tally.zero_orders == 1 { "is" } else { "are" }
        ));
    }
    if tally.repeated.count > 0 {
        complain(&format!(
            "{} with the $request_id of a line shortly before: if log_subrequest is on, CPU counts several times; \
             add $request_cpu_subrequest to the log_format",
            lines(tally.repeated.count)
        ));
    }
    if tally.has_combined {
        complain(&format!("lines of log_format combined have no CPU time; {}", alien::advice(false)));
    }
    if tally.has_host {
        complain(&format!(
            "lines of the common or combined log format have no CPU time; {}",
            alien::advice(true)
        ));
    }
    for (count, fault) in [
        (tally.faults.escapes, "values with \\x22 and the like, for which log_format needs escape=json"),
        (
            tally.faults.values,
            "values without quotes that are no numbers: put variables in quotes in log_format",
        ),
        (
            tally.faults.controls,
            "tabs or other control characters in values, for which log_format needs escape=json",
        ),
        (tally.faults.last_commas, "a comma before the last \"}\", which log_format must not have"),
        (
            tally.faults.commas,
            "a comma at the end, as in an array: jq -c '.[]' FILE writes each object as a line",
        ),
    ] {
        if count > 0 {
            let has = if count == 1 {
                "is no valid JSON, and was read"
            } else {
                "are no valid JSON, and were read"
            };
            complain(&format!("{} {has} all the same: {fault}", lines(count)));
        }
    }
}

/// Options that exclude each other.
fn refuse_contradictions(args: &Args) -> anyhow::Result<()> {
    let role = |field: &str| match field.split_once('=').map_or(field, |(role, _)| role) {
        "cpu_ns" => "cpu".to_owned(),
        role => role.to_owned(),
    };
    for (at, field) in args.field.iter().enumerate() {
        if let Some(other) = args.field.iter().take(at).find(|other| role(other) == role(field)) {
            bail!("--field {other} and --field {field} are of one figure: only one of them can be taken");
        }
        if role(field) == "cipher" && args.split.is_some() {
            bail!(
                "--field {field} and --split exclude each other: both say what the first figure is split by"
            );
        }
    }
    Ok(())
}

fn reader(args: &Args) -> anyhow::Result<Reader> {
    let mut names = Names::default();
    refuse_contradictions(args)?;
    for field in &args.field {
        names.rename(field).context("--field")?;
    }
    if let Some(variable) = &args.by {
        names.add_up_by(variable).context("--by")?;
    }
    if let Some(variable) = &args.split {
        names.split_by(variable).context("--split")?;
    }
    let format = match (&args.log_format, &args.log_format_from) {
        (Some(format), _) => format.clone(),
        (None, Some(place)) => {
            conf::format_at(place).with_context(|| format!("--log-format-from {place}"))?
        }
        (None, None) => return Reader::of_default(names),
    };
    let reader = Reader::of_format(&format, names);
    if !reader.tells(Field::CpuNs) && !reader.tells(Field::CpuSeconds) {
        let variables = reader.names().any_of(&[Field::CpuNs, Field::CpuSeconds]);
        let glued = match reader.glued() {
            [] => String::new(),
            glued => format!("; between ${} there is no text that tells them apart", glued.join(" and $")),
        };
        if format == LogFormat::parse(conf::COMBINED)? {
            bail!("log_format combined has no CPU time; {}", alien::advice(false));
        }
        bail!("the log_format has no {variables}{glued}; append $request_cpu_time to it, and reload NGINX");
    }
    for (option, fields) in args.asked() {
        if !fields.iter().any(|field| reader.tells(*field)) {
            bail!(
                "the log_format has no {}, which {option} asks for; it has {}",
                reader.names().any_of(&fields),
                output::list(reader.variables().map(|name| format!("${name}")).collect())
            );
        }
    }
    if (args.range.from.is_some() || args.range.to.is_some())
        && !TIMES.iter().any(|field| reader.tells(*field))
    {
        bail!("the log_format has no {}, which --from and --to need", reader.names().any_of(&TIMES));
    }
    Ok(reader)
}

fn draw(figures: &[Figure], folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for figure in figures {
        let file = folder.join(format!("{}.svg", figure.kind.name()));
        let svg = chart::svg(figure).with_context(|| format!("figure {}", figure.kind.name()))?;
        fs::write(&file, svg).with_context(|| file.display().to_string())?;
        complain(&format!("drawn: {}", file.display()));
    }
    Ok(())
}

// ---- a line -------------------------------------------------------------------------------------------------------

/// Why a line was not taken.
enum Broken<'r> {
    Misfit(Misfit<'r>),
    Alien(Alien),
    NoTime,
}

impl fmt::Display for Broken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::Alien(alien) => alien.fmt(f),
            Self::NoTime => f.write_str(
                "it has no time that --from and --to could go by: $msec, $time_iso8601 or $time_local",
            ),
        }
    }
}

/// What a thread keeps from line to line.
#[derive(Default)]
struct Thread {
    tally: Tally,
    /// by option of [`Args::asked`], whether a line had what it asks for
    had: Vec<bool>,
    /// the first line that could be read
    sample: Vec<u8>,
    /// as it was written, and what it is
    last_time: (Vec<u8>, Option<Millis>),
}

impl Thread {
    fn line<'r>(
        &mut self,
        args: &Args,
        asked: &[(String, Vec<Field>)],
        reader: &'r Reader,
        shared: &Shared,
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
        // an option may take a traffic log's CPU for that of requests
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

    fn record<'r>(&mut self, args: &Args, record: &Record<'_>, shared: &Shared) -> Result<(), Broken<'r>> {
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
            return i64::try_from(fields::nanoseconds(seconds)? / 1_000_000).ok();
        }
        let text = fields.get(Field::Iso8601).or_else(|| fields.get(Field::TimeLocal))?;
        // many lines of a second follow on each other
        if *text != *self.last_time.0 {
            self.last_time.0 = text.to_vec();
            let text = std::str::from_utf8(text).ok();
            // a variable of the user's own may be any of the three
            let seconds = |text: &str| i64::try_from(fields::nanoseconds(text.as_bytes())? / 1_000_000).ok();
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
