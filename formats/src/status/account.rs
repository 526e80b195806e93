//! An account in the status document, as JSON. The table of counters declares its members.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::classes::{self, CPU_BOUNDS_NS};
use crate::counters::{CELLS, COUNTERS, Counter, Detail, Figure, LEN, Shape, cell, first_cell};

/// An average over one of [`classes::WINDOWS`], for autoscalers.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Signal {
    /// requests in flight
    pub in_flight: f64,
    /// requests that ended per second
    pub requests_per_second: f64,
    /// CPU seconds per second
    pub cores: f64,
}

/// The state of a limit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// nanoseconds of CPU per second
    pub rate: u64,
    /// CPU that may be used beyond the rate, in nanoseconds
    pub burst_ns: u64,
    /// CPU beyond the rate and the burst, in nanoseconds
    pub debt_ns: u64,
    /// the largest debt, if the limit has one
    pub max_debt_ns: Option<u64>,
}

/// All values of an account that the status shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// the cells of all counters
    pub cells: [u64; CELLS],
    /// requests that are open
    pub in_flight: u32,
    /// cores over the last 10 seconds, minute and five minutes
    pub cores: [f64; 3],
    /// the most CPU of one second, in nanoseconds
    pub peak_cpu_ns: u64,
    /// the limit that was checked last
    pub limit: Option<Limit>,
    /// all limits, if there are several
    pub limits: Vec<Limit>,
    /// averages over [`classes::WINDOWS`]
    pub windows: [Signal; classes::WINDOWS.len()],
}

const CPU_NS: usize = cell("cpu_ns");
const SENT_BYTES: usize = cell("sent_bytes");
const MEMORY_BYTE_MS: usize = cell("memory_byte_ms");
const BY_ORDER: usize = cell("by_connection_order");
/// The cells of two tallies.
type Refusals = [u64; 2 * classes::REFUSALS.len()];

impl Account {
    /// The cells of the counter at this index of the table.
    fn cells_of(&self, row: usize) -> &[u64] {
        let cells = COUNTERS.get(row).map_or(0, |counter| counter.shape.cells());
        self.cells.get(first_cell(row)..).and_then(|rest| rest.get(..cells)).unwrap_or_default()
    }

    /// Requests that ended.
    fn requests(&self) -> u64 {
        self.cells[BY_ORDER..].chunks_exact(2).take(classes::ORDERS.len()).map(|tally| tally[0]).sum()
    }

    fn member<M: SerializeMap>(&self, map: &mut M, counter: &Counter, cells: &[u64]) -> Result<(), M::Error> {
        let name = counter.name;
        match (counter.shape, cells) {
            (Shape::One, &[value]) => map.serialize_entry(name, &(value / counter.divisor)),
            // requests without a status are the difference between all requests and the sum of the classes
            (Shape::Classes(_), [classes @ .., _]) => map.serialize_entry(name, &Classes(classes)),
            (Shape::Tallies { classes, counted }, _) if is_any_counted(cells) => {
                map.serialize_entry(name, &Tallies { classes, cells, counted })
            }
            (Shape::Refusals(_), _) => {
                let refused = Refusals::try_from(cells).ok();
                match self.limit.zip(refused) {
                    Some((limit, refused)) => map.serialize_entry(name, &LimitAndRefused { limit, refused }),
                    None => Ok(()),
                }
            }
            (Shape::Histogram, [buckets @ .., _]) if buckets.iter().any(|&requests| requests != 0) => {
                map.serialize_entry(name, &Histogram { buckets })
            }
            (Shape::Figure(figure), _) => self.figure(map, name, figure),
            _ => Ok(()),
        }
    }

    fn figure<M: SerializeMap>(
        &self,
        map: &mut M,
        name: &'static str,
        figure: Figure,
    ) -> Result<(), M::Error> {
        let cpu_ns = self.cells[CPU_NS];
        match figure {
            Figure::Requests => map.serialize_entry(name, &self.requests()),
            Figure::InFlight => map.serialize_entry(name, &self.in_flight),
            Figure::Cores => map.serialize_entry(name, &Cores(self.cores)),
            Figure::CpuPerGigabyte => {
                map.serialize_entry(name, &cpu_seconds_per_gb(cpu_ns, self.cells[SENT_BYTES]))
            }
            Figure::CpuPerRequest => {
                map.serialize_entry(name, &cpu_ns.checked_div(self.requests()).unwrap_or_default())
            }
            // from milliseconds to seconds, and from bytes to gigabytes
            Figure::GigabyteSeconds => map.serialize_entry(name, &(self.cells[MEMORY_BYTE_MS] as f64 / 1e12)),
            // nanoseconds in one second
            Figure::Peak => map.serialize_entry(name, &(self.peak_cpu_ns as f64 / 1e9)),
            Figure::Limits if self.limits.is_empty() => Ok(()),
            Figure::Limits => {
                map.serialize_entry(name, &self.limits.iter().map(EachLimit).collect::<Vec<_>>())
            }
            Figure::Windows => map.serialize_entry(name, &Windows(&self.windows)),
        }
    }
}

