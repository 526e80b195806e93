//! How much counters have grown by, from one point to the next.

use std::collections::{BTreeSet, HashMap};

use formats::key;

use super::answer::Series;
use super::gaps::Gaps;
use crate::output::printable;
use crate::select::Filter;
use crate::time::{Millis, SLOT_MS};
use crate::traffic::Span;

/// Takes what a counter has grown by; see [`Prometheus::read`].
pub type Add<'a> = &'a dyn Fn(usize, &str, &str, (Millis, Millis), u128) -> Option<(Millis, Millis)>;

/// From counters to what was used.
pub struct Growth<'a> {
    pub filter: &'a Filter,
    pub add: Add<'a>,
    /// the counters by the labels that all metrics of an account have
    pub counters: HashMap<String, Account>,
    /// when there was a zone of an instance, by the labels that all its accounts have
    pub zones: HashMap<String, BTreeSet<Millis>>,
    /// the counters as they were last, by instance, zone and key: a label may change
    pub latest: HashMap<String, Seen>,
    pub span: Span,
    pub gaps: Gaps,
}

/// When counters were seen last, and as they were then, in whole units.
pub type Seen = Box<[Option<(Millis, u128)>]>;

/// The counters of an account of an instance.
pub struct Account {
    instance: String,
    last: Seen,
    /// when they were seen first
    first: Box<[Option<Millis>]>,
}

impl Growth<'_> {
    /// Of each counter, an instance where it was missing while the first one was there.
    pub fn missing(&self, counters: usize) -> Vec<Option<String>> {
        let is_missing = |account: &&Account, at: usize| match (account.first.first(), account.first.get(at))
        {
            (Some(Some(begin)), Some(first)) => first.is_none_or(|first| first > *begin),
            _ => false,
        };
        let of = |at| {
            let without = self.counters.values().filter(|account| is_missing(account, at));
            without.map(|account| &account.instance).min().cloned()
        };
        (0..counters).map(of).collect()
    }

    /// Of the borders before `begin`, the last one at which there was the zone is still needed.
    pub fn forget(&mut self, begin: Millis) {
        for times in self.zones.values_mut() {
            let last = times.range(..begin).next_back().copied();
            times.retain(|time| Some(*time) == last);
        }
    }

    /// Notes when there were these zones, or accounts of them.
    pub fn see(&mut self, answer: &[Series<'_>]) {
        for series in answer {
            let times = self.zones.entry(series.labels(&["key"])).or_default();
            times.extend(series.numbers().map(|(time, _)| time));
        }
    }

    /// Adds what a counter has grown by. The difference is that of whole units, so that what is added up is exactly what the
    /// counter grew by.
    pub fn add(&mut self, (at, counters): (usize, usize), scale: f64, series: &Series<'_>) {
        let label = |name: &str| series.metric.get(name).map_or("", String::as_str);
        let (zone, key, instance) =
            (printable(label("zone")), key::shown_again(label("key")), series.instance());
        let (zone, key) = (zone.as_ref(), key.as_ref());
        if !self.filter.takes(zone, instance, key) {
            return;
        }
        let times = self.zones.get(&series.labels(&["key"]));
        let account = self.counters.entry(series.labels(&[])).or_insert_with(|| Account {
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
            // the zone was there then, with the key or without
            let scraped = times.and_then(|times| times.range(..time).next_back().copied());
            let (since, before) = match (last.replace((time, number)), scraped) {
                (Some((since, earlier)), _) if earlier <= number => (since, earlier),
                // it began anew
                (Some((since, _)), _) => (since, 0),
                // where there was the zone without the key, the key began at nothing
                (None, Some(scraped)) => (scraped, 0),
                (None, None) => match *latest {
                    // another label has changed
                    Some((since, earlier)) if since <= time => {
                        (since.min(time - SLOT_MS), if earlier <= number { earlier } else { 0 })
                    }
                    // where it was not scraped, it may be from long ago
                    _ => continue,
                },
            };
            // nobody knows when it grew in a time in which it was not scraped
            let since = since.max(scraped.unwrap_or(since));
            if time - since > SLOT_MS {
                self.gaps.note(instance, (since, time));
            }
            if let Some((begin, end)) = (self.add)(at, zone, key, (since, time), number - before) {
                self.span.add(begin, end);
            }
        }
        *latest = (*last).max(*latest);
    }
}
