//! Structures of C that are made of zeros.

use nginx_sys::*;

/// A structure for which all zero is a valid value.
///
/// # Safety
/// It must be so: its members are numbers, bit fields, pointers and functions that may be null, or such structures.
pub(super) unsafe trait Zero: Copy {}

macro_rules! zero {
    ($($name:ty),*) => { $(
        // SAFETY: a structure of C, as the trait wants it. NGINX and libc fill theirs with zeros too.
        unsafe impl Zero for $name {}
    )* };
}

zero! {
    libc::Dl_info, ngx_buf_t, ngx_connection_t, ngx_event_t, ngx_http_compile_complex_value_t,
    ngx_http_complex_value_t, ngx_log_t, ngx_open_file_t, ngx_table_elt_t, ngx_tm_t
}

/// All zero.
pub(super) fn zeroed<T: Zero>() -> T {
    // SAFETY: as `Zero` says.
    unsafe { core::mem::zeroed() }
}
