//! The cost of one request so far.

use crate::account::Usage;

/// The running total of one request, and the part of it that was added to its accounts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RequestMeter {
    total_ns: u64,
    connection_ns: u64,
    wakeups: u64,
    taken: Usage,
}

impl RequestMeter {
    /// Of a request that has used nothing yet.
    pub const NEW: RequestMeter =
        RequestMeter { total_ns: 0, connection_ns: 0, wakeups: 0, taken: Usage::NONE };

    /// Charges a lap of `ns` nanoseconds.
    #[inline]
    pub fn charge(&mut self, ns: u64) {
        self.total_ns += ns;
    }

    /// Takes over `ns` nanoseconds of the connection, from the time before the request was known.
    #[inline]
    pub fn take_over(&mut self, ns: u64) {
        self.total_ns += ns;
        self.connection_ns += ns;
    }

    /// Returns the part of the connection's CPU that was not added to accounts yet, in nanoseconds, and gives it up.
    pub fn give_back(&mut self) -> u64 {
        let ns = self.connection_ns.min(self.total_ns.saturating_sub(self.taken.cpu_ns));
        self.connection_ns -= ns;
        self.total_ns -= ns;
        ns
    }

    /// Counts one more handler call for this request.
    #[inline]
    pub fn wake(&mut self) {
        self.wakeups += 1;
    }

    /// CPU of the request so far, in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.total_ns
    }

    /// The part of it that was taken over from the connection, in nanoseconds.
    pub fn connection_ns(&self) -> u64 {
        self.connection_ns
    }

    /// Number of handler calls.
    pub fn wakeups(&self) -> u64 {
        self.wakeups
    }

    /// The usage since the last call of [`RequestMeter::take_usage`]. It is the last usage of the request.
    #[inline]
    pub fn finish(&self, sent_bytes: u64, received_bytes: u64) -> Usage {
        let total = Usage { cpu_ns: self.total_ns, wakeups: self.wakeups, sent_bytes, received_bytes };
        total.since(&self.taken)
    }

    /// As [`RequestMeter::take_usage`], without the CPU that was taken over: a request that is in no account may have
    /// to give it back.
    pub fn take_own_usage(&mut self, sent_bytes: u64, received_bytes: u64) -> Usage {
        let own_ns = self.total_ns - self.connection_ns;
        let own = Usage { cpu_ns: own_ns, wakeups: self.wakeups, sent_bytes, received_bytes };
        let delta = own.since(&self.taken);
        self.taken = self.taken.plus(&delta);
        delta
    }

    /// The usage since the last call, to be added to the accounts. `sent` and `received` are the request's totals in
    /// bytes.
    pub fn take_usage(&mut self, sent_bytes: u64, received_bytes: u64) -> Usage {
        let delta = self.finish(sent_bytes, received_bytes);
        self.taken = self.taken.plus(&delta);
        delta
    }
}

#[cfg(test)]
mod tests;
