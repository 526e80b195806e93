//! Writes rows as a table that a person reads, as CSV, or as a JSON array.
//!
//! CSV and JSON are written row by row. A table needs the widths of its columns: they are those of its first rows.
//! On a terminal, a table has the columns that fit.

mod csv;
mod layout;
mod rows;
pub mod style;
mod table;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use accounting::key;
use serde_json::Value as Json;

pub use layout::{Layout, Options};
pub use rows::Rows;

/// Arguments that are wrong, which ends with status 2.
#[derive(Debug)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// How the rows are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// aligned columns, with units, for a person
    #[default]
    Table,
    /// comma separated, with a line of names; plain numbers in base units
    Csv,
    /// an object with an array of objects; plain numbers in base units
    Json,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// in CSV and JSON, with the unit: `cpu_seconds`
    pub name: &'a str,
    /// at the head of a table: `CPU time`
    pub title: &'a str,
    /// whether its cells are aligned to the right
    pub is_number: bool,
    /// whether its cells may be shortened where a table is too wide
    pub is_name: bool,
    /// in a table that is too wide, those of the lowest rank are shown; 0 is what rows are told apart by, 1 the
    /// chief figure
    pub rank: u8,
    /// where it is without being asked for
    pub place: Place,
}

/// Where a column is without being asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// in all formats
    Everywhere,
    /// in CSV and JSON, and in tables with `--wide`
    Wide,
    /// in CSV and JSON
    Data,
    /// nowhere
    Nowhere,
}

impl<'a> Column<'a> {
    /// A column of texts.
    pub const fn text(name: &'a str, title: &'a str) -> Self {
        Self { name, title, is_number: false, is_name: false, rank: 9, place: Place::Everywhere }
    }

    /// A column of numbers.
    pub const fn number(name: &'a str, title: &'a str) -> Self {
        Self { is_number: true, ..Self::text(name, title) }
    }

    /// A column of names, which are shortened if there is no other way.
    pub const fn name(name: &'a str, title: &'a str) -> Self {
        Self { is_name: true, rank: 0, ..Self::text(name, title) }
    }

    /// With a rank; see [`Column::rank`].
    pub const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// At a place.
    pub const fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }
}

/// A figure as programs read it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// a name or a time
    Text(Cow<'a, str>),
    /// a whole number
    Count(u64),
    /// a whole number that may be above 2^64: all digits in CSV, and a number in JSON
    Large(u128),
    /// any other number; one that is not finite is written as nothing
    Number(f64),
    /// a number with all of its digits, such as money: as it is in CSV, a string in JSON, where a number would be
    /// read as a float
    Exact(String),
    /// unknown, or not defined: empty in CSV, `null` in JSON
    Nothing,
}

/// A figure, and how a person reads it.
#[derive(Clone, Debug)]
pub struct Cell<'a> {
    /// for CSV and JSON
    pub value: Value<'a>,
    /// for tables
    pub shown: Cow<'a, str>,
}

impl<'a> Cell<'a> {
    /// The same text for all; tables have it without hidden characters.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        Self { value: Value::Text(text.clone()), shown: printable(text) }
    }

    /// The name of a domain. In a table, one that could be taken for the title of another row is quoted.
    pub fn domain(name: &'a str) -> Self {
        let Self { value, shown } = Self::text(name);
        let is_title = matches!(shown.trim(), "" | "all" | "rest") || shown.trim().starts_with("rest (");
        let is_quoted = is_title || shown.trim() != shown || shown.starts_with('"');
        Self { value, shown: if is_quoted { format!("\"{shown}\"").into() } else { shown } }
    }

    /// A whole number, with commas in a table.
    pub fn count(count: u64) -> Self {
        Self { value: Value::Count(count), shown: grouped(count).into() }
    }

    /// The same of a sum, which may be above 2^64.
    pub fn sum(sum: u128) -> Self {
        let value = u64::try_from(sum).map_or(Value::Large(sum), Value::Count);
        Self { value, shown: grouped_digits(&sum.to_string()).into() }
    }

    /// A number with so many decimals in a table.
    pub fn number(number: f64, decimals: usize) -> Self {
        Self { value: Value::Number(number), shown: format!("{number:.decimals$}").into() }
    }

    /// Nanoseconds: seconds in CSV and JSON; µs, ms or s in a table.
    pub fn duration(ns: f64) -> Self {
        Self { value: Value::Number(ns / 1e9), shown: duration(ns).into() }
    }

    /// What is not known, or not defined.
    pub fn nothing() -> Self {
        Self { value: Value::Nothing, shown: "-".into() }
    }
}

