//! The columns of the state file.
//!
//! A name keeps its meaning in files forever. A histogram with other bounds gets other names.

use crate::classes::CPU_BOUNDS_NS;
use crate::counters::{COUNTERS, Counter, LEN, Shape, first_cell, ordered};

/// The first release wrote these counters first, in this order. All others follow in the order of the table.
const ORDER: [usize; LEN] = ordered(&[
    "cpu_ns",
    "wakeups",
    "sent_bytes",
    "received_bytes",
    "responses",
    "by_request_cpu",
    "by_connection_order",
    "by_cache_status",
    "by_response_size",
    "tls_handshakes",
    "limit",
]);

/// The name of each column, and the index of its cell among the cells of all counters.
pub fn columns() -> Vec<(String, usize)> {
    let rows = ORDER.iter().filter_map(|&row| Some((row, COUNTERS.get(row)?)));
    rows.flat_map(|(row, counter)| names(counter).into_iter().zip(first_cell(row)..)).collect()
}

/// The name of each cell of a counter.
fn names(counter: &Counter) -> Vec<String> {
    let name = counter.stored_name;
    let tallies = |classes: &[&str], counted: &str| {
        classes
            .iter()
            .flat_map(|class| [counted, "cpu_ns"].map(|of| format!("{name}.{class}.{of}")))
            .collect()
    };
    match counter.shape {
        Shape::One => vec![name.to_owned()],
        Shape::Classes(classes) => classes.iter().map(|class| format!("{name}.{class}")).collect(),
        Shape::Tallies { classes, counted } => tallies(classes, counted),
        Shape::Refusals(classes) => tallies(classes, "requests"),
        Shape::Histogram => {
            let bounds = CPU_BOUNDS_NS.iter().map(u64::to_string).chain(["inf".to_owned()]);
            bounds.map(|bound| format!("{name}.{bound}.requests")).collect()
        }
        Shape::Figure(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::CELLS;

    #[test]
    fn every_cell_has_one_column_of_its_own_name() {
        let columns = columns();
        let names: std::collections::BTreeSet<&str> = columns.iter().map(|(name, _)| &**name).collect();
        let cells: std::collections::BTreeSet<usize> = columns.iter().map(|&(_, cell)| cell).collect();
        assert_eq!((columns.len(), names.len(), cells.len()), (CELLS, CELLS, CELLS));
        assert_eq!(cells.last(), Some(&(CELLS - 1)));
    }
}
