//! The status in Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
//!
//! The format wants all samples of a family together, so every account is visited, and read, once per family: copies
//! of all accounts would be nearly as large as the accounts themselves. The samples that an account has in one family
//! show one instant, a histogram above all; from one family to the next, time passes. Each counter is read once, so it
//! never falls from one answer to the next.

use super::{Detail, Shown, Status, WINDOW_NAMES};
use crate::account::{Account, CLASSES, CPU_BOUNDS_NS, CacheStatus, Count, ORDERS, SESSIONS, SIZES};
use crate::books::Books;
use crate::key;
use crate::limit::{BucketState, DRY_RUN};
use crate::measures::{Measures, Signal};
use crate::table::{Fill, Slot, Table};

/// What comes next.
#[derive(Default)]
pub(super) struct Place {
    at: At,
    /// whether the head of the family is written; one without samples gets none
    named: bool,
    /// of the account that is written; kept for its memory
    labels: Vec<u8>,
}

#[derive(Default, Clone, Copy)]
enum At {
    /// what stands before the accounts
    #[default]
    Head,
    /// an account in a family, or the end of a zone in it
    Account { family: usize, zone: usize, slot: Option<Slot> },
    /// what stands behind the accounts
    Tail,
}

impl Place {
    /// Appends it; whether there is more to come.
    pub(super) fn write(&mut self, status: &Status, shown: &[Shown], now_ms: u64, out: &mut Vec<u8>) -> bool {
        let families = match status.detail {
            Detail::Full => &ACCOUNTS[..],
            Detail::Low => &ACCOUNTS[..ACCOUNTS_OF_LOW_DETAIL],
        };
        let start =
            |family, zone: usize| At::Account { family, zone, slot: shown.get(zone).and_then(Shown::first) };
        self.at = match self.at {
            At::Head => {
                info(status, out);
                start(0, 0)
            }
            At::Account { family, zone, slot: Some(slot) } => {
                let table = &shown[zone].table;
                if family == 0 {
                    table.refresh(slot, now_ms);
                }
                self.labels.clear();
                push_label(&mut self.labels, "zone", &status.zones[zone].name);
                push_label(&mut self.labels, "key", &key::display(table.key(slot)));
                let (family_head, write) = &families[family];
                let (named, labels) = (&mut self.named, &self.labels);
                let mut samples =
                    Samples { family: family_head, named, labels, now_ms, table: Some(table), out };
                write(&mut samples, table.account(slot), table.epoch());
                At::Account { family, zone, slot: shown[zone].after(slot) }
            }
            At::Account { family, zone, slot: None } if zone + 1 < shown.len() => start(family, zone + 1),
            At::Account { family, .. } => {
                self.named = false;
                if family + 1 < families.len() { start(family + 1, 0) } else { At::Tail }
            }
            At::Tail => {
                workers(&status.worker_totals, out);
                zones(status, shown, out);
                return false;
            }
        };
        true
    }
}

