//! `cpu-report factors`: the factors of the CPU time per request, from access logs.

mod admitted;
mod alien;
mod args;
mod cell;
mod chart;
mod conf;
mod escape;
mod fields;
mod figures;
mod format;
mod group;
mod json;
mod left_out;
mod line;
mod lines;
mod misfit;
mod names;
mod part;
mod reader;
mod record;
mod repeated;
mod shared;
mod splitter;
mod spread;
mod table;
mod tally;
mod value;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::input::{self, fold};
use crate::output::{self, complain};
pub use args::Args;
use figures::{Figure, FigureKind, FigureOptions};
use lines::LineThread;
use shared::SharedNames;
use tally::FactorSums;

/// The most domains in a drawing.
const DRAWN_DOMAINS: usize = 20;

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.output.check(&table::columns())?;
    args.range.set_zone();
    let mut kinds: Vec<FigureKind> = Vec::new();
    kinds.extend(args.by.is_some().then_some(FigureKind::By));
    for kind in if args.figure.is_empty() && args.by.is_none() { &FigureKind::ALL[..] } else { &args.figure }
    {
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    let reader = match reader::reader(args) {
        Ok(reader) => reader,
        Err(error) => {
            complain(&format!("{error:#}"));
            return Ok(ExitCode::from(2));
        }
    };
    let shared = SharedNames::new(args.max_domains, args.max_values, reader.by(), reader.is_escaped());
    // a given format was checked before
    let asked = if args.has_format() { Vec::new() } else { args.asked() };
    let (threads, summary) = fold(&args.files, &args.input, LineThread::default, |thread, line| {
        thread.line(args, &asked, &reader, &shared, line)
    });
    summary.report(&args.files);
    summary.report_copies(&args.files);
    if let Some(missing) = left_out::missing(&threads, &asked, &reader) {
        complain(&missing);
        return Ok(ExitCode::from(2));
    }
    let mut tally = FactorSums::default();
    threads.into_iter().for_each(|thread| tally.add(thread.tally, &shared));

    let names = reader.names();
    left_out::report(&tally, names);
    let wanted = FigureOptions {
        min_requests: args.min_requests,
        top: if args.top == 0 { usize::MAX } else { args.top },
    };
    let mut figures: Vec<Figure> = Vec::new();
    for kind in &kinds {
        match wanted.figure(*kind, &tally, names) {
            Some(figure) => figures.push(figure),
            None if tally.requests == 0 => {}
            // another message tells that these are 0
            None if *kind == FigureKind::Order && tally.zero_orders > 0 => {}
            None => complain(&format!(
                "no figure \"{}\": the log has no {}; add it to the log_format",
                kind.title(names),
                kind.variables(names)
            )),
        }
    }
    if figures.is_empty() {
        complain(if tally.requests == 0 && tally.left_out > 0 {
            "no request matches --domain, --from and --to"
        } else {
            "the logs have no data for any figure"
        });
        return Ok(ExitCode::FAILURE);
    }
    for figure in figures.iter().filter(|figure| figure.requests < tally.requests) {
        let missing = tally.requests - figure.requests;
        if figure.kind == FigureKind::Order && missing == tally.zero_orders {
            continue;
        }
        complain(&format!(
            "{} of {} {} not in \"{}\": their lines have no {}",
            output::grouped(missing),
            output::counted(tally.requests, "request", "requests"),
            if missing == 1 { "is" } else { "are" },
            figure.title,
            figure.kind.variables(names)
        ));
    }
    // in a table they are below it
    if args.output.format != output::Format::Table {
        figures.iter().flat_map(|figure| &figure.notes).for_each(|note| complain(note));
    }
    let head = table::FigureTableHead { requests: tally.requests, min_requests: args.min_requests };
    table::write(&figures, &head, args.output.format, output::stdout(), &args.output.layout())?;
    if let Some(folder) = &args.svg {
        // more bars than these cannot be told apart
        let few = FigureOptions { top: wanted.top.min(DRAWN_DOMAINS), ..wanted };
        let drawn = figures.iter().filter_map(|figure| few.figure(figure.kind, &tally, names));
        draw(&drawn.collect::<Vec<_>>(), folder)?;
    }
    if tally.without_time > 0 && args.input.broken(input::Broken::Skip) == input::Broken::Error {
        return Ok(ExitCode::FAILURE);
    }
    Ok(summary.status(&args.input))
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
