//! Numbers and names as a person reads them.

use std::borrow::Cow;

use formats::key;

/// Names come from clients. Characters that move a terminal's cursor, turn text around or are invisible are
/// shown as `\xHH`.
pub fn printable<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    match text.into() {
        Cow::Borrowed(text) => key::visible(text),
        Cow::Owned(text) => match key::visible(&text) {
            Cow::Owned(visible) => Cow::Owned(visible),
            Cow::Borrowed(_) => Cow::Owned(text),
        },
    }
}

/// `12345` as `12,345`.
pub fn grouped(count: u64) -> String {
    grouped_digits(&count.to_string())
}

/// The same for a number of any length.
pub fn grouped_digits(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with its noun: `1 line`, `12,345 lines`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// Nanoseconds in the unit that suits them.
pub fn duration(ns: f64) -> String {
    if ns < 1e6 {
        format!("{:.1} µs", ns / 1e3)
    } else if ns < 1e9 {
        format!("{:.2} ms", ns / 1e6)
    } else {
        format!("{:.2} s", ns / 1e9)
    }
}

/// A list of names for a message. A long list is cut.
pub fn list(mut names: Vec<String>) -> String {
    const MOST: usize = 20;
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let more = if more > 0 { format!(" and {} more", grouped(more as u64)) } else { String::new() };
    format!("{}{more}", names.join(", "))
}
