//! NGINX's cached time.

use nginx_sys::{ngx_cached_time, ngx_current_msec, ngx_msec_t, time_t};

/// NGINX's cached monotonic time in milliseconds, the same for all workers.
#[inline]
pub fn now_ms() -> u64 {
    // SAFETY: written by `ngx_time_update`, in this thread or its signal handler, in one store.
    unsafe { (&raw const ngx_current_msec).read_volatile() as u64 }
}

/// NGINX's cached time of day: seconds since 1970, and milliseconds.
#[inline]
pub fn cached_wall() -> (time_t, ngx_msec_t) {
    // SAFETY: `ngx_time_update` replaces the cached time as a whole.
    unsafe {
        let time = (&raw const ngx_cached_time).read_volatile();
        ((*time).sec, (*time).msec)
    }
}
