//! Adds up what domains used, in total and by slots and buckets of time.
//!
//! Several threads add at once; domains are spread over shards by a hash, each with a lock of its own.

use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::series::Series;
use super::time::{By, Millis, slot};

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
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Requests, Self::Cpu, Self::Sent, Self::Responses4xx, Self::Responses5xx];
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

    /// Whether there is nothing to count.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; Metric::ALL.len()]
    }

    /// What of it belongs to the time from `begin` to `end`, both counted from the beginning of its interval of `whole`: in
    /// proportion, rounded down to that since the beginning, so that the parts of an interval add up to the whole.
    fn part(&self, begin: i64, end: i64, whole: i64) -> Self {
        if begin == 0 && end == whole {
            return *self;
        }
        let (begin, end, whole) = (begin as u128, end as u128, whole as u128);
        // a line's numbers are below 2^64, its milliseconds below 2^32
        Self(self.0.map(|value| value * end / whole - value * begin / whole))
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
    /// nanoseconds of CPU by slot
    pub slots: Series,
    /// by bucket, where that is asked for
    buckets: Option<Box<[Series; Metric::ALL.len()]>>,
}

impl Domain {
    /// One that has used nothing.
    pub fn new(zone: u32, name: Option<Box<str>>, by: Option<By>) -> Self {
        Self {
            zone,
            name,
            total: Usage::default(),
            slots: Series::default(),
            buckets: by.map(|_| Box::default()),
        }
    }

    /// What was used in a bucket.
    pub fn in_bucket(&self, bucket: u32) -> Usage {
        Usage(
            self.buckets
                .as_ref()
                .map(|buckets| std::array::from_fn(|at| buckets[at].get(bucket)))
                .unwrap_or_default(),
        )
    }

    /// The buckets in which there was something, in order.
    pub fn buckets(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self
            .buckets
            .iter()
            .flat_map(|buckets| buckets.iter())
            .flat_map(Series::iter)
            .map(|(at, _)| at)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Adds another's figures to these.
    pub fn add(&mut self, other: &Self) {
        self.total.add(&other.total);
        for (slot, cpu) in other.slots.iter() {
            self.slots.add(slot, cpu);
        }
        if let (Some(buckets), Some(others)) = (&mut self.buckets, &other.buckets) {
            for (sum, series) in buckets.iter_mut().zip(others.iter()) {
                for (bucket, value) in series.iter() {
                    sum.add(bucket, value);
                }
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

    /// Adds what a domain used from `begin` to `end`, spread evenly over that time. Returns the part of that time that is asked
    /// for; none if there is none.
    pub fn add(
        &self,
        zone: u32,
        name: &str,
        (begin, end): (Millis, Millis),
        usage: &Usage,
    ) -> Option<(Millis, Millis)> {
        let whole = end - begin;
        let first = self.plan.from.map_or(begin, |from| from.max(begin));
        let last = self.plan.to.map_or(end, |to| to.min(end));
        if first >= last {
            return None;
        }
        let hash = self.hasher.hash_one((zone, name));
        // the table in the shard goes by other bits
        let shard = self.shards.get((hash >> 32) as usize % SHARDS)?;
        let mut shard = lock(shard);
        let domain = self.domain(&mut shard, hash, zone, name)?;
        domain.total.add(&usage.part(first - begin, last - begin, whole));
        let mut from = first;
        while from < last {
            let at = slot(from);
            let to = By::FiveMinutes.bounds(at).1.min(last);
            let part = usage.part(from - begin, to - begin, whole);
            domain.slots.add(at, part[Metric::Cpu]);
            if let (Some(buckets), Some(by)) = (&mut domain.buckets, self.plan.by) {
                let bucket = by.bucket(from);
                for metric in Metric::ALL {
                    buckets[metric as usize].add(bucket, part[metric]);
                }
            }
            from = to;
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
            // each shard has one of these for each zone
            if let Some(at) =
                shard.domains.iter().position(|domain| domain.zone == zone && domain.name.is_none())
            {
                return shard.domains.get_mut(at);
            }
            shard.domains.push(Domain::new(zone, None, self.plan.by));
        } else {
            let place = u32::try_from(shard.domains.len()).ok()?;
            let hash_of = |at: &u32| {
                let domain = shard.domains.get(*at as usize);
                domain.map_or(0, |domain| {
                    self.hasher.hash_one((domain.zone, domain.name.as_deref().unwrap_or_default()))
                })
            };
            shard.places.insert_unique(hash, place, hash_of);
            shard.domains.push(Domain::new(zone, Some(name.into()), self.plan.by));
        }
        shard.domains.last_mut()
    }

    /// The zones by name, each with its domains in no order.
    pub fn into_zones(self) -> Vec<(String, Vec<Domain>)> {
        let zones = self.zones.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut zones: Vec<(String, Vec<Domain>)> =
            zones.into_iter().map(|name| (name, Vec::new())).collect();
        for shard in self.shards {
            for domain in shard.into_inner().unwrap_or_else(PoisonError::into_inner).domains {
                let Some((_, domains)) = zones.get_mut(domain.zone as usize) else { continue };
                // at most one of each shard has no name
                let unnamed = match domain.name {
                    Some(_) => None,
                    None => domains.iter_mut().find(|other| other.name.is_none()),
                };
                match unnamed {
                    Some(unnamed) => unnamed.add(&domain),
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
