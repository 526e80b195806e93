//! Draws figures as SVG.
//!
//! Bars are means; whiskers their 95 % intervals; rings medians. Each bar has the number of its requests next to it, and is pale where
//! these are few. Letters are left to the viewer, so a text is never as wide as is known here: all have room to spare.

use std::borrow::Cow;
use std::ops::Range;

use anyhow::anyhow;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::{Bar, Figure, Kind};
use crate::output::{grouped, printable};

/// Colours that are told apart with any kind of colour vision (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT_INK: RGBColor = RGBColor(105, 105, 105);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// Where the highest is so many times the lowest, an axis is logarithmic.
const LOG_FROM: f64 = 30.0;

/// More than so many nobody looks at; the table has all.
const MOST_BARS: usize = 100;

/// An axis of this many pixels at least.
const HEIGHT: u32 = 300;

type Backend<'a> = SVGBackend<'a>;
type Area<'a> = DrawingArea<Backend<'a>, plotters::coord::Shift>;

/// The figure as an SVG document.
pub fn svg(figure: &Figure) -> anyhow::Result<String> {
    let finite = figure.bars.iter().filter(|bar| bar.value.is_finite());
    let bars: Vec<&Bar> = finite.take(MOST_BARS).collect();
    let mut out = String::new();
    // what goes wrong in a drawing that is kept in memory is this program's fault; it is reported like others'
    let drawn = match figure.kind {
        Kind::Domain | Kind::By => rows(figure, &bars, &mut out),
        _ => columns(figure, &bars, &mut out),
    };
    drawn.map_err(|error| anyhow!("{error}"))?;
    // for those who hear it
    let about = format!("<title>{}</title>\n", escaped(&alternative(figure, &bars)));
    let end_of_tag = out.find(">\n").map_or(0, |at| at + 2);
    out.insert_str(end_of_tag, &about);
    let root = out.replacen("<svg ", "<svg role=\"img\" ", 1);
    Ok(root)
}

// ---- upright bars: CPU per request --------------------------------------------------------------------------------

/// Bars of the same order, status or size, one for each group.
struct Cluster<'a> {
    name: String,
    bars: Vec<(usize, &'a Bar)>,
}

fn clusters<'a>(figure: &Figure, bars: &[&'a Bar], groups: &[Cow<'_, str>]) -> Vec<Cluster<'a>> {
    let mut clusters: Vec<Cluster<'_>> = Vec::new();
    for bar in bars {
        let name = match (figure.kind, bar.name.as_str()) {
            (Kind::Size, "inf") => "> 64m".to_owned(),
            (Kind::Size, bound) => format!("≤ {bound}"),
            (Kind::Order, "1") => "1st request".to_owned(),
            (Kind::Order, "2") => "2nd".to_owned(),
            (Kind::Order, "3") => "3rd".to_owned(),
            (Kind::Order, "4+") => "4th and later".to_owned(),
            _ => bar.shown_name().into_owned(),
        };
        let own = bar.shown_group();
        let group = groups.iter().position(|group| Some(group) == own.as_ref()).unwrap_or_default();
        match clusters.iter_mut().find(|cluster| cluster.name == name) {
            Some(cluster) => cluster.bars.push((group, bar)),
            None => clusters.push(Cluster { name, bars: vec![(group, bar)] }),
        }
    }
    if figure.kind == Kind::Order {
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

fn columns(figure: &Figure, bars: &[&Bar], out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
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

// ---- lying bars: CPU per GB ---------------------------------------------------------------------------------------

const ROW_HEIGHT: u32 = 26;

fn rows(figure: &Figure, bars: &[&Bar], out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
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

/// A value as it stands at a bar and at the axis.
fn value(kind: Kind, value: f64) -> String {
    if kind == Kind::Domain { plain(value) } else { short(value) }
}

fn lying<X>(
    kind: Kind,
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

// ---- what both have -----------------------------------------------------------------------------------------------

fn headline(root: &Area<'_>, figure: &Figure, is_log: bool) -> Result<(), Box<dyn std::error::Error>> {
    let style = ("sans-serif", 22).into_font().style(FontStyle::Bold).color(&INK);
    root.draw(&Text::new(figure.title.clone(), (16, 14), style))?;
    let bars = match figure.kind {
        Kind::Domain => "bar: ratio of the sums",
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

/// What an axis covers, and whether it is logarithmic. Bars of a linear one begin at zero.
fn span(bars: &[&Bar]) -> (Range<f64>, bool) {
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

fn colour(group: usize) -> RGBColor {
    COLOURS[group % COLOURS.len()]
}

fn label(size: u32, colour: RGBColor, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour).pos(Pos::new(h_pos, v_pos))
}

/// Nanoseconds with three digits at most.
fn short(ns: f64) -> String {
    let (value, unit) = match ns {
        0.0 => return "0".to_owned(),
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", plain(value))
}

/// A number with three digits, or all those before the point.
fn plain(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Names come from clients.
fn shortened(name: &str, most: usize) -> String {
    let name = visible(name);
    if name.chars().count() <= most {
        return name;
    }
    name.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// What a figure shows, in words.
fn alternative(figure: &Figure, bars: &[&Bar]) -> String {
    let bars = bars.iter().map(|bar| {
        let group = bar.shown_group().map_or_else(String::new, |group| format!("{group} "));
        let value = value(figure.kind, bar.value);
        format!("{group}{}: {value} ({} requests)", bar.shown_name(), bar.requests)
    });
    visible(&format!("{}. {}", figure.title, bars.collect::<Vec<_>>().join(", ")))
}

/// Without characters that XML 1.0 has no way to write.
fn visible(text: &str) -> String {
    printable(text).replace('\u{FFFE}', r"\xEF\xBF\xBE").replace('\u{FFFF}', r"\xEF\xBF\xBF")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fields::Names;
    use super::super::figures::Wanted;
    use super::super::tally::{Shared, Tally};
    use super::*;

    fn drawn(names: &[String]) -> Vec<String> {
        use super::super::fields::{Field, Record};
        let shared = Shared::new(9, 9, Some("u"), false);
        let mut tally = Tally::default();
        for name in names {
            let mut record = Record::default();
            for field in [Field::By, Field::Split, Field::Cache, Field::Host] {
                record.fields.set(field, name.as_bytes());
            }
            (record.order, record.bytes) = (Some(1), Some(9));
            tally.record(&record, 7, &shared);
        }
        let wanted = Wanted { min_requests: 1, top: 20 };
        let kinds = [Kind::By, Kind::Order, Kind::Cache, Kind::Domain];
        let figures = kinds.into_iter().filter_map(|kind| wanted.figure(kind, &tally, &Names::default()));
        figures.map(|figure| svg(&figure).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn drawings_are_well_formed_whatever_names_are(
            names in prop::collection::vec(prop_oneof![any::<String>(), "[\u{0}-\u{9f}\u{fffe}\u{ffff}\u{202e}<&>]{0,8}"], 1..5),
        ) {
            for svg in drawn(&names) {
                prop_assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
            }
        }
    }

    #[test]
    fn what_xml_cannot_have_is_escaped() {
        for svg in drawn(&["x\u{FFFE}\u{FFFF}".to_owned()]) {
            assert!(svg.contains(r"x\xEF\xBF\xBE\xEF\xBF\xBF"), "{svg}");
        }
    }
}
