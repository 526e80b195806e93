//! The status as JSON, written account by account.

use formats::status::{Account, Limit, Signal};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::shown::Shown;
use super::status::{Status, Zone};
use crate::account::Snapshot;
use crate::billing::WINDOWS;
use crate::key;
use crate::limit::BucketState;
use crate::table::{Fill, Slot};
use crate::window::Cores;
use crate::workers::Worker;
use formats::counters::Detail;

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
                value(&formats::status::Shown(&figures(snapshot), status.detail), out);
                Place::Account { zone, slot: shown.after(slot), is_first: false, sum }
            }
            Place::Account { zone, slot: None, sum, .. } => {
                out.push(b'}');
                // the sum of one account is not that of the zone
                if status.detail == Detail::Full && shown[zone].only.is_none() {
                    out.extend_from_slice(b",\"windows\":");
                    value(&formats::status::Windows(&sum), out);
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
        let Worker { worker, pid, totals } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("worker", worker)?;
        map.serialize_entry("pid", pid)?;
        map.serialize_entry("wakeups", &totals.wakeups)?;
        map.serialize_entry("thread_cpu_ns", &totals.thread_cpu_ns())?;
        map.serialize_entry("charged_ns", &totals.charged_ns)?;
        map.serialize_entry("uncounted_ns", &totals.uncounted_ns)?;
        map.serialize_entry("no_request_ns", &totals.no_request_ns)?;
        map.serialize_entry("loop_ns", &totals.loop_ns)?;
        map.serialize_entry("other_ns", &totals.other_ns)?;
        map.serialize_entry("pool_threads_cpu_ns", &totals.pool_threads_cpu_ns)?;
        map.serialize_entry("pool_threads_charged_ns", &totals.pool_threads_charged_ns)?;
        map.serialize_entry("pending_ns", &totals.pending_ns)?;
        map.serialize_entry("clock_readings", &totals.clock_readings)?;
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

/// As the formats have it.
fn figures(snapshot: Snapshot) -> Account {
    let limit = |state: &BucketState| {
        let BucketState { rate, burst_ns, debt_ns, max_debt_ns, .. } = *state;
        Limit { rate, burst_ns, debt_ns, max_debt_ns }
    };
    let Cores { ten_seconds, one_minute, five_minutes } = snapshot.cores;
    Account {
        cells: snapshot.totals.0,
        in_flight: snapshot.in_flight,
        cores: [ten_seconds, one_minute, five_minutes],
        peak_cpu_ns: snapshot.billing.peak_cpu_ns,
        limit: snapshot.limit.as_ref().map(limit),
        limits: snapshot.limits.iter().map(limit).collect(),
        windows: snapshot.signals,
    }
}

fn add(sum: &mut Signal, signal: &Signal) {
    let Signal { in_flight, requests_per_second, cores } = signal;
    sum.in_flight += in_flight;
    sum.requests_per_second += requests_per_second;
    sum.cores += cores;
}
