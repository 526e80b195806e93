//! CPU that no limit could refuse.

use accounting::limit::{LimitId, Share};

use crate::config::location::LocConf;
use crate::config::main::{MainConf, with_running};

/// What CPU beyond a limit is where the limit could not refuse it: by the limit of the request's location.
pub fn share_beyond(conf: &LocConf, zone: usize) -> Share {
    let mut limits = conf.limits().iter().filter(|limit| limit.used.index() == zone);
    if limits.next().is_some_and(|limit| limit.dry_run) { Share::RefusedDryRun } else { Share::Refused }
}

/// As [`share_beyond`], for work of a connection, which is in no location: by all limits of the zone.
#[cold]
pub fn share_beyond_all(zone: usize) -> Share {
    with_running(|main| {
        let limits = main.into_iter().flat_map(MainConf::limits);
        let mut refusing = limits.filter(|limit| limit.used.index() == zone && !limit.dry_run);
        if refusing.next().is_some() { Share::Refused } else { Share::RefusedDryRun }
    })
}

/// Whether the zone at this place has a limit of this number, in the configuration that this worker serves.
#[cold]
pub fn is_configured(zone: usize, id: LimitId) -> bool {
    with_running(|main| {
        let mut limits = main.into_iter().flat_map(MainConf::limits);
        limits.any(|limit| limit.used.index() == zone && limit.id == id)
    })
}
