//! Series of one account that have points at the same times: the same server, scraped twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::time::Millis;

/// The number of common times that prove two targets exist at once. If one target replaces the other, they
/// can have one common time by chance, since Prometheus holds the last point for five minutes.
const TIMES: usize = 2;

type Labels = BTreeMap<String, String>;

/// The pairs of targets seen so far.
#[derive(Debug, Default)]
pub struct Overlaps {
    /// by the labels of both targets, times at which both had a point of the same key
    pairs: HashMap<(Labels, Labels), BTreeSet<Millis>>,
    /// all of them, with their servers
    targets: BTreeSet<(String, Labels)>,
}

/// A series of an answer.
#[derive(Debug)]
pub struct Points<'a> {
    pub labels: &'a Labels,
    pub instance: &'a str,
    pub zone: String,
    pub key: String,
    pub times: Vec<Millis>,
}

impl Overlaps {
    /// Compares all series of one counter in one answer.
    pub fn compare_all(&mut self, series: &[Points<'_>]) {
        let mut accounts: HashMap<(&str, &str, &str), Vec<&Points<'_>>> = HashMap::new();
        for points in series {
            self.targets.insert((points.instance.to_owned(), target(points.labels)));
            accounts.entry((points.instance, &points.zone, &points.key)).or_default().push(points);
        }
        for points in accounts.into_values().filter(|points| points.len() > 1) {
            for (at, a) in points.iter().enumerate() {
                for b in points.iter().skip(at + 1) {
                    self.compare(a, b);
                }
            }
        }
    }

    fn compare(&mut self, a: &Points<'_>, b: &Points<'_>) {
        let times: BTreeSet<Millis> = a.times.iter().copied().collect();
        let mut common = b.times.iter().filter(|time| times.contains(time)).take(TIMES).peekable();
        if common.peek().is_none() {
            return;
        }
        let (a, b) = (target(a.labels), target(b.labels));
        let pair = if a <= b { (a, b) } else { (b, a) };
        let known = self.pairs.entry(pair).or_default();
        for time in common {
            if known.len() < TIMES {
                known.insert(*time);
            }
        }
    }

    /// Whether each server has a series with this label.
    fn is_everywhere(&self, name: &str, value: &str) -> bool {
        let has = |labels: &Labels| labels.get(name).map_or("", String::as_str) == value;
        let with: BTreeSet<&String> =
            self.targets.iter().filter(|(_, labels)| has(labels)).map(|(instance, _)| instance).collect();
        self.targets.iter().all(|(instance, _)| with.contains(instance))
    }

    /// A message about two series of one instance, with the option that chooses one of them. None if there
    /// are none.
    pub fn found(&self) -> Option<String> {
        let twice = self.pairs.iter().filter(|(_, times)| times.len() >= TIMES).map(|(pair, _)| pair);
        let (a, b) = twice.min()?;
        let value = |labels: &Labels, name: &str| labels.get(name).cloned().unwrap_or_default();
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let differ: Vec<&String> = names.into_iter().filter(|name| a.get(*name) != b.get(*name)).collect();
        let shown = |labels: &Labels| {
            let all = differ.iter().map(|name| format!("{name}=\"{}\"", value(labels, name)));
            all.collect::<Vec<_>>().join(",")
        };
        let choices = differ.iter().flat_map(|name| [(*name, value(b, name)), (*name, value(a, name))]);
        let choice = match choices.filter(|(name, value)| self.is_everywhere(name, value)).max_by_key(is_good)
        {
            Some((name, value)) => format!("such as with --match '{name}={value}'"),
            // one of the labels would leave out other servers
            None => "with --match".to_owned(),
        };
        let instance = match value(a, "exported_instance") {
            own if own.is_empty() => value(a, "instance"),
            exported => exported,
        };
        Some(format!(
            "instance {instance} has two series of each key of the zone \"{}\" at the same time: {{{}}} and \
             {{{}}}; choose one, {choice}",
            value(a, "zone"),
            shown(a),
            shown(b)
        ))
    }
}

/// The better label is present on both sides and does not belong to one server only.
fn is_good((name, value): &(&String, String)) -> (bool, bool) {
    (!["instance", "exported_instance"].contains(&name.as_str()), !value.is_empty())
}

/// The labels that all series of a target and zone have.
fn target(labels: &Labels) -> Labels {
    let is_of_target = |name: &str| !["__name__", "class", "key"].contains(&name);
    labels
        .iter()
        .filter(|(name, _)| is_of_target(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(job: &str) -> Labels {
        [("instance", "e1"), ("job", job), ("zone", "z"), ("key", "a")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn found(series: &[(&Labels, &str, &[Millis])]) -> Option<String> {
        let mut overlaps = Overlaps::default();
        let points = |(labels, key, times): &(&'static Labels, &str, &[Millis])| Points {
            labels,
            instance: "e1",
            zone: "z".to_owned(),
            key: (*key).to_owned(),
            times: times.to_vec(),
        };
        let leaked: Vec<(&'static Labels, &str, &[Millis])> = series
            .iter()
            .map(|(labels, key, times)| (&*Box::leak(Box::new((*labels).clone())), *key, *times))
            .collect();
        overlaps.compare_all(&leaked.iter().map(points).collect::<Vec<_>>());
        overlaps.found()
    }

    #[test]
    fn two_series_at_the_same_times_are_reported_and_consecutive_ones_are_not() {
        let (a, b) = (labels("low"), labels("full"));
        let told = found(&[(&a, "a", &[0, 300, 600]), (&b, "a", &[300, 600])]).unwrap();
        assert!(
            told.contains("{job=\"full\"} and {job=\"low\"}") && told.contains("--match 'job=full'"),
            "{told}"
        );
        assert_eq!(found(&[(&a, "a", &[0, 300, 600]), (&b, "a", &[600, 900])]), None);
        assert_eq!(found(&[(&a, "a", &[0, 300, 600]), (&b, "b", &[0, 300, 600])]), None);
    }
}
