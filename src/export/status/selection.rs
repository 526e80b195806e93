//! The zones and accounts that the arguments `zone` and `key` select.

use accounting::key::{self, Cut};
use accounting::render::{Only, Zone};
use accounting::table::{Slot, Table};

use crate::config::main::{MainConf, with_running};

/// An unknown zone or key: the message, and the value of the argument.
type Unknown = (&'static str, Vec<u8>);

/// The zones of the configuration in use, with the accounts that these arguments select. The second value is the
/// missing account, to be reported if no zone has it.
///
/// # Errors
/// There is no such zone, or no such account.
pub fn select(
    wanted_zone: Option<Vec<u8>>,
    wanted_key: Option<Vec<u8>>,
) -> Result<(Vec<Zone>, Option<Unknown>), Unknown> {
    let shown_as = wanted_key.as_deref().and_then(Cut::new);
    let mut zones = Vec::new();
    let mut zone_known = false;
    with_running(|main| {
        for zone in main.into_iter().flat_map(MainConf::zones) {
            let Some(table) = zone.table() else { continue };
            if wanted_zone.as_ref().is_some_and(|name| name != zone.name.as_bytes()) {
                continue;
            }
            zone_known = true;
            let only = wanted_key.as_ref().map(|key| Only {
                slot: table.find(key).filter(|&slot| is_shown(&table, slot)),
                shown_as: shown_as.clone(),
            });
            if only.as_ref().is_some_and(|only| only.slot.is_none() && only.shown_as.is_none()) {
                continue;
            }
            let name = key::display(zone.name.as_bytes()).into_owned();
            zones.push(Zone { name, size_bytes: zone.size_bytes as u64, table, only });
        }
    });
    match (wanted_zone, wanted_key) {
        (Some(zone), _) if !zone_known => Err(("unknown zone", zone)),
        (_, Some(key)) if zones.is_empty() => Err(("unknown key", key)),
        (_, key) => Ok((zones, key.map(|key| ("unknown key", key)))),
    }
}

/// The overflow account always exists, but is not shown before something was counted in it.
fn is_shown(table: &Table, slot: Slot) -> bool {
    slot != Slot::OVERFLOW || !table.account(slot).is_untouched(table.epoch())
}
