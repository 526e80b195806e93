//! What a domain used: a number of each metric, and the CPU of its highest second.

use std::ops::{Index, IndexMut};

use formats::line::{Line, member};

/// The numbers that are added up for each domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// requests that ended
    Requests,
    /// nanoseconds of CPU
    Cpu,
    /// bytes that were sent
    Sent,
    /// responses with a status of 4xx
    Responses4xx,
    /// responses with a status of 5xx
    Responses5xx,
    /// requests that limits have refused, without those of `dry_run`
    Refused,
}

impl Metric {
    /// All values.
    pub const ALL: [Self; 6] =
        [Self::Requests, Self::Cpu, Self::Sent, Self::Responses4xx, Self::Responses5xx, Self::Refused];
}

/// A number of each metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage([u128; Metric::ALL.len()]);

impl Index<Metric> for Usage {
    type Output = u128;

    fn index(&self, metric: Metric) -> &u128 {
        &self.0[metric as usize]
    }
}

impl IndexMut<Metric> for Usage {
    fn index_mut(&mut self, metric: Metric) -> &mut u128 {
        &mut self.0[metric as usize]
    }
}

impl Usage {
    /// One number for each metric.
    pub fn from_fn(number: impl FnMut(Metric) -> u128) -> Self {
        Self(Metric::ALL.map(number))
    }

    /// The numbers of a line.
    pub fn of(line: &Line<'_>) -> Self {
        // the reader takes a number that these do not say for 0
        let number = |place| line.number(place).unwrap_or(0);
        Self::from_fn(|metric| {
            u128::from(match metric {
                Metric::Requests => number(const { member("requests") }),
                Metric::Cpu => number(const { member("cpu_ns") }),
                Metric::Sent => number(const { member("sent_bytes") }),
                Metric::Responses4xx => number(const { member("4xx") }),
                Metric::Responses5xx => number(const { member("5xx") }),
                Metric::Refused => number(const { member("refused") }),
            })
        })
    }

    /// Adds.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }

    /// The part for the time from `begin` to `end`, both counted from the begin of an interval of length
    /// `whole`. The part is proportional. The sums from the begin to each border are rounded down, so the
    /// parts of an interval add up to the whole.
    pub fn part(&self, begin: i64, end: i64, whole: i64) -> Self {
        Self(self.0.map(|value| part(value, begin, end, whole)))
    }
}

/// The proportional part of one number; see [`Usage::part`].
pub fn part(value: u128, begin: i64, end: i64, whole: i64) -> u128 {
    if begin == 0 && end == whole {
        return value;
    }
    let (begin, end, whole) = (begin as u128, end as u128, whole as u128);
    // a line's numbers are below 2^64, its milliseconds below 2^39
    value * end / whole - value * begin / whole
}

/// Nanoseconds of CPU in the highest second, if they are known. An unknown peak is lower than any known one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peak(
    /// the nanoseconds plus 1, or 0 if unknown; so it takes one number, and a
    /// [`Series`](super::series::Series) can hold it
    u64,
);

impl Peak {
    /// The highest second of a line.
    pub fn of(line: &Line<'_>) -> Self {
        Self::new(line.number(const { member("peak_cpu_ns") }))
    }

    /// The same as a number that a [`Series`](super::series::Series) holds.
    pub fn number(self) -> u128 {
        self.0.into()
    }

    /// The peak of such a number. No larger numbers were put in.
    pub fn from_number(number: u128) -> Self {
        Self(u64::try_from(number).unwrap_or(u64::MAX))
    }

    /// The peak of so many nanoseconds. `None` is unknown.
    pub fn new(ns: Option<u64>) -> Self {
        Self(ns.map_or(0, |ns| ns.saturating_add(1)))
    }

    /// Nanoseconds.
    pub fn ns(self) -> Option<u64> {
        self.0.checked_sub(1)
    }

    /// Whether there was CPU in it.
    pub fn is_some_cpu(self) -> bool {
        self > Self::new(Some(0))
    }

    /// Whether a peak counts for a part of a line's interval, both in milliseconds. It counts if the part has
    /// room for a whole second, or is at least half of the interval. So small differences between intervals
    /// do not carry a peak over a border.
    pub fn counts_in(part: i64, whole: i64) -> bool {
        part >= 1000 || 2 * part >= whole
    }
}
