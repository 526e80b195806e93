//! The classes of a request in each breakdown.

use formats::classes::{CACHE_STATUSES, CPU_BOUNDS_NS, ORDERS, RESPONSES, SIZES};

/// The outcome of a request, for the breakdowns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// HTTP status as `$status`; 0 if there is none
    pub status: u64,
    /// `$upstream_cache_status`
    pub cache: CacheStatus,
    /// `$connection_requests`: 1 for the first request of its connection
    pub connection_order: u64,
    /// bytes sent to the client
    pub response_bytes: u64,
    /// nanoseconds of CPU of the whole request
    pub cpu_ns: u64,
}

/// The words of `$upstream_cache_status` (`ngx_http_cache_status` in ngx_http_upstream.c), and `NONE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum CacheStatus {
    None,
    Miss,
    Bypass,
    Expired,
    Stale,
    Updating,
    Revalidated,
    Hit,
}

impl CacheStatus {
    /// The names in the order of NGINX's `NGX_HTTP_CACHE_*` values; `NONE` is 0.
    pub const NAMES: [&str; 8] = CACHE_STATUSES;

    /// From `r->upstream->cache_status`: 0 is no cache; unknown values count as none.
    pub fn from_nginx(value: usize) -> Self {
        use CacheStatus::*;
        [None, Miss, Bypass, Expired, Stale, Updating, Revalidated, Hit].get(value).copied().unwrap_or(None)
    }
}

/// Names of the response classes, `status / 100`.
pub const CLASSES: [&str; 5] = [RESPONSES[0], RESPONSES[1], RESPONSES[2], RESPONSES[3], RESPONSES[4]];

pub(super) const CPU_BUCKETS: usize = CPU_BOUNDS_NS.len() + 1;

/// The index in [`SIZES`] of a response of `bytes` bytes.
pub fn size_class(bytes: u64) -> usize {
    let kib = bytes.div_ceil(1024).max(1);
    // smallest n with kib <= 4^n
    let bits = 64 - (kib - 1).leading_zeros();
    (bits.div_ceil(2) as usize).min(SIZES.len() - 1)
}

/// The index of the bucket of [`CPU_BOUNDS_NS`] for a request of `ns` nanoseconds.
#[inline]
pub fn cpu_bucket(ns: u64) -> u8 {
    // there is at most one bound between two powers of two
    let first = FIRST_BUCKETS[64 - ns.leading_zeros() as usize];
    first + u8::from(CPU_BOUNDS_NS.get(usize::from(first)).is_some_and(|&bound| ns > bound))
}

/// The lowest bucket for numbers with this many bits.
pub(super) const FIRST_BUCKETS: [u8; 65] = {
    let mut first = [0; 65];
    let mut bits = 1;
    while bits <= 64 {
        let least = 1u64 << (bits - 1);
        let mut bucket = 0;
        while bucket < CPU_BOUNDS_NS.len() && CPU_BOUNDS_NS[bucket] < least {
            bucket += 1;
        }
        first[bits] = bucket as u8;
        bits += 1;
    }
    first
};

/// The TLS handshake of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// the session of an earlier connection was resumed
    pub resumed: bool,
    /// nanoseconds of CPU of the connection, from its accept to the end of the handshake
    pub cpu_ns: u64,
}

/// The class of a request in each breakdown, except that of CPU, as an index.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    pub(super) response: u8,
    pub(super) order: u8,
    pub(super) cache: u8,
    pub(super) size: u8,
}

impl Outcome {
    /// The classes of a request.
    #[inline]
    pub fn classes(&self) -> Classes {
        let response = match self.status / 100 {
            class @ 1..=5 => class as usize - 1,
            _ => CLASSES.len(),
        };
        let order = self.connection_order.clamp(1, ORDERS.len() as u64) as usize - 1;
        let size = size_class(self.response_bytes);
        let [response, order, cache, size] =
            [response, order, self.cache as usize, size].map(|place| place as u8);
        Classes { response, order, cache, size }
    }
}
