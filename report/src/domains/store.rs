//! Adds up what domains used, in total and by slots and buckets of time.
//!
//! Several threads add at once; domains are spread over shards by a hash, each with a lock of its own.

use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::series::Series;
use super::time::{self, By, Millis, slot};
use crate::twice::Ends;

/// What is added up.
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
    /// All of them.
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
    /// Adds.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }

    /// What of it belongs to the time from `begin` to `end`, both counted from the beginning of its interval of `whole`: in
    /// proportion, rounded down to that since the beginning, so that the parts of an interval add up to the whole.
    fn part(&self, begin: i64, end: i64, whole: i64) -> Self {
        Self(self.0.map(|value| part(value, begin, end, whole)))
    }
}

/// What of a number belongs to a part of the time that it is of; see [`Usage::part`].
pub fn part(value: u128, begin: i64, end: i64, whole: i64) -> u128 {
    if begin == 0 && end == whole {
        return value;
    }
    let (begin, end, whole) = (begin as u128, end as u128, whole as u128);
    // a line's numbers are below 2^64, its milliseconds below 2^39
    value * end / whole - value * begin / whole
}

/// Nanoseconds of CPU in the highest second, where that is known. Of two, the larger one is the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peak(
    /// one more, 0 where it is not known: so it takes no more than a number, and a [`Series`] can hold it
    u64,
);

impl Peak {
    /// Of a line; none where it does not say it.
    pub fn new(ns: Option<u64>) -> Self {
        Self(ns.map_or(0, |ns| ns.saturating_add(1)))
    }

    /// Nanoseconds.
    pub fn ns(self) -> Option<u64> {
        self.0.checked_sub(1)
    }

    /// Whether there was CPU in it.
    fn is_some_cpu(self) -> bool {
        self > Self::new(Some(0))
    }

    /// Whether it counts for a part of a line's interval, both in milliseconds: it does where a second can lie in that part
    /// whole, and in no case nowhere. So the milliseconds by which intervals differ do not take it over a border.
    fn counts_in(part: i64, whole: i64) -> bool {
        part >= 1000 || 2 * part >= whole
    }
}

/// What is to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// what was used before is left out
    pub from: Option<Millis>,
    /// what was used from then on is left out
    pub to: Option<Millis>,
    /// all metrics are kept by buckets of this length; CPU is kept by slots in any case
    pub by: Option<By>,
    /// so many domains are told apart; those that come later are added to one that has no name
    pub max_domains: usize,
    /// the highest seconds are kept by buckets too
    pub peaks: bool,
}

/// A domain of a zone, and what it used.
#[derive(Debug)]
pub struct Domain {
    /// the zone's number
    pub zone: u32,
    /// its name; none for what came when there were too many
    pub name: Option<Box<str>>,
    /// in the whole time
    pub total: Usage,
    /// of the whole time, on one server
    pub peak: Peak,
    /// the hosts and times of its lines
    ends: Ends,
    /// nanoseconds of CPU by slot
    slots: Series,
    /// by bucket, where that is asked for; without CPU, where buckets are slots
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

    /// What was used in a bucket.
    pub fn in_bucket(&self, by: By, bucket: u32) -> Usage {
        let Some(buckets) = &self.buckets else { return Usage::default() };
        Usage(Metric::ALL.map(|metric| self.series(by, buckets, metric).get(bucket)))
    }

    /// The highest second of a bucket.
    pub fn peak_in_bucket(&self, bucket: u32) -> Peak {
        let number = self.buckets.as_ref().map_or(0, |buckets| buckets.peaks.get(bucket));
        // no more was put in
        Peak(u64::try_from(number).unwrap_or(u64::MAX))
    }

    /// The buckets in which there was something, in order. A second is known when it is over, maybe in a bucket in which nothing
    /// else was.
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

