//! The status as JSON, written account by account.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::{Detail, Shown, Status, WINDOW_NAMES, Zone};
use crate::account::{CLASSES, CPU_BOUNDS_NS, CacheStatus, Count, ORDERS, SESSIONS, SIZES, Snapshot};
use crate::key;
use crate::limit::{BucketState, DRY_RUN};
use crate::measures::{Signal, WINDOWS};
use crate::table::{Fill, Slot};
use crate::window::Cores;
use crate::workers::Worker;

/// What comes next.
#[derive(Default)]
pub(super) enum Place {
    /// what stands before the zones
    #[default]
    Head,
    /// a zone by its number, or the end of the document
    Zone(usize),
    /// an account of a zone, or the zone's end
    Account { zone: usize, slot: Option<Slot>, is_first: bool, sum: Signals },
}

/// As [`WINDOWS`].
type Signals = [Signal; WINDOWS.len()];

impl Place {
    /// Appends it; whether there is more to come.
    pub(super) fn write(&mut self, status: &Status, shown: &[Shown], now_ms: u64, out: &mut Vec<u8>) -> bool {
        *self = match *self {
            Place::Head => {
                open(&Head(status), out);
                out.extend_from_slice(b",\"zones\":{");
                Place::Zone(0)
            }
            Place::Zone(at) => match status.zones.get(at).zip(shown.get(at)) {
                Some((zone, shown)) => {
                    separate(at == 0, out);
                    value(&zone.name, out);
                    out.push(b':');
                    open(&ZoneHead { zone, fill: shown.fill() }, out);
                    out.extend_from_slice(b",\"keys\":{");
                    let sum = Signals::default();
                    Place::Account { zone: at, slot: shown.first(), is_first: true, sum }
                }
                None => {
                    out.extend_from_slice(b"}}\n");
                    return false;
                }
            },
            Place::Account { zone, slot: Some(slot), is_first, mut sum } => {
                let shown = &shown[zone];
                shown.table.refresh(slot, now_ms);
                let account = shown.table.account(slot);
                let snapshot = account.snapshot(now_ms, shown.table.epoch());
                let snapshot = snapshot.with_limits(account, &shown.table, now_ms);
                sum.iter_mut().zip(&snapshot.signals).for_each(|(sum, signal)| add(sum, signal));
                separate(is_first, out);
                value(&key::display(shown.table.key(slot)), out);
                out.push(b':');
                value(&Account { snapshot, detail: status.detail }, out);
                Place::Account { zone, slot: shown.after(slot), is_first: false, sum }
            }
            Place::Account { zone, slot: None, sum, .. } => {
                out.push(b'}');
                // the sum of one account is not that of the zone
                if status.detail == Detail::Full && shown[zone].only.is_none() {
                    out.extend_from_slice(b",\"windows\":");
                    value(&SignalWindows(&sum), out);
                }
                out.push(b'}');
                Place::Zone(zone + 1)
            }
        };
        true
    }
}

/// Appends an object that tells of an error.
pub(super) fn error(message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":");
    value(message, out);
    out.push(b'}');
}

fn separate(is_first: bool, out: &mut Vec<u8>) {
    if !is_first {
        out.push(b',');
    }
}

fn value<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // a vector takes everything, and so does JSON: all names are strings
    let _ = serde_json::to_writer(out, value);
}

/// An object without its closing brace: more members follow.
fn open<T: Serialize>(object: &T, out: &mut Vec<u8>) {
    value(object, out);
    out.pop();
}

/// What stands before the zones.
struct Head<'a>(&'a Status);

impl Serialize for Head<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Head(status) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", status.version)?;
        map.serialize_entry("nginx_version", status.nginx_version)?;
        map.serialize_entry("time", &status.time)?;
        map.serialize_entry("clock", status.clock)?;
        map.serialize_entry("max_error_ns", &status.max_error_ns)?;
        map.serialize_entry("workers", &Workers(&status.workers))?;
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
        map.serialize_entry("uncounted_ns", &books.uncounted_ns)?;
        map.serialize_entry("no_request_ns", &books.no_request_ns)?;
        map.serialize_entry("loop_ns", &books.loop_ns)?;
        map.serialize_entry("other_ns", &books.other_ns)?;
        map.serialize_entry("pool_threads_cpu_ns", &books.pool_threads_cpu_ns)?;
        map.serialize_entry("pool_threads_charged_ns", &books.pool_threads_charged_ns)?;
        map.serialize_entry("pending_ns", &books.pending_ns)?;
        map.serialize_entry("clock_readings", &books.clock_readings)?;
        map.end()
    }
}

/// What stands before the keys of a zone.
struct ZoneHead<'a> {
    zone: &'a Zone,
    fill: Fill,
}

