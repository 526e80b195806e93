//! C structures that are filled with zeros.

use nginx_sys::*;

/// A structure for which all zero is a valid value.
///
/// # Safety
/// All zero must be valid for the structure: its members are numbers, bit fields, pointers and functions that may be
/// null, or such structures.
pub(super) unsafe trait Zero: Copy {}

macro_rules! zero {
    ($($name:ty),*) => { $(
        // SAFETY: This is a C structure with such members. NGINX and libc fill theirs with zeros too.
        unsafe impl Zero for $name {}
    )* };
}

zero! {
    libc::Dl_info, ngx_buf_t, ngx_connection_t, ngx_event_t, ngx_http_compile_complex_value_t,
    ngx_http_complex_value_t, ngx_log_t, ngx_open_file_t, ngx_table_elt_t, ngx_tm_t
}

/// A structure whose bytes are all zero.
pub(super) fn zeroed<T: Zero>() -> T {
    // SAFETY: as `Zero` says.
    unsafe { core::mem::zeroed() }
}
