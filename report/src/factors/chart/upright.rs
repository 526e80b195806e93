//! Upright bars: CPU per request.

use std::borrow::Cow;

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::super::figures::{Bar, Figure, FigureKind};
use super::canvas::*;
use super::text::{short, shortened};
use crate::output::grouped;

/// The height of the axis in pixels.
const HEIGHT: u32 = 300;

/// Bars of the same order, status or size, one for each group.
struct Cluster<'a> {
    name: String,
    bars: Vec<(usize, &'a Bar)>,
}

fn clusters<'a>(figure: &Figure, bars: &[&'a Bar], groups: &[Cow<'_, str>]) -> Vec<Cluster<'a>> {
    let mut clusters: Vec<Cluster<'_>> = Vec::new();
    for bar in bars {
        let name = match (figure.kind, bar.name.as_str()) {
            (FigureKind::Size, "inf") => "> 64m".to_owned(),
            (FigureKind::Size, bound) => format!("≤ {bound}"),
            (FigureKind::Order, "1") => "1st request".to_owned(),
            (FigureKind::Order, "2") => "2nd".to_owned(),
            (FigureKind::Order, "3") => "3rd".to_owned(),
            (FigureKind::Order, "4+") => "4th and later".to_owned(),
            _ => bar.shown_name().into_owned(),
        };
        let own = bar.shown_group();
        let group = groups.iter().position(|group| Some(group) == own.as_ref()).unwrap_or_default();
        match clusters.iter_mut().find(|cluster| cluster.name == name) {
            Some(cluster) => cluster.bars.push((group, bar)),
            None => clusters.push(Cluster { name, bars: vec![(group, bar)] }),
        }
    }
    if figure.kind == FigureKind::Order {
        // a group may have no first requests
        clusters.sort_by_key(|cluster| cluster.bars.first().map(|(_, bar)| bar.name.clone()));
    }
    clusters
}

fn groups<'a>(bars: &[&'a Bar]) -> Vec<Cow<'a, str>> {
    let mut groups: Vec<Cow<'_, str>> = Vec::new();
    for group in bars.iter().filter_map(|bar| bar.shown_group()) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// Where the groups' colours are explained, in lines from `left` to `right`.
