//! Times as milliseconds since 1970, and how they are cut into slots and buckets. Slots are those of UTC; hours,
//! days and months are those of the run's time zone.

use std::cell::Cell;

use jiff::civil::{Date, DateTime, date};
use jiff::fmt::strtime;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

use crate::zone;

/// Milliseconds since the beginning of 1970, UTC.
pub type Millis = i64;

/// Peak and percentile are of slots of five minutes, as is the habit with bandwidth (95/5).
pub const SLOT_MS: i64 = 300_000;

const HOUR_MS: i64 = 3_600_000;
/// A day.
pub const DAY_MS: i64 = 86_400_000;

/// How long a time of a row is.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// five minutes
    #[value(name = "5m")]
    FiveMinutes,
    /// an hour
    Hour,
    /// a day
    Day,
    /// a month of the calendar
    Month,
}

impl By {
    /// The bucket that a time is in. A slot is never in two.
    pub fn bucket(self, time: Millis) -> u32 {
        match zone::get().filter(|_| !self.is_slots()) {
            // a bucket has the number of the slot that it begins with
            Some(zone) => slot(self.bounds_at(zone, time).0),
            None => self.utc_bucket(time),
        }
    }

    fn utc_bucket(self, time: Millis) -> u32 {
        let number = match self {
            Self::FiveMinutes => time / SLOT_MS,
            Self::Hour => time / HOUR_MS,
            Self::Day => time / DAY_MS,
            Self::Month => {
                let date = civil(time);
                i64::from(date.year()) * 12 + i64::from(date.month()) - 1
            }
        };
        // the slots of the year 9999 fit
        u32::try_from(number).unwrap_or_default()
    }

    /// When a bucket begins and ends.
    pub fn bounds(self, bucket: u32) -> (Millis, Millis) {
        let bucket = i64::from(bucket);
        if let Some(zone) = zone::get().filter(|_| !self.is_slots()) {
            return self.bounds_at(zone, bucket * SLOT_MS);
        }
        match self {
            Self::FiveMinutes => (bucket * SLOT_MS, (bucket + 1) * SLOT_MS),
            Self::Hour => (bucket * HOUR_MS, (bucket + 1) * HOUR_MS),
            Self::Day => (bucket * DAY_MS, (bucket + 1) * DAY_MS),
            Self::Month => {
                let begin = |month: i64| {
                    let year = i16::try_from(month / 12).unwrap_or(i16::MAX);
                    let month = i8::try_from(month % 12).unwrap_or_default() + 1;
                    let begin = Date::new(year, month, 1).unwrap_or(date(9999, 12, 31));
                    begin.duration_since(date(1970, 1, 1)).as_millis() as Millis
                };
                (begin(bucket), begin(bucket + 1))
            }
        }
    }

    /// When the hour, day or month of a zone that a time is in begins and ends. Most times are in that of the time
    /// before.
    fn bounds_at(self, zone: &TimeZone, time: Millis) -> (Millis, Millis) {
        thread_local! {
            static LAST: Cell<Option<(By, Millis, Millis)>> = const { Cell::new(None) };
        }
        if let Some((by, begin, end)) = LAST.get()
            && by == self
            && (begin..end).contains(&time)
        {
            return (begin, end);
        }
        let (begin, end) = self.find_bounds(zone, time);
        LAST.set(Some((self, begin, end)));
        (begin, end)
    }

    /// Zones begin their days at a border of slots: today, all are whole quarters of an hour from UTC. Where one
    /// did not, the slot that a day begins in is the day's first.
    fn find_bounds(self, zone: &TimeZone, time: Millis) -> (Millis, Millis) {
        let slot_begin = time.div_euclid(SLOT_MS) * SLOT_MS;
        let border = |time: Millis| time.div_euclid(SLOT_MS).max(0) * SLOT_MS;
        let (begin, end) = match self {
            Self::FiveMinutes => (slot_begin, slot_begin + SLOT_MS),
            Self::Hour => hour(zone, slot_begin + SLOT_MS - 1),
            Self::Day | Self::Month => {
                let local = stamp(slot_begin + SLOT_MS - 1).to_zoned(zone.clone()).date();
                let (first, length) = match self {
                    Self::Month => (local.first_of_month(), 1.month()),
                    _ => (local, 1.day()),
                };
                let begin = beginning(zone, first);
                let next = first.checked_add(length).ok().map(|next| beginning(zone, next));
                let mut bounds = (begin, next.unwrap_or(begin));
                // where a clock is set back over midnight, the day begins when its date was seen first
                if bounds.1 <= slot_begin {
                    let after = local.checked_add(length).and_then(|next| next.checked_add(length)).ok();
                    bounds = (bounds.1, after.map_or(slot_begin, |after| beginning(zone, after)));
                }
                bounds
            }
        };
        let begin = border(begin).min(slot_begin);
        (begin, border(end).max(slot_begin + SLOT_MS))
    }

