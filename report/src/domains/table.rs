//! Writes sums as rows.

use std::io::{self, Write};

use serde_json::json;

use super::domain::Domain;
use crate::output::{Cell, CellValue, Column, Format, Layout, Rows, Visibility};
use crate::time::{self, By, Millis, slot};
use crate::traffic::{Metric, Peak, Usage};

/// The order of rows: largest first, or by name.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableSort {
    /// CPU time, which also is the order of average cores
    #[default]
    Cpu,
    /// number of requests
    Requests,
    /// bytes sent
    Gb,
    /// highest cores of five minutes
    Peak,
    /// 95th percentile of the cores of five minutes
    P95,
    /// highest cores of one second on one server, from traffic logs with `peak_cpu_ns`
    PeakSecond,
    /// CPU time per request
    PerRequest,
    /// CPU time per GB
    PerGb,
    /// responses with a status of 5xx
    Errors,
    /// name
    Domain,
}

/// The choice of rows and columns.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// the time that averages and percentiles are of
    pub range: (Millis, Millis),
    /// a row for each of these; otherwise one for the whole time
    pub by: Option<By>,
    /// the number of domains of each zone with rows; the others have one row together
    pub top: usize,
    /// which are first
    pub sort: TableSort,
    /// CPU time is shown
    pub seconds: bool,
    /// cores are shown
    pub cores: bool,
    /// how it is written
    pub format: Format,
    /// the highest second is known for some rows: there is a column for it, in cores
    pub peak_second: bool,
    /// limits have refused something: there is a column for it
    pub refused: bool,
}

/// Writes the rows of all zones.
pub fn write<W: Write>(
    wanted: &TableOptions,
    zones: &[(String, Vec<Domain>)],
    mut out: W,
    layout: &Layout,
) -> io::Result<()> {
    let (from, to) = wanted.range;
    let plan = Columns::new(wanted);
    match wanted.format {
        Format::Table => {
            let span = format!("{} to {}", time::format(from), time::format(to));
            if zones.is_empty() {
                layout.write_text(&mut out, &format!("{span}: nothing was used"))?;
            }
            for (at, (name, domains)) in zones.iter().enumerate() {
                if at > 0 {
                    writeln!(out)?;
                }
                layout.write_text(&mut out, &format!("{span}, zone {name}"))?;
                writeln!(out)?;
                let mut rows = Rows::new(wanted.format, &plan.columns, &mut out, layout)?;
                zone(wanted, &plan, name, domains, &mut rows)?;
                rows.finish()?;
            }
        }
        Format::Csv | Format::Json => {
            if wanted.format == Format::Json {
                let by = wanted.by.map(By::name);
                let (from, to) = (time::format(from), time::format(to));
                let head = json!({ "from": from, "to": to, "by": by, "slot_seconds": time::SLOT_MS / 1000 });
                let head = head.to_string();
                write!(out, "{},\"rows\":", head.trim_end_matches('}'))?;
            }
            let mut rows = Rows::new(wanted.format, &plan.columns, &mut out, layout)?;
            for (name, domains) in zones {
                zone(wanted, &plan, name, domains, &mut rows)?;
            }
            rows.finish()?;
            if wanted.format == Format::Json {
                writeln!(out, "}}")?;
            }
        }
    }
    out.flush()
}

