//! The share of CPU that no limit could refuse.

use accounting::limit::{LimitId, Share};

use crate::config::location::LocConf;
use crate::config::main::{MainConf, with_running};
use accounting::account_set::MAX_ZONES_PER_REQUEST;

/// The share of CPU that is beyond a limit, if the limit could not refuse it. It depends on the limits of a location.
#[derive(Clone, Copy)]
pub struct Beyond {
    /// the zones, by their index in the configuration, in which the location's limit refuses nothing
    dry_run: [Option<usize>; MAX_ZONES_PER_REQUEST],
}

impl Beyond {
    /// The shares by the limits of a location. A location has at most one limit for each zone.
    pub fn of(conf: &LocConf) -> Beyond {
        let mut dry_run = [None; MAX_ZONES_PER_REQUEST];
        let limits = conf.limits().iter().filter(|limit| limit.dry_run);
        dry_run.iter_mut().zip(limits).for_each(|(zone, limit)| *zone = Some(limit.used.index()));
        Beyond { dry_run }
    }

    /// The share for an account of this zone.
    pub fn share(&self, zone: usize) -> Share {
        if self.dry_run.contains(&Some(zone)) { Share::RefusedDryRun } else { Share::Refused }
    }
}

/// As [`Beyond::share`], for work of a connection. Such work is in no location, so all limits of the zone decide.
#[cold]
pub fn share_beyond_all(zone: usize) -> Share {
    with_running(|main| {
        let limits = main.into_iter().flat_map(MainConf::limits);
        let mut refusing = limits.filter(|limit| limit.used.index() == zone && !limit.dry_run);
        if refusing.next().is_some() { Share::Refused } else { Share::RefusedDryRun }
    })
}

/// Whether the zone at this index has a limit with this number, in the configuration that this worker serves.
#[cold]
pub fn is_configured(zone: usize, id: LimitId) -> bool {
    with_running(|main| {
        let mut limits = main.into_iter().flat_map(MainConf::limits);
        limits.any(|limit| limit.used.index() == zone && limit.id == id)
    })
}
