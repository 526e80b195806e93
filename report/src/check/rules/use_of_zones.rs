//! Zones that are not used, and directives that need one.

use std::collections::HashSet;

use super::super::findings::Findings;
use super::super::model::Model;

/// Checks the use of all zones.
pub fn check(model: &Model, found: &mut Findings) {
    let counted: HashSet<&str> = { model.zones.iter() }
        .map(|zone| zone.name.as_str())
        .filter(|name| model.servers.iter().any(|server| server.counts_in(name)))
        .collect();
    let is_counted = |name: &str| counted.contains(name);
    let is_limited = |name: &str| model.limits.iter().any(|(zone, _)| zone == name);
    for zone in &model.zones {
        // a limit without "request_cpu" has a warning of its own
        if !is_counted(&zone.name) && !is_limited(&zone.name) {
            let message = format!(
                "no requests are counted in zone \"{0}\": no \"request_cpu zone={0}\" applies",
                zone.name
            );
            found.warn("zone-unused", Some(&zone.place), message);
        }
        let mut logs = model.logs.iter().filter(|log| log.zone == zone.name);
        if let Some(log) = logs.next().filter(|_| zone.state.is_none()) {
            let message = format!(
                "zone \"{}\" has a traffic log, but no \"state\": after a restart its counters begin at zero, and the \
                 log goes on",
                zone.name
            );
            found.note("log-without-state", Some(&log.place), message);
        }
    }
    for (zone, place) in &model.limits {
        if !is_counted(zone) {
            let message = format!("the limit has no effect: no requests are counted in its zone \"{zone}\"");
            found.warn("limit-without-zone", Some(place), message);
        }
    }
    let unlimited = model.servers.iter().flat_map(|server| {
        let levels = server.locations.iter().filter(|location| !location.is_in_status);
        std::iter::once((&server.level, &server.place))
            .chain(levels.map(|location| (&location.level, &location.place)))
    });
    let mut told = HashSet::new();
    for (level, place) in unlimited {
        for limit in &level.limits {
            let is_here = level.counting.zones().contains(&limit.zone);
            if !is_here && is_counted(&limit.zone) && told.insert(&limit.place) {
                let message = format!(
                    "the limit refuses requests that its zone \"{}\" does not count, for example those of {place}",
                    limit.zone
                );
                found.note("limit-uncounted", Some(&limit.place), message);
            }
        }
    }
}