/// An account, shown at this level of detail.
pub struct Shown<'a>(pub &'a Account, pub Detail);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Shown(account, detail) = self;
        let mut map = serializer.serialize_map(None)?;
        for row in 0..LEN {
            let Some(counter) = COUNTERS.get(row).filter(|counter| counter.detail <= *detail) else {
                continue;
            };
            account.member(&mut map, counter, account.cells_of(row))?;
        }
        map.end()
    }
}

fn is_any_counted(cells: &[u64]) -> bool {
    cells.chunks_exact(2).any(|tally| tally[0] != 0)
}

struct LimitAndRefused {
    limit: Limit,
    refused: Refusals,
}

/// The members of a limit.
pub(crate) const LIMIT: [&str; 3] = ["cores", "burst_ns", "debt_ns"];
/// The members of the limit that was checked last: requests that limits have refused, and their CPU.
pub(crate) const REFUSED: [&str; 4] =
    ["refused", "refused_dry_run", "refused_cpu_ns", "refused_dry_run_cpu_ns"];
/// The last member of a limit, if the limit has a largest debt.
pub(crate) const MAX_DEBT: &str = "max_debt_ns";
/// The members of a signal.
pub(crate) const SIGNAL: [&str; 3] = ["in_flight", "requests_per_second", "cores"];
/// The member of a tally that follows the number.
pub(crate) const TALLY_CPU: &str = "cpu_ns";

fn limit_entries<M: SerializeMap>(map: &mut M, limit: &Limit) -> Result<(), M::Error> {
    let [cores, burst_ns, debt_ns] = LIMIT;
    // nanoseconds per second
    map.serialize_entry(cores, &(limit.rate as f64 / 1e9))?;
    map.serialize_entry(burst_ns, &limit.burst_ns)?;
    map.serialize_entry(debt_ns, &limit.debt_ns)
}

fn max_debt_entry<M: SerializeMap>(map: &mut M, limit: &Limit) -> Result<(), M::Error> {
    limit.max_debt_ns.map_or(Ok(()), |max_debt_ns| map.serialize_entry(MAX_DEBT, &max_debt_ns))
}

/// One of several limits.
struct EachLimit<'a>(&'a Limit);

impl Serialize for EachLimit<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        limit_entries(&mut map, self.0)?;
        max_debt_entry(&mut map, self.0)?;
        map.end()
    }
}

impl Serialize for LimitAndRefused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [refused, refused_cpu_ns, dry_run, dry_run_cpu_ns] = self.refused;
        let mut map = serializer.serialize_map(None)?;
        limit_entries(&mut map, &self.limit)?;
        for (name, value) in REFUSED.iter().zip([refused, dry_run, refused_cpu_ns, dry_run_cpu_ns]) {
            map.serialize_entry(name, &value)?;
        }
        max_debt_entry(&mut map, &self.limit)?;
        map.end()
    }
}

/// Rounds to six decimals: microseconds of CPU per second or per gigabyte, or millionths of requests. The result is
/// never NaN or infinite, which JSON cannot express.
fn rounded(value: f64) -> f64 {
    if value.is_finite() { (value * 1e6).round() / 1e6 } else { 0.0 }
}

/// CPU seconds per 10^9 bytes; 0 if nothing was sent.
fn cpu_seconds_per_gb(cpu_ns: u64, sent_bytes: u64) -> f64 {
    // seconds / gigabytes = nanoseconds / bytes
    if sent_bytes == 0 { 0.0 } else { rounded(cpu_ns as f64 / sent_bytes as f64) }
}

struct Classes<'a>(&'a [u64]);

impl Serialize for Classes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(classes::RESPONSES.iter().zip(self.0))
    }
}

struct Cores([f64; 3]);

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(["10s", "1m", "5m"].into_iter().zip(self.0.map(rounded)))
    }
}

/// `windows`: the averages of an account, or of all accounts of a zone.
pub struct Windows<'a>(pub &'a [Signal; classes::WINDOWS.len()]);

impl Serialize for Windows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(classes::WINDOWS.iter().zip(self.0.iter().map(SignalMembers)))
    }
}

struct SignalMembers<'a>(&'a Signal);

impl Serialize for SignalMembers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Signal { in_flight, requests_per_second, cores } = *self.0;
        serializer.collect_map(SIGNAL.iter().zip([in_flight, requests_per_second, cores].map(rounded)))
    }
}

/// A `by_…` object: the classes that have requests.
struct Tallies<'a> {
    classes: &'a [&'a str],
    cells: &'a [u64],
    counted: &'static str,
}

impl Serialize for Tallies<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tallies =
            self.cells.chunks_exact(2).map(|tally| Tally { tally: [tally[0], tally[1]], of: self.counted });
        serializer.collect_map(self.classes.iter().zip(tallies).filter(|(_, shown)| shown.tally[0] != 0))
    }
}

struct Tally {
    tally: [u64; 2],
    of: &'static str,
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.of, &self.tally[0])?;
        map.serialize_entry(TALLY_CPU, &self.tally[1])?;
        map.end()
    }
}

/// `by_request_cpu`: the number of requests up to each bound.
///
/// Bounds at the start without requests are omitted, and so are bounds at the end that add no requests. A missing
/// bound has the value 0 if it is below the first one, and the value of the last one if it is above. The number of
/// requests above all bounds is `requests` minus the last value.
struct Histogram<'a> {
    buckets: &'a [u64],
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
