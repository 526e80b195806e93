//! Writes rows as a table that a person reads, as CSV, or as a JSON array.
//!
//! CSV and JSON are written row by row. A table needs the widths of its columns: they are those of its first
//! rows. On a terminal, a table has the columns that fit.

mod cell;
mod column;
mod csv;
mod layout;
mod message;
mod rows;
pub mod style;
mod table;
mod text;

use std::io::{self, BufWriter, StdoutLock};

pub use cell::{Cell, CellValue};
pub use column::{Column, Format, Visibility};
pub use layout::{Layout, Options};
pub use message::{Wrong, complain};
pub use rows::Rows;
pub use text::{counted, grouped, grouped_digits, list, printable};

/// Standard output, buffered. Flush it at the end: an error is lost otherwise.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// A whole number of an argument.
pub fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("it must be a whole number from 0 to {}", u64::MAX))
}

/// The limit that `--top` sets. 0 is none.
pub fn limit(top: usize) -> usize {
    if top == 0 { usize::MAX } else { top }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::message::without_numbers;
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
            rows in prop::collection::vec((any::<String>(), any::<u64>(),
                    prop::num::f64::NORMAL | prop::num::f64::ZERO), 0..10)
        ) {
            let csv = written(Format::Csv, &rows);
            let read: Vec<(String, u64, f64)> = ::csv::Reader::from_reader(csv.as_bytes())
                .deserialize().map(Result::unwrap).collect();
            let shown = |name: String| printable(name).into_owned();
            let rows: Vec<_> = rows.into_iter().map(|(name, count, share)| (shown(name), count, share)).collect();
            let safe = |(name, count, share): &(String, u64, f64)| (csv::safe(name).into_owned(), *count, *share);
            prop_assert_eq!(read, rows.iter().map(safe).collect::<Vec<_>>());
            let json: Vec<serde_json::Map<String, serde_json::Value>> =
                serde_json::from_str(&written(Format::Json, &rows))
                .unwrap();
            prop_assert_eq!(json.len(), rows.len());
            for (object, (name, count, share)) in json.iter().zip(&rows) {
                prop_assert_eq!(object["name"].as_str(), Some(name.as_str()));
                prop_assert_eq!(object["count"].as_u64(), Some(*count));
                // serde_json reads to the last digit but one
                prop_assert!((object["share"].as_f64().unwrap() - share).abs() <= share.abs() * 1e-15);
            }
        }

        #[test]
        fn a_table_has_a_line_for_each_row(
            rows in prop::collection::vec((any::<String>(), any::<u64>(), -1e6f64..1e6), 0..10),
        ) {
            prop_assert_eq!(written(Format::Table, &rows).split('\n').count(), rows.len() + 3);
        }
    }

    #[test]
    fn no_format_shows_a_hidden_character() {
        let name = "\u{202E}moc.live\u{200B}\u{A0}\u{1B}[2J";
        for format in [Format::Table, Format::Csv, Format::Json] {
            let text = written(format, &[(name.to_owned(), 1, 1.0)]);
            assert!(text.contains("xE2") && text.contains("moc.live"), "{text}");
            assert!(!text.contains(|char| char != '\n' && formats::key::is_hidden(char)), "{text:?}");
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
        assert_eq!(Cell::domain("all").value, CellValue::Text("all".into()));
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
        assert_eq!([0.0, 1500.0, 2.5e6, 3e9].map(text::duration), ["0.0 µs", "1.5 µs", "2.50 ms", "3.00 s"]);
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
