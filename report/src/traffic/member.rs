//! Members of a line that bills go by.

use formats::line::{Line, member};

/// What bills go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// requests that ended
    Requests,
    /// nanoseconds of CPU
    Cpu,
    /// bytes that were sent
    Sent,
    /// bytes that were received
    Received,
    /// milliseconds that requests were in flight, each for itself
    Duration,
    /// milliseconds in which at least one was
    Active,
    /// seconds whose CPU reached the threshold
    ActiveSeconds,
    /// nanoseconds of CPU in these seconds
    Billable,
    /// nanoseconds of CPU in others
    Waived,
    /// bytes of memory times milliseconds
    Memory,
    /// nanoseconds of CPU in the second that had the most: the only one that is no sum
    Peak,
}

impl Member {
    /// Its place among the members of a line.
    const fn place(self) -> usize {
        member(self.name())
    }

    /// What the line says of it; none where it says nothing.
    #[inline]
    pub fn of(self, line: &Line<'_>) -> Option<u64> {
        // in the order of `ALL`
        const PLACES: [usize; Member::ALL.len()] = {
            let mut places = [0; Member::ALL.len()];
            let mut at = 0;
            while at < places.len() {
                places[Member::ALL[at] as usize] = Member::ALL[at].place();
                at += 1;
            }
            places
        };
        line.number(PLACES[self as usize])
    }

    /// All values.
    pub const ALL: [Self; 11] = [
        Self::Requests,
        Self::Cpu,
        Self::Sent,
        Self::Received,
        Self::Duration,
        Self::Active,
        Self::ActiveSeconds,
        Self::Billable,
        Self::Waived,
        Self::Memory,
        Self::Peak,
    ];

    /// As it is called in a line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Cpu => "cpu_ns",
            Self::Sent => "sent_bytes",
            Self::Received => "received_bytes",
            Self::Duration => "duration_ms",
            Self::Active => "active_ms",
            Self::ActiveSeconds => "active_seconds",
            Self::Billable => "billable_cpu_ns",
            Self::Waived => "waived_cpu_ns",
            Self::Memory => "memory_byte_ms",
            Self::Peak => "peak_cpu_ns",
        }
    }
}
