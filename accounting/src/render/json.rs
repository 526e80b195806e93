//! The status as JSON, written account by account: nothing but one snapshot is held in memory.

use std::io;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::{Detail, Status, Zone, shown};
use crate::account::{CLASSES, CPU_BOUNDS_NS, CacheStatus, Count, ORDERS, SIZES, Snapshot};
use crate::key;
use crate::window::Cores;
use crate::workers::Worker;

/// Writes the whole document and a newline.
pub(super) fn write(status: &Status<'_>, mut out: impl io::Write) -> io::Result<()> {
    serde_json::to_writer(&mut out, &Document(status))?;
    out.write_all(b"\n")
}

struct Document<'a>(&'a Status<'a>);

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Document(status) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", status.version)?;
        map.serialize_entry("nginx_version", status.nginx_version)?;
        map.serialize_entry("time", status.time)?;
        map.serialize_entry("clock", status.clock)?;
        map.serialize_entry("max_error_ns", &status.max_error_ns)?;
        map.serialize_entry("workers", &Workers(&status.workers))?;
        map.serialize_entry("zones", &Zones(status))?;
        map.end()
    }
}

struct Workers<'a>(&'a [Worker]);

impl Serialize for Workers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(WorkerBooks))
    }
}

struct WorkerBooks<'a>(&'a Worker);

impl Serialize for WorkerBooks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Worker { worker, pid, books } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("worker", worker)?;
        map.serialize_entry("pid", pid)?;
        map.serialize_entry("wakeups", &books.wakeups)?;
        map.serialize_entry("thread_cpu_ns", &books.thread_cpu_ns())?;
        map.serialize_entry("charged_ns", &books.charged_ns)?;
        map.serialize_entry("no_request_ns", &books.no_request_ns)?;
        map.serialize_entry("loop_ns", &books.loop_ns)?;
        map.serialize_entry("other_ns", &books.other_ns)?;
        map.serialize_entry("pool_threads_cpu_ns", &books.pool_threads_cpu_ns)?;
        map.serialize_entry("pending_ns", &books.pending_ns)?;
        map.serialize_entry("clock_readings", &books.clock_readings)?;
        map.end()
    }
}

struct Zones<'a>(&'a Status<'a>);

impl Serialize for Zones<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Zones(status) = self;
        let mut map = serializer.serialize_map(Some(status.zones.len()))?;
        for zone in &status.zones {
            map.serialize_entry(&zone.name, &ZoneAccounts { status, zone })?;
        }
        map.end()
    }
}

struct ZoneAccounts<'a> {
    status: &'a Status<'a>,
    zone: &'a Zone<'a>,
}

impl Serialize for ZoneAccounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fill = self.zone.table.fill();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("size_bytes", &self.zone.size_bytes)?;
        map.serialize_entry("used_bytes", &fill.used_bytes)?;
        map.serialize_entry("capacity", &fill.capacity)?;
        map.serialize_entry("accounts", &fill.accounts)?;
        map.serialize_entry("overflowed", &fill.overflowed)?;
        map.serialize_entry("cut", &fill.cut)?;
        map.serialize_entry("keys", &Keys { status: self.status, zone: self.zone })?;
        map.end()
    }
}

struct Keys<'a> {
    status: &'a Status<'a>,
    zone: &'a Zone<'a>,
}

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, snapshot) in shown(self.zone, self.status.now_ms) {
            map.serialize_entry(&key::display(key), &Account { snapshot, detail: self.status.detail })?;
        }
        map.end()
    }
}

