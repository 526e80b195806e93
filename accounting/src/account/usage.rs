//! Usage that is added to an account over time.

/// Usage that is added to an account over time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU in nanoseconds
    pub cpu_ns: u64,
    /// number of handler calls
    pub wakeups: u64,
    /// bytes sent to the client
    pub sent_bytes: u64,
    /// bytes received from the client
    pub received_bytes: u64,
}

impl Usage {
    /// Nothing.
    pub const NONE: Usage = Usage { cpu_ns: 0, wakeups: 0, sent_bytes: 0, received_bytes: 0 };

    /// The difference from `earlier`, field by field. A field that decreased counts as zero.
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
        }
    }

    /// The sum, field by field.
    pub fn plus(&self, other: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            wakeups: self.wakeups + other.wakeups,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
        }
    }
}

/// Charges of requests that will be added to their account.
#[derive(Debug, Default, Clone, Copy)]
pub struct Charges {
    /// what was used
    pub usage: Usage,
    /// nanoseconds in flight, summed over the requests
    pub duration_ns: u64,
    /// memory of requests times time, in bytes times milliseconds
    pub memory_byte_ms: u64,
}
