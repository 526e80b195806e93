//! The error log when NGINX has already closed it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use nginx_sys::{NGX_LOG_STDERR, ngx_log_t, ngx_open_file_t, ngx_uint_t};

use super::live::{Live, get};
use super::zero::zeroed;

/// Calls `f` with a log that writes to the same file as `log`, even if the files of `log` are closed. `ngx_init_cycle`
/// closes all files of the previous cycle before it destroys that cycle. If `log` is a chain of logs, the first log is
/// used that has a file or writes to standard error, which NGINX does not close. If there is none, as with syslog,
/// messages of `f` are lost.
pub(super) fn reopened(log: Option<Live<'_, ngx_log_t>>, f: impl FnOnce(*mut ngx_log_t)) {
    let mut kept = None;
    // `ngx_log_error_core` uses only the file's descriptor and name, and the log's level and file.
    let (mut open, mut log_to): (ngx_open_file_t, ngx_log_t) = (zeroed(), zeroed());
    log_to.log_level = NGX_LOG_STDERR as ngx_uint_t;
    let mut next = log;
    while let Some(log) = next {
        if let Some(file) = log.file()
            && let Some(descriptor) = reopen(&file.read(), &mut kept)
        {
            (open.fd, open.name) = (descriptor, get!(file, name));
            (log_to.log_level, log_to.file) = (get!(log, log_level), &raw mut open);
            break;
        }
        next = log.next();
    }
    f(&mut log_to);
}

/// A descriptor for the same file as one of NGINX's, valid as long as `kept` exists.
fn reopen(file: &ngx_open_file_t, kept: &mut Option<File>) -> Option<RawFd> {
    if file.fd == libc::STDERR_FILENO {
        return Some(file.fd);
    }
    let path = Some(OsStr::from_bytes(file.name.as_bytes())).filter(|path| !path.is_empty())?;
    let file = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    Some(kept.insert(file).as_raw_fd())
}
