//! A domain of a zone, and its usage: in total, by slots, and by the requested buckets.

use crate::time::{By, Millis, slot};
use crate::traffic::{Ends, Metric, Peak, Series, Usage};

/// A domain of a zone, and its usage.
#[derive(Debug)]
pub struct Domain {
    /// the zone's number
    pub zone: u32,
    /// its name; none for the domains above the limit
    pub name: Option<Box<str>>,
    /// in the whole time
    pub total: Usage,
    /// of the whole time, on one server
    pub peak: Peak,
    /// the hosts and times of its lines
    pub ends: Ends,
    /// nanoseconds of CPU by slot
    slots: Series,
    /// usage by bucket if it is requested; without CPU if buckets are slots
    buckets: Option<Box<Buckets>>,
}

#[derive(Debug, Default)]
struct Buckets {
    sums: [Series; Metric::ALL.len()],
    /// the numbers in [`Peak`]
    peaks: Series,
}

impl Domain {
    /// One that has used nothing.
    pub fn new(zone: u32, name: Option<Box<str>>, by: Option<By>) -> Self {
        Self {
            zone,
            name,
            total: Usage::default(),
            peak: Peak::default(),
            ends: Ends::default(),
            slots: Series::default(),
            buckets: by.map(|_| Box::default()),
        }
    }

    /// Nanoseconds of CPU by slot, in order.
    pub fn slots(&self) -> impl Iterator<Item = (u32, u128)> {
        self.slots.iter()
    }

    /// The usage in a bucket.
    pub fn in_bucket(&self, by: By, bucket: u32) -> Usage {
        let Some(buckets) = &self.buckets else { return Usage::default() };
        Usage::from_fn(|metric| self.series(by, buckets, metric).get(bucket))
    }

    /// The highest second of a bucket.
    pub fn peak_in_bucket(&self, bucket: u32) -> Peak {
        let number = self.buckets.as_ref().map_or(0, |buckets| buckets.peaks.get(bucket));
        Peak::from_number(number)
    }

    /// The buckets in which there was something, in order. A second is known when it is over, maybe in a
    /// bucket in which nothing else was.
    pub fn buckets(&self, by: By) -> Vec<u32> {
        let Some(buckets) = &self.buckets else { return Vec::new() };
        let used = |metric| self.series(by, buckets, metric).iter().map(|(at, _)| at);
        let peaks =
            buckets.peaks.iter().map(|(at, _)| at).filter(|at| self.peak_in_bucket(*at).is_some_cpu());
        let mut all: Vec<u32> = Metric::ALL.into_iter().flat_map(used).chain(peaks).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn series<'a>(&'a self, by: By, buckets: &'a Buckets, metric: Metric) -> &'a Series {
        if by.is_slots() && metric == Metric::Cpu { &self.slots } else { &buckets.sums[metric as usize] }
    }

    pub fn add_part(&mut self, by: Option<By>, time: Millis, part: &Usage) {
        self.slots.add(slot(time), part[Metric::Cpu]);
        if let (Some(buckets), Some(by)) = (&mut self.buckets, by) {
            let bucket = by.bucket(time);
            for metric in Metric::ALL {
                if !(by.is_slots() && metric == Metric::Cpu) {
                    buckets.sums[metric as usize].add(bucket, part[metric]);
                }
            }
        }
    }

    /// Adds a second of a line. The part from `begin` to `end` is requested; the line has `whole` milliseconds.
    pub fn add_peak(&mut self, by: Option<By>, (begin, end): (Millis, Millis), whole: i64, peak: Peak) {
        if peak > self.peak && Peak::counts_in(end - begin, whole) {
            self.peak = peak;
        }
        if let (Some(buckets), Some(by)) = (&mut self.buckets, by) {
            let mut from = begin;
            while from < end {
                let bucket = by.bucket(from);
                let to = by.bounds(bucket).1.min(end);
                if Peak::counts_in(to - from, whole) {
                    buckets.peaks.raise(bucket, peak.number());
                }
                from = to;
            }
        }
    }

    /// Whether there was anything.
    pub fn is_used(&self) -> bool {
        self.total != Usage::default() || self.peak.is_some_cpu()
    }

    /// Adds another's figures to these.
    pub fn add(&mut self, other: &Self) {
        self.total.add(&other.total);
        self.peak = self.peak.max(other.peak);
        for (slot, cpu) in other.slots.iter() {
            self.slots.add(slot, cpu);
        }
        if let (Some(buckets), Some(others)) = (&mut self.buckets, &other.buckets) {
            for (sum, series) in buckets.sums.iter_mut().zip(&others.sums) {
                for (bucket, value) in series.iter() {
                    sum.add(bucket, value);
                }
            }
            for (bucket, value) in others.peaks.iter() {
                buckets.peaks.raise(bucket, value);
            }
        }
    }
}
