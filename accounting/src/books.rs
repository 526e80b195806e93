//! The books of one worker: every lap ends up in exactly one of them.

/// Sums over one worker process since its hook went in, all in nanoseconds of CPU unless named otherwise.
///
/// [`Books::thread_cpu_ns`] is their sum by definition. A connection that has sent no request yet is *pending*: its
/// CPU is in none of the four until it is decided whether a request takes it over, so that no sum ever decreases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// Calls of event handlers by the event loop (a count).
    pub wakeups: u64,
    /// Went to requests and accounts, settled or not.
    pub charged_ns: u64,
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
}

impl Books {
    /// The worker's thread CPU that is decided: charged + no request + loop + other.
    pub fn thread_cpu_ns(&self) -> u64 {
        self.charged_ns + self.no_request_ns + self.loop_ns + self.other_ns
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
