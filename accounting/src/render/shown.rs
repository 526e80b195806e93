//! The accounts of a zone that are shown.

use super::status::Zone;
use crate::key::Cut;
use crate::table::{Fill, Listing, Slot, Table};

/// The accounts of a zone that are shown.
pub(super) struct Shown {
    pub(super) table: Table,
    pub(super) found: Listing,
    /// the overflow account is shown once something has been counted in it
    pub(super) overflow: bool,
    pub(super) only: Option<Chosen>,
}

/// The search state of an [`Only`](super::status::Only).
pub(super) struct Chosen {
    pub(super) slots: [Option<Slot>; 2],
    pub(super) shown_as: Option<Cut>,
    /// index of the slot at which the search continues
    pub(super) next: usize,
}

impl Shown {
    /// Number of keys that are compared in one step, which takes some microseconds.
    pub(super) const KEYS_AT_ONCE: usize = 16;

    pub(super) fn new(zone: &Zone) -> Shown {
        let table = zone.table;
        let overflow = !table.account(Slot::OVERFLOW).is_untouched(table.epoch());
        let only = zone.only.clone().map(|only| Chosen {
            slots: [only.slot, None],
            shown_as: only.shown_as,
            next: Slot::OVERFLOW.index() + 1,
        });
        Shown { table, found: Listing::default(), overflow, only }
    }

    /// Searches for accounts in one step. Returns whether there may be more.
    pub(super) fn search(&mut self) -> bool {
        if self.found.search(&self.table) {
            return true;
        }
        let Some(Chosen { slots, shown_as: Some(cut), next }) = &mut self.only else { return false };
        for _ in 0..Self::KEYS_AT_ONCE {
            let Some(slot) = self.found.first_from(*next) else { return false };
            *next = slot.index() + 1;
            if cut.is_of(self.table.key(slot)) {
                slots[1] = Some(slot).filter(|_| slots[0] != Some(slot));
                return false;
            }
        }
        true
    }

    pub(super) fn has_account(&self) -> bool {
        self.only.as_ref().is_none_or(|only| only.slots != [None; 2])
    }

    pub(super) fn first(&self) -> Option<Slot> {
        match &self.only {
            Some(Chosen { slots: [one, other], .. }) => one.or(*other),
            None if self.overflow => Some(Slot::OVERFLOW),
            None => self.after(Slot::OVERFLOW),
        }
    }

    pub(super) fn after(&self, slot: Slot) -> Option<Slot> {
        match &self.only {
            Some(Chosen { slots: [one, other], .. }) => other.filter(|_| *one == Some(slot)),
            None => self.found.first_from(slot.index() + 1),
        }
    }

    pub(super) fn fill(&self) -> Fill {
        self.table.fill_with(self.found.accounts())
    }
}