fn zone<W: Write>(
    wanted: &TableOptions,
    plan: &Columns,
    zone: &str,
    domains: &[Domain],
    rows: &mut Rows<W>,
) -> io::Result<()> {
    let mut sorted: Vec<(f64, &Domain)> = domains
        .iter()
        .filter(|domain| domain.name.is_some())
        .map(|domain| (key(wanted, domain), domain))
        .collect();
    sorted.sort_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.name.cmp(&right.name)));
    let (shown, others) = sorted.split_at(sorted.len().min(wanted.top));

    let mut rest = Domain::new(0, None, wanted.by);
    for (_, domain) in others {
        rest.add(domain);
    }
    // domains above the limit
    for domain in domains.iter().filter(|domain| domain.name.is_none()) {
        rest.add(domain);
    }
    let mut all = Domain::new(0, None, wanted.by);
    all.add(&rest);
    for (_, domain) in shown {
        all.add(domain);
    }

    let mut written = false;
    for (_, domain) in shown {
        let name = domain.name.as_deref().unwrap_or_default();
        written |= account(
            wanted,
            plan,
            Label { zone, row: "domain", domain: Some(name), shown: name },
            domain,
            rows,
        )?;
    }
    if shown.len() < domains.len() {
        let title = match others.len() {
            0 => "rest".to_owned(),
            1 => "rest (1 domain)".to_owned(),
            n => format!("rest ({n} domains)"),
        };
        written |=
            account(wanted, plan, Label { zone, row: "rest", domain: None, shown: &title }, &rest, rows)?;
    }
    if written {
        rows.rule()?;
    }
    account(wanted, plan, Label { zone, row: "all", domain: None, shown: "all" }, &all, rows)?;
    Ok(())
}

/// The owner of a row.
#[derive(Clone, Copy)]
struct Label<'a> {
    zone: &'a str,
    /// `domain`, `rest` or `all`: a domain may have any name
    row: &'static str,
    domain: Option<&'a str>,
    shown: &'a str,
}

/// Writes the rows of a domain, of the others, or of all. Returns false if there were none.
fn account<W: Write>(
    wanted: &TableOptions,
    plan: &Columns,
    label: Label<'_>,
    domain: &Domain,
    rows: &mut Rows<W>,
) -> io::Result<bool> {
    let Some(by) = wanted.by else {
        let (peak, p95) = peak_and_p95(domain.slots(), wanted.range, wanted.range);
        let figures = Figures {
            usage: domain.total,
            seconds: seconds(wanted.range),
            peak,
            p95,
            peak_second: domain.peak,
        };
        rows.row(&plan.cells(label, (wanted.range, None), &figures))?;
        return Ok(true);
    };
    let mut slots = domain.slots().peekable();
    let buckets = domain.buckets(by);
    for bucket in &buckets {
        let (begin, end) = by.bounds(*bucket);
        let range = (begin.max(wanted.range.0), end.min(wanted.range.1));
        let in_bucket =
            std::iter::from_fn(|| slots.next_if(|(slot, _)| By::FiveMinutes.bounds(*slot).0 < end));
        let (peak, p95) = peak_and_p95(in_bucket, range, wanted.range);
        let figures = Figures {
            usage: domain.in_bucket(by, *bucket),
            seconds: seconds(range),
            peak,
            p95,
            peak_second: domain.peak_in_bucket(*bucket),
        };
        rows.row(&plan.cells(label, (range, Some(begin)), &figures))?;
    }
    Ok(!buckets.is_empty())
}

fn seconds((begin, end): (Millis, Millis)) -> f64 {
    (end - begin) as f64 / 1e3
}

/// The figures of a row.
struct Figures {
    usage: Usage,
    /// how long that took
    seconds: f64,
    peak: f64,
    p95: f64,
    peak_second: Peak,
}

/// In one second.
fn cores(peak: Peak) -> Option<f64> {
    peak.ns().map(|ns| ns as f64 / 1e9)
}

impl Figures {
    fn of(&self, metric: Metric) -> f64 {
        self.usage[metric] as f64
    }

    fn cores(&self) -> f64 {
        self.of(Metric::Cpu) / 1e9 / self.seconds
    }
}

