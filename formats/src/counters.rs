//! The table of counters, and functions on it.

use crate::classes;
pub use crate::counter::*;

macro_rules! declare {
    ($($name:ident [$($at:tt)*] = $counter:expr;)*) => {
        /// All counters of an account, in the order of the status document.
        pub static COUNTERS: [Counter; LEN] = TABLE;
        const TABLE: [Counter; LEN] = [$($counter),*];
        /// The number of counters.
        pub const LEN: usize = [$(stringify!($name)),*].len();
    };
}
crate::each_counter!(declare);

/// The number of cells of all counters.
pub const CELLS: usize = first_cell(LEN);

/// The index of a counter's first cell among all cells. `row` is the counter's index in the table.
pub const fn first_cell(row: usize) -> usize {
    let (mut cells, mut at) = (0, 0);
    while at < row {
        cells += TABLE[at].shape.cells();
        at += 1;
    }
    cells
}

/// The index of a counter in the table. For constants: an unknown name does not compile.
pub const fn row(name: &str) -> usize {
    let mut at = 0;
    while !is_equal(TABLE[at].name, name) {
        at += 1;
    }
    at
}

/// The index of a counter's first cell, by the counter's name. For constants, as [`row`].
pub const fn cell(name: &str) -> usize {
    first_cell(row(name))
}

/// The rows in another order: those named here first, then all others as in the table.
pub(crate) const fn ordered(first: &[&str]) -> [usize; LEN] {
    let mut order = [0; LEN];
    let (mut count, mut at) = (0, 0);
    while count < first.len() {
        order[count] = row(first[count]);
        count += 1;
    }
    while at < LEN {
        let (mut is_first, mut n) = (false, 0);
        while n < first.len() {
            is_first = is_first || is_equal(first[n], TABLE[at].name);
            n += 1;
        }
        if !is_first {
            order[count] = at;
            count += 1;
        }
        at += 1;
    }
    order
}

pub(crate) const fn is_equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The table as a constant.
pub(crate) const fn table() -> &'static [Counter; LEN] {
    &TABLE
}

/// The number of families of Prometheus.
pub const FAMILIES: usize = {
    let (mut count, mut at) = (0, 0);
    while at < LEN {
        let mut n = 0;
        while n < 4 {
            count += TABLE[at].families[n].is_some() as usize;
            n += 1;
        }
        at += 1;
    }
    count
};

/// The families of Prometheus in the order of the exposition, each with the index of its counter in the table.
pub static FAMILIES_IN_ORDER: [(usize, Family); FAMILIES] = FAMILY_TABLE;
pub(crate) const FAMILY_TABLE: [(usize, Family); FAMILIES] = {
    let order = ordered(&["cpu_ns"]);
    let mut families = [(0, Family::new("", "", "")); FAMILIES];
    let (mut count, mut at) = (0, 0);
    while at < LEN {
        let mut n = 0;
        while n < 4 {
            if let Some(family) = TABLE[order[at]].families[n] {
                families[count] = (order[at], family);
                count += 1;
            }
            n += 1;
        }
        at += 1;
    }
    families
};
