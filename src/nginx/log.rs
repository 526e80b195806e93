//! The error log where NGINX has closed it already.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use nginx_sys::{ngx_log_t, ngx_open_file_t};

/// Calls `f` with a log that writes where `log` did, though its file is closed: `ngx_init_cycle` closes all files of the cycle
/// before, and destroys that cycle then. Without a file, `f` is not called: there is nobody to tell.
///
/// # Safety
/// `log` must be a cycle's log, whose memory is still there.
pub unsafe fn reopened(log: *const ngx_log_t, f: impl FnOnce(*mut ngx_log_t)) {
    // SAFETY: as the caller says; its file is in the same pool, and has a name unless it is standard error.
    let (level, name) = unsafe {
        let Some(file) = log.as_ref().and_then(|log| log.file.as_ref()) else { return };
        ((*log).log_level, file.name)
    };
    if name.is_empty() {
        return;
    }
    let path = OsStr::from_bytes(name.as_bytes());
    let Ok(file) = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(path) else { return };
    // SAFETY: all zero is how NGINX makes both; only the file's descriptor and name, and the log's level and file, are used
    // by `ngx_log_error_core`.
    let (mut open, mut log): (ngx_open_file_t, ngx_log_t) = unsafe { core::mem::zeroed() };
    open.fd = file.as_raw_fd();
    open.name = name;
    log.file = &mut open;
    log.log_level = level;
    f(&mut log);
}
