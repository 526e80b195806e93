//! Draws figures as SVG.
//!
//! Bars are means, whiskers are 95 % intervals, rings are medians. Each bar shows the number of its requests,
//! and is pale if there are few. The viewer chooses the font, so the width of a text is not known here, and
//! each text has spare room.

mod canvas;
mod lying;
mod text;
mod upright;

use anyhow::anyhow;

use self::canvas::MOST_BARS;
use self::lying::rows;
use self::text::{escaped, value, visible};
use self::upright::columns;
use super::figures::{Bar, Figure, FigureKind};

/// The figure as an SVG document.
pub fn svg(figure: &Figure) -> anyhow::Result<String> {
    let finite = figure.bars.iter().filter(|bar| bar.value.is_finite());
    let bars: Vec<&Bar> = finite.take(MOST_BARS).collect();
    let mut out = String::new();
    // drawing in memory fails only by a fault of this program; it is reported like other errors
    let drawn = match figure.kind {
        FigureKind::Domain | FigureKind::By => rows(figure, &bars, &mut out),
        _ => columns(figure, &bars, &mut out),
    };
    drawn.map_err(|error| anyhow!("{error}"))?;
    // a text for screen readers
    let about = format!("<title>{}</title>\n", escaped(&alternative(figure, &bars)));
    let end_of_tag = out.find(">\n").map_or(0, |at| at + 2);
    out.insert_str(end_of_tag, &about);
    let root = out.replacen("<svg ", "<svg role=\"img\" ", 1);
    Ok(root)
}

/// The content of a figure in words.
fn alternative(figure: &Figure, bars: &[&Bar]) -> String {
    let bars = bars.iter().map(|bar| {
        let group = bar.shown_group().map_or_else(String::new, |group| format!("{group} "));
        let value = value(figure.kind, bar.value);
        format!("{group}{}: {value} ({} requests)", bar.shown_name(), bar.requests)
    });
    visible(&format!("{}. {}", figure.title, bars.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::figures::FigureOptions;
    use super::super::names::FieldNames;
    use super::super::shared::SharedNames;
    use super::super::tally::FactorSums;
    use super::*;

    fn drawn(names: &[String]) -> Vec<String> {
        use super::super::fields::Field;
        use super::super::record::Record;
        let shared = SharedNames::new(9, 9, Some("u"), false);
        let mut tally = FactorSums::default();
        for name in names {
            let mut record = Record::default();
            for field in [Field::By, Field::Split, Field::Cache, Field::Host] {
                record.fields.set(field, name.as_bytes());
            }
            (record.order, record.bytes) = (Some(1), Some(9));
            tally.record(&record, 7, &shared);
        }
        let wanted = FigureOptions { min_requests: 1, top: 20 };
        let kinds = [FigureKind::By, FigureKind::Order, FigureKind::Cache, FigureKind::Domain];
        let figures =
            kinds.into_iter().filter_map(|kind| wanted.figure(kind, &tally, &FieldNames::default()));
        figures.map(|figure| svg(&figure).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn drawings_are_well_formed_whatever_names_are(
            names in prop::collection::vec(prop_oneof![any::<String>(),
                    "[\u{0}-\u{9f}\u{fffe}\u{ffff}\u{202e}<&>]{0,8}"], 1..5),
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
