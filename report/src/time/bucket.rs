//! How times are cut: into slots of five minutes, and into hours, days and months.
//!
//! Slots are those of UTC. Hours, days and months are those of the run's time zone.

use super::instant::{Millis, beginning, civil, stamp};
use super::zone;
use jiff::ToSpan;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use std::cell::Cell;

/// The slot of peaks and percentiles: five minutes, as is usual for bandwidth (95/5).
pub const SLOT_MS: i64 = 300_000;

const HOUR_MS: i64 = 3_600_000;

/// A day.
pub const DAY_MS: i64 = 86_400_000;

/// The length of the time of a row.
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
    /// The bucket of a time. A slot never lies in two buckets.
    pub fn bucket(self, time: Millis) -> u32 {
        match zone::get().filter(|_| !self.is_slots()) {
            // the number of a bucket is that of its first slot
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

    /// The begin and end of a bucket.
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

    /// The begin and end of the hour, day or month of a time in a zone. The latest one is cached, as most
    /// times fall into it.
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

    /// Days begin at a border of slots: today, all zones are whole quarters of an hour from UTC. For a zone
    /// that was not, the slot in which a day begins is the first slot of that day.
    pub fn find_bounds(self, zone: &TimeZone, time: Millis) -> (Millis, Millis) {
        let slot_begin = time.div_euclid(SLOT_MS) * SLOT_MS;
        let border = |time: Millis| time.div_euclid(SLOT_MS).max(0) * SLOT_MS;
        let (begin, end) = match self {
            Self::FiveMinutes => (slot_begin, slot_begin + SLOT_MS),
            Self::Hour => hour(zone, slot_begin + SLOT_MS - 1),
            Self::Day | Self::Month => {
                let local = stamp(slot_begin + SLOT_MS - 1).to_zoned_datetime(zone.clone()).date();
                let (first, length) = match self {
                    Self::Month => (local.first_of_month(), 1.month()),
                    _ => (local, 1.day()),
                };
                let begin = beginning(zone, first);
                let next = first.checked_add(length).ok().map(|next| beginning(zone, next));
                let mut bounds = (begin, next.unwrap_or(begin));
                // if the clock is set back over midnight, the day begins when its date first appears
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

    /// The name in arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5m",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// The hour of a time on a zone's clock. If the clock is set by a part of an hour, one hour ends and another
/// begins.
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
