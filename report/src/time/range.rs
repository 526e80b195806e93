//! The arguments for the time range of a report: from, to, the last hours, or a month, in a time zone.

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};
use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::instant as time;
use super::instant::Millis;
use super::zone;

/// The arguments as they are written.
#[derive(clap::Args, Clone, Debug, Default)]
struct Written {
    /// Only usage from this time on. TIME is a time such as 2026-01-31T12:00:00Z, a date, "now", or how long
    /// ago it was, such as -7d (units: m, h, d of 24 hours, w). A time without offset is in the zone of
    /// --time-zone
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Time")]
    from: Option<String>,

    /// Only usage before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Time")]
    to: Option<String>,

    /// Only usage of the time until now, such as 24h or 7d
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["from", "to"], help_heading = "Time")]
    last: Option<String>,

    /// Only usage of this month, such as 2026-01
    #[arg(long, value_name = "YYYY-MM", conflicts_with_all = ["from", "to", "last"], help_heading = "Time")]
    month: Option<String>,

    /// The time zone of hours, days and months, and of times in the output, such as Europe/Berlin
    #[arg(long, value_name = "NAME", default_value = "UTC", help_heading = "Time")]
    time_zone: String,
}

/// The time that is asked for.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// nothing before it counts
    pub from: Option<Millis>,
    /// nothing from then on counts
    pub to: Option<Millis>,
    zone: Option<TimeZone>,
}

impl Range {
    /// Sets the time zone of the run.
    pub fn set_zone(&self) {
        if let Some(zone) = &self.zone {
            zone::set(zone);
        }
    }

    fn new(written: &Written, now: Millis) -> Result<Self, String> {
        let zone = zone::named(&written.time_zone).ok_or_else(|| {
            format!(
                "--time-zone: there is no time zone \"{}\"; names are those of the IANA database, such as \
                 Europe/Berlin or UTC",
                written.time_zone
            )
        })?;
        let (from, to) = match (&written.last, &written.month) {
            (Some(last), _) => {
                let length = duration(last).ok_or_else(|| {
                    format!(
                        "--last: invalid duration \"{last}\"; it must be a number with m, h, d or w, such \
                         as 24h"
                    )
                })?;
                (Some(now - length), Some(now))
            }
            (None, Some(month)) => {
                let (from, to) = month_bounds(month, &zone).ok_or_else(|| {
                    format!(
                        "--month: invalid month \"{month}\"; it must be a year and a month, such as 2026-01"
                    )
                })?;
                (Some(from), Some(to))
            }
            (None, None) => {
                let time = |name: &str, text: &Option<String>| match text {
                    Some(text) => match point(text, &zone, now) {
                        Ok(time) => Ok(Some(time)),
                        Err(error) => Err(format!("{name}: invalid time \"{text}\": {error}")),
                    },
                    None => Ok(None),
                };
                (time("--from", &written.from)?, time("--to", &written.to)?)
            }
        };
        for (name, time) in [("begin", from), ("end", to)] {
            if time.is_some_and(|time| time < 0) {
                return Err(format!("the time range must not {name} before 1970"));
            }
        }
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err("--from must be before --to".to_owned());
        }
        Ok(Self { from, to, zone: Some(zone) })
    }
}

