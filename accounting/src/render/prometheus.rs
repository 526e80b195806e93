//! The status in Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
//!
//! The format wants all samples of a family together, so every account is visited, and read, once per family: copies
//! of all accounts would be nearly as large as the accounts themselves. The samples that an account has in one family
//! show one instant, a histogram above all; from one family to the next, time passes. Each counter is read once, so it
//! never falls from one answer to the next.

use formats::classes::{CPU_BOUNDS_LE, DRY_RUN, WINDOWS};
use formats::counters::{
    COUNTERS, Counter, Detail, FAMILIES_IN_ORDER, Family, Figure, Of, PREFIX, Sample, Shape, Signal, Unit,
};

use super::shown::Shown;
use super::status::Status;
use crate::account::{Account, Count};
use crate::key;
use crate::limit::BucketState;
use crate::table::{Fill, Slot, Table};
use crate::worker_totals::WorkerTotals;

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
        let start =
            |family, zone: usize| At::Account { family, zone, slot: shown.get(zone).and_then(Shown::first) };
        self.at = match self.at {
            At::Head => {
                info(status, out);
                next_family(0, status.detail).map_or(At::Tail, |first| start(first, 0))
            }
            At::Account { family, zone, slot: Some(slot) } => {
                let table = &shown[zone].table;
                if family == 0 {
                    table.refresh(slot, now_ms);
                }
                self.labels.clear();
                push_label(&mut self.labels, "zone", &status.zones[zone].name);
                push_label(&mut self.labels, "key", &key::display(table.key(slot)));
                if let Some((row, head)) = FAMILIES_IN_ORDER.get(family) {
                    let (named, labels) = (&mut self.named, &self.labels);
                    let mut samples =
                        Samples { family: head, named, labels, now_ms, table: Some(table), out };
                    samples.add_account(*row, table.account(slot), table.epoch());
                }
                At::Account { family, zone, slot: shown[zone].after(slot) }
            }
            At::Account { family, zone, slot: None } if zone + 1 < shown.len() => start(family, zone + 1),
            At::Account { family, .. } => {
                self.named = false;
                next_family(family + 1, status.detail).map_or(At::Tail, |next| start(next, 0))
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

/// The next family from this one on that has samples of accounts with so much detail.
fn next_family(from: usize, detail: Detail) -> Option<usize> {
    let is_shown = |&(at, (row, _)): &(usize, &(usize, Family))| {
        at >= from && COUNTERS.get(*row).is_some_and(|counter| counter.detail <= detail)
    };
    FAMILIES_IN_ORDER.iter().enumerate().find(is_shown).map(|(at, _)| at)
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::new("counter", name, help)
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family::new("gauge", name, help)
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

fn workers(totals: &[(u32, WorkerTotals)], out: &mut Vec<u8>) {
    let help = "CPU time of workers, by whom it went to; pool_threads: their other threads.";
    let (family, mut named) = (counter("worker_seconds_total", help), false);
    for (worker, totals) in totals {
        let mut labels = Vec::new();
        push_label(&mut labels, "worker", &worker.to_string());
        let mut samples =
            Samples { family: &family, named: &mut named, labels: &labels, now_ms: 0, table: None, out };
        for (owner, ns) in [
            ("charged", totals.charged_ns),
            ("no_request", totals.no_request_ns),
            ("loop", totals.loop_ns),
            ("other", totals.other_ns),
            ("pool_threads", totals.pool_threads_cpu_ns),
        ] {
            samples.add("", Some(("owner", owner)), Value::Seconds(ns));
        }
    }
    let help = "CPU time of workers that was charged to requests and is in no account.";
    let (family, mut named) = (counter("worker_uncounted_seconds_total", help), false);
    for (worker, totals) in totals {
        let mut labels = Vec::new();
        push_label(&mut labels, "worker", &worker.to_string());
        let mut samples =
            Samples { family: &family, named: &mut named, labels: &labels, now_ms: 0, table: None, out };
        samples.add("", None, Value::Seconds(totals.uncounted_ns));
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

/// A counter of one cell, or a figure, in the units of Prometheus.
fn value_of(row: usize, counter: &Counter, account: &Account, epoch: u32) -> Value {
    let value = match counter.shape {
        Shape::Figure(Figure::InFlight) => account.in_flight().read(epoch).into(),
        // nanoseconds in one second
        Shape::Figure(Figure::Peak) => return Value::Seconds(account.billing().read().peak_cpu_ns),
        _ => account.row(row).next().unwrap_or(0) / counter.divisor,
    };
    match counter.unit {
        Unit::Nanoseconds => Value::Seconds(value),
        Unit::Milliseconds | Unit::ByteMilliseconds => Value::Milliseconds(value),
        _ => Value::Integer(value),
    }
}

/// The tallies of a counter: requests and CPU.
fn tallies(account: &Account, row: usize) -> impl Iterator<Item = [u64; 2]> {
    let mut cells = account.row(row);
    core::iter::from_fn(move || Some([cells.next()?, cells.next()?]))
}

fn part(of: Of, requests: u64, cpu_ns: u64) -> Value {
    match of {
        Of::Requests => Value::Integer(requests),
        Of::Cpu => Value::Seconds(cpu_ns),
    }
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

    /// Writes the samples that an account has in the family, which is one of the counter at this place of the
    /// table. `epoch` is that of the account's table.
    fn add_account(&mut self, row: usize, account: &Account, epoch: u32) {
        let Some(counter) = COUNTERS.get(row) else { return };
        match self.family.sample {
            Sample::Value => self.add("", None, value_of(row, counter, account, epoch)),
            Sample::Class(label) => {
                let Shape::Classes(classes) = counter.shape else { return };
                for (class, requests) in
                    classes.iter().zip(account.row(row)).filter(|&(_, requests)| requests != 0)
                {
                    self.add("", Some((label, class)), Value::Integer(requests));
                }
            }
            Sample::Tally(label, of) => {
                let Shape::Tallies { classes, .. } = counter.shape else { return };
                for (class, [requests, cpu_ns]) in classes.iter().zip(tallies(account, row)) {
                    if requests != 0 {
                        self.add("", Some((label, class)), part(of, requests, cpu_ns));
                    }
                }
            }
            // both kinds from the first check on, so that what is refused first is an increase
            Sample::Refused(of) => {
                let is_limited = self.limit(account).is_some();
                for (dry_run, [requests, cpu_ns]) in DRY_RUN.iter().zip(tallies(account, row)) {
                    if is_limited || requests != 0 {
                        self.add("", Some(("dry_run", dry_run)), part(of, requests, cpu_ns));
                    }
                }
            }
            // nanoseconds per second
            Sample::LimitRate => self.add_limit(account, |limit| limit.rate),
            Sample::LimitDebt => self.add_limit(account, |limit| limit.debt_ns),
            Sample::Window(signal) => {
                for (name, window) in WINDOWS.iter().zip(&account.signals(self.now_ms)) {
                    let value = match signal {
                        Signal::InFlight => window.in_flight,
                        Signal::Requests => window.requests_per_second,
                        Signal::Cores => window.cores,
                    };
                    // never negative, and a gauge needs no more
                    self.add("", Some(("window", name)), Value::Seconds((value * 1e9).round() as u64));
                }
            }
            Sample::Histogram => self.add_histogram(row, account),
        }
    }

    fn add_limit(&mut self, account: &Account, shows: fn(&BucketState) -> u64) {
        if let Some(limit) = self.limit(account) {
            self.add("", None, Value::Seconds(shows(&limit)));
        }
    }

    /// Every series has every bound: a sum over series would not be a histogram otherwise.
    fn add_histogram(&mut self, row: usize, account: &Account) {
        let cpu_ns = Count::sum(&account.by_connection_order()).cpu_ns;
        let mut below = 0;
        for (le, requests) in CPU_BOUNDS_LE.into_iter().zip(account.row(row)) {
            below += requests;
            self.add("_bucket", Some(("le", le)), Value::Integer(below));
        }
        self.add("_sum", None, Value::Seconds(cpu_ns));
        // the sum of the buckets, not of other counters
        self.add("_count", None, Value::Integer(below));
    }

    /// Writes one line, with one more label where `label` has it, whose value needs no escaping.
    fn add(&mut self, suffix: &str, label: Option<(&str, &str)>, value: Value) {
        let Family { name, kind, help, .. } = self.family;
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