struct Account {
    snapshot: Snapshot,
    detail: Detail,
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Account { snapshot, detail } = self;
        let usage = &snapshot.usage;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("requests", &snapshot.requests)?;
        map.serialize_entry("responses", &Responses(&snapshot.responses))?;
        map.serialize_entry("cpu_ns", &usage.cpu_ns)?;
        map.serialize_entry("wakeups", &usage.wakeups)?;
        map.serialize_entry("sent_bytes", &usage.sent_bytes)?;
        map.serialize_entry("received_bytes", &usage.received_bytes)?;
        map.serialize_entry("in_flight", &snapshot.in_flight)?;
        map.serialize_entry("cores", &Windows(&snapshot.cores))?;
        map.serialize_entry("cpu_seconds_per_gb", &cpu_seconds_per_gb(usage.cpu_ns, usage.sent_bytes))?;
        map.serialize_entry(
            "cpu_ns_per_request",
            &usage.cpu_ns.checked_div(snapshot.requests).unwrap_or_default(),
        )?;
        if *detail == Detail::Full {
            let mut breakdown = |name, names, counts| match Breakdown::of(names, counts) {
                Some(breakdown) => map.serialize_entry(name, &breakdown),
                None => Ok(()),
            };
            breakdown("by_cache_status", &CacheStatus::NAMES, &snapshot.by_cache_status)?;
            breakdown("by_connection_order", &ORDERS, &snapshot.by_connection_order)?;
            breakdown("by_response_size", &SIZES, &snapshot.by_response_size)?;
            if let Some(histogram) = Histogram::of(&snapshot.by_request_cpu) {
                map.serialize_entry("by_request_cpu", &histogram)?;
            }
        }
        map.end()
    }
}

/// Six decimals: microseconds of CPU per second, or per gigabyte. Never NaN or infinite, which JSON cannot tell.
fn rounded(value: f64) -> f64 {
    if value.is_finite() { (value * 1e6).round() / 1e6 } else { 0.0 }
}

/// CPU seconds per 10^9 bytes; 0 where nothing was sent.
fn cpu_seconds_per_gb(cpu_ns: u64, sent_bytes: u64) -> f64 {
    // seconds / gigabytes = nanoseconds / bytes
    if sent_bytes == 0 { 0.0 } else { rounded(cpu_ns as f64 / sent_bytes as f64) }
}

struct Responses<'a>(&'a [u64; 5]);

impl Serialize for Responses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(CLASSES.iter().zip(self.0))
    }
}

struct Windows<'a>(&'a Cores);

impl Serialize for Windows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Cores { ten_seconds, one_minute, five_minutes } = *self.0;
        serializer.collect_map([
            ("10s", rounded(ten_seconds)),
            ("1m", rounded(one_minute)),
            ("5m", rounded(five_minutes)),
        ])
    }
}

/// A `by_…` object: the classes that have requests.
struct Breakdown<'a> {
    names: &'a [&'a str],
    counts: &'a [Count],
}

impl<'a> Breakdown<'a> {
    /// `None` if no class has requests.
    fn of(names: &'a [&'a str], counts: &'a [Count]) -> Option<Self> {
        counts.iter().any(|count| count.requests != 0).then_some(Breakdown { names, counts })
    }
}

impl Serialize for Breakdown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = self.counts.iter().map(Tally);
        serializer.collect_map(self.names.iter().zip(counts).filter(|(_, tally)| tally.0.requests != 0))
    }
}

struct Tally<'a>(&'a Count);

impl Serialize for Tally<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("requests", &self.0.requests)?;
        map.serialize_entry("cpu_ns", &self.0.cpu_ns)?;
        map.end()
    }
}

/// `by_request_cpu`: how many requests took no more than each bound.
///
/// Bounds that no request was below are left out at the start, and so are those at the end that add nothing: a bound
/// that is missing has 0 if it is below the first one, and the last one's number if it is above. The requests above
/// all bounds are what the last number leaves of `requests`.
struct Histogram<'a> {
    buckets: &'a [u64],
}

impl<'a> Histogram<'a> {
    /// `None` if no request is below any bound.
    fn of(by_request_cpu: &'a [u64]) -> Option<Self> {
        let buckets = &by_request_cpu[..CPU_BOUNDS_NS.len()];
        buckets.iter().any(|&requests| requests != 0).then_some(Histogram { buckets })
    }
}

impl Serialize for Histogram<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all: u64 = self.buckets.iter().sum();
        let mut below = 0;
        let mut list = serializer.serialize_seq(None)?;
        for (&le_ns, &requests) in CPU_BOUNDS_NS.iter().zip(self.buckets) {
            below += requests;
            if below != 0 {
                list.serialize_element(&Bound { le_ns, requests: below })?;
            }
            if below == all {
                break;
            }
        }
        list.end()
    }
}

struct Bound {
    le_ns: u64,
    requests: u64,
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("le_ns", &self.le_ns)?;
        map.serialize_entry("requests", &self.requests)?;
        map.end()
    }
}
