//! Memory and duration of requests over time.

/// A request, or a part of its time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// its begin, in nanoseconds of the clock that all workers share
    pub from_ns: u64,
    /// its end
    pub to_ns: u64,
    /// bytes of memory that the request held in this time
    pub bytes: u64,
}

impl Span {
    /// Its length in nanoseconds.
    #[inline]
    pub fn ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }

    /// Duration and memory of one request in this time.
    #[inline]
    pub fn held(&self) -> Held {
        let ns = self.ns();
        Held { duration_ns: ns, memory: Memory::new(self.bytes, ns) }
    }
}

/// Duration and memory of requests over some time, to be added to their account.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// nanoseconds in flight, summed over the requests
    pub duration_ns: u64,
    /// memory times time
    pub memory: Memory,
}

impl Held {
    /// This number of requests for this number of nanoseconds, with this number of bytes together.
    #[inline]
    pub fn new(requests: u64, bytes: u64, ns: u64) -> Held {
        Held { duration_ns: requests.wrapping_mul(ns), memory: Memory::new(bytes, ns) }
    }

    /// The sum.
    #[inline]
    #[must_use]
    pub fn plus(&self, other: &Held) -> Held {
        Held {
            duration_ns: self.duration_ns.wrapping_add(other.duration_ns),
            memory: self.memory.plus(other.memory),
        }
    }
}

/// Memory times time, in bytes times 1024 ns. A smaller unit would be less than a millionth of a byte for a second.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Memory(pub(super) u64);

impl Memory {
    /// This number of bytes for this number of nanoseconds.
    #[inline]
    pub fn new(bytes: u64, ns: u64) -> Memory {
        Memory(((u128::from(bytes) * u128::from(ns)) >> 10) as u64)
    }

    /// The sum.
    #[inline]
    #[must_use]
    pub fn plus(self, other: Memory) -> Memory {
        Memory(self.0.wrapping_add(other.0))
    }

    /// Half of it.
    #[must_use]
    pub fn half(self) -> Memory {
        Memory(self.0 / 2)
    }

    /// In bytes times milliseconds. The remainder is carried to the next call, so nothing is lost on average.
    #[inline]
    pub(crate) fn byte_ms(self, carry: &mut u64) -> u64 {
        // 1024 ns are 16 / 15,625 ms
        let parts = self.0.saturating_mul(16).saturating_add(*carry);
        *carry = parts % 15_625;
        parts / 15_625
    }
}
