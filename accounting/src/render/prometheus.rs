//! The status in Prometheus' text format, family by family. [`formats::prometheus`] defines its form.
//!
//! All samples of a family must be together, so every account is read once for each family. Copies of all accounts
//! would be nearly as large as the accounts themselves. The samples of an account in one family are from one instant,
//! which matters most for a histogram. Different families are read at different times. Each counter is read once in an
//! answer, so it never falls from one answer to the next.

use std::borrow::Cow;

use formats::counters::{COUNTERS, Detail, Family};
use formats::prometheus::{self, FAMILIES_IN_ORDER, Labels};

use super::shown::Shown;
use super::status::Status;
use super::values::{self, Live};
use crate::key;
use crate::table::Slot;

/// The next part to be written.
#[derive(Default)]
pub(super) struct MetricsPosition {
    at: At,
    /// whether the head of the family is written; a family without samples has no head
    is_named: bool,
    /// the labels of the current account; kept to reuse their memory
    labels: Labels,
}

#[derive(Default, Clone, Copy)]
enum At {
    /// the families before those of accounts
    #[default]
    Head,
    /// an account in a family, or the end of a zone in the family
    Account { family: usize, zone: usize, slot: Option<Slot> },
    /// the families after those of accounts
    Tail,
}

impl MetricsPosition {
    /// Appends this part, and moves to the next one. Returns whether more follows.
    pub(super) fn write(&mut self, status: &Status, shown: &[Shown], now_ms: u64, out: &mut Vec<u8>) -> bool {
        let start =
            |family, zone: usize| At::Account { family, zone, slot: shown.get(zone).and_then(Shown::first) };
        self.at = match self.at {
            At::Head => {
                prometheus::server(&values::server(status), out);
                next_family(0, status.detail).map_or(At::Tail, |first| start(first, 0))
            }
            At::Account { family, zone, slot: Some(slot) } => {
                let table = &shown[zone].table;
                if family == 0 {
                    table.refresh(slot, now_ms);
                }
                self.labels.clear();
                self.labels.push("zone", &status.zones[zone].name);
                self.labels.push("key", &key::display(table.key(slot)));
                let account = Live { account: table.account(slot), table, now_ms };
                prometheus::account(family, &mut self.is_named, &self.labels, &account, out);
                At::Account { family, zone, slot: shown[zone].after(slot) }
            }
            At::Account { family, zone, slot: None } if zone + 1 < shown.len() => start(family, zone + 1),
            At::Account { family, .. } => {
                self.is_named = false;
                next_family(family + 1, status.detail).map_or(At::Tail, |next| start(next, 0))
            }
            At::Tail => {
                let workers = status.worker_totals.iter();
                let workers: Vec<_> =
                    workers.map(|(worker, totals)| values::totals(*worker, 0, totals)).collect();
                prometheus::workers(&workers, out);
                let zones = status.zones.iter().zip(shown);
                let zones: Vec<_> = zones
                    .map(|(zone, shown)| (Cow::from(&zone.name), values::zone(zone, &shown.fill())))
                    .collect();
                prometheus::zones(&zones, out);
                return false;
            }
        };
        true
    }
}

/// The next family, from `from` on, that has samples of accounts at this level of detail.
fn next_family(from: usize, detail: Detail) -> Option<usize> {
    let is_shown = |&(at, (row, _)): &(usize, &(usize, Family))| {
        at >= from && COUNTERS.get(*row).is_some_and(|counter| counter.detail <= detail)
    };
    FAMILIES_IN_ORDER.iter().enumerate().find(is_shown).map(|(at, _)| at)
}
