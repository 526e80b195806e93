//! The columns of tables, and the formats that rows are written in.

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
    /// columns of low rank stay in a table that is too wide; 0 is for columns that identify rows, 1 for the
    /// main figure
    pub rank: u8,
    /// where the column is shown by default
    pub place: Visibility,
}

/// Where a column is shown by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
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
        Self { name, title, is_number: false, is_name: false, rank: 9, place: Visibility::Everywhere }
    }

    /// A column of numbers.
    pub const fn number(name: &'a str, title: &'a str) -> Self {
        Self { is_number: true, ..Self::text(name, title) }
    }

    /// A column of names, which are shortened only if nothing else helps.
    pub const fn name(name: &'a str, title: &'a str) -> Self {
        Self { is_name: true, rank: 0, ..Self::text(name, title) }
    }

    /// With a rank; see [`Column::rank`].
    pub const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// At a place.
    pub const fn at(self, place: Visibility) -> Self {
        Self { place, ..self }
    }
}
