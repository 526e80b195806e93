//! What domains used, from the counters that a Prometheus has scraped from a fleet.
//!
//! Counters are read as they are, of every instance, at the borders of slots, and what one has grown by from one to the next was
//! used in between. Prometheus' own `increase()` would extrapolate from what is within a slot to the slot, which is right on
//! average, but does not add up to the counters.

use std::collections::HashMap;

use anyhow::bail;

use super::answer::{Series, parse};
use super::client::Prometheus;
use super::gaps::Gaps;
use super::growth::{Add, Growth};
use super::overlap::Overlaps;
use super::promql;
use crate::output::{complain, printable};
use crate::select::{Filter, Names};
use crate::time::{Millis, SLOT_MS};
use crate::traffic::{Duplicates, Span};

/// Prometheus answers with at most 11,000 points of a series.
const MAX_POINTS: i64 = 10_000;

/// Numbers in an answer, which take some 30 bytes each.
const ANSWER_NUMBERS: usize = 500_000;

/// What is asked for: a counter, and what its numbers are to be multiplied with.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// with `{}` for what restricts the series
    pub query: &'static str,
    /// whole units in one of the counter's: 10^9 ns in a second
    pub scale: f64,
}

/// CPU in nanoseconds; every account has it.
pub const CPU: Counter = Counter { query: "nginx_request_cpu_seconds_total{}", scale: 1e9 };

/// Bytes.
pub const SENT: Counter = Counter { query: "nginx_request_cpu_sent_bytes_total{}", scale: 1.0 };

/// All of its classes begin anew at once, so that their sum is a counter too.
pub const REQUESTS: Counter =
    Counter { query: "sum without (class) (nginx_request_cpu_requests_total{})", scale: 1.0 };

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// the time of which something is known
    pub span: Span,
    /// of each counter, an instance where it was missing while the first one was there
    pub missing: Vec<Option<String>>,
    /// series of one instance at the same times
    twice: Option<String>,
    gaps: Gaps,
    /// why something may be missing
    pub doubt: Option<String>,
}

impl Found {
    /// Says of which part of the time nothing is known.
    pub fn report_span(&self, (from, to): (Millis, Millis)) {
        self.span.report(Some(from), Some(to));
        if self.span.time.is_none() {
            complain("Prometheus has no counters of these domains in that time");
        }
    }

    /// Says when instances were not scraped.
    pub fn report_gaps(&self) {
        self.gaps.report();
    }

    /// Says whether counters were added up that may be the same, or that this is an error.
    pub fn report_twice(&self, duplicates: Duplicates) -> anyhow::Result<()> {
        match &self.twice {
            Some(twice) if duplicates == Duplicates::Count => {
                complain(&format!("{twice}. Both are counted (--duplicates count)"));
            }
            Some(twice) => bail!("{twice}, or add both up with --duplicates count"),
            None => {}
        }
        Ok(())
    }
}

/// This is there for a zone without keys too.
const ZONES: &str = "nginx_request_cpu_zone_accounts{}";

impl Prometheus {
    /// Tells `add` what the counters have grown by from `from` to `to`, which are borders of slots: the counter's place, zone, key,
    /// the time and whole units; it returns the part of that time that it took. `done` is told how far it got.
    pub fn read(
        &self,
        counters: &[Counter],
        add: Add<'_>,
        filter: &Filter,
        (from, to): (Millis, Millis),
        done: impl Fn(Millis),
    ) -> anyhow::Result<Found> {
        let mut growth = Growth {
            filter,
            add,
            counters: HashMap::new(),
            zones: HashMap::new(),
            latest: HashMap::new(),
            span: Span::default(),
            gaps: Gaps::default(),
        };
        let restrict = self.restrict(&promql::matchers(filter));
        let (mut overlaps, mut doubt) = (Overlaps::default(), None);
        // the first point is what all others are compared with
        let (mut begin, mut points) = (from, 1);
        while begin <= to {
            let end = to.min(begin + (points - 1) * SLOT_MS);
            let ask = |query: &str| self.query(&query.replacen('}', &format!("{restrict}}}"), 1), begin, end);
            growth.forget(begin);
            growth.see(&parse(&ask(ZONES)?)?.data.result);
            let mut most = 1;
            for (at, counter) in counters.iter().enumerate() {
                let answer = ask(counter.query)?;
                let answer = parse(&answer)?;
                doubt = doubt.or_else(|| answer.doubt());
                let answer = answer.data.result;
                most = most.max(answer.len());
                growth.see(&answer);
                overlaps.see(&answer.iter().filter_map(|series| series.points(filter)).collect::<Vec<_>>());
                // a series that goes on after another one comes behind it
                let mut in_order: Vec<&Series<'_>> = answer.iter().collect();
                in_order.sort_by_cached_key(|series| {
                    let is_new = !growth.counters.contains_key(&series.labels(&[]));
                    (series.numbers().next().map(|(time, _)| time), is_new)
                });
                for series in in_order {
                    growth.add((at, counters.len()), counter.scale, series);
                }
            }
            points = ((ANSWER_NUMBERS / most) as i64).clamp(1, MAX_POINTS);
            begin = end + SLOT_MS;
            done(end);
        }
        Ok(Found {
            missing: growth.missing(counters.len()),
            span: growth.span,
            twice: overlaps.found(),
            gaps: growth.gaps,
            doubt,
        })
    }

    /// Whether there are zones and instances that are asked for. If a pattern has matched nothing, it is said what
    /// there is.
    pub fn check(&self, filter: &Filter, (from, to): (Millis, Millis)) -> anyhow::Result<bool> {
        if !filter.is_unmatched() {
            return Ok(true);
        }
        // a chunk of points at most
        let begin = from.max(to - (MAX_POINTS - 1) * SLOT_MS);
        let answer = self.query(&ZONES.replacen('}', &format!("{}}}", self.restrict("")), 1), begin, to)?;
        let answer = parse(&answer)?.data.result;
        let (mut zones, mut hosts) = (Names::default(), Names::default());
        for series in &answer {
            let (zone, instance) = (printable(series.label("zone")), series.instance());
            zones.see(&zone);
            hosts.see(instance);
            // a zone without keys is there too
            filter.takes_zone(&zone);
            filter.takes_host(instance);
        }
        Ok(filter.check(&zones, &hosts))
    }
}
