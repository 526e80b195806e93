//! The error log where NGINX has closed it already.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use nginx_sys::{NGX_LOG_STDERR, ngx_log_t, ngx_open_file_t, ngx_uint_t};

/// Calls `f` with a log that writes where `log` did, though its files are closed: `ngx_init_cycle` closes all
/// files of the cycle before, and destroys that cycle then. Of several logs, the first one with a file is used,
/// or with standard error, which NGINX does not close. Where there is none, as with syslog, nothing that `f`
/// logs is written.
///
/// # Safety
/// `log` must be a cycle's log, whose memory is still there.
pub unsafe fn reopened(log: *const ngx_log_t, f: impl FnOnce(*mut ngx_log_t)) {
    let mut kept = None;
    // SAFETY: all zero is how NGINX makes both; only the file's descriptor and name, and the log's level and
    // file, are used by `ngx_log_error_core`. The log is there, as the caller says; the logs that follow, and
    // their files, are in the same pool (`ngx_log_set_log`).
    unsafe {
        let (mut open, mut log_to): (ngx_open_file_t, ngx_log_t) = core::mem::zeroed();
        log_to.log_level = NGX_LOG_STDERR as ngx_uint_t;
        let mut next = log.as_ref();
        while let Some(log) = next {
            if let Some(file) = log.file.as_ref()
                && let Some(descriptor) = reopen(file, &mut kept)
            {
                (open.fd, open.name) = (descriptor, file.name);
                (log_to.log_level, log_to.file) = (log.log_level, &mut open);
                break;
            }
            next = log.next.as_ref();
        }
        f(&mut log_to);
    }
}

/// A descriptor for what was written to a file of NGINX's, as long as `kept` is there.
fn reopen(file: &ngx_open_file_t, kept: &mut Option<File>) -> Option<RawFd> {
    if file.fd == libc::STDERR_FILENO {
        return Some(file.fd);
    }
    let path = Some(OsStr::from_bytes(file.name.as_bytes())).filter(|path| !path.is_empty())?;
    let file = OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    Some(kept.insert(file).as_raw_fd())
}
