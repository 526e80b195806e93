//! The samples of an account.

use super::text::{Labels, Samples, Value};
use crate::classes::{CPU_BOUNDS_LE, DRY_RUN, WINDOWS};
use crate::counters::{COUNTERS, Counter, FAMILIES_IN_ORDER, Figure, Of, Sample, Shape, Signal, Unit};
use crate::status::{Limit, Signal as Average};

/// The values of an account. Each value is read when it is requested.
pub trait AccountValues {
    /// The cells of the counter at this index of the table.
    fn cells(&self, row: usize) -> impl Iterator<Item = u64>;
    /// Requests that are open.
    fn in_flight(&self) -> u32;
    /// The most CPU time of one second, in nanoseconds.
    fn peak_cpu_ns(&self) -> u64;
    /// CPU time of all requests that ended, in nanoseconds.
    fn ended_cpu_ns(&self) -> u64;
    /// The limit that was checked last.
    fn limit(&self) -> Option<Limit>;
    /// Averages over [`WINDOWS`].
    fn windows(&self) -> [Average; WINDOWS.len()];
}

/// Writes the samples of an account in the family at this index of [`FAMILIES_IN_ORDER`]. `is_named` tells whether the
/// head of the family is written already.
pub fn account(
    family: usize,
    is_named: &mut bool,
    labels: &Labels,
    account: &impl AccountValues,
    out: &mut Vec<u8>,
) {
    if let Some((row, family)) = FAMILIES_IN_ORDER.get(family)
        && let Some(counter) = COUNTERS.get(*row)
    {
        Samples::new(family, is_named, labels, out).add_account(*row, counter, account);
    }
}

/// A counter of one cell, or a figure, in the units of Prometheus.
fn value_of(row: usize, counter: &Counter, account: &impl AccountValues) -> Value {
    let value = match counter.shape {
        Shape::Figure(Figure::InFlight) => account.in_flight().into(),
        // nanoseconds in one second
        Shape::Figure(Figure::Peak) => return Value::Seconds(account.peak_cpu_ns()),
        _ => account.cells(row).next().unwrap_or(0) / counter.divisor,
    };
    match counter.unit {
        Unit::Nanoseconds => Value::Seconds(value),
        Unit::Milliseconds | Unit::ByteMilliseconds => Value::Milliseconds(value),
        _ => Value::Integer(value),
    }
}

/// The tallies of a counter: requests and CPU.
fn tallies(account: &impl AccountValues, row: usize) -> impl Iterator<Item = [u64; 2]> {
    let mut cells = account.cells(row);
    core::iter::from_fn(move || Some([cells.next()?, cells.next()?]))
}

fn part(of: Of, requests: u64, cpu_ns: u64) -> Value {
    match of {
        Of::Requests => Value::Integer(requests),
        Of::Cpu => Value::Seconds(cpu_ns),
    }
}

impl Samples<'_> {
    /// Writes the samples of an account. The family belongs to the counter at this index of the table.
    fn add_account(&mut self, row: usize, counter: &Counter, account: &impl AccountValues) {
        match self.family.sample {
            Sample::Value => self.add("", None, value_of(row, counter, account)),
            Sample::Class(label) => {
                let Shape::Classes(classes) = counter.shape else { return };
                for (class, requests) in
                    classes.iter().zip(account.cells(row)).filter(|&(_, requests)| requests != 0)
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
            // both kinds are shown from the first check on, so that the first refusal is an increase
            Sample::Refused(of) => {
                let is_limited = account.limit().is_some();
                for (dry_run, [requests, cpu_ns]) in DRY_RUN.iter().zip(tallies(account, row)) {
                    if is_limited || requests != 0 {
                        self.add("", Some(("dry_run", dry_run)), part(of, requests, cpu_ns));
                    }
                }
            }
            // nanoseconds per second
            Sample::LimitRate => self.add_limit(account.limit().map(|limit| limit.rate)),
            Sample::LimitDebt => self.add_limit(account.limit().map(|limit| limit.debt_ns)),
            Sample::Window(signal) => {
                for (name, window) in WINDOWS.iter().zip(&account.windows()) {
                    let value = match signal {
                        Signal::InFlight => window.in_flight,
                        Signal::Requests => window.requests_per_second,
                        Signal::Cores => window.cores,
                    };
                    // a gauge needs no more digits, and is never negative
                    self.add("", Some(("window", name)), Value::Seconds((value * 1e9).round() as u64));
                }
            }
            Sample::Histogram => self.add_histogram(row, account),
        }
    }

    fn add_limit(&mut self, ns: Option<u64>) {
        if let Some(ns) = ns {
            self.add("", None, Value::Seconds(ns));
        }
    }

    /// Every series has every bound: otherwise a sum over series would not be a histogram.
    fn add_histogram(&mut self, row: usize, account: &impl AccountValues) {
        let cpu_ns = account.ended_cpu_ns();
        let mut below = 0;
        for (le, requests) in CPU_BOUNDS_LE.into_iter().zip(account.cells(row)) {
            below += requests;
            self.add("_bucket", Some(("le", le)), Value::Integer(below));
        }
        self.add("_sum", None, Value::Seconds(cpu_ns));
        // the sum of the buckets, not of other counters
        self.add("_count", None, Value::Integer(below));
    }
}
