//! Adds up what domains used, in total and by slots and buckets of time.
//!
//! Several threads add at once. Domains are spread over shards by a hash, and each shard has a lock.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::domain::Domain;
use crate::time::{self, By, Millis, slot};
use crate::traffic::{Ends, Peak, Usage};

/// The choice of data that is kept.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// earlier usage is left out
    pub from: Option<Millis>,
    /// usage from this time on is left out
    pub to: Option<Millis>,
    /// all metrics are kept by buckets of this length; CPU is kept by slots in any case
    pub by: Option<By>,
    /// the most domains that are told apart; later ones are added to a domain without a name
    pub max_domains: usize,
    /// the highest seconds are kept by buckets too
    pub peaks: bool,
}

/// The domains of all zones.
pub struct Store {
    kept: StoreOptions,
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
    /// by zone, the usage of domains above the limit
    unnamed: Vec<Domain>,
}

const SHARDS: usize = 64;

/// The most zones. A configuration has only a few.
const MAX_ZONES: usize = 1000;

impl Store {
    /// An empty one.
    pub fn new(kept: StoreOptions) -> Self {
        Self {
            kept,
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

    /// Adds the usage of a domain from `begin` to `end`, spread evenly over that time, and its highest
    /// second, which lies within it. Returns the part of the time within the report's range, if there is one.
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

    /// As `add`, but only if `counts` returns true for the ends of the domain's lines so far. A domain above
    /// the limit has no ends.
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
        let (first, last) = time::clip(begin, end, self.kept.from, self.kept.to);
        if first >= last {
            return None;
        }
        let hash = self.hasher.hash_one((zone, name));
        // the table in the shard uses other bits of the hash
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
            domain.add_part(self.kept.by, from, &usage.part(from - begin, to - begin, whole));
            from = to;
        }
        if peak != Peak::default() {
            let by = self.kept.by.filter(|_| self.kept.peaks);
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
        if self.domains.fetch_add(1, Ordering::Relaxed) >= self.kept.max_domains {
            self.domains.fetch_sub(1, Ordering::Relaxed);
            for zone in shard.unnamed.len()..=zone as usize {
                shard.unnamed.push(Domain::new(zone as u32, None, self.kept.by));
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
        shard.domains.push(Domain::new(zone, Some(name.into()), self.kept.by));
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

// a panic ends the program, so no thread sees data that a panic left half changed
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use crate::traffic::Metric;
    use proptest::prelude::*;

    use super::*;

    fn usage_of(values: [u128; 6]) -> Usage {
        Usage::from_fn(|metric| values[metric as usize])
    }

    fn usage() -> impl Strategy<Value = Usage> {
        prop::array::uniform6(prop_oneof![0u64..1000, any::<u64>()])
            .prop_map(|values| usage_of(values.map(u128::from)))
    }

    fn kept() -> impl Strategy<Value = StoreOptions> {
        let by = prop::sample::select(
            &[None, Some(By::FiveMinutes), Some(By::Hour), Some(By::Day), Some(By::Month)][..],
        );
        (by, 1usize..5).prop_map(|(by, max_domains)| StoreOptions {
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
            kept in kept(),
            lines in prop::collection::vec(("[ab]", "[a-e]", 1_769_000_000_000i64..1_771_000_000_000,
                    1i64..10_000_000, usage()), 0..40),
        ) {
            let store = Store::new(kept);
            let mut sum = Usage::default();
            for (zone, name, begin, length, usage) in &lines {
                let zone = store.zone(zone).unwrap();
                let time = (*begin, begin + length);
                prop_assert_eq!(store.add(zone, name, time, usage, Peak::default()), Some(time));
                sum.add(usage);
            }
            let domains: Vec<Domain> = store.into_zones().into_iter().flat_map(|(_, domains)| domains).collect();
            prop_assert!(domains.iter().filter(|domain| domain.name.is_some()).count() <= kept.max_domains);
            let mut total = Usage::default();
            for domain in &domains {
                total.add(&domain.total);
                prop_assert_eq!(domain.slots().map(|(_, cpu)| cpu).sum::<u128>(), domain.total[Metric::Cpu]);
                if let Some(by) = kept.by {
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
                let store = Store::new(StoreOptions { from, to, by: None, max_domains: 1, peaks: true });
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
        let store = Store::new(StoreOptions {
            from: None,
            to: None,
            by: Some(By::Hour),
            max_domains: 300,
            peaks: true,
        });
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
                            &usage_of([1, 2, 3, 4, 5, 6]),
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
        assert_eq!(sum, usage_of([1, 2, 3, 4, 5, 6].map(|n| n * 80_000)));
        assert_eq!(domains.iter().map(|domain| domain.peak).max(), Some(Peak::new(Some(79_999))));
    }

    #[test]
    fn a_second_that_is_not_known_is_none_of_zero() {
        assert_eq!(Peak::default().ns(), None);
        assert_eq!(Peak::new(Some(0)).ns(), Some(0));
        assert!(Peak::new(None) < Peak::new(Some(0)) && Peak::new(Some(0)) < Peak::new(Some(1)));
        assert!(!Peak::default().is_some_cpu() && !Peak::new(Some(0)).is_some_cpu());
        assert!(Peak::new(Some(u64::MAX)) > Peak::new(Some(u64::MAX - 2)));
        // this is why it is one number: it fits beside the other fields
        assert_eq!(size_of::<Domain>(), 192);
    }

    #[test]
    fn a_second_counts_where_it_can_lie_whole() {
        let hour = By::Hour.bounds(100).0;
        let peaks = |from, to, time: (Millis, Millis)| {
            let store =
                Store::new(StoreOptions { from, to, by: Some(By::Hour), max_domains: 1, peaks: true });
            let zone = store.zone("zone").unwrap();
            store.add(zone, "a", time, &usage_of([6_000_000; 6]), Peak::new(Some(7)));
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
        // the same for the requested part
        let line = (hour - 30_000, hour + 30_000);
        assert_eq!(peaks(Some(hour), None, line), (Some(7), None, Some(7)));
        assert_eq!(peaks(Some(hour + 29_001), None, line), (None, None, None));
        assert_eq!(peaks(None, Some(hour - 29_000), line), (Some(7), Some(7), None));
    }

    proptest! {
        #[test]
        fn the_highest_of_the_buckets_is_that_of_the_whole_time(
            kept in kept(),
            lines in prop::collection::vec(("[a-e]", 1_769_000_000_000i64..1_769_010_000_000,
                    1i64..1_000_000, prop::option::of(any::<u64>())), 0..40),
        ) {
            let store = Store::new(kept);
            let zone = store.zone("zone").unwrap();
            for (name, begin, length, peak) in &lines {
                store.add(zone, name, (*begin, begin + length), &Usage::default(), Peak::new(*peak));
            }
            let highest = lines.iter().map(|(_, _, _, peak)| Peak::new(*peak)).max().unwrap_or_default();
            let mut all = Domain::new(0, None, kept.by);
            for domain in store.into_zones().iter().flat_map(|(_, domains)| domains) {
                all.add(domain);
            }
            prop_assert_eq!(all.peak, highest);
            if let Some(by) = kept.by {
                let of_buckets = all.buckets(by).into_iter().map(|bucket| all.peak_in_bucket(bucket)).max();
                prop_assert_eq!(of_buckets.unwrap_or_default(), highest);
            }
        }
    }
}