/// The head of a family.
struct Family {
    /// without the prefix that all have
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

/// Writes the samples of one account in one family. The last argument is the epoch of the account's table.
type Write = fn(&mut Samples<'_>, &Account, u32);

/// The families that have samples of accounts; those that `low` detail has come first.
const ACCOUNTS: [(Family, Write); 29] = [
    (counter("seconds_total", "CPU time charged to the key."), |samples, account, _| {
        samples.add("", None, Value::Seconds(account.usage().cpu_ns));
    }),
    (
        counter("requests_total", "Requests that ended, by class of the response; other: without a status."),
        |samples, account, _| {
            for (class, requests) in CLASSES.into_iter().chain(["other"]).zip(account.responses()) {
                if requests != 0 {
                    samples.add("", Some(("class", class)), Value::Integer(requests));
                }
            }
        },
    ),
    (
        counter("wakeups_total", "Calls of event handlers on behalf of the key's requests."),
        |samples, account, _| samples.add("", None, Value::Integer(account.usage().wakeups)),
    ),
    (counter("sent_bytes_total", "Bytes sent to clients."), |samples, account, _| {
        samples.add("", None, Value::Integer(account.usage().sent_bytes));
    }),
    (counter("received_bytes_total", "Bytes received from clients."), |samples, account, _| {
        samples.add("", None, Value::Integer(account.usage().received_bytes));
    }),
    (gauge("in_flight", "Requests that are open."), |samples, account, epoch| {
        samples.add("", None, Value::Integer(account.in_flight().read(epoch).into()));
    }),
    (
        counter("duration_seconds_total", "Time that requests were in flight, each for itself."),
        |samples, account, _| measure(samples, account, |its| Value::Milliseconds(its.duration_ms())),
    ),
    (
        counter("active_interval_seconds_total", "Time in which at least one request was in flight."),
        |samples, account, _| measure(samples, account, |its| Value::Milliseconds(its.active_ms)),
    ),
    (
        counter("active_seconds_total", "Seconds whose CPU time reached the threshold of the zone."),
        |samples, account, _| measure(samples, account, |its| Value::Integer(its.active_seconds)),
    ),
    (
        counter("billable_seconds_total", "CPU time of seconds whose CPU time reached the threshold."),
        |samples, account, _| measure(samples, account, |its| Value::Seconds(its.billable_cpu_ns)),
    ),
    (
        counter("waived_seconds_total", "CPU time of seconds whose CPU time was below the threshold."),
        |samples, account, _| measure(samples, account, |its| Value::Seconds(its.waived_cpu_ns)),
    ),
    (
        counter("memory_byte_seconds_total", "Memory of requests times the time that they held it."),
        |samples, account, _| measure(samples, account, |its| Value::Milliseconds(its.memory_byte_ms)),
    ),
    (
        gauge("peak_cores", "The most CPU time of one second since the account began."),
        |samples, account, _| measure(samples, account, |its| Value::Seconds(its.peak_cpu_ns)),
    ),
    (
        gauge("limit_cores", "CPU cores that the key is limited to, as of its last request."),
        |samples, account, _| {
            if let Some(limit) = samples.limit(account) {
                // nanoseconds per second
                samples.add("", None, Value::Seconds(limit.rate));
            }
        },
    ),
    (
        gauge(
            "limit_debt_seconds",
            "CPU time beyond the limit and its burst; requests are refused until it is paid.",
        ),
        |samples, account, _| {
            if let Some(limit) = samples.limit(account) {
                samples.add("", None, Value::Seconds(limit.debt_ns));
            }
        },
    ),
    (
        counter("limit_refused_requests_total", "Requests that limits have refused; dry_run: would have."),
        |samples, account, _| by_refusal(samples, account, requests),
    ),
    (
        counter(
            "limit_refused_seconds_total",
            "CPU time of requests that limits have refused; dry_run: would have.",
        ),
        |samples, account, _| by_refusal(samples, account, cpu),
    ),
    (gauge("window_in_flight", "Requests in flight, the average over a window."), |samples, account, _| {
        by_window(samples, account, |signal| signal.in_flight)
    }),
    (
        gauge("window_requests_per_second", "Requests that ended per second, over a window."),
        |samples, account, _| by_window(samples, account, |signal| signal.requests_per_second),
    ),
    (gauge("window_cores", "CPU time per second, over a window."), |samples, account, _| {
        by_window(samples, account, |signal| signal.cores);
    }),
    (
        counter("cache_seconds_total", "CPU time of requests that ended, by cache status."),
        |samples, account, _| by_cache(samples, account, cpu),
    ),
    (counter("cache_requests_total", "Requests that ended, by cache status."), |samples, account, _| {
        by_cache(samples, account, requests)
    }),
    (
        counter("order_seconds_total", "CPU time of requests that ended, by their order in the connection."),
        |samples, account, _| by_order(samples, account, cpu),
    ),
    (
        counter("order_requests_total", "Requests that ended, by their order in the connection."),
        |samples, account, _| by_order(samples, account, requests),
    ),
    (
        counter("size_seconds_total", "CPU time of requests that ended, by upper bound of the bytes sent."),
        |samples, account, _| by_size(samples, account, cpu),
    ),
    (
        counter("size_requests_total", "Requests that ended, by upper bound of the bytes sent."),
        |samples, account, _| by_size(samples, account, requests),
    ),
    (
        counter(
            "tls_handshake_seconds_total",
            "CPU time of TLS connections until their handshakes were over, by kind of session.",
        ),
        |samples, account, _| by_session(samples, account, cpu),
    ),
    (counter("tls_handshakes_total", "TLS handshakes, by kind of session."), |samples, account, _| {
        by_session(samples, account, requests)
    }),
    (
        Family {
            name: "per_request_seconds",
            kind: "histogram",
            help: "CPU time per request, of requests that ended.",
        },
        per_request,
    ),
];
const ACCOUNTS_OF_LOW_DETAIL: usize = 17;

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "counter", help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", help }
}

/// What is shown of a count.
type Shows = fn(&Count) -> Value;

fn cpu(count: &Count) -> Value {
    Value::Seconds(count.cpu_ns)
}

fn requests(count: &Count) -> Value {
    Value::Integer(count.requests)
}

/// Both kinds from the first check on, so that what is refused first is an increase.
fn by_refusal(samples: &mut Samples<'_>, account: &Account, shows: Shows) {
    let is_limited = samples.limit(account).is_some();
    for (dry_run, count) in DRY_RUN.iter().zip(account.refused()) {
        if is_limited || count.requests != 0 {
            samples.add("", Some(("dry_run", dry_run)), shows(&count));
        }
    }
}

fn measure(samples: &mut Samples<'_>, account: &Account, shows: fn(&Measures) -> Value) {
    samples.add("", None, shows(&account.measures().read()));
}

fn by_window(samples: &mut Samples<'_>, account: &Account, shows: fn(&Signal) -> f64) {
    for (name, signal) in WINDOW_NAMES.iter().zip(&account.signals(samples.now_ms)) {
        // never negative, and a gauge needs no more
        let billionths = (shows(signal) * 1e9).round() as u64;
        samples.add("", Some(("window", name)), Value::Seconds(billionths));
    }
}

fn by_cache(samples: &mut Samples<'_>, account: &Account, shows: Shows) {
    samples.add_each("status", &CacheStatus::NAMES, &account.by_cache_status(), shows);
}

fn by_order(samples: &mut Samples<'_>, account: &Account, shows: Shows) {
    samples.add_each("order", &ORDERS, &account.by_connection_order(), shows);
}

fn by_size(samples: &mut Samples<'_>, account: &Account, shows: Shows) {
    samples.add_each("size", &SIZES, &account.by_response_size(), shows);
}

fn by_session(samples: &mut Samples<'_>, account: &Account, shows: Shows) {
    samples.add_each("session", &SESSIONS, &account.tls_handshakes(), shows);
}

/// Bounds of the histogram, [`CPU_BOUNDS_NS`] in seconds.
const LE: [&str; CPU_BOUNDS_NS.len() + 1] = [
    "0.00001", "0.00002", "0.00005", "0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02",
    "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "+Inf",
];

/// The histogram. Every series has every bound: a sum over series would not be a histogram otherwise.
fn per_request(samples: &mut Samples<'_>, account: &Account, _epoch: u32) {
    let cpu_ns = Count::sum(&account.by_connection_order()).cpu_ns;
    let mut below = 0;
    for (le, requests) in LE.into_iter().zip(account.by_request_cpu()) {
        below += requests;
        samples.add("_bucket", Some(("le", le)), Value::Integer(below));
    }
    samples.add("_sum", None, Value::Seconds(cpu_ns));
    // the sum of the buckets, not of other counters
    samples.add("_count", None, Value::Integer(below));
}

fn info(status: &Status, out: &mut Vec<u8>) {
    let mut labels = Vec::new();
    push_label(&mut labels, "version", status.version);
    push_label(&mut labels, "nginx_version", status.nginx_version);
    push_label(&mut labels, "clock", status.clock);
    let family = gauge("info", "What answers here.");
    let mut samples =
        Samples { family: &family, named: &mut false, labels: &labels, now_ms: 0, table: None, out };
    samples.add("", None, Value::Integer(1));
}

fn workers(totals: &[(u32, Books)], out: &mut Vec<u8>) {
    let help = "CPU time of workers, by whom it went to; pool_threads: their other threads.";
    let (family, mut named) = (counter("worker_seconds_total", help), false);
    for (worker, books) in totals {
        let mut labels = Vec::new();
        push_label(&mut labels, "worker", &worker.to_string());
        let mut samples =
            Samples { family: &family, named: &mut named, labels: &labels, now_ms: 0, table: None, out };
        for (owner, ns) in [
            ("charged", books.charged_ns),
            ("no_request", books.no_request_ns),
            ("loop", books.loop_ns),
            ("other", books.other_ns),
            ("pool_threads", books.pool_threads_cpu_ns),
        ] {
            samples.add("", Some(("owner", owner)), Value::Seconds(ns));
        }
    }
    let help = "CPU time of workers that was charged to requests and is in no account.";
    let (family, mut named) = (counter("worker_uncounted_seconds_total", help), false);
    for (worker, books) in totals {
        let mut labels = Vec::new();
        push_label(&mut labels, "worker", &worker.to_string());
        let mut samples =
            Samples { family: &family, named: &mut named, labels: &labels, now_ms: 0, table: None, out };
        samples.add("", None, Value::Seconds(books.uncounted_ns));
    }
}

fn zones(status: &Status, shown: &[Shown], out: &mut Vec<u8>) {
    let fills: Vec<_> = status.zones.iter().zip(shown.iter().map(Shown::fill)).collect();
    let mut each = |family: Family, value: fn(&Fill) -> u64| {
        let mut named = false;
        for (zone, fill) in &fills {
            let mut labels = Vec::new();
            push_label(&mut labels, "zone", &zone.name);
            let mut samples =
                Samples { family: &family, named: &mut named, labels: &labels, now_ms: 0, table: None, out };
            samples.add("", None, Value::Integer(value(fill)));
        }
    };
    each(gauge("zone_accounts", "Keys that have an account."), |fill| fill.accounts.into());
    each(gauge("zone_capacity", "Keys that the zone has room for."), |fill| fill.capacity.into());
    let help = "Requests whose key found no room in the zone.";
    each(counter("zone_overflowed_total", help), |fill| fill.overflowed);
}

enum Value {
    Integer(u64),
    /// thousandths, such as milliseconds, written as units without loss
    Milliseconds(u64),
    /// billionths, such as nanoseconds, written as units without loss
    Seconds(u64),
}

/// Samples of one family that have the same labels but for one.
struct Samples<'a> {
    family: &'a Family,
    named: &'a mut bool,
    labels: &'a [u8],
    /// the monotonic time that limits know, where there is an account
    now_ms: u64,
    /// the account's, where there is one
    table: Option<&'a Table>,
    out: &'a mut Vec<u8>,
}

