//! Times without lines of a server, although the server, or another one, has lines before or after.

use std::collections::HashMap;

use super::ends::Pages;
use super::hosts::Seen;
use crate::output::{complain, counted, grouped};
use crate::time::{self, By, Millis, SLOT_MS};

/// The most servers that messages name.
const NAMED: usize = 5;

const HINT: &str = "a server without requests writes no lines; otherwise lines are missing";

/// The gaps of a server.
#[derive(Debug, PartialEq, Eq)]
struct OfHost {
    name: Box<str>,
    number: u64,
    longest: (Millis, Millis),
}

/// The gaps of all chosen servers. The server with the longest gap comes first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<OfHost>);

impl Gaps {
    /// Finds the gaps within a time range. A gap is at least one slot long, and longer than two intervals of
    /// the server.
    pub fn find(threads: Vec<Seen>, range: Option<(Millis, Millis)>) -> Self {
        let Some(range) = range.filter(|(begin, end)| begin < end) else { return Self::default() };
        let mut hosts: HashMap<Box<str>, (Pages, i64)> = HashMap::new();
        for thread in threads {
            for (name, place) in thread.places {
                let Some(host) = thread.hosts.get(place).filter(|host| host.is_taken) else { continue };
                let (covered, longest_ms) = hosts.entry(name).or_default();
                covered.add(&host.covered);
                *longest_ms = host.longest_ms.max(*longest_ms);
            }
        }
        let of_host = |(name, (covered, longest_ms)): (Box<str>, (Pages, i64))| {
            let gaps = gaps(&covered, range, longest_ms);
            let longest = gaps.iter().copied().rev().max_by_key(|(begin, end)| end - begin)?;
            Some(OfHost { name, number: gaps.len() as u64, longest })
        };
        let mut found: Vec<OfHost> = hosts.into_iter().filter_map(of_host).collect();
        let length = |host: &OfHost| host.longest.1 - host.longest.0;
        found.sort_unstable_by(|a, b| length(b).cmp(&length(a)).then_with(|| a.name.cmp(&b.name)));
        Self(found)
    }

    /// Writes a message for each server.
    pub fn report(&self) {
        for host in self.0.iter().take(NAMED) {
            complain(&format!("no lines of {}; {HINT}", host.shown()));
        }
        let more = self.0.len().saturating_sub(NAMED) as u64;
        if more > 0 {
            complain(&format!("and {} have times without lines", counted(more, "more host", "more hosts")));
        }
    }

    /// Writes one message for all servers.
    pub fn report_in_one(&self) {
        let Some(first) = self.0.first() else { return };
        let others = match self.0.len() as u64 - 1 {
            0 => String::new(),
            n => format!(", and {} have such times", counted(n, "more host", "more hosts")),
        };
        complain(&format!("no lines of {}{others}; {HINT}", first.shown()));
    }
}

impl OfHost {
    fn shown(&self) -> String {
        let (begin, end) = self.longest;
        let span = format!("{} to {}", time::format(begin), time::format(end));
        let name = if self.name.is_empty() { "a host without a name" } else { &*self.name };
        match self.number {
            1 => format!("{name} from {span}"),
            n => format!("{name} in {} gaps, the longest from {span}", grouped(n)),
        }
    }
}

/// The runs of slots without lines, within the time.
fn gaps(covered: &Pages, (from, to): (Millis, Millis), longest_ms: i64) -> Vec<(Millis, Millis)> {
    let mut gaps = Vec::new();
    let mut begin = from;
    let mut note = |begin: Millis, end: Millis| {
        if end - begin >= SLOT_MS && end - begin > 2 * longest_ms {
            gaps.push((begin, end));
        }
    };
    for slot in covered.iter() {
        let (first, next) = By::FiveMinutes.bounds(u32::try_from(slot).unwrap_or(u32::MAX));
        note(begin, first.min(to));
        begin = begin.max(next);
    }
    note(begin, to);
    gaps
}

#[cfg(test)]
mod tests {
    use super::super::hosts::Hosts;
    use super::*;

    const MINUTE: i64 = 60_000;

    /// Lines of minutes, each of an interval that ends at the minute.
    fn found(hosts: &[(&str, &[i64], i64)], range: (i64, i64)) -> Vec<(String, u64, (i64, i64))> {
        let all = Hosts::default();
        let mut threads = [Seen::default(), Seen::default()];
        for (at, (name, ends, interval)) in hosts.iter().enumerate() {
            for (line, end) in ends.iter().enumerate() {
                let interval = interval * MINUTE;
                threads[(at + line) % 2]
                    .get(name, &all, || *name != "other")
                    .cover((end * MINUTE - interval, end * MINUTE), interval);
            }
        }
        let gaps = Gaps::find(threads.into(), Some((range.0 * MINUTE, range.1 * MINUTE)));
        let minutes = |(begin, end): (Millis, Millis)| (begin / MINUTE, end / MINUTE);
        gaps.0.iter().map(|host| (host.name.to_string(), host.number, minutes(host.longest))).collect()
    }

    #[test]
    fn a_gap_is_longer_than_two_intervals_and_no_shorter_than_a_slot() {
        let all: Vec<i64> = (1..=60).collect();
        assert_eq!(found(&[("a", &all, 1)], (0, 60)), []);
        let without =
            |from: i64, to: i64| -> Vec<i64> { (1..=60).filter(|end| *end <= from || *end > to).collect() };
        assert_eq!(found(&[("a", &without(12, 16), 1)], (0, 60)), []);
        assert_eq!(found(&[("a", &without(12, 23), 1)], (0, 60)), [("a".to_owned(), 1, (15, 20))]);
        assert_eq!(found(&[("a", &[5, 15, 30, 60], 5)], (0, 60)), [("a".to_owned(), 1, (30, 55))]);
        assert_eq!(found(&[("a", &[5, 15, 30, 60], 15)], (0, 60)), []);
    }

    #[test]
    fn a_server_may_begin_later_or_end_earlier_than_others() {
        let (early, late): (Vec<i64>, Vec<i64>) = ((1..=30).collect(), (21..=60).collect());
        assert_eq!(
            found(&[("late", &late, 1), ("early", &early, 1), ("other", &[7], 1)], (0, 60)),
            [("early".to_owned(), 1, (30, 60)), ("late".to_owned(), 1, (0, 20))]
        );
    }

    #[test]
    fn the_longest_of_several_gaps_is_reported() {
        assert_eq!(found(&[("a", &[1, 20, 90, 91], 1)], (0, 95)), [("a".to_owned(), 2, (20, 85))]);
    }
}