    /// Whether buckets are slots.
    pub fn is_slots(self) -> bool {
        self == Self::FiveMinutes
    }

    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5m",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

fn civil(time: Millis) -> Date {
    stamp(time).to_zoned(TimeZone::UTC).date()
}

fn stamp(time: Millis) -> Timestamp {
    Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX)
}

/// When a day begins in a zone: at midnight, or later where the clock was set forward then.
pub fn beginning(zone: &TimeZone, date: Date) -> Millis {
    let begin = zone.to_zoned(DateTime::from_parts(date, jiff::civil::Time::midnight()));
    begin.map_or(i64::MAX / 2, |begin| begin.timestamp().as_millisecond())
}

/// The hour of a zone's clock that a time is in. Where the clock is set by a part of an hour, an hour ends, and
/// another begins.
fn hour(zone: &TimeZone, time: Millis) -> (Millis, Millis) {
    let offset = |time: Millis| zone::offset_ms(zone, stamp(time));
    let is_set_between =
        |earlier: Millis, later: Millis| (offset(later) - offset(earlier)).rem_euclid(HOUR_MS) != 0;
    let begin = time - (time + offset(time)).rem_euclid(HOUR_MS);
    let end = begin + HOUR_MS;
    let first = zone.preceding(stamp(time + 1)).next().filter(|_| is_set_between(begin, time));
    let next = zone.following(stamp(time)).next().filter(|_| is_set_between(time, end - 1));
    (
        first.map_or(begin, |set| set.timestamp().as_millisecond().max(begin)),
        next.map_or(end, |set| set.timestamp().as_millisecond().min(end)),
    )
}

/// The number of the slot that a time is in.
pub fn slot(time: Millis) -> u32 {
    By::FiveMinutes.bucket(time)
}

/// A time in a log: RFC 3339, from 1970 on. A leap second is refused: no clock of Unix tells it, and it would be taken
/// for the second before.
pub fn parse(text: &str) -> Option<Millis> {
    if !is_rfc3339(text) {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_millisecond()).filter(|time| *time >= 0)
}

/// A time as NGINX writes it in `$time_local`: `31/Jan/2026:12:00:00 +0100`.
pub fn parse_local(text: &str) -> Option<Millis> {
    let (time, offset) = text.rsplit_once(' ')?;
    let (_, seconds) = time.rsplit_once(':')?;
    if seconds >= "60" || offset.get(1..3)? > "23" {
        return None;
    }
    let time = strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).and_then(|time| time.to_timestamp());
    time.ok().map(|time| time.as_millisecond())
}

/// Whether a text has the form of RFC 3339, with numbers that a clock shows.
fn is_rfc3339(text: &str) -> bool {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let Some((time, rest)) = text.as_bytes().split_at_checked(FORM.len()) else { return false };
    let is_as = |(byte, form): (&u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        other => byte == other,
    };
    let fraction = rest.strip_prefix(b".").map(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest.get(digits..).unwrap_or_default()
    });
    let offset = fraction.unwrap_or(rest);
    let is_offset = match offset {
        b"Z" | b"z" => true,
        [b'+' | b'-', hours @ .., b':', m, n] => {
            matches!(hours, [b'0' | b'1', b'0'..=b'9'] | [b'2', b'0'..=b'3'])
                && *m < b'6'
                && n.is_ascii_digit()
        }
        _ => false,
    };
    time.iter().zip(FORM).all(is_as) && !time.ends_with(b":60") && is_offset
}

/// The part of an interval that lies within what is asked for. It ends before it begins, or there, if there is none.
pub fn clip(begin: Millis, end: Millis, from: Option<Millis>, to: Option<Millis>) -> (Millis, Millis) {
    (from.map_or(begin, |from| from.max(begin)), to.map_or(end, |to| to.min(end)))
}

/// RFC 3339 with the zone's offset: in whole seconds, or else with three decimals.
pub fn format(time: Millis) -> String {
    let Ok(time_stamp) = Timestamp::from_millisecond(time) else { return String::new() };
    let decimals = if time.rem_euclid(1000) == 0 { 0 } else { 3 };
    let printer = DateTimePrinter::new().precision(Some(decimals));
    match zone::get() {
        Some(zone) => {
            let offset: Offset = zone.to_offset(time_stamp);
            printer.timestamp_with_offset_to_string(&time_stamp, offset)
        }
        None => printer.timestamp_to_string(&time_stamp),
    }
}

/// Now.
pub fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

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
                "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia",
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
