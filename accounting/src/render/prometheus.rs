//! The status in Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
//!
//! The format wants all samples of a family together, so every account is visited once per family. Each is read once,
//! before the first line, and kept: so all families of a key show the same instant, however long the writing takes
//! and whatever the workers count meanwhile, and a rate over two families of one scrape (CPU per request, say) is not
//! skewed. The copies take less than 1 KB per account, a quarter of what is written about it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use super::{Detail, Status, shown};
use crate::account::{CLASSES, CPU_BOUNDS_NS, CacheStatus, Snapshot};
use crate::books::Books;
use crate::key;

/// Owners of a worker's CPU, as the label says it, and their nanoseconds.
fn owners(books: &Books) -> [(&'static str, u64); 5] {
    [
        ("charged", books.charged_ns),
        ("no_request", books.no_request_ns),
        ("loop", books.loop_ns),
        ("other", books.other_ns),
        ("pool_threads", books.pool_threads_cpu_ns),
    ]
}

/// Writes all families that have a sample.
///
/// # Errors
/// Those of `out`, and [`io::ErrorKind::OutOfMemory`] if the accounts do not fit into memory.
pub(super) fn write(status: &Status<'_>, out: impl io::Write) -> io::Result<()> {
    let accounts = read(status)?;
    let mut text = Text { out, family: "", line: String::with_capacity(512) };

    text.family("info", Kind::Gauge, "What answers here.")?;
    let mut labels = String::new();
    push_label(&mut labels, "version", status.version);
    push_label(&mut labels, "nginx_version", status.nginx_version);
    push_label(&mut labels, "clock", status.clock);
    text.sample("", &labels, None, 1)?;

    text.counter(&accounts, "seconds_total", "CPU time charged to the key.", |s| Seconds(s.usage.cpu_ns))?;
    text.requests(&accounts)?;
    text.counter(
        &accounts,
        "wakeups_total",
        "Calls of event handlers on behalf of the key's requests.",
        |s| s.usage.wakeups,
    )?;
    text.counter(&accounts, "sent_bytes_total", "Bytes sent to clients.", |s| s.usage.sent_bytes)?;
    text.counter(&accounts, "received_bytes_total", "Bytes received from clients.", |s| {
        s.usage.received_bytes
    })?;
    text.each(&accounts, "in_flight", Kind::Gauge, "Requests that are open.", |s| s.in_flight)?;
    if status.detail == Detail::Full {
        text.cache(&accounts)?;
        text.per_request(&accounts)?;
    }
    drop(accounts);

    text.workers(&status.worker_totals)?;
    text.zones(status)?;
    Ok(())
}

/// One account, read, with its labels as they are written.
struct Account {
    labels: Box<str>,
    snapshot: Snapshot,
}

fn read(status: &Status<'_>) -> io::Result<Vec<Account>> {
    let mut accounts = Vec::new();
    // a worker process that fails to allocate aborts; an answer that does not fit into memory need not go that far
    accounts.try_reserve_exact(status.zones.iter().map(|zone| zone.slots.len()).sum())?;
    let mut labels = String::new();
    for zone in &status.zones {
        for (key, snapshot) in shown(zone, status.now_ms) {
            labels.clear();
            push_label(&mut labels, "zone", &zone.name);
            push_label(&mut labels, "key", &key::display(key));
            accounts.push(Account { labels: labels.as_str().into(), snapshot });
        }
    }
    Ok(accounts)
}

/// Nanoseconds, written as seconds without loss.
#[derive(Clone, Copy)]
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Appends `name="value"`, and a comma where a label stands before it.
fn push_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    labels.push_str(&escaped(value));
    labels.push('"');
}

/// A label value as the format wants it. Control characters other than the newline may stand as they are; keys have
/// none that could do harm, see [`key::display`].
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 8);
    for char in value.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            char => out.push(char),
        }
    }
    Cow::Owned(out)
}

/// The writer, and the family whose samples are being written.
struct Text<W> {
    out: W,
    family: &'static str,
    line: String,
}

