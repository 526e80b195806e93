//! Texts in drawings.

use super::super::figures::FigureKind;
use crate::output::printable;

/// A value as a label of a bar or the axis.
pub fn value(kind: FigureKind, value: f64) -> String {
    if kind == FigureKind::Domain { plain(value) } else { short(value) }
}

/// Nanoseconds with three digits at most.
pub fn short(ns: f64) -> String {
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
pub fn plain(value: f64) -> String {
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
pub fn shortened(name: &str, most: usize) -> String {
    let name = visible(name);
    if name.chars().count() <= most {
        return name;
    }
    name.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Without characters that XML 1.0 has no way to write.
pub fn visible(text: &str) -> String {
    printable(text).replace('\u{FFFE}', r"\xEF\xBF\xBE").replace('\u{FFFF}', r"\xEF\xBF\xBF")
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
