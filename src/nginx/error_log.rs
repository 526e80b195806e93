//! Messages for NGINX's error log, and for its debug log.
//!
//! In Angie, `ngx_log_error_core` also takes the name of a source file. build.rs finds that out (`log_names_file`).

use core::fmt;
use std::io::Write;

use nginx_sys::{
    NGX_LOG_DEBUG, NGX_LOG_DEBUG_EVENT, NGX_MAX_ERROR_STR, ngx_conf_log_error, ngx_conf_t,
    ngx_log_error_core, ngx_log_t, ngx_uint_t,
};

/// Writes a message to a log of NGINX: `ngx_log_error!(level, log, "format", …)`. The arguments are used only if the
/// log has messages of this level.
macro_rules! ngx_log_error {
    ($level:expr, $log:expr, $($message:tt)+) => {{
        let (level, log): (::nginx_sys::ngx_uint_t, *mut ::nginx_sys::ngx_log_t) = ($level as _, $log);
        // SAFETY: Each caller has the log from a structure of NGINX that is in use. Such a log is in use too.
        if level <= unsafe { (*log).log_level } {
            match format_args!($($message)+) {
                // SAFETY: as above.
                message => unsafe { $crate::nginx::error_log::write(level, log, message) },
            }
        }
    }};
}
pub(crate) use ngx_log_error;

/// The size of a message, without the date and the other words that NGINX writes before it.
const SIZE: usize = NGX_MAX_ERROR_STR as usize;

/// Writes a message.
///
/// # Safety
/// The log must be in use.
pub(crate) unsafe fn write(level: ngx_uint_t, log: *mut ngx_log_t, message: fmt::Arguments<'_>) {
    let mut buffer = [0; SIZE];
    let text = in_buffer(&mut buffer, message);
    let (format, length, bytes) = (c"%*s".as_ptr(), text.len(), text.as_ptr());
    // SAFETY: The log is in use, as the caller says. `%*s` takes a length of type size_t, and a pointer to that many
    // bytes. build.rs compares the parameters of the function with those in the server's headers.
    unsafe {
        #[cfg(not(log_names_file))]
        ngx_log_error_core(level, log, 0, format, length, bytes);
        #[cfg(log_names_file)]
        ngx_log_error_core(level, log, c"ngx_http_request_cpu_module".as_ptr(), 0, format, length, bytes);
    }
}

/// Writes a debug message about an event. Only an NGINX with --with-debug has such messages.
///
/// # Safety
/// The log must be in use.
pub(super) unsafe fn debug_event(log: *mut ngx_log_t, message: fmt::Arguments<'_>) {
    // SAFETY: as the caller says.
    unsafe {
        if (*log).log_level & NGX_LOG_DEBUG_EVENT as ngx_uint_t != 0 {
            write(NGX_LOG_DEBUG as ngx_uint_t, log, message);
        }
    }
}

/// Writes a message with the position in the configuration that is being read.
///
/// # Safety
/// The configuration must be in use.
pub(super) unsafe fn write_with_position(
    level: ngx_uint_t,
    cf: *mut ngx_conf_t,
    message: fmt::Arguments<'_>,
) {
    let mut buffer = [0; SIZE];
    let text = in_buffer(&mut buffer, message);
    // SAFETY: as in `write`.
    unsafe { ngx_conf_log_error(level, cf, 0, c"%*s".as_ptr(), text.len(), text.as_ptr()) };
}

/// The text of a message. The end of a text that is too long is cut.
fn in_buffer<'a>(buffer: &'a mut [u8; SIZE], message: fmt::Arguments<'_>) -> &'a [u8] {
    let mut rest = &mut buffer[..];
    // the only error is a full buffer
    let _ = rest.write_fmt(message);
    let used = SIZE - rest.len();
    buffer.get(..used).unwrap_or_default()
}
