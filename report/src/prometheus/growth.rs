//! How much counters have grown by, from one point to the next.

use std::collections::{BTreeSet, HashMap};

use formats::key;

use super::answer::Series;
use super::gaps::Gaps;
use crate::output::printable;
use crate::select::Filter;
use crate::time::{Millis, SLOT_MS};
use crate::traffic::Span;

/// Receives the growth of a counter.
pub type Add<'a> = &'a dyn Fn(usize, &str, &str, (Millis, Millis), u128) -> Option<(Millis, Millis)>;

/// Turns counters into usage.
pub struct Growth<'a> {
    pub filter: &'a Filter,
    pub add: Add<'a>,
    /// the counters by the labels that all metrics of an account have
    pub counters: HashMap<String, InstanceCounters>,
    /// the times at which an instance had a zone, by the labels that all its accounts have
    pub zones: HashMap<String, BTreeSet<Millis>>,
    /// the last values by instance, zone and key, for series whose other labels change
    pub latest: HashMap<String, Seen>,
    pub span: Span,
    pub gaps: Gaps,
}

/// The last time and value of each counter, in whole units.
pub type Seen = Box<[Option<(Millis, u128)>]>;

/// The counters of an account of an instance.
pub struct InstanceCounters {
    instance: String,
    last: Seen,
    /// the first time of each counter
    first: Box<[Option<Millis>]>,
}

impl Growth<'_> {
    /// For each counter, an instance that lacks it although it has the first counter.
    pub fn missing(&self, counters: usize) -> Vec<Option<String>> {
        let is_missing =
            |account: &&InstanceCounters, at: usize| match (account.first.first(), account.first.get(at)) {
                (Some(Some(begin)), Some(first)) => first.is_none_or(|first| first > *begin),
                _ => false,
            };
        let of = |at| {
            let without = self.counters.values().filter(|account| is_missing(account, at));
            without.map(|account| &account.instance).min().cloned()
        };
        (0..counters).map(of).collect()
    }

    /// Drops the times before `begin`, except the last time of each zone.
    pub fn forget(&mut self, begin: Millis) {
        for times in self.zones.values_mut() {
            let last = times.range(..begin).next_back().copied();
            times.retain(|time| Some(*time) == last);
        }
    }

    /// Records the times of zones, or of their accounts.
    pub fn record_times(&mut self, answer: &[Series<'_>]) {
        for series in answer {
            let times = self.zones.entry(series.labels(&["key"])).or_default();
            times.extend(series.numbers().map(|(time, _)| time));
        }
    }

    /// Adds the growth of a counter. Differences are taken between whole units, so the sum is exactly the
    /// counter's growth.
    pub fn add(&mut self, (at, counters): (usize, usize), scale: f64, series: &Series<'_>) {
        let label = |name: &str| series.metric.get(name).map_or("", String::as_str);
        let (zone, key, instance) =
            (printable(label("zone")), key::shown_again(label("key")), series.instance());
        let (zone, key) = (zone.as_ref(), key.as_ref());
        if !self.filter.takes(zone, instance, key) {
            return;
        }
        let times = self.zones.get(&series.labels(&["key"]));
        let account = self.counters.entry(series.labels(&[])).or_insert_with(|| InstanceCounters {
            instance: instance.to_owned(),
            last: vec![None; counters].into(),
            first: vec![None; counters].into(),
        });
        let (Some(last), Some(first)) = (account.last.get_mut(at), account.first.get_mut(at)) else { return };
        let latest = self
            .latest
            .entry([instance, zone, key].join("\0"))
            .or_insert_with(|| vec![None; counters].into());
        let Some(latest) = latest.get_mut(at) else { return };
        for (time, number) in series.numbers() {
            first.get_or_insert(time);
            let number = (number * scale).round() as u128;
            // the last scrape of the zone, with or without the key
            let scraped = times.and_then(|times| times.range(..time).next_back().copied());
            let (since, before) = match (last.replace((time, number)), scraped) {
                (Some((since, earlier)), _) if earlier <= number => (since, earlier),
                // the counter has restarted
                (Some((since, _)), _) => (since, 0),
                // the zone was scraped without the key, so the key started at 0
                (None, Some(scraped)) => (scraped, 0),
                (None, None) => match *latest {
                    // the series continues one with another label
                    Some((since, earlier)) if since <= time => {
                        (since.min(time - SLOT_MS), if earlier <= number { earlier } else { 0 })
                    }
                    // without an earlier scrape, the value may be old
                    _ => continue,
                },
            };
            // the growth is spread over the time without scrapes
            let since = since.max(scraped.unwrap_or(since));
            if time - since > SLOT_MS {
                self.gaps.add(instance, (since, time));
            }
            if let Some((begin, end)) = (self.add)(at, zone, key, (since, time), number - before) {
                self.span.add(begin, end);
            }
        }
        *latest = (*last).max(*latest);
    }
}