impl FromArgMatches for Range {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let written = Written::from_arg_matches(matches)?;
        Self::new(&written, time::now()).map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Range {
    fn augment_args(command: clap::Command) -> clap::Command {
        Written::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Written::augment_args_for_update(command)
    }
}

/// A number with a unit, in milliseconds: `90m`, `24h`, `7d`, `2w`.
fn duration(text: &str) -> Option<Millis> {
    let unit = text.chars().next_back()?;
    let minutes = match unit {
        'm' => 1,
        'h' => 60,
        'd' => 24 * 60,
        'w' => 7 * 24 * 60,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    let number = digits.parse::<i64>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    number.checked_mul(minutes * 60_000).filter(|length| *length > 0)
}

/// When a month begins and ends.
fn month_bounds(text: &str, zone: &TimeZone) -> Option<(Millis, Millis)> {
    let first = date(&format!("{text}-01"))?;
    let next = first.checked_add(1.month()).ok()?;
    Some((time::beginning(zone, first), time::beginning(zone, next)))
}

/// A date with all of its digits.
fn date(text: &str) -> Option<Date> {
    let is_form = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    text.parse().ok().filter(|_| is_form)
}

/// A point in time, as an argument says it.
fn point(text: &str, zone: &TimeZone, now: Millis) -> Result<Millis, String> {
    const EXPECTED: &str = "expected a time such as 2026-01-31T12:00:00Z or 2026-01-31T12:00, a date such \
                            as 2026-01-31, \"now\", or how long ago it was, such as -7d or -24h";
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = duration(ago).ok_or(EXPECTED)?;
        return now.checked_sub(ago).filter(|time| *time >= 0).ok_or_else(|| "it is before 1970".to_owned());
    }
    if let Some(date) = date(text) {
        let begin = time::beginning(zone, date);
        return if begin < 0 { Err("it is before 1970".to_owned()) } else { Ok(begin) };
    }
    if let Some(time) = time::parse(text) {
        return Ok(time);
    }
    // 2026-01-31T12:00, or with seconds
    let (day, clock) = text.split_once(['T', 't', ' ']).ok_or(EXPECTED)?;
    let is_clock =
        clock.len() >= 5 && clock.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte));
    let seconds = clock.get(6..8).unwrap_or("00");
    let is_before_1970 = text.parse::<Timestamp>().is_ok_and(|time| time.as_millisecond() < 0);
    if is_before_1970 {
        return Err("it is before 1970".to_owned());
    }
    if date(day).is_none() || !is_clock || seconds >= "60" || clock.get(2..3) != Some(":") {
        return Err(EXPECTED.to_owned());
    }
    let local: DateTime = format!("{day}T{clock}").parse().map_err(|_| EXPECTED)?;
    let ambiguous = zone.to_ambiguous_timestamp(local);
    if ambiguous.is_ambiguous() {
        let name = zone.iana_name().unwrap_or("this time zone");
        return Err(format!(
            "this time does not exist or exists twice, because the clock of {name} is set then; write its \
             offset, such as +01:00"
        ));
    }
    let time = ambiguous.compatible().map_err(|_| EXPECTED)?.as_millisecond();
    if time < 0 { Err("it is before 1970".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Written {
        Written { time_zone: "UTC".to_owned(), ..Written::default() }
    }

    fn at(text: &str) -> Millis {
        time::parse(text).unwrap()
    }

    #[test]
    fn a_time_can_be_written_in_several_ways() {
        let now = at("2026-02-01T12:00:00Z");
        let of = |text: &str, zone: &str| point(text, &zone::named(zone).unwrap(), now);
        for (text, utc, berlin) in [
            ("2026-01-31", "2026-01-31T00:00:00Z", "2026-01-30T23:00:00Z"),
            ("2026-01-31T12:00:00", "2026-01-31T12:00:00Z", "2026-01-31T11:00:00Z"),
            ("2026-01-31 12:00", "2026-01-31T12:00:00Z", "2026-01-31T11:00:00Z"),
            ("2026-07-31T12:00:00.250", "2026-07-31T12:00:00.250Z", "2026-07-31T10:00:00.250Z"),
            ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z"),
            ("now", "2026-02-01T12:00:00Z", "2026-02-01T12:00:00Z"),
            ("-90m", "2026-02-01T10:30:00Z", "2026-02-01T10:30:00Z"),
            ("-24h", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("-2w", "2026-01-18T12:00:00Z", "2026-01-18T12:00:00Z"),
        ] {
            assert_eq!(of(text, "UTC"), Ok(at(utc)), "{text}");
            assert_eq!(of(text, "Europe/Berlin"), Ok(at(berlin)), "{text}");
        }
        for wrong in [
            "",
            "-",
            "-7",
            "-7x",
            "--7d",
            "7d",
            "-0d",
            "-99999999999w",
            "yesterday",
            "2026-1-1",
            "2026-02-30",
            "2026-01-31T",
            "2026-01-31T12",
            "2026-01-31T12:60",
            "2026-01-31T23:59:60",
            "2026-01-31T23:59:60Z",
            "2026-01-31T12:00:00+25:00",
            "1969-01-01",
            "1969-01-01T00:00:00Z",
            "20260131",
            "2026-01-31T12:00:00[UTC]",
        ] {
            assert!(of(wrong, "UTC").is_err(), "{wrong}");
        }
        // there is no such time, and there are two
        for wrong in ["2026-03-29T02:30:00", "2026-10-25T02:30:00"] {
            assert!(of(wrong, "Europe/Berlin").unwrap_err().contains("write its offset"), "{wrong}");
        }
    }

    #[test]
    fn a_month_and_the_last_hours_are_ranges() {
        let now = at("2026-02-01T12:00:00Z");
        let of = |written: &Written| {
            Range::new(written, now).map(|range| (range.from.unwrap(), range.to.unwrap()))
        };
        let month = |month: &str, zone: &str| {
            of(&Written { month: Some(month.to_owned()), time_zone: zone.to_owned(), ..written() })
        };
        assert_eq!(month("2026-02", "UTC"), Ok((at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z"))));
        assert_eq!(month("2025-12", "UTC"), Ok((at("2025-12-01T00:00:00Z"), at("2026-01-01T00:00:00Z"))));
        assert_eq!(
            month("2026-03", "Europe/Berlin"),
            Ok((at("2026-02-28T23:00:00Z"), at("2026-03-31T22:00:00Z")))
        );
        for wrong in ["2026", "2026-13", "2026-1", "01-2026", "2026-01-01", "1969-12"] {
            assert!(month(wrong, "UTC").is_err(), "{wrong}");
        }
        let last = |last: &str| of(&Written { last: Some(last.to_owned()), ..written() });
        assert_eq!(last("24h"), Ok((at("2026-01-31T12:00:00Z"), now)));
        for wrong in ["", "24", "-24h", "h", "1.5h", "+1h", "9999999w"] {
            assert!(last(wrong).is_err(), "{wrong}");
        }
        assert!(
            month("2026-01", "Mars/Olympus").unwrap_err().contains("there is no time zone \"Mars/Olympus\"")
        );
    }
}
