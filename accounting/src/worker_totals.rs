//! The worker totals of one worker: every lap ends up in exactly one of them.

/// Sums over one worker process since its hook went in, all in nanoseconds of CPU unless named otherwise.
///
/// [`WorkerTotals::thread_cpu_ns`] is their sum by definition. A connection that has sent no request yet is
/// *pending*: its CPU is in none of the four until it is decided whether a request takes it over, so that no sum
/// ever decreases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WorkerTotals {
    /// Calls of event handlers by the event loop (a count).
    pub wakeups: u64,
    /// Went to requests and accounts, added to accounts or not.
    pub charged_ns: u64,
    /// The part of `charged_ns` and `pool_threads_charged_ns` that is in no account, see [`CountedCpu`].
    pub uncounted_ns: u64,
    /// Went to connections that never sent a request.
    pub no_request_ns: u64,
    /// The event loop itself: waiting for events and queueing them, timers.
    pub loop_ns: u64,
    /// Wakeups that nobody claimed.
    pub other_ns: u64,
    /// Not decided yet: connections that are open and have sent no request.
    pub pending_ns: u64,
    /// CPU of the worker's other threads (thread pools); not part of the identity.
    pub pool_threads_cpu_ns: u64,
    /// The part of it that went to requests and accounts, which therefore have more than `charged_ns`.
    pub pool_threads_charged_ns: u64,
    /// Readings of the clock of CPU time (a count).
    pub clock_readings: u64,
}

impl WorkerTotals {
    /// The worker's thread CPU that is decided: charged + no request + loop + other.
    pub fn thread_cpu_ns(&self) -> u64 {
        self.charged_ns + self.no_request_ns + self.loop_ns + self.other_ns
    }

    /// A thread of a pool has worked for a request.
    pub fn charge_pool_thread(&mut self, ns: u64) {
        self.pool_threads_charged_ns += ns;
        // that is read less often
        self.pool_threads_cpu_ns = self.pool_threads_cpu_ns.max(self.pool_threads_charged_ns);
    }

    /// A request takes over what its connection had pending.
    #[inline]
    pub fn pending_to_charged(&mut self, ns: u64) {
        self.pending_ns = self.pending_ns.saturating_sub(ns);
        self.charged_ns += ns;
    }

    /// A connection closed without a request.
    #[inline]
    pub fn pending_to_no_request(&mut self, ns: u64) {
        self.pending_ns = self.pending_ns.saturating_sub(ns);
        self.no_request_ns += ns;
    }
}

/// What one worker has charged to requests and given to accounts, or to none: `request_cpu off`, empty keys,
/// requests that ended before their accounts were known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CountedCpu {
    counted_ns: u64,
    uncounted_ns: u64,
}

impl CountedCpu {
    /// CPU of a request, or of its connection, leaves the request. `is_counted`: it goes to one account or to several.
    #[inline]
    pub fn add(&mut self, ns: u64, is_counted: bool) {
        let sum = if is_counted { &mut self.counted_ns } else { &mut self.uncounted_ns };
        *sum += ns;
    }

    /// Writes what is known now. CPU that open requests still have is in neither sum.
    #[inline]
    pub fn show(&self, totals: &mut WorkerTotals) {
        totals.uncounted_ns = self.uncounted_ns;
    }

    /// The process ends: no account gets what open requests still have.
    pub fn close(&mut self, totals: &WorkerTotals) {
        let charged_ns = totals.charged_ns + totals.pool_threads_charged_ns;
        self.uncounted_ns = self.uncounted_ns.max(charged_ns.saturating_sub(self.counted_ns));
    }
}

#[cfg(test)]
mod tests;
