//! The fields of a plan's file, read by name and kind. Messages use the words of plans, not those of the TOML
//! parser.

use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::decimal::Decimal;

/// A fault of a plan, and its place.
#[derive(Debug)]
pub struct PlanFault {
    /// for the user
    pub message: String,
    /// bytes of the file
    pub span: Range<usize>,
}

/// An error.
pub fn wrong<T>(span: Range<usize>, message: impl Display) -> Result<T, PlanFault> {
    Err(PlanFault { message: message.to_string(), span })
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// the value
    pub value: T,
    /// bytes of the file
    pub span: Range<usize>,
}

/// Reads a file's text as TOML.
pub fn document(text: &str) -> Result<Spanned<DeTable<'_>>, PlanFault> {
    DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = match text.get(span.clone()) {
            Some(name) if error.message().contains("duplicate key") => {
                format!("the field \"{}\" is given twice", name.trim_matches(['"', '\'']))
            }
            _ => unreadable(text, span.start),
        };
        PlanFault { message, span }
    })
}

fn unreadable(text: &str, at: usize) -> String {
    let begin = text.get(..at).unwrap_or(text).rfind('\n').map_or(0, |place| place + 1);
    let line = text.get(begin..).unwrap_or_default().lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return "the file ends within a value: close the quote or the bracket before".to_owned();
    }
    let line: String = line.chars().take(60).collect();
    format!(
        "this line cannot be read: {line}. A line is NAME = VALUE, [[item]] or [[item.tier]]. Text is in \
         quotes; a number has a decimal point, as in 0.02"
    )
}

/// The fields of a table of the plan.
pub struct Fields<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    /// the table's name for messages: `the plan`, `an item`
    title: &'static str,
    /// where the table begins
    pub span: Range<usize>,
}

impl<'a> Fields<'a> {
    /// Refuses unknown names.
    pub fn new(
        text: &'a str,
        (table, span): (&'a DeTable<'a>, Range<usize>),
        title: &'static str,
        known: &[&str],
    ) -> Result<Self, PlanFault> {
        // the first in the file
        let unknown = table.keys().filter(|name| !known.contains(&name.get_ref().as_ref()));
        if let Some(name) = unknown.min_by_key(|name| name.span().start) {
            let hint = choices(name.get_ref(), known);
            return wrong(name.span(), format!("unknown field \"{}\" of {title}: {hint}", name.get_ref()));
        }
        Ok(Self { text, table, title, span })
    }

    fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(name)
    }

    /// A required text.
    pub fn needed_text(&self, name: &str) -> Result<Given<String>, PlanFault> {
        match self.text(name)? {
            Some(text) => Ok(text),
            None => self.missing(name),
        }
    }

    /// The error for a missing field.
    pub fn missing<T>(&self, name: &str) -> Result<T, PlanFault> {
        wrong(self.span.clone(), format!("{} has no \"{name}\"", self.title))
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<Given<String>>, PlanFault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(Given { value: text.to_string(), span: value.span() })),
            other => wrong(
                value.span(),
                format!("invalid \"{name}\": {} is not a text; put text in quotes", kind(other)),
            ),
        }
    }

    /// One of several texts.
    pub fn choice<T: Copy>(&self, name: &str, all: &[(&str, T)]) -> Result<Option<Given<T>>, PlanFault> {
        let Some(Given { value, span }) = self.text(name)? else { return Ok(None) };
        match all.iter().find(|(choice, _)| *choice == value) {
            Some((_, found)) => Ok(Some(Given { value: *found, span })),
            None => {
                let names: Vec<&str> = all.iter().map(|(choice, _)| *choice).collect();
                wrong(span, format!("invalid \"{name}\" \"{value}\": {}", choices(&value, &names)))
            }
        }
    }

    /// A whole number of a range.
    pub fn whole(&self, name: &str, range: Range<u32>) -> Result<Option<Given<u32>>, PlanFault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value.get_ref() {
            DeValue::Integer(_) => self.text.get(value.span()).and_then(|text| text.parse::<u32>().ok()),
            _ => None,
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(Given { value: number, span: value.span() })),
            None => {
                let (least, most) = (range.start, range.end.saturating_sub(1));
                let given = self.text.get(value.span()).unwrap_or_default();
                let message =
                    format!("invalid \"{name}\" {given}: it must be a whole number from {least} to {most}");
                wrong(value.span(), message)
            }
        }
    }

    /// A number of at least 0, with or without quotes. It is read from the text, never as a float.
    pub fn number(&self, name: &str) -> Result<Option<Given<Decimal>>, PlanFault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let span = value.span();
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(_) | DeValue::Float(_) => self.text.get(span.clone()).unwrap_or_default(),
            other => {
                return wrong(
                    span,
                    format!("invalid \"{name}\": {} is not a number; write {name} = 0.02", kind(other)),
                );
            }
        };
        match Decimal::parse(text) {
            Some(value) => Ok(Some(Given { value, span })),
            None => wrong(
                span,
                format!(
                    "invalid \"{name}\" \"{text}\": it must be a number of at least 0 with at most 40 \
                     digits, such as 0.02"
                ),
            ),
        }
    }

    /// The tables of a list, such as `[[item]]`, with their places. `example` is shown in the error message.
    pub fn tables(
        &self,
        name: &str,
        example: &str,
    ) -> Result<Vec<(&'a DeTable<'a>, Range<usize>)>, PlanFault> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let mut tables = Vec::new();
        let no_table = |span: Range<usize>, other: &DeValue<'_>| {
            wrong(
                span,
                format!("invalid \"{name}\": {} is not a list of tables; write {example}", kind(other)),
            )
        };
        let DeValue::Array(array) = value.get_ref() else { return no_table(value.span(), value.get_ref()) };
        for entry in array {
            match entry.get_ref() {
                DeValue::Table(table) => tables.push((table, entry.span())),
                other => return no_table(entry.span(), other),
            }
        }
        Ok(tables)
    }
}

/// The allowed names, and the name that was probably meant.
fn choices(given: &str, all: &[&str]) -> String {
    let names: Vec<String> = all.iter().map(|name| format!("\"{name}\"")).collect();
    let allowed = format!("allowed are {}", names.join(", "));
    let lower = given.to_lowercase();
    let near = all.iter().map(|name| (strsim::jaro_winkler(&lower, name), name));
    match near.filter(|(likeness, _)| *likeness > 0.85).max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((_, name)) => format!("did you mean \"{name}\"? {}", allowed.replacen('a', "A", 1)),
        None => allowed,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a single table",
    }
}
