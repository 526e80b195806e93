//! The status as JSON, written account by account. [`formats::status`] defines its form.

use formats::counters::Detail;
use formats::status::write;

use super::shown::Shown;
use super::status::Status;
use super::values::{self, Signals};
use crate::key;
use crate::table::Slot;

/// The next part to be written.
#[derive(Default)]
pub(super) enum JsonPosition {
    /// the members before the zones
    #[default]
    Head,
    /// a zone by its index, or the end of the document
    Zone(usize),
    /// an account of a zone, or the end of the zone
    Account { zone: usize, slot: Option<Slot>, is_first: bool, sum: Signals },
}

impl JsonPosition {
    /// Appends this part, and moves to the next one. Returns whether more follows.
    pub(super) fn write(&mut self, status: &Status, shown: &[Shown], now_ms: u64, out: &mut Vec<u8>) -> bool {
        *self = match *self {
            JsonPosition::Head => {
                let workers: Vec<_> = status.workers.iter().map(values::worker).collect();
                write::begin(&values::server(status), &workers, out);
                JsonPosition::Zone(0)
            }
            JsonPosition::Zone(at) => match status.zones.get(at).zip(shown.get(at)) {
                Some((zone, shown)) => {
                    write::begin_zone(at == 0, &zone.name, &values::zone(zone, &shown.fill()), out);
                    let sum = Signals::default();
                    JsonPosition::Account { zone: at, slot: shown.first(), is_first: true, sum }
                }
                None => {
                    write::end(out);
                    return false;
                }
            },
            JsonPosition::Account { zone, slot: Some(slot), is_first, mut sum } => {
                let shown = &shown[zone];
                shown.table.refresh(slot, now_ms);
                let account = shown.table.account(slot);
                let snapshot = account.snapshot(now_ms, shown.table.epoch());
                let snapshot = snapshot.with_limits(account, &shown.table, now_ms);
                values::add(&mut sum, &snapshot.signals);
                let key = key::display(shown.table.key(slot));
                write::account(is_first, &key, &values::account(snapshot), status.detail, out);
                JsonPosition::Account { zone, slot: shown.after(slot), is_first: false, sum }
            }
            JsonPosition::Account { zone, slot: None, sum, .. } => {
                // the sum of a single account is not the sum of the zone
                let has_windows = status.detail == Detail::Full && shown[zone].only.is_none();
                write::end_zone(has_windows.then_some(&sum), out);
                JsonPosition::Zone(zone + 1)
            }
        };
        true
    }
}
