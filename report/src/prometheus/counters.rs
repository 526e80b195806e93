//! The usage of domains, from the counters that Prometheus has scraped from a fleet.
//!
//! The raw counters of every instance are read at the borders of slots. The growth of a counter from one
//! border to the next is the usage between them. Prometheus' own `increase()` extrapolates to the ends of a
//! slot: that is right on average, but does not add up to the counters.

use std::collections::HashMap;

use anyhow::bail;
use formats::prometheus::{PREFIX, family};

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

/// The most numbers in an answer. Each takes about 30 bytes.
const ANSWER_NUMBERS: usize = 500_000;

/// A counter, and the factor for its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// its family, as [`family`] names it
    pub family: &'static str,
    /// a condition on its labels, with a comma behind it
    pub condition: &'static str,
    /// a label whose values are added up
    pub summed: Option<&'static str>,
    /// the number of whole units in one unit of the counter, such as 10^9 ns in a second
    pub scale: f64,
}

impl Counter {
    /// The counter of a family without labels of its own.
    pub const fn of(family: &'static str, scale: f64) -> Counter {
        Counter { family, condition: "", summed: None, scale }
    }

    /// The query; `restrict` are conditions on labels of all counters.
    fn query(&self, restrict: &str) -> String {
        let Counter { family, condition, summed, .. } = self;
        let series = format!("{PREFIX}{family}{{{condition}{restrict}}}");
        match summed {
            Some(label) => format!("sum without ({label}) ({series})"),
            None => series,
        }
    }
}

/// CPU in nanoseconds; every account has it.
pub const CPU: Counter = Counter::of(family("seconds_total"), 1e9);

/// Bytes.
pub const SENT: Counter = Counter::of(family("sent_bytes_total"), 1.0);

/// All classes restart at the same time, so their sum is a counter too.
pub const REQUESTS: Counter = Counter { summed: Some("class"), ..Counter::of(family("requests_total"), 1.0) };

/// The result of reading counters.
#[derive(Debug, Default)]
pub struct FleetCounters {
    /// the time with data
    pub span: Span,
    /// for each counter, an instance that lacks it although it has the first counter
    pub missing: Vec<Option<String>>,
    /// a message about two series of one instance at the same times
    twice: Option<String>,
    gaps: Gaps,
    /// why something may be missing
    pub doubt: Option<String>,
}

impl FleetCounters {
    /// Warns of parts of the time without data.
    pub fn report_span(&self, (from, to): (Millis, Millis)) {
        self.span.report(Some(from), Some(to));
        if self.span.time.is_none() {
            complain("Prometheus has no counters of these domains in that time");
        }
    }

    /// Writes messages about times in which instances were not scraped.
    pub fn report_gaps(&self) {
        self.gaps.report();
    }

    /// Warns if the same counters may have been added up twice, or makes it an error.
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

/// A metric that every zone has, even a zone without keys.
const ZONES: Counter = Counter::of(family("zone_accounts"), 1.0);

impl Prometheus {
    /// Reads the growth of counters from `from` to `to`, which are borders of slots. Calls `add` with the
    /// place of the counter, zone, key, time and growth in whole units; `add` returns the part of the time
    /// that it took. Calls `done` with the time reached.
    pub fn read(
        &self,
        counters: &[Counter],
        add: Add<'_>,
        filter: &Filter,
        (from, to): (Millis, Millis),
        done: impl Fn(Millis),
    ) -> anyhow::Result<FleetCounters> {
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
        // the first request has one point, the base of the growth
        let (mut begin, mut points) = (from, 1);
        while begin <= to {
            let end = to.min(begin + (points - 1) * SLOT_MS);
            let ask = |counter: &Counter| self.query(&counter.query(&restrict), begin, end);
            growth.forget(begin);
            growth.record_times(&parse(&ask(&ZONES)?)?.data.result);
            let mut most = 1;
            for (at, counter) in counters.iter().enumerate() {
                let answer = ask(counter)?;
                let answer = parse(&answer)?;
                doubt = doubt.or_else(|| answer.doubt());
                let answer = answer.data.result;
                most = most.max(answer.len());
                growth.record_times(&answer);
                overlaps.compare_all(
                    &answer.iter().filter_map(|series| series.points(filter)).collect::<Vec<_>>(),
                );
                // a series that continues another one is sorted after it
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
        Ok(FleetCounters {
            missing: growth.missing(counters.len()),
            span: growth.span,
            twice: overlaps.found(),
            gaps: growth.gaps,
            doubt,
        })
    }

    /// Whether the chosen zones and instances exist. If a pattern has matched nothing, a message lists the
    /// existing ones.
    pub fn check(&self, filter: &Filter, (from, to): (Millis, Millis)) -> anyhow::Result<bool> {
        if !filter.is_unmatched() {
            return Ok(true);
        }
        // the answer has a limited number of points
        let begin = from.max(to - (MAX_POINTS - 1) * SLOT_MS);
        let answer = self.query(&ZONES.query(&self.restrict("")), begin, to)?;
        let answer = parse(&answer)?.data.result;
        let (mut zones, mut hosts) = (Names::default(), Names::default());
        for series in &answer {
            let (zone, instance) = (printable(series.label("zone")), series.instance());
            zones.add(&zone);
            hosts.add(instance);
            // the filter also has to see zones without keys
            filter.takes_zone(&zone);
            filter.takes_host(instance);
        }
        Ok(filter.check(&zones, &hosts))
    }
}
