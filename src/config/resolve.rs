//! Finds the zones that directives name after the whole configuration has been read: a zone may be defined after its
//! use.

use std::rc::Rc;

use crate::config::limit::LimitConf;
use crate::config::main::MainConf;
use crate::config::zone::Zone;
use crate::config::zone_use::ZoneUse;
use crate::nginx::conf::{Conf, Failed};

/// Fixes the lists of the configuration, and finds the zones.
///
/// # Errors
/// A zone does not exist. The error has been logged.
pub fn resolve(cf: &Conf<'_>, main: &MainConf) -> Result<(), Failed> {
    main.zones.fix();
    main.logs.fix();
    main.places.fix();
    main.statuses.fix();
    main.uses.fix();
    main.limits.fix();
    main.uses.as_slice().iter().for_each(|uses| uses.fix());
    main.limits.as_slice().iter().for_each(|limits| limits.fix());

    let mut counted = vec![false; main.zones().len()];
    for used in main.uses.as_slice().iter().flat_map(|uses| uses.as_slice()) {
        if let Some(counted) = counted.get_mut(resolve_use(cf, main, used, "request_cpu")?) {
            *counted = true;
        }
    }
    for LimitConf { used, .. } in main.limits() {
        let index = resolve_use(cf, main, used, "request_cpu_limit")?;
        if counted.get(index) != Some(&true) {
            cf.warn(format_args!(
                "zone \"{}\" in \"request_cpu_limit\" is in no \"request_cpu\", so nothing is used of the limit in {}",
                used.name, used.place
            ));
        }
    }
    for log in main.logs() {
        let is_its = |zone: &&Rc<Zone>| zone.name == log.zone_name;
        let Some(zone) = main.zones.as_slice().iter().find(is_its) else {
            cf.refuse_all(format_args!(
                "unknown zone \"{}\" in \"request_cpu_log\" in {}",
                log.zone_name, log.place
            ));
            return Err(Failed);
        };
        // this is called once
        let _ = log.zone.set(zone.clone());
    }
    Ok(())
}

/// Returns the index of the zone that the directive names.
fn resolve_use(cf: &Conf<'_>, main: &MainConf, used: &ZoneUse, directive: &str) -> Result<usize, Failed> {
    let zones = main.zones.as_slice().iter().enumerate();
    let Some((index, zone)) = { zones }.find(|(_, zone)| zone.name == used.name) else {
        // `cf` is at the end of `http` by now, so the message names the place that was kept.
        let hint = if main.zones().len() == 0 { ": no \"request_cpu_zone\" is defined" } else { "" };
        cf.refuse_all(format_args!(
            "unknown zone \"{}\" in \"{directive}\"{hint} in {}",
            used.name, used.place
        ));
        return Err(Failed);
    };
    used.set(index, zone);
    Ok(index)
}
