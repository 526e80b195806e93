//! Times as milliseconds since 1970, and how they are cut into slots and buckets. All is UTC.

use anyhow::{Context, bail};
use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

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
    /// a day, UTC
    Day,
    /// a month of the calendar, UTC
    Month,
}

impl By {
    /// The bucket that a time is in. A slot is never in two.
    pub fn bucket(self, time: Millis) -> u32 {
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
    Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date()
}

/// The number of the slot that a time is in.
pub fn slot(time: Millis) -> u32 {
    By::FiveMinutes.bucket(time)
}

/// A time in a log: RFC 3339, from 1970 on.
pub fn parse(text: &str) -> Option<Millis> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_millisecond()).filter(|time| *time >= 0)
}

/// The part of an interval that lies within what is asked for. It ends before it begins, or there, if there is none.
pub fn clip(begin: Millis, end: Millis, from: Option<Millis>, to: Option<Millis>) -> (Millis, Millis) {
    (from.map_or(begin, |from| from.max(begin)), to.map_or(end, |to| to.min(end)))
}

/// A time on the command line: RFC 3339, or a date, which is its beginning.
pub fn parse_argument(text: &str) -> anyhow::Result<Millis> {
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        // a time without an offset would be taken for a date otherwise
        Err(_) if text.len() == "2026-01-31".len() => {
            let date: Date = text
                .parse()
                .context("expected a time such as 2026-01-31T12:00:00Z, or a date such as 2026-01-31")?;
            date.to_zoned(TimeZone::UTC)?.timestamp()
        }
        Err(_) => bail!("expected a time such as 2026-01-31T12:00:00Z, or a date such as 2026-01-31"),
    };
    let time = time.as_millisecond();
    if time < 0 {
        bail!("it is before 1970");
    }
    Ok(time)
}

/// RFC 3339.
pub fn format(time: Millis) -> String {
    Timestamp::from_millisecond(time).map(|time| time.to_string()).unwrap_or_default()
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
        assert_eq!(format(parse("2026-01-31T12:01:00.500Z").unwrap()), "2026-01-31T12:01:00.5Z");
        assert_eq!(parse_argument("2026-02-01").unwrap(), parse("2026-02-01T00:00:00Z").unwrap());
        for wrong in ["2026-02-30", "yesterday", "2026-01-31T12:00:00", "1969-01-01", ""] {
            assert!(parse_argument(wrong).is_err(), "{wrong}");
        }
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