    fn add_part(&mut self, by: Option<By>, time: Millis, part: &Usage) {
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

    /// A second of a line, of which the part from `begin` to `end` is asked for, of `whole` milliseconds.
    fn add_peak(&mut self, by: Option<By>, (begin, end): (Millis, Millis), whole: i64, peak: Peak) {
        if peak > self.peak && Peak::counts_in(end - begin, whole) {
            self.peak = peak;
        }
        if let (Some(buckets), Some(by)) = (&mut self.buckets, by) {
            let mut from = begin;
            while from < end {
                let bucket = by.bucket(from);
                let to = by.bounds(bucket).1.min(end);
                if Peak::counts_in(to - from, whole) {
                    buckets.peaks.raise(bucket, peak.0.into());
                }
                from = to;
            }
        }
    }

    /// Whether there was anything.
    fn is_used(&self) -> bool {
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

/// The domains of all zones.
pub struct Store {
    plan: Plan,
    hasher: DefaultHashBuilder,
    shards: Vec<Mutex<Shard>>,
    domains: AtomicUsize,
    zones: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Shard {
    /// places in `domains`
    places: HashTable<u32>,
    domains: Vec<Domain>,
    /// by zone, what came when there were too many
    unnamed: Vec<Domain>,
}

const SHARDS: usize = 64;

/// A configuration has a few zones. More than these are no traffic log's.
const MAX_ZONES: usize = 1000;

impl Store {
    /// An empty one.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            hasher: DefaultHashBuilder::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            domains: AtomicUsize::new(0),
            zones: Mutex::default(),
        }
    }

    /// The number of a zone; none if there are too many.
    pub fn zone(&self, name: &str) -> Option<u32> {
        let mut zones = lock(&self.zones);
        let place = match zones.iter().position(|zone| zone == name) {
            Some(place) => place,
            None if zones.len() == MAX_ZONES => return None,
            None => {
                zones.push(name.to_owned());
                zones.len() - 1
            }
        };
        u32::try_from(place).ok()
    }

    /// Adds what a domain used from `begin` to `end`, spread evenly over that time, and its highest second, which is somewhere in
    /// it. Returns the part of that time that is asked for; none if there is none.
    pub fn add(
        &self,
        zone: u32,
        name: &str,
        (begin, end): (Millis, Millis),
        usage: &Usage,
        peak: Peak,
    ) -> Option<(Millis, Millis)> {
        self.add_if(zone, name, (begin, end), usage, peak, |_| true)
    }

    /// The same, if `counts` says so of the ends of the domain's lines so far; of a domain that is not told apart
    /// there are none.
    pub fn add_if(
        &self,
        zone: u32,
        name: &str,
        (begin, end): (Millis, Millis),
        usage: &Usage,
        peak: Peak,
        counts: impl FnOnce(Option<&mut Ends>) -> bool,
    ) -> Option<(Millis, Millis)> {
        let whole = end - begin;
        let (first, last) = time::clip(begin, end, self.plan.from, self.plan.to);
        if first >= last {
            return None;
        }
        let hash = self.hasher.hash_one((zone, name));
        // the table in the shard goes by other bits
        let shard = self.shards.get((hash >> 32) as usize % SHARDS)?;
        let mut shard = lock(shard);
        let domain = self.domain(&mut shard, hash, zone, name)?;
        if !counts(domain.name.is_some().then_some(&mut domain.ends)) {
            return None;
        }
        domain.total.add(&usage.part(first - begin, last - begin, whole));
        let mut from = first;
        while from < last {
            let to = By::FiveMinutes.bounds(slot(from)).1.min(last);
            domain.add_part(self.plan.by, from, &usage.part(from - begin, to - begin, whole));
            from = to;
        }
        if peak != Peak::default() {
            let by = self.plan.by.filter(|_| self.plan.peaks);
            domain.add_peak(by, (first, last), whole, peak);
        }
        Some((first, last))
    }

    fn domain<'a>(&self, shard: &'a mut Shard, hash: u64, zone: u32, name: &str) -> Option<&'a mut Domain> {
        let is_it = |at: &u32| {
            shard
                .domains
                .get(*at as usize)
                .is_some_and(|domain| domain.zone == zone && domain.name.as_deref() == Some(name))
        };
        if let Some(at) = shard.places.find(hash, is_it) {
            return shard.domains.get_mut(*at as usize);
        }
        if self.domains.fetch_add(1, Ordering::Relaxed) >= self.plan.max_domains {
            self.domains.fetch_sub(1, Ordering::Relaxed);
            for zone in shard.unnamed.len()..=zone as usize {
                shard.unnamed.push(Domain::new(zone as u32, None, self.plan.by));
            }
            return shard.unnamed.get_mut(zone as usize);
        }
        let place = u32::try_from(shard.domains.len()).ok()?;
        let hash_of = |at: &u32| {
            let domain = shard.domains.get(*at as usize);
            domain.map_or(0, |domain| {
                self.hasher.hash_one((domain.zone, domain.name.as_deref().unwrap_or_default()))
            })
        };
        shard.places.insert_unique(hash, place, hash_of);
        shard.domains.push(Domain::new(zone, Some(name.into()), self.plan.by));
        shard.domains.last_mut()
    }

