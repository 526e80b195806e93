//! Times: points in time, the buckets that they fall into, the time zone, and the arguments that choose a
//! time range.

mod bucket;
mod instant;
mod range;
pub mod zone;

pub use bucket::{By, DAY_MS, SLOT_MS, slot};
pub use instant::{Millis, clip, format, now, parse, parse_local};
pub use range::Range;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_and_written() {
        assert_eq!(parse("1970-01-01T00:05:00.000Z"), Some(300_000));
        assert_eq!(parse("2026-01-31T13:01:00.000+01:00"), parse("2026-01-31T12:01:00Z"));
        for wrong in
            ["", "2026-01-31", "2026-01-31T12:00:00", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "12"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        for time in ["2026-01-31T12:01:00Z", "2026-01-31T12:01:00.500Z", "2026-01-31T12:01:00.030Z"] {
            assert_eq!(format(parse(time).unwrap()), time);
        }
    }

    #[test]
    fn a_time_that_no_clock_shows_is_refused() {
        for wrong in [
            "2026-12-31T23:59:60Z",
            "2026-12-31T23:59:60.5Z",
            "2026-01-31T12:00:00+25:00",
            "2026-01-31T12:00:00+24:00",
            "2026-01-31T12:00:00+01:60",
            "2026-01-31T12:00:00.000Z[UTC]",
            "2026-01-31T24:00:00Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert!(parse("2026-01-31T12:00:00+23:59").is_some());
        assert_eq!(parse_local("31/Jan/2026:13:01:00 +0100"), parse("2026-01-31T12:01:00Z"));
        for wrong in ["31/Jan/2026:23:59:60 +0000", "31/Jan/2026:12:00:00 +2500", "31/Jan/2026", "é"] {
            assert_eq!(parse_local(wrong), None, "{wrong}");
        }
    }

    fn zoned(by: By, zone: &str, time: &str) -> [String; 2] {
        let zone = zone::named(zone).unwrap();
        let (begin, end) = by.find_bounds(&zone, parse(time).unwrap());
        [format(begin), format(end)]
    }

    #[test]
    fn days_months_and_hours_are_those_of_a_zone() {
        let day = |zone, time| zoned(By::Day, zone, time);
        assert_eq!(
            day("Europe/Berlin", "2026-01-31T23:30:00Z"),
            ["2026-01-31T23:00:00Z", "2026-02-01T23:00:00Z"]
        );
        // of 23 hours, and of 25
        assert_eq!(
            day("Europe/Berlin", "2026-03-29T12:00:00Z"),
            ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]
        );
        assert_eq!(
            day("Europe/Berlin", "2026-10-25T12:00:00Z"),
            ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]
        );
        assert_eq!(
            day("Asia/Kolkata", "2026-01-31T18:30:00Z"),
            ["2026-01-31T18:30:00Z", "2026-02-01T18:30:00Z"]
        );
        // there was no 30 December
        assert_eq!(
            day("Pacific/Apia", "2011-12-30T09:00:00Z"),
            ["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"]
        );
        assert_eq!(
            zoned(By::Month, "America/New_York", "2026-03-15T00:00:00Z"),
            ["2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z"]
        );
        let hour = |zone, time| zoned(By::Hour, zone, time);
        assert_eq!(
            hour("Asia/Kolkata", "2026-01-31T12:10:00Z"),
            ["2026-01-31T11:30:00Z", "2026-01-31T12:30:00Z"]
        );
        assert_eq!(
            hour("Europe/Berlin", "2026-10-25T01:10:00Z"),
            ["2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]
        );
        // the clock is set back by half an hour at 2:00
        assert_eq!(
            hour("Australia/Lord_Howe", "2026-04-04T15:10:00Z"),
            ["2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"]
        );
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let time = |text| parse(text).unwrap();
        let february = By::Month.bucket(time("2024-02-29T23:59:59.999Z"));
        assert_eq!(By::Month.bounds(february), (time("2024-02-01T00:00:00Z"), time("2024-03-01T00:00:00Z")));
        let december = By::Month.bucket(time("2025-12-31T00:00:00Z"));
        assert_eq!(By::Month.bounds(december), (time("2025-12-01T00:00:00Z"), time("2026-01-01T00:00:00Z")));
    }

    proptest! {
        #[test]
        fn buckets_of_a_zone_follow_on_each_other(
            time in 0i64..4_000_000_000_000,
            by in prop::sample::select(&[By::FiveMinutes, By::Hour, By::Day, By::Month][..]),
            zone in prop::sample::select(&[
                "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu",
                    "Australia/Lord_Howe", "Pacific/Apia",
                "America/Havana", "America/Sao_Paulo", "Antarctica/Troll", "Africa/Monrovia", "America/Goose_Bay",
            ][..]),
        ) {
            let zone = zone::named(zone).unwrap();
            let (begin, end) = by.find_bounds(&zone, time);
            prop_assert!(begin <= time && time < end && begin % SLOT_MS == 0 && end % SLOT_MS == 0);
            for same in [begin, end - 1] {
                prop_assert_eq!(by.find_bounds(&zone, same), (begin, end));
            }
            prop_assert_eq!(by.find_bounds(&zone, end).0, end);
        }

        #[test]
        fn a_time_is_within_its_bucket_and_a_slot_within_one(
            time in 0i64..253_000_000_000_000,
            by in prop::sample::select(&[By::FiveMinutes, By::Hour, By::Day, By::Month][..]),
        ) {
            let (begin, end) = by.bounds(by.bucket(time));
            prop_assert!(begin <= time && time < end);
            let (begin, end) = By::FiveMinutes.bounds(slot(time));
            prop_assert_eq!(by.bucket(begin), by.bucket(end - 1));
        }
    }
}
