//! Writes figures as tables, as CSV or as JSON.

use std::io::{self, Write};

use serde_json::json;

use super::figures::{Bar, Figure, Kind};
use crate::output::{Cell, Column, Format, Rows};

/// A column, and what it shows of a bar.
struct Shown {
    column: Column<'static>,
    cell: fn(&Bar) -> Cell<'_>,
}

const fn shown(name: &'static str, title: &'static str, cell: fn(&Bar) -> Cell<'_>) -> Shown {
    Shown { column: Column { name, title, is_number: true }, cell }
}

const REQUESTS: Shown = shown("requests", "requests", |bar| Cell::count(bar.requests));
const BYTES: Shown = shown("bytes", "GB", |bar| match bar.bytes {
    Some(bytes) => Cell { shown: format!("{:.3}", bytes as f64 / 1e9).into(), ..Cell::count(bytes) },
    None => Cell::nothing(),
});
const CPU: Shown = shown("cpu_seconds", "CPU time", |bar| Cell::duration(bar.cpu_ns as f64));
const MEAN: Shown = shown("cpu_seconds_per_request", "CPU/request", |bar| {
    Cell::duration(bar.cpu_ns as f64 / bar.requests as f64)
});
const MARGIN: Shown = shown("cpu_seconds_per_request_margin", "± 95 %", |bar| {
    bar.margin.filter(|_| bar.bytes.is_none()).map_or_else(Cell::nothing, Cell::duration)
});
const P50: Shown = shown("cpu_seconds_p50", "p50", |bar| percentile(bar, 0));
const P95: Shown = shown("cpu_seconds_p95", "p95", |bar| percentile(bar, 1));
const P99: Shown = shown("cpu_seconds_p99", "p99", |bar| percentile(bar, 2));
const PER_GB: Shown = shown("cpu_seconds_per_gb", "CPU s/GB", |bar| {
    if bar.bytes.is_some() && bar.value.is_finite() { per_gb(bar.value) } else { Cell::nothing() }
});
const PER_GB_MARGIN: Shown = shown("cpu_seconds_per_gb_margin", "± 95 %", |bar| {
    bar.margin.filter(|_| bar.bytes.is_some()).map_or_else(Cell::nothing, per_gb)
});

fn percentile(bar: &Bar, at: usize) -> Cell<'_> {
    let ns = bar.percentiles.and_then(|percentiles| percentiles.get(at).copied());
    ns.map_or_else(Cell::nothing, |ns| Cell::duration(ns as f64))
}

fn per_gb(value: f64) -> Cell<'static> {
    Cell::number(value, 2)
}

fn text(name: &'static str, title: &'static str, cell: fn(&Bar) -> Cell<'_>) -> Shown {
    Shown { column: Column { name, title, is_number: false }, cell }
}

fn few(bar: &Bar) -> Cell<'_> {
    Cell::text(if bar.is_few { "few" } else { "" })
}

fn name(bar: &Bar) -> Cell<'_> {
    Cell::text(bar.name.as_str())
}

fn group(bar: &Bar) -> Cell<'_> {
    bar.group.as_deref().map_or_else(Cell::nothing, Cell::text)
}

/// What is known besides the figures.
pub struct Head {
    /// requests that were read
    pub requests: u64,
    /// bars of fewer are marked
    pub min_requests: u64,
}

