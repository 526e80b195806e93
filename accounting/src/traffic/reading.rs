//! The counters of an account that a line reports.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use formats::line::{FIELDS, FIELDS_IN_ORDER};

use super::step::step;
use crate::account::Account;

/// The counters of an account that a line reports, in the units that readers see: differences of whole milliseconds
/// add up to the milliseconds of the whole.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading(pub(super) [u64; FIELDS]);

impl Reading {
    pub(super) fn of(account: &Account) -> Reading {
        let cells = account.read_cells(const { formats::line::cells() });
        Reading(core::array::from_fn(|at| cells[at] / FIELDS_IN_ORDER[at].divisor))
    }

    pub(super) fn since(&self, earlier: &Reading) -> Reading {
        Reading(core::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.0 == [0; FIELDS]
    }
}

pub(super) fn store(places: &[AtomicU64; FIELDS], reading: &Reading) {
    for (place, value) in places.iter().zip(reading.0) {
        step();
        place.store(value, Relaxed);
    }
}

pub(super) fn load(places: &[AtomicU64; FIELDS]) -> Reading {
    Reading(places.each_ref().map(|place| place.load(Relaxed)))
}
