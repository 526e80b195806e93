//! The layout of a table: which columns fit the terminal, and how a line is written.

use std::borrow::Cow;
use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::column::Column;
use super::layout::Layout;
use super::style::{plain, write_text};

/// Between two columns.
const GAP: usize = 2;

/// The least width of a name, if that makes room for a column that distinguishes rows.
const SHORT_NAME: usize = 5;

/// A name is not made shorter than this.
const SHORTEST_NAME: usize = 3;

/// Columns that the text takes in a terminal.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The columns of a table that are shown, in their order, with their widths.
#[derive(Debug, Default)]
pub struct Fitted {
    /// places of columns, and widths
    shown: Vec<(usize, usize)>,
    /// places of columns without room
    pub left_out: Vec<usize>,
    /// the most columns of a line
    limit: Option<usize>,
    pub has_short_names: bool,
}

impl Fitted {
    /// All columns in the widths that they need.
    pub fn all(natural: &[usize]) -> Self {
        Self { shown: natural.iter().copied().enumerate().collect(), ..Self::default() }
    }

    /// The most important columns that fit. `natural` are the widths that they need, and `cells` those
    /// without their titles.
    ///
    /// The first columns of rank 0 and 1 are always there. Others follow by rank, until one does not fit. If
    /// there is not enough room, names are shortened, then titles above numbers.
    pub fn new(columns: &[Column<'_>], natural: &[usize], cells: &[usize], limit: usize) -> Self {
        let width_of = |at: usize| natural.get(at).copied().unwrap_or(0);
        let is_name = |at: usize| columns.get(at).is_some_and(|column| column.is_name);
        let least =
            |at: usize, short: usize| if is_name(at) { width_of(at).min(short) } else { width_of(at) };
        let mut order: Vec<(u8, usize)> =
            columns.iter().enumerate().map(|(at, column)| (column.rank, at)).collect();
        order.sort_unstable();
        let first = |rank: u8| order.iter().find(|(of, _)| *of == rank).map(|(_, at)| *at);
        let mut shown: Vec<usize> = first(0).into_iter().chain(first(1)).collect();
        let mut is_full = false;
        for (rank, at) in order {
            if shown.contains(&at) {
                continue;
            }
            let with = || shown.iter().copied().chain([at]);
            let short = if rank == 0 { SHORT_NAME } else { usize::MAX };
            let needed = with().map(|at| least(at, short)).sum::<usize>() + GAP * shown.len();
            if needed <= limit && (rank == 0 || !is_full) {
                shown.push(at);
            } else {
                is_full = true;
            }
        }
        shown.sort_unstable();
        let left_out = (0..columns.len()).filter(|at| !shown.contains(at)).collect();
        let mut shown: Vec<(usize, usize)> = shown.into_iter().map(|at| (at, width_of(at))).collect();
        let mut excess = excess(&shown, limit);
        let has_short_names = excess > 0;
        shorten(&mut shown, &mut excess, |at| is_name(at).then_some(SHORT_NAME));
        shorten(&mut shown, &mut excess, |at| cells.get(at).copied().filter(|_| !is_name(at)));
        shorten(&mut shown, &mut excess, |at| is_name(at).then_some(SHORTEST_NAME));
        Self { shown, left_out, limit: Some(limit), has_short_names }
    }

    /// Writes the cells that are shown.
    pub fn line(
        &self,
        out: &mut impl Write,
        columns: &[Column<'_>],
        cells: &[impl AsRef<str>],
    ) -> io::Result<()> {
        let mut cells: Vec<(usize, usize, Cow<'_, str>)> =
            self.shown.iter().map(|(at, wide)| (*at, *wide, text(columns, cells, *at))).collect();
        if let Some(limit) = self.limit {
            // rows that came too late to be measured may be wider
            let mut widths: Vec<(usize, usize)> =
                cells.iter().map(|(at, wide, cell)| (*at, (*wide).max(width(cell)))).collect();
            for (at, wide) in &mut widths {
                if columns.get(*at).is_some_and(|column| column.is_name) {
                    *wide = self.shown.iter().find(|(of, _)| of == at).map_or(*wide, |(_, wide)| *wide);
                }
            }
            let mut excess = excess(&widths, limit);
            shorten(&mut widths, &mut excess, |at| {
                columns.get(at).is_some_and(|column| column.is_name).then_some(SHORTEST_NAME)
            });
            for ((at, wide, cell), (_, room)) in cells.iter_mut().zip(widths) {
                *wide = room;
                let is_name = columns.get(*at).is_some_and(|column| column.is_name);
                if is_name && width(cell) > room {
                    *cell = shortened(cell, room).into();
                }
            }
        }
        let mut line = String::new();
        for (at, (place, wide, cell)) in cells.iter().enumerate() {
            if at > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(wide.saturating_sub(width(cell)));
            let is_number = columns.get(*place).is_some_and(|column| column.is_number);
            let (before, after) = if is_number { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.extend([before, cell.as_ref(), after]);
        }
        out.write_all(line.trim_end().as_bytes())
    }

    /// Writes the titles.
    pub fn head(&self, out: &mut impl Write, columns: &[Column<'_>]) -> io::Result<()> {
        let title = |(at, column): (usize, &Column<'_>)| {
            let room = self.shown.iter().find(|(of, _)| *of == at).map_or(usize::MAX, |(_, wide)| *wide);
            let title = plain(column.title);
            if width(&title) > room { shortened(&title, room) } else { title.into_owned() }
        };
        let titles: Vec<String> = columns.iter().enumerate().map(title).collect();
        self.line(out, columns, &titles)
    }

    /// The line below the titles, and between parts of a table.
    pub fn rule(&self) -> String {
        let dashes: Vec<String> = self.shown.iter().map(|(_, width)| "-".repeat(*width)).collect();
        dashes.join("  ")
    }

    /// Says what the table leaves out.
    pub fn write_left_out(
        &self,
        out: &mut impl Write,
        columns: &[Column<'_>],
        layout: &Layout,
    ) -> io::Result<()> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let names: Vec<&str> =
            self.left_out.iter().filter_map(|at| columns.get(*at)).map(|column| column.name).collect();
        let how = "--wide shows all, --columns chooses";
        let long = match (names.as_slice(), self.has_short_names) {
            ([], false) => return Ok(()),
            ([], true) => "names are shortened: --wide shows them whole".to_owned(),
            (names, _) => format!("not shown: {}; {how}", names.join(", ")),
        };
        let fits = long.split(' ').all(|word| width(word) <= limit);
        let short = match names.len() {
            0 => "shortened: --wide".to_owned(),
            1 => "+1 column: --wide".to_owned(),
            many => format!("+{many} columns: --wide"),
        };
        write_text(out, if fits { &long } else { &short }, layout.width)
    }
}

fn text<'a>(columns: &[Column<'_>], cells: &'a [impl AsRef<str>], at: usize) -> Cow<'a, str> {
    let cell = cells.get(at).map_or("", AsRef::as_ref);
    // numbers have signs of this program's own, such as that of microseconds
    if columns.get(at).is_some_and(|column| column.is_number) { plain(cell) } else { Cow::Borrowed(cell) }
}

/// By how much columns are too wide.
fn excess(shown: &[(usize, usize)], limit: usize) -> usize {
    let gaps = GAP * shown.len().saturating_sub(1);
    (shown.iter().map(|(_, width)| width).sum::<usize>() + gaps).saturating_sub(limit)
}

/// Narrows the widest of the columns that have a least width, one by one.
fn shorten(shown: &mut [(usize, usize)], excess: &mut usize, least: impl Fn(usize) -> Option<usize>) {
    while *excess > 0 {
        let can_be_less = |(at, width): &&mut (usize, usize)| least(*at).is_some_and(|least| *width > least);
        let Some((_, widest)) = shown.iter_mut().filter(can_be_less).max_by_key(|(_, width)| *width) else {
            break;
        };
        *widest -= 1;
        *excess -= 1;
    }
}

/// The text without its middle, in so many columns.
fn shortened(text: &str, room: usize) -> String {
    let mark = plain("…");
    let Some(left) = room.checked_sub(width(&mark)) else { return fitting(text.chars(), room) };
    let begin = fitting(text.chars(), left.div_ceil(2));
    let end: String = fitting(text.chars().rev(), left - width(&begin)).chars().rev().collect();
    format!("{begin}{mark}{end}")
}

/// The first characters that fit.
fn fitting(chars: impl Iterator<Item = char>, room: usize) -> String {
    let mut left = room;
    chars
        .map_while(|c| {
            left = left.checked_sub(c.width().unwrap_or(0))?;
            Some(c)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_loses_its_middle() {
        assert_eq!(shortened("shop-0001.example.com", 11), "shop-…e.com");
        assert_eq!(shortened("例え例え例え", 6), "例…え");
        assert_eq!(shortened("例え例え例え", 7), "例…例え");
        assert_eq!(width("例え"), 4);
        for room in 0..12 {
            assert!(width(&shortened("例え.example", room)) <= room, "{room}");
        }
    }

    proptest! {
        #[test]
        fn a_table_fits_its_width_or_has_the_two_most_important_columns_alone(
            sizes in prop::collection::vec((1usize..40, 0usize..20, 0u8..8, any::<bool>()), 2..14),
            limit in 10usize..150,
        ) {
            let mut columns: Vec<Column<'_>> = sizes.iter().map(|(_, _, rank, is_name)| {
                let column = Column::number("n", "n").rank(*rank);
                Column { is_name: *is_name, ..column }
            }).collect();
            columns[0].rank = 0;
            columns[1].rank = 1;
            let natural: Vec<usize> = sizes.iter().map(|(cells, title, _, _)| *cells.max(title)).collect();
            let cells: Vec<usize> = sizes.iter().map(|(cells, _, _, _)| *cells).collect();
            let fitted = Fitted::new(&columns, &natural, &cells, limit);
            prop_assert_eq!(fitted.shown.len() + fitted.left_out.len(), columns.len());
            let ranks: Vec<u8> = fitted.shown.iter().map(|(at, _)| columns[*at].rank).collect();
            prop_assert!(ranks.contains(&0) && ranks.contains(&1));
            let is_narrow = excess(&fitted.shown, limit) == 0;
            prop_assert!(is_narrow || fitted.shown.len() == 2, "{:?}", fitted);
            // a line is no longer than it should be, also with cells that were not measured
            let mut out = Vec::new();
            let texts: Vec<String> = columns.iter().zip(&cells).map(|(column, cells)| {
                "x".repeat(if column.is_name { 60 } else { *cells })
            }).collect();
            fitted.line(&mut out, &columns, &texts).unwrap();
            let line = String::from_utf8(out).unwrap();
            prop_assert!(!is_narrow || width(&line) <= limit, "{:?}: {}", fitted, line);
        }
    }
}