/// Writes the figures. `is_styled`: whether heads are bold.
pub fn write(
    figures: &[Figure],
    head: &Head,
    format: Format,
    mut out: impl Write,
    is_styled: bool,
) -> io::Result<()> {
    match format {
        Format::Table => {
            let (bold, plain) = if is_styled { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            for (at, figure) in figures.iter().enumerate() {
                let gap = if at > 0 { "\n" } else { "" };
                writeln!(out, "{gap}{bold}{}{plain}\n", figure.title)?;
                out = table(figure, out, is_styled)?;
                let few = figure.bars.iter().any(|bar| bar.is_few);
                let few =
                    few.then(|| format!("few: less than {} requests, which says little", head.min_requests));
                for note in figure.notes.iter().chain(&few) {
                    writeln!(out, "  {note}")?;
                }
            }
        }
        Format::Csv => drop(rows(figures, format, &mut out)?),
        Format::Json => {
            let head = json!({ "requests": head.requests, "min_requests": head.min_requests });
            let head = head.to_string();
            write!(out, "{},\"rows\":", head.strip_suffix('}').unwrap_or(&head))?;
            rows(figures, format, &mut out)?;
            writeln!(out, "}}")?;
        }
    }
    out.flush()
}

/// A table of its own, with the columns that the figure has something for.
fn table<W: Write>(figure: &Figure, out: W, is_styled: bool) -> io::Result<W> {
    let first = match figure.kind {
        Kind::Order => "order",
        Kind::Cache => "cache status",
        Kind::Size => "up to",
        Kind::Domain => "domain",
        Kind::By => figure.bars.first().and_then(|bar| bar.group.as_deref()).unwrap_or("value"),
    };
    let mut columns = vec![text("name", "", name), REQUESTS];
    if figure.kind != Kind::By && figure.bars.iter().any(|bar| bar.group.is_some()) {
        columns.insert(0, text("group", "group", group));
    }
    match figure.kind {
        Kind::Domain => columns.extend([BYTES, CPU, MEAN, PER_GB, PER_GB_MARGIN]),
        _ => columns.extend([CPU, MEAN, MARGIN, P50, P95, P99]),
    }
    let all_ns: f64 = figure.bars.iter().map(|bar| bar.cpu_ns as f64).sum();
    if figure.bars.iter().any(|bar| bar.is_few) {
        columns.push(text("is_few", "", few));
    }
    let mut heads: Vec<Column<'_>> = columns.iter().map(|shown| shown.column).collect();
    for head in heads.iter_mut().filter(|head| head.name == "name") {
        head.title = first;
    }
    const SHARE_AT: usize = 3;
    if figure.kind == Kind::By {
        heads.insert(SHARE_AT, Column { name: "cpu_share", title: "share", is_number: true });
    }
    let mut rows = Rows::new(Format::Table, &heads, out, is_styled)?;
    let mut last_group = None;
    for bar in &figure.bars {
        if last_group.replace(&bar.group).is_some_and(|last| *last != bar.group) {
            rows.rule()?;
        }
        let mut cells: Vec<Cell<'_>> = columns.iter().map(|shown| (shown.cell)(bar)).collect();
        if figure.kind == Kind::By {
            let share = if all_ns > 0.0 { bar.cpu_ns as f64 / all_ns } else { 0.0 };
            cells.insert(SHARE_AT, Cell::text(format!("{:.1} %", 100.0 * share)));
        }
        rows.row(&cells)?;
    }
    rows.finish()
}

/// All figures in one table, with all columns.
fn rows<W: Write>(figures: &[Figure], format: Format, out: W) -> io::Result<W> {
    let mut columns = vec![text("group", "", group), text("name", "", name)];
    columns.extend([REQUESTS, BYTES, CPU, MEAN, MARGIN, P50, P95, P99, PER_GB, PER_GB_MARGIN]);
    let is_few = Column { name: "is_few", title: "", is_number: false };
    let figure = Column { name: "figure", title: "", is_number: false };
    let heads: Vec<Column<'static>> =
        [figure].into_iter().chain(columns.iter().map(|shown| shown.column)).chain([is_few]).collect();
    let mut rows = Rows::new(format, &heads, out, false)?;
    for figure in figures {
        for bar in &figure.bars {
            let first = Cell::text(figure.kind.name());
            let is_few = Cell::count(bar.is_few.into());
            let cells = columns.iter().map(|shown| (shown.cell)(bar));
            rows.row(&[first].into_iter().chain(cells).chain([is_few]).collect::<Vec<_>>())?;
        }
    }
    rows.finish()
}