impl<W: io::Write> Text<W> {
    /// Starts a family, `name` without the prefix that all have.
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> io::Result<()> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        writeln!(self.out, "# HELP nginx_request_cpu_{name} {help}\n# TYPE nginx_request_cpu_{name} {kind}")
    }

    /// Writes one line: `labels`, and one more label where `last` has it, whose value needs no escaping.
    fn sample(
        &mut self,
        suffix: &str,
        labels: &str,
        last: Option<(&str, &str)>,
        value: impl std::fmt::Display,
    ) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        for part in ["nginx_request_cpu_", self.family, suffix, "{", labels] {
            line.push_str(part);
        }
        if let Some((name, value)) = last {
            for part in [",", name, "=\"", value, "\""] {
                line.push_str(part);
            }
        }
        // writing to a String cannot fail
        let _ = writeln!(line, "}} {value}");
        self.out.write_all(line.as_bytes())
    }

    /// A family with one sample per account.
    fn each<V: std::fmt::Display>(
        &mut self,
        accounts: &[Account],
        name: &'static str,
        kind: Kind,
        help: &str,
        value: impl Fn(&Snapshot) -> V,
    ) -> io::Result<()> {
        if accounts.is_empty() {
            return Ok(());
        }
        self.family(name, kind, help)?;
        for account in accounts {
            self.sample("", &account.labels, None, value(&account.snapshot))?;
        }
        Ok(())
    }

    /// A family of counters with one sample per account.
    fn counter<V: std::fmt::Display>(
        &mut self,
        accounts: &[Account],
        name: &'static str,
        help: &str,
        value: impl Fn(&Snapshot) -> V,
    ) -> io::Result<()> {
        self.each(accounts, name, Kind::Counter, help, value)
    }

    /// A family of counters with one sample per account and value of the label `label`, as far as `counts` has them.
    fn split<V: std::fmt::Display>(
        &mut self,
        accounts: &[Account],
        name: &'static str,
        help: &str,
        label: &str,
        counts: impl Fn(&Snapshot, &mut dyn FnMut(&'static str, V) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut started = false;
        for account in accounts {
            counts(&account.snapshot, &mut |text, value| {
                if !started {
                    started = true;
                    self.family(name, Kind::Counter, help)?;
                }
                self.sample("", &account.labels, Some((label, text)), value)
            })?;
        }
        Ok(())
    }

    fn requests(&mut self, accounts: &[Account]) -> io::Result<()> {
        let help = "Requests that ended, by class of the response; other: without a status.";
        self.split(accounts, "requests_total", help, "class", |snapshot, sample| {
            for (class, &requests) in CLASSES.iter().zip(&snapshot.responses) {
                if requests != 0 {
                    sample(class, requests)?;
                }
            }
            if snapshot.other_responses != 0 {
                sample("other", snapshot.other_responses)?;
            }
            Ok(())
        })
    }

    fn cache(&mut self, accounts: &[Account]) -> io::Result<()> {
        let help = "CPU time of requests that ended, by cache status.";
        self.split(accounts, "cache_seconds_total", help, "status", |snapshot, sample| {
            for (status, count) in CacheStatus::NAMES.iter().zip(&snapshot.by_cache_status) {
                if count.requests != 0 {
                    sample(status, Seconds(count.cpu_ns))?;
                }
            }
            Ok(())
        })?;
        let help = "Requests that ended, by cache status.";
        self.split(accounts, "cache_requests_total", help, "status", |snapshot, sample| {
            for (status, count) in CacheStatus::NAMES.iter().zip(&snapshot.by_cache_status) {
                if count.requests != 0 {
                    sample(status, count.requests)?;
                }
            }
            Ok(())
        })
    }

    /// The histogram. Every series has every bound: a sum over series would not be a histogram otherwise.
    fn per_request(&mut self, accounts: &[Account]) -> io::Result<()> {
        if accounts.is_empty() {
            return Ok(());
        }
        self.family("per_request_seconds", Kind::Histogram, "CPU time per request, of requests that ended.")?;
        let bounds = CPU_BOUNDS_NS.map(le);
        for Account { labels, snapshot } in accounts {
            let mut below = 0;
            for (le, requests) in
                bounds.iter().map(String::as_str).chain(["+Inf"]).zip(snapshot.by_request_cpu)
            {
                below += requests;
                self.sample("_bucket", labels, Some(("le", le)), below)?;
            }
            self.sample("_sum", labels, None, Seconds(snapshot.requests_cpu_ns))?;
            // not `snapshot.requests`, which is read from other counters
            self.sample("_count", labels, None, below)?;
        }
        Ok(())
    }

    fn workers(&mut self, totals: &[(u32, Books)]) -> io::Result<()> {
        if totals.is_empty() {
            return Ok(());
        }
        let help = "CPU time of workers, by whom it went to; pool_threads: their other threads.";
        self.family("worker_seconds_total", Kind::Counter, help)?;
        for (worker, books) in totals {
            let labels = format!("worker=\"{worker}\"");
            for (owner, ns) in owners(books) {
                self.sample("", &labels, Some(("owner", owner)), Seconds(ns))?;
            }
        }
        Ok(())
    }

    fn zones(&mut self, status: &Status<'_>) -> io::Result<()> {
        if status.zones.is_empty() {
            return Ok(());
        }
        let zones: Vec<_> = status
            .zones
            .iter()
            .map(|zone| {
                let mut labels = String::new();
                push_label(&mut labels, "zone", &zone.name);
                (labels, zone.table.fill())
            })
            .collect();
        self.family("zone_accounts", Kind::Gauge, "Keys that have an account.")?;
        for (labels, fill) in &zones {
            self.sample("", labels, None, fill.accounts)?;
        }
        self.family("zone_capacity", Kind::Gauge, "Keys that the zone has room for.")?;
        for (labels, fill) in &zones {
            self.sample("", labels, None, fill.capacity)?;
        }
        let help = "Requests whose key found no room in the zone.";
        self.family("zone_overflowed_total", Kind::Counter, help)?;
        for (labels, fill) in &zones {
            self.sample("", labels, None, fill.overflowed)?;
        }
        Ok(())
    }
}

/// A bound in seconds, with no more digits than it has: `0.00001`, `10`.
fn le(ns: u64) -> String {
    let text = Seconds(ns).to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
