//! Writes figures as tables, as CSV or as JSON.

use std::io::{self, Write};

use serde_json::json;

use super::figures::{Bar, Figure, FigureKind};
use crate::output::{Cell, Column, Format, Layout, Rows, Visibility, printable};

/// A column, and the value of a bar that it shows.
#[derive(Clone, Copy)]
struct BarColumn {
    column: Column<'static>,
    cell: fn(&Bar) -> Cell<'_>,
}

const fn shown(name: &'static str, title: &'static str, cell: fn(&Bar) -> Cell<'_>) -> BarColumn {
    BarColumn { column: Column::number(name, title), cell }
}

const REQUESTS: BarColumn = shown("requests", "requests", |bar| Cell::count(bar.requests));
const BYTES: BarColumn = shown("bytes", "GB", |bar| match bar.bytes {
    Some(bytes) => Cell { shown: format!("{:.3}", bytes as f64 / 1e9).into(), ..Cell::count(bytes) },
    None => Cell::nothing(),
});
const CPU: BarColumn = shown("cpu_seconds", "CPU time", |bar| Cell::duration(bar.cpu_ns as f64));
const MEAN: BarColumn = shown("cpu_seconds_per_request", "CPU/request", |bar| {
    Cell::duration(bar.cpu_ns as f64 / bar.requests as f64)
});
const MARGIN: BarColumn = shown("cpu_seconds_per_request_margin", "± 95 %", |bar| {
    bar.margin.filter(|_| bar.bytes.is_none()).map_or_else(Cell::nothing, Cell::duration)
});
const P50: BarColumn = shown("cpu_seconds_p50", "p50", |bar| percentile(bar, 0));
const P95: BarColumn = shown("cpu_seconds_p95", "p95", |bar| percentile(bar, 1));
const P99: BarColumn = shown("cpu_seconds_p99", "p99", |bar| percentile(bar, 2));
const PER_GB: BarColumn = shown("cpu_seconds_per_gb", "CPU s/GB", |bar| {
    if bar.bytes.is_some() && bar.value.is_finite() { per_gb(bar.value) } else { Cell::nothing() }
});
const PER_GB_MARGIN: BarColumn = shown("cpu_seconds_per_gb_margin", "± 95 %", |bar| {
    bar.margin.filter(|_| bar.bytes.is_some()).map_or_else(Cell::nothing, per_gb)
});

fn percentile(bar: &Bar, at: usize) -> Cell<'_> {
    let ns = bar.percentiles.and_then(|percentiles| percentiles.get(at).copied());
    ns.map_or_else(Cell::nothing, |ns| Cell::duration(ns as f64))
}

fn per_gb(value: f64) -> Cell<'static> {
    Cell::number(value, 2)
}

const fn text(name: &'static str, title: &'static str, cell: fn(&Bar) -> Cell<'_>) -> BarColumn {
    BarColumn { column: Column::name(name, title), cell }
}

fn few(bar: &Bar) -> Cell<'_> {
    Cell { shown: if bar.is_few { "few" } else { "" }.into(), ..Cell::count(bar.is_few.into()) }
}

fn name(bar: &Bar) -> Cell<'_> {
    Cell { shown: printable(bar.shown_name()), ..Cell::text(bar.name.as_str()) }
}

fn group(bar: &Bar) -> Cell<'_> {
    let shown = bar.shown_group().map(printable).unwrap_or_default();
    bar.group.as_deref().map_or_else(Cell::nothing, |group| Cell { shown, ..Cell::text(group) })
}

/// Data about the figures as a whole.
pub struct FigureTableHead {
    /// requests that were read
    pub requests: u64,
    /// bars of fewer are marked
    pub min_requests: u64,
}

/// Writes the figures.
pub fn write(
    figures: &[Figure],
    head: &FigureTableHead,
    format: Format,
    mut out: impl Write,
    layout: &Layout,
) -> io::Result<()> {
    match format {
        Format::Table => {
            let (bold, plain) = if layout.is_styled { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            for (at, figure) in figures.iter().enumerate() {
                let gap = if at > 0 { "\n" } else { "" };
                write!(out, "{gap}{bold}")?;
                layout.write_text(&mut out, &figure.title)?;
                writeln!(out, "{plain}")?;
                out = table(figure, out, layout)?;
                let few = figure.bars.iter().any(|bar| bar.is_few);
                let few = few.then(|| {
                    format!("few: fewer than {} requests, so the value is uncertain", head.min_requests)
                });
                for note in figure.notes.iter().chain(&few) {
                    layout.write_text(&mut out, &format!("  {note}"))?;
                }
            }
        }
        Format::Csv => drop(rows(figures, format, &mut out, layout)?),
        Format::Json => {
            let head = json!({ "requests": head.requests, "min_requests": head.min_requests });
            let head = head.to_string();
            write!(out, "{},\"rows\":", head.strip_suffix('}').unwrap_or(&head))?;
            rows(figures, format, &mut out, layout)?;
            writeln!(out, "}}")?;
        }
    }
    out.flush()
}

/// The columns that can be asked for.
pub fn columns() -> Vec<Column<'static>> {
    let mut columns: Vec<_> = [FIGURE].into_iter().chain(ALL.iter().map(|shown| shown.column)).collect();
    columns.insert(SHARE_AT, SHARE);
    columns
}

