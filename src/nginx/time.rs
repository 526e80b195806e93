//! Times by the clocks of NGINX and of the kernel.

use nginx_sys::{ngx_msec_t, ngx_timeofday, ngx_tm_t, time_t};
use rustix::time::{ClockId, clock_gettime};

use super::functions;
use super::zero::zeroed;

/// The time of a clock that always exists, in milliseconds.
fn read_ms(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.max(0) as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// The time of day, in milliseconds since 1970.
pub fn wall_ms() -> u64 {
    read_ms(ClockId::Realtime)
}

/// The time of a clock that cannot be set, in milliseconds.
pub fn monotonic_ms() -> u64 {
    read_ms(ClockId::Monotonic)
}

/// NGINX's cached monotonic time in milliseconds, the same for all workers.
#[inline]
pub fn now_ms() -> u64 {
    // `ngx_time_update` writes it, in this thread or in its signal handler.
    global!(ngx_current_msec) as u64
}

/// NGINX's cached time of day, in milliseconds since 1970.
pub fn cached_wall_ms() -> u64 {
    let (sec, msec) = cached_wall();
    sec.max(0) as u64 * 1000 + msec as u64
}

/// The time in the form `2026-01-31T12:00:00.000Z`.
pub fn utc(wall_ms: u64) -> String {
    let mut tm: ngx_tm_t = zeroed();
    functions::gmtime((wall_ms / 1000) as libc::time_t, &mut tm);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        tm.tm_year,
        tm.tm_mon,
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        wall_ms % 1000
    )
}

/// NGINX's cached time of day: seconds since 1970, and milliseconds.
#[inline]
pub fn cached_wall() -> (time_t, ngx_msec_t) {
    let time = ngx_timeofday();
    (time.sec, time.msec)
}
