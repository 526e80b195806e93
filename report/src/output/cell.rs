//! The cells of rows: each is a value for programs, and a text for a person.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::text::{duration, grouped, grouped_digits, printable};

/// A value for programs.
#[derive(Clone, Debug, PartialEq)]
pub enum CellValue<'a> {
    /// a name or a time
    Text(Cow<'a, str>),
    /// a whole number
    Count(u64),
    /// a whole number that may be above 2^64: all digits in CSV, and a number in JSON
    Large(u128),
    /// any other number; a number that is not finite is written as an empty text
    Number(f64),
    /// a number with all of its digits, such as money; a string in JSON, since many programs read JSON
    /// numbers as floats
    Exact(String),
    /// unknown, or not defined: empty in CSV, `null` in JSON
    Nothing,
}

/// A value for programs, and its text for a person.
#[derive(Clone, Debug)]
pub struct Cell<'a> {
    /// for CSV and JSON
    pub value: CellValue<'a>,
    /// for tables
    pub shown: Cow<'a, str>,
}

impl<'a> Cell<'a> {
    /// The same text for all; tables have it without hidden characters.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        Self { value: CellValue::Text(text.clone()), shown: printable(text) }
    }

    /// The name of a domain. In a table, a name that looks like the title of another row is quoted.
    pub fn domain(name: &'a str) -> Self {
        let Self { value, shown } = Self::text(name);
        let is_title = matches!(shown.trim(), "" | "all" | "rest") || shown.trim().starts_with("rest (");
        let is_quoted = is_title || shown.trim() != shown || shown.starts_with('"');
        Self { value, shown: if is_quoted { format!("\"{shown}\"").into() } else { shown } }
    }

    /// A whole number, with commas in a table.
    pub fn count(count: u64) -> Self {
        Self { value: CellValue::Count(count), shown: grouped(count).into() }
    }

    /// The same for a sum, which may be above 2^64.
    pub fn sum(sum: u128) -> Self {
        let value = u64::try_from(sum).map_or(CellValue::Large(sum), CellValue::Count);
        Self { value, shown: grouped_digits(&sum.to_string()).into() }
    }

    /// A number with so many decimals in a table.
    pub fn number(number: f64, decimals: usize) -> Self {
        Self { value: CellValue::Number(number), shown: format!("{number:.decimals$}").into() }
    }

    /// Nanoseconds: seconds in CSV and JSON; µs, ms or s in a table.
    pub fn duration(ns: f64) -> Self {
        Self { value: CellValue::Number(ns / 1e9), shown: duration(ns).into() }
    }

    /// A value that is not known, or not defined.
    pub fn nothing() -> Self {
        Self { value: CellValue::Nothing, shown: "-".into() }
    }
}

/// The value as JSON.
pub fn json(value: &CellValue<'_>) -> Json {
    match value {
        CellValue::Text(text) => Json::from(text.as_ref()),
        CellValue::Count(count) => Json::from(*count),
        // only where a float is enough
        CellValue::Large(sum) => Json::from(*sum as f64),
        CellValue::Number(number) => Json::from(*number),
        CellValue::Exact(number) => Json::from(number.as_str()),
        CellValue::Nothing => Json::Null,
    }
}