/// The cores of the highest slot, and of the slot that 95 % of all slots do not exceed (nearest rank: the
/// slot at ⌈0.95 N⌉ of N sorted slots). All slots of `range` count; slots without usage count as 0. Of a slot
/// that is cut by an end of `whole`, the part within counts.
fn peak_and_p95(
    used: impl Iterator<Item = (u32, u128)>,
    range: (Millis, Millis),
    whole: (Millis, Millis),
) -> (f64, f64) {
    let mut cores: Vec<f64> = used
        .map(|(slot, cpu)| {
            let (begin, end) = By::FiveMinutes.bounds(slot);
            cpu as f64 / 1e9 / seconds((begin.max(whole.0), end.min(whole.1)))
        })
        .collect();
    let slots = match range {
        (begin, end) if begin < end => u64::from(slot(end - 1) - slot(begin)) + 1,
        _ => 0,
    };
    let peak = cores.iter().copied().fold(0.0, f64::max);
    // the slots that are not among `cores` come first
    let zeros = slots.saturating_sub(cores.len() as u64);
    let rank = (slots * 95).div_ceil(100);
    let p95 = match usize::try_from(rank.saturating_sub(zeros)) {
        Ok(rank @ 1..) if rank <= cores.len() => *cores.select_nth_unstable_by(rank - 1, f64::total_cmp).1,
        _ => 0.0,
    };
    (peak, p95)
}

/// The sort key of a domain. Equal domains are sorted by name.
fn key(wanted: &TableOptions, domain: &Domain) -> f64 {
    let of = |metric: Metric| domain.total[metric] as f64;
    let per = |number: f64, by: f64| if by > 0.0 { number / by } else { -1.0 };
    let peak_and_p95 = || peak_and_p95(domain.slots(), wanted.range, wanted.range);
    match wanted.sort {
        TableSort::Cpu => of(Metric::Cpu),
        TableSort::Requests => of(Metric::Requests),
        TableSort::Gb => of(Metric::Sent),
        TableSort::Peak => peak_and_p95().0,
        TableSort::P95 => peak_and_p95().1,
        TableSort::PeakSecond => cores(domain.peak).unwrap_or(-1.0),
        TableSort::PerRequest => per(of(Metric::Cpu), of(Metric::Requests)),
        TableSort::PerGb => per(of(Metric::Cpu), of(Metric::Sent)),
        TableSort::Errors => of(Metric::Responses5xx),
        TableSort::Domain => 0.0,
    }
}

/// All columns, in the order of [`Columns::cells`].
const ALL: [Column<'static>; 18] = [
    Column::text("zone", "zone").at(Visibility::Data),
    Column::text("row", "row").at(Visibility::Data),
    Column::name("domain", "domain"),
    Column::text("time", "time").rank(0),
    Column::number("requests", "requests").rank(2),
    Column::number("sent_gb", "GB").rank(4),
    Column::number("cpu_seconds", "CPU time").rank(1),
    Column::number("cores", "cores").rank(3),
    Column::number("peak_cores", "peak").rank(7),
    Column::number("p95_cores", "95 %").rank(5),
    Column::number("peak_second_cores", "peak 1s").rank(9),
    Column::number("cpu_seconds_per_request", "CPU/request").rank(6),
    Column::number("cpu_seconds_per_gb", "CPU s/GB").rank(10),
    Column::number("responses_4xx", "4xx").rank(12),
    Column::number("responses_5xx", "5xx").rank(8),
    Column::number("refused", "refused").rank(11),
    Column::text("from", "from").at(Visibility::Data),
    Column::text("to", "to").at(Visibility::Data),
];

/// The columns that can be asked for.
pub fn columns() -> [Column<'static>; 18] {
    ALL
}

/// The columns, and where each is.
struct Columns {
    columns: Vec<Column<'static>>,
}