fn legend(groups: &[Cow<'_, str>], left: u32, right: u32) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (left, 64);
    let places = groups.iter().map(|group| {
        let width = 44 + 8 * shortened(group, 40).chars().count() as u32;
        if x > left && x + width > right {
            (x, y) = (left, y + 20);
        }
        let place = (x as i32, y);
        x += width;
        place
    });
    places.collect()
}

const BAR_WIDTH: u32 = 54;

const CLUSTER_GAP: u32 = 34;

pub fn columns(figure: &Figure, bars: &[&Bar], out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let groups = groups(bars);
    let clusters = clusters(figure, bars, &groups);
    let needed = bars.len() as u32 * BAR_WIDTH + (clusters.len() as u32 + 1) * CLUSTER_GAP;
    let inner = needed.max(460);
    let (left, foot, right) = (78, 50, 16);
    let legend = if groups.len() > 1 { legend(&groups, left, left + inner) } else { Vec::new() };
    let head = legend.last().map_or(62, |(_, y)| *y as u32 + 30);
    let size = (left + inner + right, head + HEIGHT + foot);
    let root = SVGBackend::with_string(out, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (span, is_log) = span(bars);
    headline(&root, figure, is_log)?;
    for (at, (group, (x, y))) in groups.iter().zip(legend).enumerate() {
        root.draw(&Rectangle::new([(x, y), (x + 12, y + 12)], colour(at).filled()))?;
        let style = label(15, INK, HPos::Left, VPos::Center);
        root.draw(&Text::new(shortened(group, 40), (x + 18, y + 6), style))?;
    }
    // all x are pixels; few bars stand in the middle
    let begin = f64::from((inner - needed) / 2 + CLUSTER_GAP);
    let width = f64::from(inner);
    let mut builder = ChartBuilder::on(&root);
    builder.margin_top(head).margin_right(right).set_label_area_size(LabelAreaPosition::Left, left);
    builder.set_label_area_size(LabelAreaPosition::Bottom, foot);
    if is_log {
        let mut chart = builder.build_cartesian_2d(0.0..width, span.clone().log_scale())?;
        upright(&mut chart, &root, &clusters, (begin, span.start))?;
    } else {
        let mut chart = builder.build_cartesian_2d(0.0..width, span.clone())?;
        upright(&mut chart, &root, &clusters, (begin, span.start))?;
    }
    root.present()?;
    Ok(())
}

fn upright<Y>(
    chart: &mut ChartContext<'_, Backend<'_>, Cartesian2d<RangedCoordf64, Y>>,
    root: &Area<'_>,
    clusters: &[Cluster<'_>],
    (mut x, base): (f64, f64),
) -> Result<(), Box<dyn std::error::Error>>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_labels(6)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(TRANSPARENT)
        .y_label_style(label(14, FAINT_INK, HPos::Right, VPos::Center))
        .y_label_formatter(&|ns| short(*ns))
        .draw()?;
    let (axis, foot) = chart.backend_coord(&(0.0, base));
    root.draw(&Text::new("requests", (axis - 10, foot + 7), label(13, FAINT_INK, HPos::Right, VPos::Top)))?;
    for cluster in clusters {
        let begin = x;
        for (group, bar) in &cluster.bars {
            let end = x + f64::from(BAR_WIDTH);
            let middle = (x + end) / 2.0;
            let colour = colour(*group);
            let fill = if bar.is_few { colour.mix(0.3) } else { colour.mix(1.0) };
            let corners = [(x + 5.0, base), (end - 5.0, bar.value)];
            chart.plotting_area().draw(&Rectangle::new(corners, fill.filled()))?;
            let mut top = bar.value;
            if let Some(margin) = bar.margin {
                let (low, high) = ((bar.value - margin).max(base), bar.value + margin);
                top = high;
                let lines = [
                    [(middle, low), (middle, high)],
                    [(middle - 6.0, low), (middle + 6.0, low)],
                    [(middle - 6.0, high), (middle + 6.0, high)],
                ];
                for line in lines {
                    chart.plotting_area().draw(&PathElement::new(line, INK.stroke_width(1)))?;
                }
            }
            if let Some([median, ..]) = bar.percentiles {
                let at = chart.backend_coord(&(middle, (median as f64).max(base)));
                root.draw(&Circle::new(at, 3, WHITE.filled()))?;
                root.draw(&Circle::new(at, 3, INK.stroke_width(1)))?;
            }
            let (at_x, at_y) = chart.backend_coord(&(middle, top));
            root.draw(&Text::new(
                short(bar.value),
                (at_x, at_y - 5),
                label(14, INK, HPos::Center, VPos::Bottom),
            ))?;
            let (_, foot) = chart.backend_coord(&(middle, base));
            let few = if bar.is_few { " !" } else { "" };
            let count = format!("{}{few}", grouped(bar.requests));
            root.draw(&Text::new(count, (at_x, foot + 7), label(13, FAINT_INK, HPos::Center, VPos::Top)))?;
            x = end;
        }
        let (at_x, foot) = chart.backend_coord(&((begin + x) / 2.0, base));
        let (left, _) = chart.backend_coord(&(begin, base));
        let (right, _) = chart.backend_coord(&(x, base));
        root.draw(&PathElement::new([(left, foot), (right, foot)], INK.stroke_width(1)))?;
        let name = shortened(&cluster.name, 13 * cluster.bars.len());
        root.draw(&Text::new(name, (at_x, foot + 25), label(15, INK, HPos::Center, VPos::Top)))?;
        x += f64::from(CLUSTER_GAP);
    }
    Ok(())
}
