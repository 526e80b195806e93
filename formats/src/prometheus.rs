//! The status in Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
//!
//! The table of counters declares the families of accounts, see [`FAMILIES_IN_ORDER`]. The families of the server, of
//! workers and of zones are declared here.

mod account;
mod text;

use std::borrow::Cow;

use crate::counter::Family;
use crate::counters::{FAMILY_TABLE, is_equal};
use crate::status::{Server, Worker, Zone};

pub use crate::counters::{FAMILIES_IN_ORDER, PREFIX};
pub use account::{AccountValues, account};
pub use text::Labels;
use text::{Samples, Value};

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::new("counter", name, help)
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::new("gauge", name, help)
}

const INFO: Family = gauge("info", "What answers here.");
const WORKER_SECONDS: Family = counter(
    "worker_seconds_total",
    "CPU time of workers, by whom it went to; pool_threads: their other threads.",
);
const WORKER_UNCOUNTED: Family = counter(
    "worker_uncounted_seconds_total",
    "CPU time of workers that was charged to requests and is in no account.",
);
const ZONE_ACCOUNTS: Family = gauge("zone_accounts", "Keys that have an account.");
const ZONE_CAPACITY: Family = gauge("zone_capacity", "Keys that the zone has room for.");
const ZONE_OVERFLOWED: Family =
    counter("zone_overflowed_total", "Requests whose key found no room in the zone.");

/// The families of the server, before those of accounts.
pub const SERVER_FAMILIES: [Family; 1] = [INFO];
/// The families of workers and zones, after those of accounts.
pub const OTHER_FAMILIES: [Family; 5] =
    [WORKER_SECONDS, WORKER_UNCOUNTED, ZONE_ACCOUNTS, ZONE_CAPACITY, ZONE_OVERFLOWED];

/// The name of a family without its prefix, for readers. For constants: an unknown name does not compile.
pub const fn family(name: &'static str) -> &'static str {
    let mut at = 0;
    while at < FAMILY_TABLE.len() {
        if is_equal(FAMILY_TABLE[at].1.name, name) {
            return name;
        }
        at += 1;
    }
    at = 0;
    while !is_equal(OTHER_FAMILIES[at].name, name) {
        at += 1;
    }
    name
}

/// A value of a worker.
type WorkerValue = fn(&Worker) -> u64;
/// A value of a zone.
type ZoneValue = fn(&Zone) -> u64;

/// The owners of a worker's CPU time, as values of the label `owner`.
const OWNERS: [(&str, WorkerValue); 5] = [
    ("charged", |worker| worker.charged_ns),
    ("no_request", |worker| worker.no_request_ns),
    ("loop", |worker| worker.loop_ns),
    ("other", |worker| worker.other_ns),
    ("pool_threads", |worker| worker.pool_threads_cpu_ns),
];

/// Writes the families of the server.
pub fn server(server: &Server<'_>, out: &mut Vec<u8>) {
    let Server { version, nginx_version, clock, .. } = server;
    let mut labels = Labels::default();
    for (name, value) in [("version", version), ("nginx_version", nginx_version), ("clock", clock)] {
        labels.push(name, value);
    }
    Samples::new(&INFO, &mut false, &labels, out).add("", None, Value::Integer(1));
}

/// Writes the families of workers. A worker is identified by its number: the values of its processes must be added up
/// before.
pub fn workers(workers: &[Worker], out: &mut Vec<u8>) {
    let labels = |worker: &Worker| Labels::of("worker", &worker.worker.to_string());
    let mut is_named = false;
    for worker in workers {
        let labels = labels(worker);
        let mut samples = Samples::new(&WORKER_SECONDS, &mut is_named, &labels, out);
        for (owner, ns) in OWNERS {
            samples.add("", Some(("owner", owner)), Value::Seconds(ns(worker)));
        }
    }
    let mut is_named = false;
    for worker in workers {
        let labels = labels(worker);
        let mut samples = Samples::new(&WORKER_UNCOUNTED, &mut is_named, &labels, out);
        samples.add("", None, Value::Seconds(worker.uncounted_ns));
    }
}

/// Writes the families of zones, each given by its name.
pub fn zones(zones: &[(Cow<'_, str>, Zone)], out: &mut Vec<u8>) {
    let families: [(&Family, ZoneValue); 3] = [
        (&ZONE_ACCOUNTS, |zone| zone.accounts.into()),
        (&ZONE_CAPACITY, |zone| zone.capacity.into()),
        (&ZONE_OVERFLOWED, |zone| zone.overflowed),
    ];
    for (family, value) in families {
        let mut is_named = false;
        for (name, zone) in zones {
            let labels = Labels::of("zone", name);
            Samples::new(family, &mut is_named, &labels, out).add("", None, Value::Integer(value(zone)));
        }
    }
}