/// The share of the CPU of all bars. It is shown if the bars are values of a variable.
const SHARE: Column<'static> = Column::number("cpu_share", "share").at(Visibility::Nowhere).rank(2);

/// The place after CPU time.
const SHARE_AT: usize = 6;

/// Names the figure of a row.
const FIGURE: Column<'static> = Column::text("figure", "figure").at(Visibility::Data);

/// All other columns, in their order.
const ALL: [BarColumn; 14] = [
    text("group", "group", group),
    text("name", "name", name),
    REQUESTS.rank(2),
    BYTES.rank(4),
    CPU.rank(3),
    MEAN.rank(1),
    MARGIN.rank(6),
    P50.rank(7),
    P95.rank(5),
    P99.rank(8),
    PER_GB.rank(1),
    PER_GB_MARGIN.rank(6),
    shown("is_few", "few", few).rank(9),
    text("row", "row", |bar| Cell::text(if bar.is_rest { "rest" } else { "value" })).nowhere(),
];

impl BarColumn {
    /// Not in tables, unless it is asked for.
    const fn nowhere(self) -> Self {
        Self { column: self.column.at(Visibility::Data), ..self }
    }

    const fn rank(self, rank: u8) -> Self {
        Self { column: self.column.rank(rank), ..self }
    }
}

/// A separate table, with the columns for which the figure has values.
fn table<W: Write>(figure: &Figure, out: W, layout: &Layout) -> io::Result<W> {
    let title = match figure.kind {
        FigureKind::Order => "order",
        FigureKind::Cache => "cache status",
        FigureKind::Size => "up to",
        FigureKind::Domain => "domain",
        FigureKind::By => figure.bars.first().and_then(|bar| bar.group.as_deref()).unwrap_or("value"),
    };
    let is_domain = figure.kind == FigureKind::Domain;
    let is_by = figure.kind == FigureKind::By;
    let column = |column: Column<'static>| -> Column<'_> {
        if column.name == SHARE.name && is_by {
            return column.at(Visibility::Everywhere);
        }
        let is_there = match column.name {
            "group" => !is_by && figure.bars.iter().any(|bar| bar.group.is_some()),
            "bytes" | "cpu_seconds_per_gb" | "cpu_seconds_per_gb_margin" => is_domain,
            "cpu_seconds_per_request_margin" | "cpu_seconds_p50" | "cpu_seconds_p95" | "cpu_seconds_p99" => {
                !is_domain
            }
            "is_few" => figure.bars.iter().any(|bar| bar.is_few),
            "figure" | "cpu_share" | "row" => false,
            _ => true,
        };
        let column = if is_there { column } else { column.at(Visibility::Nowhere) };
        match column.name {
            "name" => Column { title, ..column },
            // the mark explains itself
            "is_few" => Column { title: "", is_number: false, ..column },
            // the main figure of domains is CPU per GB
            "cpu_seconds_per_request" if is_domain => column.rank(4),
            _ => column,
        }
    };
    let heads: Vec<Column<'_>> = columns().into_iter().map(column).collect();
    let mut rows = Rows::new(Format::Table, &heads, out, layout)?;
    let (mut last_group, all_ns) = (None, all_ns(figure));
    for bar in &figure.bars {
        if last_group.replace(&bar.group).is_some_and(|last| *last != bar.group) {
            rows.rule()?;
        }
        rows.row(&cells((figure, all_ns), bar))?;
    }
    rows.finish()
}

/// All figures in one table, with all columns.
fn rows<W: Write>(figures: &[Figure], format: Format, out: W, layout: &Layout) -> io::Result<W> {
    let mut rows = Rows::new(format, &columns(), out, layout)?;
    for figure in figures {
        let all_ns = all_ns(figure);
        for bar in &figure.bars {
            rows.row(&cells((figure, all_ns), bar))?;
        }
    }
    rows.finish()
}

/// The CPU of all bars.
fn all_ns(figure: &Figure) -> f64 {
    figure.bars.iter().map(|bar| bar.cpu_ns as f64).sum()
}

fn cells<'a>((figure, all_ns): (&Figure, f64), bar: &'a Bar) -> Vec<Cell<'a>> {
    let first = Cell::text(figure.kind.name());
    let mut cells: Vec<_> = [first].into_iter().chain(ALL.iter().map(|shown| (shown.cell)(bar))).collect();
    let share = if all_ns > 0.0 { bar.cpu_ns as f64 / all_ns } else { 0.0 };
    let shown = format!("{:.1} %", 100.0 * share).into();
    cells.insert(SHARE_AT, Cell { shown, ..Cell::number(share, 3) });
    cells
}