    /// The zones by name, each with its domains in no order.
    pub fn into_zones(self) -> Vec<(String, Vec<Domain>)> {
        let zones = self.zones.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut zones: Vec<(String, Vec<Domain>)> =
            zones.into_iter().map(|name| (name, Vec::new())).collect();
        for shard in self.shards {
            let Shard { domains, unnamed, .. } = shard.into_inner().unwrap_or_else(PoisonError::into_inner);
            for domain in domains {
                if let Some((_, domains)) = zones.get_mut(domain.zone as usize) {
                    domains.push(domain);
                }
            }
            for domain in unnamed.into_iter().filter(Domain::is_used) {
                let Some((_, domains)) = zones.get_mut(domain.zone as usize) else { continue };
                match domains.iter_mut().find(|other| other.name.is_none()) {
                    Some(sum) => sum.add(&domain),
                    None => domains.push(domain),
                }
            }
        }
        zones.retain(|(_, domains)| !domains.is_empty());
        zones.sort_by(|(a, _), (b, _)| a.cmp(b));
        zones
    }
}

// nothing that is locked is left half done by a panic, which ends the program anyway
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usage() -> impl Strategy<Value = Usage> {
        prop::array::uniform6(prop_oneof![0u64..1000, any::<u64>()])
            .prop_map(|values| Usage(values.map(u128::from)))
    }

    fn plan() -> impl Strategy<Value = Plan> {
        let by = prop::sample::select(
            &[None, Some(By::FiveMinutes), Some(By::Hour), Some(By::Day), Some(By::Month)][..],
        );
        (by, 1usize..5).prop_map(|(by, max_domains)| Plan {
            from: None,
            to: None,
            by,
            max_domains,
            peaks: true,
        })
    }

    proptest! {
        #[test]
        fn slots_and_buckets_add_up_to_the_lines(
            plan in plan(),
            lines in prop::collection::vec(("[ab]", "[a-e]", 1_769_000_000_000i64..1_771_000_000_000, 1i64..10_000_000, usage()), 0..40),
        ) {
            let store = Store::new(plan);
            let mut sum = Usage::default();
            for (zone, name, begin, length, usage) in &lines {
                let zone = store.zone(zone).unwrap();
                let time = (*begin, begin + length);
                prop_assert_eq!(store.add(zone, name, time, usage, Peak::default()), Some(time));
                sum.add(usage);
            }
            let domains: Vec<Domain> = store.into_zones().into_iter().flat_map(|(_, domains)| domains).collect();
            prop_assert!(domains.iter().filter(|domain| domain.name.is_some()).count() <= plan.max_domains);
            let mut total = Usage::default();
            for domain in &domains {
                total.add(&domain.total);
                prop_assert_eq!(domain.slots().map(|(_, cpu)| cpu).sum::<u128>(), domain.total[Metric::Cpu]);
                if let Some(by) = plan.by {
                    let mut in_buckets = Usage::default();
                    for bucket in domain.buckets(by) {
                        in_buckets.add(&domain.in_bucket(by, bucket));
                    }
                    prop_assert_eq!(in_buckets, domain.total);
                }
            }
            prop_assert_eq!(total, sum);
        }

        #[test]
        fn what_is_before_and_after_a_time_adds_up_to_the_whole(
            begin in 0i64..10_000_000, length in 1i64..10_000_000, border in 0i64..20_000_000, usage in usage(),
        ) {
            let mut sum = Usage::default();
            for (from, to) in [(None, Some(border)), (Some(border), None)] {
                let store = Store::new(Plan { from, to, by: None, max_domains: 1, peaks: true });
                let zone = store.zone("zone").unwrap();
                store.add(zone, "a", (begin, begin + length), &usage, Peak::default());
                for (_, domains) in store.into_zones() {
                    domains.iter().for_each(|domain| sum.add(&domain.total));
                }
            }
            prop_assert_eq!(sum, usage);
        }
    }

    #[test]
    fn threads_lose_nothing() {
        let store =
            Store::new(Plan { from: None, to: None, by: Some(By::Hour), max_domains: 300, peaks: true });
        let zone = store.zone("zone").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..20_000i64 {
                        let begin = n * 1000 + thread;
                        store.add(
                            zone,
                            &format!("{}", n % 500),
                            (begin, begin + 1000),
                            &Usage([1, 2, 3, 4, 5, 6]),
                            Peak::new(Some((n * 4 + thread) as u64)),
                        );
                    }
                });
            }
        });
        let zones = store.into_zones();
        let domains = &zones[0].1;
        assert_eq!(domains.len(), 301);
        let mut sum = Usage::default();
        domains.iter().for_each(|domain| sum.add(&domain.total));
        assert_eq!(sum, Usage([1, 2, 3, 4, 5, 6].map(|n| n * 80_000)));
        assert_eq!(domains.iter().map(|domain| domain.peak).max(), Some(Peak::new(Some(79_999))));
    }

    #[test]
    fn a_second_that_is_not_known_is_none_of_zero() {
        assert_eq!(Peak::default().ns(), None);
        assert_eq!(Peak::new(Some(0)).ns(), Some(0));
        assert!(Peak::new(None) < Peak::new(Some(0)) && Peak::new(Some(0)) < Peak::new(Some(1)));
        assert!(!Peak::default().is_some_cpu() && !Peak::new(Some(0)).is_some_cpu());
        assert!(Peak::new(Some(u64::MAX)) > Peak::new(Some(u64::MAX - 2)));
        // it is for this that it is one number: there is room for it beside the others
        assert_eq!(size_of::<Domain>(), 192);
    }

    #[test]
    fn a_second_counts_where_it_can_lie_whole() {
        let hour = By::Hour.bounds(100).0;
        let peaks = |from, to, time: (Millis, Millis)| {
            let store = Store::new(Plan { from, to, by: Some(By::Hour), max_domains: 1, peaks: true });
            let zone = store.zone("zone").unwrap();
            store.add(zone, "a", time, &Usage([6_000_000; 6]), Peak::new(Some(7)));
            let domain = store.into_zones().remove(0).1.remove(0);
            (domain.peak.ns(), domain.peak_in_bucket(99).ns(), domain.peak_in_bucket(100).ns())
        };
        // a part of a second on one side, or more
        assert_eq!(peaks(None, None, (hour - 1, hour + 60_000)), (Some(7), None, Some(7)));
        assert_eq!(peaks(None, None, (hour - 999, hour + 60_000)), (Some(7), None, Some(7)));
        assert_eq!(peaks(None, None, (hour - 1000, hour + 60_000)), (Some(7), Some(7), Some(7)));
        assert_eq!(peaks(None, None, (hour - 60_000, hour + 999)), (Some(7), Some(7), None));
        // of a line of a second, the larger part
        assert_eq!(peaks(None, None, (hour - 400, hour + 600)), (Some(7), None, Some(7)));
        assert_eq!(peaks(None, None, (hour - 500, hour + 500)), (Some(7), Some(7), Some(7)));
        // the same of what is asked for
        let line = (hour - 30_000, hour + 30_000);
        assert_eq!(peaks(Some(hour), None, line), (Some(7), None, Some(7)));
        assert_eq!(peaks(Some(hour + 29_001), None, line), (None, None, None));
        assert_eq!(peaks(None, Some(hour - 29_000), line), (Some(7), Some(7), None));
    }

    proptest! {
        #[test]
        fn the_highest_of_the_buckets_is_that_of_the_whole_time(
            plan in plan(),
            lines in prop::collection::vec(("[a-e]", 1_769_000_000_000i64..1_769_010_000_000, 1i64..1_000_000, prop::option::of(any::<u64>())), 0..40),
        ) {
            let store = Store::new(plan);
            let zone = store.zone("zone").unwrap();
            for (name, begin, length, peak) in &lines {
                store.add(zone, name, (*begin, begin + length), &Usage::default(), Peak::new(*peak));
            }
            let highest = lines.iter().map(|(_, _, _, peak)| Peak::new(*peak)).max().unwrap_or_default();
            let mut all = Domain::new(0, None, plan.by);
            for domain in store.into_zones().iter().flat_map(|(_, domains)| domains) {
                all.add(domain);
            }
            prop_assert_eq!(all.peak, highest);
            if let Some(by) = plan.by {
                let of_buckets = all.buckets(by).into_iter().map(|bucket| all.peak_in_bucket(bucket)).max();
                prop_assert_eq!(of_buckets.unwrap_or_default(), highest);
            }
        }
    }
}