/// Names come from clients: what would move a terminal's cursor, turn text around or not be seen is written as `\xHH`.
pub fn printable<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    match text.into() {
        Cow::Borrowed(text) => key::visible(text),
        Cow::Owned(text) => match key::visible(&text) {
            Cow::Owned(visible) => Cow::Owned(visible),
            Cow::Borrowed(_) => Cow::Owned(text),
        },
    }
}

/// The value as JSON.
pub fn json(value: &Value<'_>) -> Json {
    match value {
        Value::Text(text) => Json::from(text.as_ref()),
        Value::Count(count) => Json::from(*count),
        // only where a float is enough
        Value::Large(sum) => Json::from(*sum as f64),
        Value::Number(number) => Json::from(*number),
        Value::Exact(number) => Json::from(number.as_str()),
        Value::Nothing => Json::Null,
    }
}

/// `12345` as `12,345`.
pub fn grouped(count: u64) -> String {
    grouped_digits(&count.to_string())
}

/// The same of a number that may have any length.
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

/// Standard output, buffered. Flush it at the end: an error is lost otherwise.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// A whole number of an argument.
pub fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("it must be a whole number from 0 to {}", u64::MAX))
}

/// Names in a message, of which too many are cut.
pub fn list(mut names: Vec<String>) -> String {
    const MOST: usize = 20;
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let more = if more > 0 { format!(" and {} more", grouped(more as u64)) } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// A message on standard error.
pub fn complain(message: &str) {
    // where that is closed, nobody wants to know
    let _ = writeln!(io::stderr(), "cpu-report: {}", style::plain(&printable(without_numbers(message))));
}

/// A message without the system's number of an error, whose text stands before it.
fn without_numbers(message: &str) -> Cow<'_, str> {
    const BEGIN: &str = " (os error ";
    let mut out = Cow::Borrowed(message);
    while let Some(at) = out.find(BEGIN) {
        let (before, after) = out.split_at(at);
        let digits = after.get(BEGIN.len()..).unwrap_or_default();
        let Some(rest) = digits.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(')') else {
            break;
        };
        out = Cow::Owned(format!("{before}{rest}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::rows::HELD_ROWS;
    use super::*;

    #[test]
    fn messages_have_no_numbers_of_errors() {
        for (message, shown) in [
            ("a: No such file or directory (os error 2)", "a: No such file or directory"),
            ("x (os error 13); y (os error 2); z", "x; y; z"),
            ("a (os error x)", "a (os error x)"),
            ("a (os error 2", "a (os error 2"),
        ] {
            assert_eq!(without_numbers(message), shown);
        }
    }

    #[test]
    fn too_many_names_are_cut() {
        let names = |count: usize| list((0..count).map(|n| n.to_string()).collect());
        assert_eq!(names(2), "0, 1");
        assert!(names(20).ends_with("18, 19") && names(1021).ends_with("18, 19 and 1,001 more"));
    }

    const COLUMNS: [Column<'static>; 3] = [
        Column::name("name", "name"),
        Column::number("count", "count").rank(1),
        Column::number("share", "share"),
    ];

    fn written(format: Format, rows: &[(String, u64, f64)]) -> String {
        let mut out = Rows::new(format, &COLUMNS, Vec::new(), &Layout::default()).unwrap();
        for (name, count, share) in rows {
            out.row(&[Cell::text(name), Cell::count(*count), Cell::number(*share, 2)]).unwrap();
        }
        String::from_utf8(out.finish().unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read_again(
            rows in prop::collection::vec((any::<String>(), any::<u64>(), prop::num::f64::NORMAL | prop::num::f64::ZERO), 0..10)
        ) {
            let csv = written(Format::Csv, &rows);
            let read: Vec<(String, u64, f64)> = ::csv::Reader::from_reader(csv.as_bytes()).deserialize().map(Result::unwrap).collect();
            let shown = |name: String| printable(name).into_owned();
            let rows: Vec<_> = rows.into_iter().map(|(name, count, share)| (shown(name), count, share)).collect();
            let safe = |(name, count, share): &(String, u64, f64)| (csv::safe(name).into_owned(), *count, *share);
            prop_assert_eq!(read, rows.iter().map(safe).collect::<Vec<_>>());
            let json: Vec<serde_json::Map<String, Json>> = serde_json::from_str(&written(Format::Json, &rows)).unwrap();
            prop_assert_eq!(json.len(), rows.len());
            for (object, (name, count, share)) in json.iter().zip(&rows) {
                prop_assert_eq!(object["name"].as_str(), Some(name.as_str()));
                prop_assert_eq!(object["count"].as_u64(), Some(*count));
                // serde_json reads to the last digit but one
                prop_assert!((object["share"].as_f64().unwrap() - share).abs() <= share.abs() * 1e-15);
            }
        }

        #[test]
        fn a_table_has_a_line_for_each_row(rows in prop::collection::vec((any::<String>(), any::<u64>(), -1e6f64..1e6), 0..10)) {
            prop_assert_eq!(written(Format::Table, &rows).split('\n').count(), rows.len() + 3);
        }
    }

    #[test]
    fn no_format_shows_a_hidden_character() {
        let name = "\u{202E}moc.live\u{200B}\u{A0}\u{1B}[2J";
        for format in [Format::Table, Format::Csv, Format::Json] {
            let text = written(format, &[(name.to_owned(), 1, 1.0)]);
            assert!(text.contains("xE2") && text.contains("moc.live"), "{text}");
            assert!(!text.contains(|char| char != '\n' && key::is_hidden(char)), "{text:?}");
        }
    }

    #[test]
    fn a_domain_with_the_title_of_another_row_is_quoted_in_tables() {
        let shown = |name| Cell::domain(name).shown.into_owned();
        let names =
            ["all", " all", "rest", "rest (2 domains)", "\"all\"", "", "a.test", "all.test", "例え.jp"];
        let expected = [
            "\"all\"",
            "\" all\"",
            "\"rest\"",
            "\"rest (2 domains)\"",
            "\"\"all\"\"",
            "\"\"",
            "a.test",
            "all.test",
            "例え.jp",
        ];
        assert_eq!(names.map(shown), expected);
        assert_eq!(Cell::domain("all").value, Value::Text("all".into()));
    }

    #[test]
    fn what_is_no_number_is_nothing() {
        let cells = [Cell::text("a"), Cell::nothing(), Cell::number(f64::NAN, 1)];
        for (format, wanted) in [
            (Format::Csv, "name,count,share\na,,\n"),
            (Format::Json, "[\n  {\"name\":\"a\",\"count\":null,\"share\":null}\n]"),
        ] {
            let mut out = Rows::new(format, &COLUMNS, Vec::new(), &Layout::default()).unwrap();
            out.row(&cells).unwrap();
            assert_eq!(String::from_utf8(out.finish().unwrap()).unwrap(), wanted);
        }
    }

    #[test]
    fn a_noun_is_in_the_plural_unless_there_is_one() {
        let lines = |count| counted(count, "line", "lines");
        assert_eq!([0, 1, 2, 1000].map(lines), ["0 lines", "1 line", "2 lines", "1,000 lines"]);
    }

    #[test]
    fn numbers_are_grouped_and_times_have_units() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 1500.0, 2.5e6, 3e9].map(duration), ["0.0 µs", "1.5 µs", "2.50 ms", "3.00 s"]);
    }

    #[test]
    fn a_table_that_is_long_goes_on_with_the_widths_of_its_first_rows() {
        let mut rows: Vec<_> = (0..HELD_ROWS as u64 + 2).map(|n| (String::from("a"), n, 0.0)).collect();
        rows.push(("a longer name".to_owned(), 1, 1.0));
        let table = written(Format::Table, &rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), rows.len() + 2);
        assert_eq!(lines[..3], ["name   count  share", "----  ------  -----", "a          0   0.00"]);
        assert_eq!(lines.last(), Some(&"a longer name       1   1.00"));
    }
}
