//! Writes rows as a table, as CSV or as JSON, with the columns that are wanted.

use std::io::{self, Write};

use serde_json::Value as Json;

use super::cell::{Cell, CellValue, json};
use super::column::{Column, Format};
use super::layout::Layout;
use super::style;
use super::table::{self, Fitted};
use super::text::printable;

/// Writes rows in a format.
pub struct Rows<'c, W: Write> {
    /// the number of cells of a row
    all: usize,
    /// the places of the columns that are written
    chosen: Vec<usize>,
    /// the columns that are written
    columns: Vec<Column<'c>>,
    layout: Layout,
    sink: Sink<W>,
}

enum Sink<W: Write> {
    Table { out: W, held: Vec<Option<Vec<String>>>, fitted: Option<Fitted> },
    Csv(Box<::csv::Writer<W>>),
    Json { out: W, is_first: bool },
}

/// The number of rows that decide the widths of a table.
pub(super) const HELD_ROWS: usize = 20_000;

impl<'c, W: Write> Rows<'c, W> {
    /// Each row has a cell for each of the columns. The layout says which are written, and how.
    pub fn new(format: Format, columns: &[Column<'c>], out: W, layout: &Layout) -> io::Result<Self> {
        let chosen = layout.chosen(format, columns);
        let all = columns.len();
        let columns: Vec<Column<'c>> = chosen.iter().filter_map(|at| columns.get(*at)).copied().collect();
        let sink = match format {
            Format::Table => Sink::Table { out, held: Vec::new(), fitted: None },
            Format::Csv => {
                let mut writer = ::csv::Writer::from_writer(out);
                let names = columns.iter().map(|column| layout.csv_text(column.name));
                names
                    .into_iter()
                    .try_for_each(|name| writer.write_field(name.as_bytes()))
                    .map_err(csv_error)?;
                writer.write_record(None::<&[u8]>).map_err(csv_error)?;
                Sink::Csv(Box::new(writer))
            }
            Format::Json => {
                let mut out = out;
                out.write_all(b"[")?;
                Sink::Json { out, is_first: true }
            }
        };
        Ok(Self { all, chosen, columns, layout: layout.clone(), sink })
    }

    /// A row, with a cell for each column.
    pub fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        debug_assert_eq!(cells.len(), self.all);
        let cells = self.chosen.iter().filter_map(|at| cells.get(*at));
        match &mut self.sink {
            Sink::Table { .. } => {
                let shown = cells.map(|cell| printable(cell.shown.as_ref()).into_owned()).collect();
                self.hold(Some(shown))
            }
            Sink::Csv(writer) => {
                for cell in cells {
                    let written = match &cell.value {
                        CellValue::Text(text) => writer.write_field(self.layout.csv_text(text).as_bytes()),
                        CellValue::Exact(number) => writer.write_field(number),
                        CellValue::Count(count) => writer.write_field(count.to_string()),
                        CellValue::Large(sum) => writer.write_field(sum.to_string()),
                        CellValue::Number(number) if number.is_finite() => {
                            writer.write_field(number.to_string())
                        }
                        CellValue::Number(_) | CellValue::Nothing => writer.write_field(""),
                    };
                    written.map_err(csv_error)?;
                }
                writer.write_record(None::<&[u8]>).map_err(csv_error)
            }
            Sink::Json { out, is_first } => {
                out.write_all(if std::mem::take(is_first) { b"\n  {" } else { b",\n  {" })?;
                for (at, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
                    if at > 0 {
                        out.write_all(b",")?;
                    }
                    serde_json::to_writer(&mut *out, column.name)?;
                    out.write_all(b":")?;
                    let value = match &cell.value {
                        // serde_json's numbers end at 2^64
                        CellValue::Large(sum) => {
                            write!(out, "{sum}")?;
                            continue;
                        }
                        CellValue::Text(text) => Json::from(self.layout.text(text).as_ref()),
                        value => json(value),
                    };
                    serde_json::to_writer(&mut *out, &value)?;
                }
                out.write_all(b"}")
            }
        }
    }

    /// A line across a table, for instance before the sum; nothing in other formats.
    pub fn rule(&mut self) -> io::Result<()> {
        match self.sink {
            Sink::Table { .. } => self.hold(None),
            _ => Ok(()),
        }
    }

    /// Writes the rows that are held back. Returns the output, which is not flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.release()?;
        match self.sink {
            Sink::Table { mut out, fitted, .. } => {
                if let Some(fitted) = fitted {
                    fitted.write_left_out(&mut out, &self.columns, &self.layout)?;
                }
                Ok(out)
            }
            Sink::Csv(writer) => writer.into_inner().map_err(|error| error.into_error()),
            Sink::Json { mut out, is_first } => {
                out.write_all(if is_first { b"]" } else { b"\n]" })?;
                Ok(out)
            }
        }
    }

    fn hold(&mut self, row: Option<Vec<String>>) -> io::Result<()> {
        let Sink::Table { out, held, fitted } = &mut self.sink else { return Ok(()) };
        if let Some(fitted) = fitted {
            return table_line(out, fitted, &self.columns, &self.layout, row.as_deref());
        }
        held.push(row);
        if held.len() >= HELD_ROWS { self.release() } else { Ok(()) }
    }

    /// Writes the head of a table and the rows that were held to learn its widths.
    fn release(&mut self) -> io::Result<()> {
        let Sink::Table { out, held, fitted } = &mut self.sink else { return Ok(()) };
        if fitted.is_some() {
            return Ok(());
        }
        let mut cells = vec![0; self.columns.len()];
        for row in held.iter().flatten() {
            for (widest, cell) in cells.iter_mut().zip(row) {
                *widest = (*widest).max(table::width(&style::plain(cell)));
            }
        }
        let title = |column: &Column<'_>| table::width(&style::plain(column.title));
        let natural: Vec<usize> =
            self.columns.iter().zip(&cells).map(|(column, cells)| title(column).max(*cells)).collect();
        let found = match self.layout.limit() {
            Some(limit) => Fitted::new(&self.columns, &natural, &cells, limit),
            None => Fitted::all(&natural),
        };
        let (bold, plain) = if self.layout.is_styled { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        out.write_all(bold.as_bytes())?;
        found.head(out, &self.columns)?;
        writeln!(out, "{plain}")?;
        table_line(out, &found, &self.columns, &self.layout, None)?;
        for row in held.drain(..) {
            table_line(out, &found, &self.columns, &self.layout, row.as_deref())?;
        }
        *fitted = Some(found);
        Ok(())
    }
}

/// A row of a table, or a rule.
fn table_line(
    out: &mut impl Write,
    fitted: &Fitted,
    columns: &[Column<'_>],
    layout: &Layout,
    row: Option<&[String]>,
) -> io::Result<()> {
    match row {
        Some(row) => {
            fitted.line(out, columns, row)?;
            writeln!(out)
        }
        None => {
            let (dim, plain) = if layout.is_styled { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            writeln!(out, "{dim}{}{plain}", fitted.rule())
        }
    }
}

/// The inner error, whose kind shows a closed pipe.
fn csv_error(error: ::csv::Error) -> io::Error {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
