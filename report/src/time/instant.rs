//! Times as milliseconds since 1970: how they are read and written.

use super::zone;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::{Offset, TimeZone};

/// Milliseconds since the beginning of 1970, UTC.
pub type Millis = i64;

pub fn civil(time: Millis) -> Date {
    stamp(time).to_zoned_datetime(TimeZone::UTC).date()
}

pub fn stamp(time: Millis) -> Timestamp {
    Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX)
}

/// The begin of a day in a zone: midnight, or later if the clock is set forward at midnight.
pub fn beginning(zone: &TimeZone, date: Date) -> Millis {
    let begin = zone.to_zoned_datetime(DateTime::from_parts(date, jiff::civil::Time::midnight()));
    begin.map_or(i64::MAX / 2, |begin| begin.timestamp().as_millisecond())
}

/// Reads a time of a log: RFC 3339, from 1970. A leap second is refused: Unix clocks never show one, and it
/// would count as the second before.
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

/// The part of an interval within a range. If there is none, the end is not after the begin.
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
