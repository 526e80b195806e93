//! Reads the usage of domains from the counters of a fleet in Prometheus.

use std::process::ExitCode;

use formats::prometheus::family;

use super::args::Args;
use super::report;
use super::store::{Store, StoreOptions};
use super::table::TableSort;
use crate::input::{self};
use crate::output::{Wrong, complain};
use crate::prometheus::{self, Counter};
use crate::time::Millis;
use crate::traffic::{Metric, Peak, Usage};

const RESPONSES: Counter = Counter::of(family("requests_total"), 1.0);
const COUNTERS: [(Metric, Counter); 6] = [
    (Metric::Cpu, prometheus::CPU),
    (Metric::Sent, prometheus::SENT),
    (Metric::Requests, prometheus::REQUESTS),
    (Metric::Responses4xx, Counter { condition: "class=\"4xx\",", ..RESPONSES }),
    (Metric::Responses5xx, Counter { condition: "class=\"5xx\",", ..RESPONSES }),
    (
        Metric::Refused,
        Counter {
            condition: "dry_run=\"no\",",
            // so that labels are those of the other counters
            summed: Some("dry_run"),
            ..Counter::of(family("limit_refused_requests_total"), 1.0)
        },
    ),
];

pub fn read(args: &Args, url: &str) -> anyhow::Result<ExitCode> {
    if args.sort == TableSort::PeakSecond {
        let why = "the gauge in Prometheus is the peak since the account began. Use traffic logs";
        return Err(Wrong(format!("--sort peak-second: {why}")).into());
    }
    let (prometheus, (from, to)) = args.scrape.open(url, &args.range, args.duplicates)?;
    let store = Store::new(StoreOptions {
        from: Some(from),
        to: Some(to),
        by: args.by,
        max_domains: args.max_domains,
        peaks: false,
    });
    let progress = input::progress::bar((to - from) as u64 / 1000, &args.input);
    let add = |at: usize, zone: &str, key: &str, time: (Millis, Millis), value: u128| {
        let (metric, _) = COUNTERS.get(at)?;
        let mut usage = Usage::default();
        usage[*metric] = value;
        store.add(store.zone(zone)?, key, time, &usage, Peak::default())
    };
    let counters = COUNTERS.map(|(_, counter)| counter);
    let done = |until| progress.set_position((until - from) as u64 / 1000);
    let found = prometheus.read(&counters, &add, &args.filter, (from, to), done);
    progress.finish_and_clear();
    let found = found?;
    if !prometheus.check(&args.filter, (from, to))? {
        return Ok(ExitCode::from(2));
    }
    found.report_twice(args.duplicates)?;
    found.report_gaps();
    found.doubt.iter().for_each(|doubt| complain(doubt));
    found.report_span((from, to));
    report::write(args, store, (from, to))?;
    Ok(ExitCode::SUCCESS)
}
