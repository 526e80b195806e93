//! The time zone of hours, days and months, and of times in the output: UTC, or that of `--time-zone`.
//!
//! The whole run has one zone. It is set once, before anything is read.

use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

static ZONE: OnceLock<TimeZone> = OnceLock::new();

/// The zone with a name of the IANA database. The database is part of this program, so a bill is the same on
/// all machines.
pub fn named(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Sets the zone of the run. Only the first call counts.
pub fn set(zone: &TimeZone) {
    if *zone != TimeZone::UTC && !is_utc(zone) {
        let _ = ZONE.set(zone.clone());
    }
}

/// The zone. None stands for UTC, which has a fast path.
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
