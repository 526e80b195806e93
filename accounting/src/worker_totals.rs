//! The worker totals of one worker: every lap is in exactly one of them.

/// Sums over one worker process since its event-loop hook was set, in nanoseconds of CPU unless named otherwise.
///
/// [`WorkerTotals::thread_cpu_ns`] is their sum by definition. A connection that has sent no request yet is
/// *pending*: its CPU is in none of the four sums until a request takes it over, or the connection closes. So no sum
/// ever decreases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WorkerTotals {
    /// Calls of event handlers by the event loop (a count).
    pub wakeups: u64,
    /// CPU charged to requests and accounts, whether it was flushed or not.
    pub charged_ns: u64,
    /// The part of `charged_ns` and `pool_threads_charged_ns` that is in no account, see [`CountedCpu`].
    pub uncounted_ns: u64,
    /// CPU of connections that never sent a request.
    pub no_request_ns: u64,
    /// The event loop itself: waiting for events and queueing them, timers.
    pub loop_ns: u64,
    /// Handler calls without an owner.
    pub other_ns: u64,
    /// Not decided yet: CPU of open connections that have sent no request.
    pub pending_ns: u64,
    /// CPU of the worker's other threads (thread pools); not part of the identity.
    pub pool_threads_cpu_ns: u64,
    /// The part of it that was charged to requests and accounts. They therefore have more than `charged_ns`.
    pub pool_threads_charged_ns: u64,
    /// Readings of the CPU clock (a count).
    pub clock_readings: u64,
}

impl WorkerTotals {
    /// The worker's thread CPU that is decided: charged + no request + loop + other.
    pub fn thread_cpu_ns(&self) -> u64 {
        self.charged_ns + self.no_request_ns + self.loop_ns + self.other_ns
    }

    /// Charges the work of a pool's thread for a request.
    pub fn charge_pool_thread(&mut self, ns: u64) {
        self.pool_threads_charged_ns += ns;
        // the CPU of all threads is read less often
        self.pool_threads_cpu_ns = self.pool_threads_cpu_ns.max(self.pool_threads_charged_ns);
    }

    /// A request takes over the pending CPU of its connection.
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

/// The CPU of one worker that was charged to requests and added to accounts, or to none: with `request_cpu off`, with
/// empty keys, and if a request ended before its accounts were known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CountedCpu {
    counted_ns: u64,
    uncounted_ns: u64,
}

impl CountedCpu {
    /// CPU of a request, or of its connection, leaves the request. `is_counted`: it is added to one or more accounts.
    #[inline]
    pub fn add(&mut self, ns: u64, is_counted: bool) {
        let sum = if is_counted { &mut self.counted_ns } else { &mut self.uncounted_ns };
        *sum += ns;
    }

    /// Writes the known sums to the totals. CPU that open requests still have is in neither sum.
    #[inline]
    pub fn show(&self, totals: &mut WorkerTotals) {
        totals.uncounted_ns = self.uncounted_ns;
    }

    /// The process ends: CPU that open requests still have is added to no account.
    pub fn close(&mut self, totals: &WorkerTotals) {
        let charged_ns = totals.charged_ns + totals.pool_threads_charged_ns;
        self.uncounted_ns = self.uncounted_ns.max(charged_ns.saturating_sub(self.counted_ns));
    }
}

#[cfg(test)]
mod tests;
