//! What a reader gets to see: the accounts and the books as JSON and in Prometheus' text format.
//!
//! Hundreds of thousands of accounts are hundreds of megabytes of text, and most of a second of work. So an [`Answer`] is
//! written in small steps, between which the caller may send what there is, or do something else. It knows its place and
//! the slots to be shown, a bit for each: nothing grows with the number of accounts but that. Each account is read
//! when it is written, in Prometheus' format once for each family.

use crate::books::Books;
use crate::key::Cut;
use crate::table::{Fill, Listing, Slot, Table};
use crate::workers::Worker;

mod json;
pub mod negotiate;
mod prometheus;
pub mod turns;

use negotiate::Format;

pub use formats::counters::Detail;

/// One zone, and which of its accounts are shown.
pub struct Zone {
    /// its name in the configuration
    pub name: String,
    /// size of its shared memory
    pub size_bytes: u64,
    /// its accounts
    pub table: Table,
    /// what is shown of it; otherwise it is all that the zone has when the answer begins
    pub only: Option<Only>,
}

/// The account of one key, asked for by the key or by its shown form.
#[derive(Debug, Default, Clone)]
pub struct Only {
    /// of this key
    pub slot: Option<Slot>,
    /// Of the key that is shown like this. It is looked for among all keys, and may be there besides the other one.
    pub shown_as: Option<Cut>,
}

/// All that is shown.
pub struct Status {
    /// the module's
    pub version: &'static str,
    /// as `1.28.3`
    pub nginx_version: &'static str,
    /// UTC, as `2026-01-31T12:00:00.000Z`
    pub time: String,
    /// name of the clock
    pub clock: &'static str,
    /// largest error of a lap in nanoseconds
    pub max_error_ns: u64,
    /// worker processes that live
    pub workers: Vec<Worker>,
    /// sums by number of the worker, processes that are gone included
    pub worker_totals: Vec<(u32, Books)>,
    /// zones, in the order of the configuration
    pub zones: Vec<Zone>,
    /// how much is shown
    pub detail: Detail,
}

/// A status that is being written.
pub struct Answer {
    status: Status,
    shown: Vec<Shown>,
    /// how many zones have been looked through
    searched: usize,
    /// why there is no status, if no zone has an account that is asked for
    error: String,
    is_missing: bool,
    format: Format,
    place: Place,
}

/// What comes next, in either format.
enum Place {
    Json(json::Place),
    Prometheus(prometheus::Place),
}

impl Answer {
    /// Begins an answer.
    pub fn new(status: Status, format: Format) -> Answer {
        let shown = status.zones.iter().map(Shown::new).collect();
        let place = match format {
            Format::Json => Place::Json(json::Place::default()),
            Format::Prometheus => Place::Prometheus(prometheus::Place::default()),
        };
        Answer { status, shown, searched: 0, error: String::new(), is_missing: false, format, place }
    }

    /// What the answer tells instead, if no zone has the account that is asked for.
    pub fn or_error(self, error: String) -> Answer {
        Answer { error, ..self }
    }

    /// Whether the answer was this error.
    pub fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Appends what comes next, which takes some microseconds: one account (in Prometheus' format, one family of it), or
    /// nothing yet while the accounts are being found. Whether there is more to come. `now_ms` is the monotonic time
    /// that the accounts' windows know.
    pub fn write_some(&mut self, now_ms: u64, out: &mut Vec<u8>) -> bool {
        if let Some(shown) = self.shown.get_mut(self.searched) {
            if !shown.search() {
                self.searched += 1;
            }
            return self.searched < self.shown.len() || self.drop_zones() || {
                error(self.format, &self.error, out);
                false
            };
        }
        match &mut self.place {
            Place::Json(place) => place.write(&self.status, &self.shown, now_ms, out),
            Place::Prometheus(place) => place.write(&self.status, &self.shown, now_ms, out),
        }
    }
}

impl Answer {
    /// Leaves out the zones that do not have the account that is asked for. Whether the answer is a status.
    fn drop_zones(&mut self) -> bool {
        let had = self.shown.len();
        let mut has_account = self.shown.iter().map(Shown::has_account).collect::<Vec<_>>().into_iter();
        self.status.zones.retain(|_| has_account.next().unwrap_or(true));
        self.shown.retain(Shown::has_account);
        self.searched = self.shown.len();
        self.is_missing = had > 0 && self.shown.is_empty();
        !self.is_missing
    }
}

/// The accounts of a zone that are shown.
struct Shown {
    table: Table,
    found: Listing,
    /// the overflow account is shown when something has been counted in it
    overflow: bool,
    only: Option<Chosen>,
}

/// What is known of an [`Only`].
struct Chosen {
    slots: [Option<Slot>; 2],
    shown_as: Option<Cut>,
    /// where the search for it goes on
    next: usize,
}

impl Shown {
    /// So many keys are compared at once: some microseconds.
    const KEYS_AT_ONCE: usize = 16;

    fn new(zone: &Zone) -> Shown {
        let table = zone.table;
        let overflow = !table.account(Slot::OVERFLOW).is_untouched(table.epoch());
        let only = zone.only.clone().map(|only| Chosen {
            slots: [only.slot, None],
            shown_as: only.shown_as,
            next: Slot::OVERFLOW.index() + 1,
        });
        Shown { table, found: Listing::default(), overflow, only }
    }

    /// Looks for accounts; whether there may be more.
    fn search(&mut self) -> bool {
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

    fn has_account(&self) -> bool {
        self.only.as_ref().is_none_or(|only| only.slots != [None; 2])
    }

    fn first(&self) -> Option<Slot> {
        match &self.only {
            Some(Chosen { slots: [one, other], .. }) => one.or(*other),
            None if self.overflow => Some(Slot::OVERFLOW),
            None => self.after(Slot::OVERFLOW),
        }
    }

    fn after(&self, slot: Slot) -> Option<Slot> {
        match &self.only {
            Some(Chosen { slots: [one, other], .. }) => other.filter(|_| *one == Some(slot)),
            None => self.found.first_from(slot.index() + 1),
        }
    }

    fn fill(&self) -> Fill {
        self.table.fill_with(self.found.accounts())
    }
}

/// Appends why there is no status: a JSON object with the member `error`, or a line of text.
pub fn error(format: Format, message: &str, out: &mut Vec<u8>) {
    match format {
        Format::Json => json::error(message, out),
        Format::Prometheus => out.extend_from_slice(message.as_bytes()),
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
