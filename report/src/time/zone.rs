//! The time zone that days, months and hours are those of, and that times are shown in: UTC, or that of `--time-zone`.
//!
//! It is one for the whole run, and is set once, before anything is read.

use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

static ZONE: OnceLock<TimeZone> = OnceLock::new();

/// The zone of a name of the IANA database. That is the one in this program, so that a bill is the same on all
/// machines.
pub fn named(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Makes this the zone of the run. Only the first one counts.
pub fn set(zone: &TimeZone) {
    if *zone != TimeZone::UTC && !is_utc(zone) {
        let _ = ZONE.set(zone.clone());
    }
}

/// The zone; none if it is UTC, for which there is a short way.
pub fn get() -> Option<&'static TimeZone> {
    ZONE.get()
}

fn is_utc(zone: &TimeZone) -> bool {
    zone.iana_name() == Some("UTC")
}

/// Milliseconds that the zone's clock is ahead of UTC at a time.
pub fn offset_ms(zone: &TimeZone, time: Timestamp) -> i64 {
    i64::from(zone.to_offset(time).seconds()) * 1000
}
