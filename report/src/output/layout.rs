//! The arguments that say how rows are written, and the layout that follows from them and from the terminal.

use std::borrow::Cow;
use std::io::{self, Write};

use super::column::{Column, Format, Visibility};
use super::message::Wrong;
use super::text::printable;
use super::{csv, style};

/// The arguments that say how rows are written, of all commands.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(skip)]
pub struct Options {
    /// How the rows are written
    #[arg(long, short, default_value = "table", help_heading = "Output")]
    pub format: Format,

    /// Write these columns, in this order, by their names in CSV, with commas between
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "wide",
        help_heading = "Output"
    )]
    pub columns: Vec<String>,

    /// Show all columns of a table on a terminal that is too narrow for them
    #[arg(long, help_heading = "Output")]
    pub wide: bool,

    /// Write texts in CSV and JSON as they are in the log: hidden characters are not escaped, and a text
    /// that a spreadsheet would compute, such as "=1", gets no apostrophe
    #[arg(long, help_heading = "Output")]
    pub raw: bool,
}

impl Options {
    /// The layout for standard output.
    pub fn layout(&self) -> Layout {
        Layout {
            width: style::width(&io::stdout()),
            is_styled: style::is_styled(),
            columns: self.columns.iter().map(|name| name.trim().to_owned()).collect(),
            is_wide: self.wide,
            is_raw: self.raw,
        }
    }

    /// Checks that there are columns with the requested names.
    pub fn check(&self, columns: &[Column<'_>]) -> Result<(), Wrong> {
        for (at, name) in self.columns.iter().enumerate() {
            if self.columns.iter().take(at).any(|other| other.trim() == name.trim()) {
                return Err(Wrong(format!("--columns: the column \"{name}\" is named twice")));
            }
        }
        let is_there = |name: &&String| columns.iter().any(|column| column.name == name.trim());
        let Some(unknown) = self.columns.iter().find(|name| !is_there(name)) else { return Ok(()) };
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        Err(Wrong(format!(
            "--columns: there is no column \"{unknown}\"; the columns are {}",
            names.join(", ")
        )))
    }
}

/// How rows are laid out. The default is that of a file.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// columns of the terminal, where it is one
    pub width: Option<usize>,
    /// whether a table's head is bold, and its rules dim
    pub is_styled: bool,
    columns: Vec<String>,
    is_wide: bool,
    is_raw: bool,
}

impl Layout {
    /// Writes a text that stands beside a table in lines that fit the terminal.
    pub fn write_text(&self, out: &mut impl Write, text: &str) -> io::Result<()> {
        style::write_text(out, &printable(text), self.width)
    }

    /// How wide a table may be.
    pub fn limit(&self) -> Option<usize> {
        self.width.filter(|_| !self.is_wide && self.columns.is_empty())
    }

    /// The places of the columns that are written.
    pub fn chosen(&self, format: Format, columns: &[Column<'_>]) -> Vec<usize> {
        if !self.columns.is_empty() {
            let place = |name: &String| columns.iter().position(|column| column.name == *name);
            return self.columns.iter().filter_map(place).collect();
        }
        let is_written = |column: &Column<'_>| match (column.place, format) {
            (Visibility::Everywhere, _) => true,
            (Visibility::Wide, Format::Table) => self.is_wide,
            (Visibility::Nowhere, _) | (Visibility::Data, Format::Table) => false,
            (Visibility::Wide | Visibility::Data, _) => true,
        };
        (0..columns.len()).filter(|at| columns.get(*at).is_some_and(is_written)).collect()
    }

    /// A text for programs.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_raw { text.into() } else { printable(text) }
    }

    /// A text in CSV.
    pub fn csv_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_raw {
            return text.into();
        }
        match printable(text) {
            Cow::Borrowed(text) => csv::safe(text),
            Cow::Owned(text) => csv::safe(&text).into_owned().into(),
        }
    }
}