impl Samples<'_> {
    /// The limit of an account that is shown.
    fn limit(&self, account: &Account) -> Option<BucketState> {
        account.limit(self.table?, self.now_ms)
    }

    /// Writes a line for each class that has been counted.
    fn add_each(&mut self, label: &str, names: &[&str], counts: &[Count], shows: Shows) {
        for (name, count) in names.iter().zip(counts).filter(|(_, count)| count.requests != 0) {
            self.add("", Some((label, name)), shows(count));
        }
    }

    /// Writes one line, with one more label where `label` has it, whose value needs no escaping.
    fn add(&mut self, suffix: &str, label: Option<(&str, &str)>, value: Value) {
        let Family { name, kind, help } = self.family;
        if !core::mem::replace(self.named, true) {
            for part in ["# HELP ", PREFIX, name, " ", help, "\n# TYPE ", PREFIX, name, " ", kind, "\n"] {
                push(self.out, part);
            }
        }
        for part in [PREFIX, name, suffix, "{"] {
            push(self.out, part);
        }
        self.out.extend_from_slice(self.labels);
        if let Some((name, value)) = label {
            for part in [",", name, "=\"", value, "\""] {
                push(self.out, part);
            }
        }
        push(self.out, "} ");
        let mut digits = itoa::Buffer::new();
        match value {
            Value::Integer(value) => push(self.out, digits.format(value)),
            Value::Milliseconds(ms) => self.push_parts(ms, 1000),
            Value::Seconds(ns) => self.push_parts(ns, NS),
        }
        push(self.out, "\n");
    }

    /// Writes a number of parts, of which a power of ten make a unit, as units.
    fn push_parts(&mut self, parts: u64, per_unit: u64) {
        let mut digits = itoa::Buffer::new();
        push(self.out, digits.format(parts / per_unit));
        push(self.out, ".");
        // with the zeros that lead
        push(self.out, &digits.format(per_unit + parts % per_unit)[1..]);
    }
}

const PREFIX: &str = "nginx_request_cpu_";
/// Nanoseconds in a second.
const NS: u64 = 1_000_000_000;

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends `name="value"`, and a comma where a label stands before it. Control characters other than the newline may
/// stand as they are; keys have none, see [`key::display`].
fn push_label(labels: &mut Vec<u8>, name: &str, value: &str) {
    if !labels.is_empty() {
        push(labels, ",");
    }
    push(labels, name);
    push(labels, "=\"");
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        push(labels, &rest[..at]);
        push(
            labels,
            match rest.as_bytes()[at] {
                b'\\' => "\\\\",
                b'"' => "\\\"",
                _ => "\\n",
            },
        );
        rest = &rest[at + 1..];
    }
    push(labels, rest);
    push(labels, "\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_accounts() {
        for (le, ns) in LE.into_iter().zip(CPU_BOUNDS_NS) {
            assert_eq!((le.parse::<f64>().unwrap() * 1e9).round() as u64, ns);
        }
        assert_eq!(LE.last(), Some(&"+Inf"));
    }
}
