//! Lying bars: CPU per GB, and CPU per request by the values of a variable.

use std::ops::Range;

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::super::figures::{Bar, Figure, FigureKind};
use super::canvas::*;
use super::text::{shortened, value};
use crate::output::grouped;

const ROW_HEIGHT: u32 = 26;

pub fn rows(figure: &Figure, bars: &[&Bar], out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let longest =
        bars.iter().map(|bar| shortened(&bar.shown_name(), 40).chars().count()).max().unwrap_or_default();
    let (head, foot, left, right) = (66, 34, 24 + longest as u32 * 8, 190);
    let inner = bars.len() as u32 * ROW_HEIGHT;
    let root = SVGBackend::with_string(out, (left + 420 + right, head + inner + foot)).into_drawing_area();
    root.fill(&WHITE)?;
    let (span, is_log) = span(bars);
    headline(&root, figure, is_log)?;
    let mut builder = ChartBuilder::on(&root);
    builder.margin_top(head).margin_right(right).set_label_area_size(LabelAreaPosition::Left, left);
    builder.set_label_area_size(LabelAreaPosition::Bottom, foot);
    let height = f64::from(inner);
    if is_log {
        let mut chart = builder.build_cartesian_2d(span.clone().log_scale(), height..0.0)?;
        lying(figure.kind, &mut chart, &root, bars, span)?;
    } else {
        let mut chart = builder.build_cartesian_2d(span.clone(), height..0.0)?;
        lying(figure.kind, &mut chart, &root, bars, span)?;
    }
    root.present()?;
    Ok(())
}

fn lying<X>(
    kind: FigureKind,
    chart: &mut ChartContext<'_, Backend<'_>, Cartesian2d<X, RangedCoordf64>>,
    root: &Area<'_>,
    bars: &[&Bar],
    span: Range<f64>,
) -> Result<(), Box<dyn std::error::Error>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(7)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(TRANSPARENT)
        .x_label_style(label(14, FAINT_INK, HPos::Center, VPos::Top))
        .x_label_formatter(&|at| value(kind, *at))
        .draw()?;
    let (end, _) = chart.backend_coord(&(span.end, 0.0));
    for (at, bar) in bars.iter().enumerate() {
        let top = at as f64 * f64::from(ROW_HEIGHT);
        let middle = top + f64::from(ROW_HEIGHT) / 2.0;
        let fill = if bar.is_few { COLOURS[0].mix(0.3) } else { COLOURS[0].mix(1.0) };
        let corners = [(span.start, top + 5.0), (bar.value, top + f64::from(ROW_HEIGHT) - 5.0)];
        chart.plotting_area().draw(&Rectangle::new(corners, fill.filled()))?;
        if let Some(margin) = bar.margin {
            let (low, high) = ((bar.value - margin).max(span.start), bar.value + margin);
            for line in [
                [(low, middle), (high, middle)],
                [(low, middle - 4.0), (low, middle + 4.0)],
                [(high, middle - 4.0), (high, middle + 4.0)],
            ] {
                chart.plotting_area().draw(&PathElement::new(line, INK.stroke_width(1)))?;
            }
        }
        let (begin, y) = chart.backend_coord(&(span.start, middle));
        let name = shortened(&bar.shown_name(), 40);
        root.draw(&Text::new(name, (begin - 8, y), label(15, INK, HPos::Right, VPos::Center)))?;
        root.draw(&Text::new(
            value(kind, bar.value),
            (end + 56, y),
            label(15, INK, HPos::Right, VPos::Center),
        ))?;
        let few = if bar.is_few { " !" } else { "" };
        let count = format!("{} requests{few}", grouped(bar.requests));
        root.draw(&Text::new(count, (end + 182, y), label(13, FAINT_INK, HPos::Right, VPos::Center)))?;
    }
    Ok(())
}