impl Serialize for ZoneHead<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ZoneHead { zone, fill } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("size_bytes", &zone.size_bytes)?;
        map.serialize_entry("used_bytes", &fill.used_bytes)?;
        map.serialize_entry("capacity", &fill.capacity)?;
        map.serialize_entry("accounts", &fill.accounts)?;
        map.serialize_entry("overflowed", &fill.overflowed)?;
        map.serialize_entry("cut", &fill.cut)?;
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
        let measures = &snapshot.measures;
        map.serialize_entry("duration_ms", &measures.duration_ms())?;
        map.serialize_entry("active_ms", &measures.active_ms)?;
        map.serialize_entry("active_seconds", &measures.active_seconds)?;
        map.serialize_entry("billable_cpu_ns", &measures.billable_cpu_ns)?;
        map.serialize_entry("waived_cpu_ns", &measures.waived_cpu_ns)?;
        map.serialize_entry("memory_byte_ms", &measures.memory_byte_ms)?;
        // milliseconds to seconds, bytes to gigabytes
        map.serialize_entry("gb_seconds", &(measures.memory_byte_ms as f64 / 1e12))?;
        // nanoseconds in one second
        map.serialize_entry("peak_cores", &(measures.peak_cpu_ns as f64 / 1e9))?;
        if let Some(limit) = &snapshot.limit {
            map.serialize_entry("limit", &Limit { limit, refused: &snapshot.refused })?;
        }
        if !snapshot.limits.is_empty() {
            let limits: Vec<EachLimit> = snapshot.limits.iter().map(EachLimit).collect();
            map.serialize_entry("limits", &limits)?;
        }
        if *detail == Detail::Full {
            map.serialize_entry("windows", &SignalWindows(&snapshot.signals))?;
            let mut breakdown = |name, names, counts, of| match Breakdown::of(names, counts, of) {
                Some(breakdown) => map.serialize_entry(name, &breakdown),
                None => Ok(()),
            };
            breakdown("by_cache_status", &CacheStatus::NAMES, &snapshot.by_cache_status, "requests")?;
            breakdown("by_connection_order", &ORDERS, &snapshot.by_connection_order, "requests")?;
            breakdown("by_response_size", &SIZES, &snapshot.by_response_size, "requests")?;
            breakdown("tls_handshakes", &SESSIONS, &snapshot.tls_handshakes, "handshakes")?;
            if let Some(histogram) = Histogram::of(&snapshot.by_request_cpu) {
                map.serialize_entry("by_request_cpu", &histogram)?;
            }
        }
        map.end()
    }
}

/// The limit that was checked last, and what all of them have refused.
struct Limit<'a> {
    limit: &'a BucketState,
    refused: &'a [Count; DRY_RUN.len()],
}

fn limit_entries<M: SerializeMap>(map: &mut M, limit: &BucketState) -> Result<(), M::Error> {
    let BucketState { rate, burst_ns, debt_ns, .. } = *limit;
    // nanoseconds per second
    map.serialize_entry("cores", &(rate as f64 / 1e9))?;
    map.serialize_entry("burst_ns", &burst_ns)?;
    map.serialize_entry("debt_ns", &debt_ns)
}

fn max_debt_entry<M: SerializeMap>(map: &mut M, limit: &BucketState) -> Result<(), M::Error> {
    limit.max_debt_ns.map_or(Ok(()), |max_debt_ns| map.serialize_entry("max_debt_ns", &max_debt_ns))
}

/// One of several limits.
struct EachLimit<'a>(&'a BucketState);

impl Serialize for EachLimit<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        limit_entries(&mut map, self.0)?;
        max_debt_entry(&mut map, self.0)?;
        map.end()
    }
}

impl Serialize for Limit<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [refused, dry_run] = self.refused;
        let mut map = serializer.serialize_map(None)?;
        limit_entries(&mut map, self.limit)?;
        map.serialize_entry("refused", &refused.requests)?;
        map.serialize_entry("refused_dry_run", &dry_run.requests)?;
        map.serialize_entry("refused_cpu_ns", &refused.cpu_ns)?;
        map.serialize_entry("refused_dry_run_cpu_ns", &dry_run.cpu_ns)?;
        max_debt_entry(&mut map, self.limit)?;
        map.end()
    }
}

/// Six decimals: microseconds of CPU per second or per gigabyte, millionths of requests. Never NaN or infinite, which JSON cannot tell.
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

fn add(sum: &mut Signal, signal: &Signal) {
    let Signal { in_flight, requests_per_second, cores } = signal;
    sum.in_flight += in_flight;
    sum.requests_per_second += requests_per_second;
    sum.cores += cores;
}

/// `windows`: what an autoscaler looks at.
struct SignalWindows<'a>(&'a Signals);

impl Serialize for SignalWindows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(WINDOW_NAMES.iter().zip(self.0.iter().map(SignalMembers)))
    }
}

struct SignalMembers<'a>(&'a Signal);

impl Serialize for SignalMembers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Signal { in_flight, requests_per_second, cores } = *self.0;
        let members =
            [("in_flight", in_flight), ("requests_per_second", requests_per_second), ("cores", cores)];
        serializer.collect_map(members.map(|(name, value)| (name, rounded(value))))
    }
}

/// A `by_…` object: the classes that have requests.
struct Breakdown<'a> {
    names: &'a [&'a str],
    counts: &'a [Count],
    /// what is counted
    of: &'static str,
}

impl<'a> Breakdown<'a> {
    /// `None` if no class has requests.
    fn of(names: &'a [&'a str], counts: &'a [Count], of: &'static str) -> Option<Self> {
        counts.iter().any(|count| count.requests != 0).then_some(Breakdown { names, counts, of })
    }
}

impl Serialize for Breakdown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tallies = self.counts.iter().map(|count| Tally { count, of: self.of });
        serializer.collect_map(self.names.iter().zip(tallies).filter(|(_, tally)| tally.count.requests != 0))
    }
}

struct Tally<'a> {
    count: &'a Count,
    of: &'static str,
}

impl Serialize for Tally<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.of, &self.count.requests)?;
        map.serialize_entry("cpu_ns", &self.count.cpu_ns)?;
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
