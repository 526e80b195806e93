//! Reads both clocks at each lap, and compares them. Only in builds with the feature `audit`; see tools/audit.

use accounting::meter::Clocks;
use hdrhistogram::Histogram;
use nginx_sys::{NGX_LOG_NOTICE, ngx_log_t};

use crate::measure::clock::{ThreadClocks, thread_cpu_ns};
use crate::nginx::error_log::ngx_log_error;

/// A measured time, with its lower and upper bound by the CPU clock. The CPU clock is read before and after the meter.
/// Between these readings, an interrupt may take any time.
#[derive(Debug, Default, Clone, Copy)]
pub struct Audited {
    measured_ns: u64,
    least_ns: u64,
    most_ns: u64,
}

impl Audited {
    /// No time.
    pub const NONE: Audited = Audited { measured_ns: 0, least_ns: 0, most_ns: 0 };

    pub fn add(&mut self, other: Audited) {
        self.measured_ns += other.measured_ns;
        self.least_ns += other.least_ns;
        self.most_ns += other.most_ns;
    }

    /// The error that is certain, in nanoseconds.
    fn error_ns(&self) -> u64 {
        self.least_ns.saturating_sub(self.measured_ns) + self.measured_ns.saturating_sub(self.most_ns)
    }
}

/// The CPU clock, right before and right after a reading of the meter.
#[derive(Debug, Default, Clone, Copy)]
pub struct Boundary {
    before_ns: u64,
    after_ns: u64,
}

impl Boundary {
    fn since(self, start: Boundary, measured_ns: u64) -> Audited {
        Audited {
            measured_ns,
            least_ns: self.before_ns.saturating_sub(start.after_ns),
            most_ns: self.after_ns - start.before_ns,
        }
    }
}

/// The sum of measured times, and the sum of the same times by the CPU clock.
#[derive(Debug, Default)]
struct Sums {
    measured_ns: u64,
    exact_ns: u64,
}

/// The errors of one worker.
pub struct Audit {
    start_ns: u64,
    sees_switches: bool,
    /// `last` is the end of the last lap; `wakeup_start` is the end of the last lap that was the event loop's or ended
    /// a handler call
    last: Boundary,
    wakeup_start: Boundary,
    wakeup_ns: u64,
    all: Sums,
    charged: Sums,
    wakeups: Histogram<u64>,
    requests: Histogram<u64>,
}

impl Audit {
    pub fn start(clocks: &ThreadClocks) -> Self {
        let now_ns = thread_cpu_ns();
        let now = Boundary { before_ns: now_ns, after_ns: now_ns };
        Self {
            start_ns: now_ns,
            sees_switches: clocks.sees_switches(),
            last: now,
            wakeup_start: now,
            wakeup_ns: 0,
            all: Sums::default(),
            charged: Sums::default(),
            wakeups: histogram(),
            requests: histogram(),
        }
    }

    /// Calls `lap`, which ends a lap. Returns its result, with the bounds. `is_loop`: the lap belongs to the event
    /// loop.
    #[inline]
    pub fn lap(&mut self, lap: impl FnOnce() -> u64, is_loop: bool) -> (u64, Audited) {
        let before_ns = thread_cpu_ns();
        let measured_ns = lap();
        let now = Boundary { before_ns, after_ns: thread_cpu_ns() };
        let exact_ns = now.after_ns - self.last.after_ns;
        let audited = now.since(self.last, measured_ns);
        self.last = now;
        self.all.measured_ns += measured_ns;
        self.all.exact_ns = now.after_ns - self.start_ns;
        if is_loop {
            // a listening socket's handler call can have laps of a connection before this one
            (self.wakeup_start, self.wakeup_ns) = (now, 0);
        } else {
            self.wakeup_ns += measured_ns;
            self.charged.measured_ns += measured_ns;
            self.charged.exact_ns += exact_ns;
        }
        (measured_ns, audited)
    }

    /// Adds `ns` nanoseconds that waits for events have used, in laps that ended before.
    pub fn add_waits(&mut self, ns: u64) {
        self.all.measured_ns += ns;
    }

    pub fn end_wakeup(&mut self) {
        let wakeup = self.last.since(self.wakeup_start, core::mem::take(&mut self.wakeup_ns));
        self.wakeup_start = self.last;
        self.wakeups.saturating_record(wakeup.error_ns());
    }

    pub fn end_request(&mut self, request: &Audited) {
        self.requests.saturating_record(request.error_ns());
    }

    /// Writes the result to the error log, for tools/audit.
    pub fn publish(&self, readings: u64, log: *mut ngx_log_t) {
        let quantiles = |h: &Histogram<u64>| {
            let at = |q| h.value_at_quantile(q);
            format!(
                r#"{{"count":{},"p50":{},"p99":{},"p99.9":{},"max":{}}}"#,
                h.len(),
                at(0.5),
                at(0.99),
                at(0.999),
                h.max()
            )
        };
        let sums =
            |sums: &Sums| format!(r#"{{"measured_ns":{},"exact_ns":{}}}"#, sums.measured_ns, sums.exact_ns);
        let text = format!(
            r#"request_cpu audit: {{"sees_switches":{},"readings":{readings},"wakeups":{},"requests":{},"all":{},"charged":{}}}"#,
            self.sees_switches,
            quantiles(&self.wakeups),
            quantiles(&self.requests),
            sums(&self.all),
            sums(&self.charged),
        );
        ngx_log_error!(NGX_LOG_NOTICE, log, "{text}");
    }
}

/// A histogram with three significant digits, for times up to a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).unwrap_or_else(|_| unreachable!("bounds are constant"))
}