impl Columns {
    /// The columns of CSV and JSON depend only on the arguments, so files of several months can be
    /// concatenated.
    fn new(wanted: &TableOptions) -> Self {
        // a slot has no peak
        let has_peaks = wanted.cores && !wanted.by.is_some_and(By::is_slots);
        let if_asked = |is_asked: bool, column: Column<'static>| match is_asked {
            true => column,
            false => column.at(Visibility::Nowhere),
        };
        let if_known = |is_known: bool, column: Column<'static>| match is_known {
            true => column,
            false => column.at(Visibility::Data),
        };
        let place = |column: Column<'static>| match column.name {
            "time" => if_asked(wanted.by.is_some(), column),
            "cpu_seconds" => if_asked(wanted.seconds, column),
            // the chief figure where there is no CPU time
            "cores" if !wanted.seconds => column.rank(1),
            "cores" => if_asked(wanted.cores, column),
            "peak_cores" | "p95_cores" => if_asked(has_peaks, column),
            "peak_second_cores" => if_asked(wanted.cores, if_known(wanted.peak_second, column)),
            "refused" => if_known(wanted.refused, column),
            _ => column,
        };
        Self { columns: ALL.map(place).to_vec() }
    }

    fn cells<'a>(
        &self,
        label: Label<'a>,
        (range, begin): ((Millis, Millis), Option<Millis>),
        figures: &Figures,
    ) -> Vec<Cell<'a>> {
        let (from, to) = (time::format(range.0), time::format(range.1));
        let requests = figures.of(Metric::Requests);
        let sent_gb = figures.of(Metric::Sent) / 1e9;
        let cpu_ns = figures.of(Metric::Cpu);
        let per =
            |by: f64, cell: fn(f64) -> Cell<'a>| if by > 0.0 { cell(cpu_ns / by) } else { Cell::nothing() };
        let share = |metric: Metric| Cell {
            value: Cell::sum(figures.usage[metric]).value,
            shown: if requests > 0.0 {
                format!("{:.1} %", 100.0 * figures.of(metric) / requests).into()
            } else {
                "-".into()
            },
        };
        let domain = match label.domain {
            Some(name) => Cell::domain(name),
            None => Cell { value: CellValue::Nothing, shown: label.shown.into() },
        };
        vec![
            Cell::text(label.zone),
            Cell::text(label.row),
            domain,
            begin.map_or_else(Cell::nothing, |time| Cell::text(time::format(time))),
            Cell::sum(figures.usage[Metric::Requests]),
            Cell::number(sent_gb, 3),
            Cell { shown: format!("{:.3} s", cpu_ns / 1e9).into(), ..Cell::duration(cpu_ns) },
            Cell::number(figures.cores(), 4),
            Cell::number(figures.peak, 4),
            Cell::number(figures.p95, 4),
            cores(figures.peak_second).map_or_else(Cell::nothing, |cores| Cell::number(cores, 4)),
            per(requests, Cell::duration),
            per(sent_gb, |ns| Cell::number(ns / 1e9, 2)),
            share(Metric::Responses4xx),
            share(Metric::Responses5xx),
            share(Metric::Refused),
            Cell::text(from),
            Cell::text(to),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn peak_and_percentile_are_those_of_all_slots_in_order(
            first in 0u32..1000,
            cores in prop::collection::vec(prop_oneof![Just(0u32), 0u32..5], 1..200),
            begin in 0i64..300_000,
            end in 0i64..300_000,
        ) {
            // the first and the last slot are cut
            let last = first + cores.len() as u32 - 1;
            let range = (By::FiveMinutes.bounds(first).0 + begin, By::FiveMinutes.bounds(last).1 - end);
            prop_assume!(range.0 < range.1);
            let used: Vec<(u32, u128)> = cores.iter().zip(first..).map(|(cores, slot)| {
                let (begin, end) = By::FiveMinutes.bounds(slot);
                (slot, u128::from(*cores) * (end.min(range.1) - begin.max(range.0)) as u128 * 1_000_000)
            }).filter(|(_, cpu)| *cpu > 0).collect();
            let (peak, p95) = peak_and_p95(used.into_iter(), range, range);
            let mut sorted = cores.clone();
            sorted.sort_unstable();
            let wanted = sorted[(cores.len() as f64 * 0.95).ceil() as usize - 1];
            prop_assert!((peak - f64::from(*sorted.last().unwrap())).abs() < 1e-9);
            prop_assert!((p95 - f64::from(wanted)).abs() < 1e-9, "{p95} {wanted}");
        }
    }
}
