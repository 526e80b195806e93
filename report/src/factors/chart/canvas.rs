//! The parts that all drawings have: colours, headline and axis.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::figures::{Bar, Figure, FigureKind};
use crate::output::grouped;

/// Colours that are told apart with any kind of colour vision (Okabe and Ito, 2008).
pub const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

pub const INK: RGBColor = RGBColor(34, 34, 34);

pub const FAINT_INK: RGBColor = RGBColor(105, 105, 105);

pub const GRID: RGBColor = RGBColor(225, 225, 225);

/// The ratio of highest to lowest from which an axis is logarithmic.
pub const LOG_FROM: f64 = 30.0;

/// The most bars of a drawing. The table has all.
pub const MOST_BARS: usize = 100;

pub type Backend<'a> = SVGBackend<'a>;

pub type Area<'a> = DrawingArea<Backend<'a>, plotters::coord::Shift>;

pub fn headline(root: &Area<'_>, figure: &Figure, is_log: bool) -> Result<(), Box<dyn std::error::Error>> {
    let style = ("sans-serif", 22).into_font().style(FontStyle::Bold).color(&INK);
    root.draw(&Text::new(figure.title.clone(), (16, 14), style))?;
    let bars = match figure.kind {
        FigureKind::Domain => "bar: ratio of the sums",
        _ => "bar: mean  ·  ring: median",
    };
    let few = if figure.bars.iter().any(|bar| bar.is_few) { "  ·  pale, !: few requests" } else { "" };
    let few = if figure.bars.len() > MOST_BARS {
        format!("{few}  ·  the first {MOST_BARS}")
    } else {
        few.to_owned()
    };
    let log = if is_log { "  ·  logarithmic axis" } else { "" };
    let text =
        format!("{} requests  ·  {bars}  ·  whisker: 95 % interval{few}{log}", grouped(figure.requests));
    root.draw(&Text::new(text, (16, 40), label(14, FAINT_INK, HPos::Left, VPos::Top)))?;
    Ok(())
}

/// The range of an axis, and whether it is logarithmic. A linear axis begins at 0.
pub fn span(bars: &[&Bar]) -> (Range<f64>, bool) {
    let positive = bars.iter().map(|bar| bar.value).filter(|value| *value > 0.0);
    let lowest = positive.fold(f64::INFINITY, f64::min);
    let top = |bar: &&Bar| {
        let median = bar.percentiles.map_or(0.0, |[median, ..]| median as f64);
        (bar.value + bar.margin.unwrap_or_default()).max(median)
    };
    let highest = bars.iter().map(top).fold(0.0, f64::max);
    if highest <= 0.0 {
        return (0.0..1.0, false);
    }
    if highest / lowest >= LOG_FROM {
        // a bar that ends where the axis begins could not be seen
        let begin = 10f64.powf((lowest / 2.0).log10().floor());
        (begin..highest * 1.6, true)
    } else {
        (0.0..highest * 1.12, false)
    }
}

pub fn colour(group: usize) -> RGBColor {
    COLOURS[group % COLOURS.len()]
}

pub fn label(size: u32, colour: RGBColor, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour).pos(Pos::new(h_pos, v_pos))
}
