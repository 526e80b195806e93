//! Both clocks at once, to see how far one is from the other. Only in builds with the feature `audit`; see scripts/audit.

use accounting::meter::Clocks;
use hdrhistogram::Histogram;
use nginx_sys::{NGX_LOG_NOTICE, ngx_log_t};
use ngx::ngx_log_error;

use crate::clock::{ThreadClocks, thread_cpu_ns};

/// What the meter has measured, and what the CPU clock says about the same.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pair {
    measured_ns: u64,
    exact_ns: u64,
}

impl Pair {
    pub fn add(&mut self, other: Pair) {
        self.measured_ns += other.measured_ns;
        self.exact_ns += other.exact_ns;
    }

    fn difference_ns(&self) -> u64 {
        self.measured_ns.abs_diff(self.exact_ns)
    }
}

/// The differences of one worker.
pub struct Audit {
    last_ns: u64,
    sees_switches: bool,
    wakeup: Pair,
    all: Pair,
    /// of all that is not the event loop's
    charged: Pair,
    wakeups: Histogram<u64>,
    requests: Histogram<u64>,
}

impl Audit {
    pub fn start(clocks: &ThreadClocks) -> Self {
        Self {
            last_ns: thread_cpu_ns(),
            sees_switches: clocks.sees_switches(),
            wakeup: Pair::default(),
            all: Pair::default(),
            charged: Pair::default(),
            wakeups: histogram(),
            requests: histogram(),
        }
    }

    /// A lap has ended, which the meter found to be `measured_ns` long.
    pub fn lap(&mut self, measured_ns: u64, is_loop: bool) -> Pair {
        let now_ns = thread_cpu_ns();
        let lap = Pair { measured_ns, exact_ns: now_ns.saturating_sub(self.last_ns) };
        self.last_ns = now_ns;
        self.all.add(lap);
        if !is_loop {
            self.charged.add(lap);
            self.wakeup.add(lap);
        }
        lap
    }

    pub fn end_wakeup(&mut self) {
        let wakeup = core::mem::take(&mut self.wakeup);
        self.wakeups.saturating_record(wakeup.difference_ns());
    }

    pub fn end_request(&mut self, request: &Pair) {
        self.requests.saturating_record(request.difference_ns());
    }

    /// Writes the result to the error log, for scripts/audit.
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
            |pair: &Pair| format!(r#"{{"measured_ns":{},"exact_ns":{}}}"#, pair.measured_ns, pair.exact_ns);
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

/// Three digits, up to a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).unwrap_or_else(|_| unreachable!("bounds are constant"))
}
