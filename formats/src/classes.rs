//! The classes by which requests are broken down.

/// The response classes, `status / 100`; the last one holds requests without a status.
pub const RESPONSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
/// The orders of a request in its connection.
pub const ORDERS: [&str; 4] = ["1", "2", "3", "4+"];
/// The sizes of a response: upper bounds in powers of four, from 1k = 1024 bytes.
pub const SIZES: [&str; 10] = ["1k", "4k", "16k", "64k", "256k", "1m", "4m", "16m", "64m", "inf"];
/// The origin of a TLS session: a full handshake, or a resumed session (`$ssl_session_reused`).
pub const SESSIONS: [&str; 2] = ["new", "resumed"];
/// The words of `$upstream_cache_status`, in the order of NGINX's `NGX_HTTP_CACHE_*` values; `NONE` is 0.
pub const CACHE_STATUSES: [&str; 8] =
    ["NONE", "MISS", "BYPASS", "EXPIRED", "STALE", "UPDATING", "REVALIDATED", "HIT"];
/// Requests that a limit refused, and requests that it would have refused without `dry_run`.
pub const REFUSALS: [&str; 2] = ["refused", "refused_dry_run"];
/// The values of Prometheus' label `dry_run`, in the order of [`REFUSALS`].
pub const DRY_RUN: [&str; 2] = ["no", "yes"];
/// The windows of the signals for autoscalers.
pub const WINDOWS: [&str; 2] = ["6s", "60s"];
/// Upper bounds of the histogram of CPU per request, in nanoseconds. The last bucket has no upper bound.
pub const CPU_BOUNDS_NS: [u64; 19] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// [`CPU_BOUNDS_NS`] in seconds, and the bound of the last bucket, as values of Prometheus' label `le`.
pub const CPU_BOUNDS_LE: [&str; CPU_BOUNDS_NS.len() + 1] = [
    "0.00001", "0.00002", "0.00005", "0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02",
    "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "+Inf",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_in_seconds_are_the_bounds_in_nanoseconds() {
        for (le, ns) in CPU_BOUNDS_LE.into_iter().zip(CPU_BOUNDS_NS) {
            assert_eq!((le.parse::<f64>().unwrap() * 1e9).round() as u64, ns);
        }
        assert_eq!(CPU_BOUNDS_LE.last(), Some(&"+Inf"));
    }
}
