//! NGINX's cached time.

use nginx_sys::ngx_current_msec;

/// NGINX's cached monotonic time in milliseconds, the same for all workers.
#[inline]
pub fn now_ms() -> u64 {
    // SAFETY: written by `ngx_time_update`, in this thread or its signal handler, in one store.
    unsafe { (&raw const ngx_current_msec).read_volatile() as u64 }
}
