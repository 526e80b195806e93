//! Files that NGINX opens with all other files of a configuration, and reopens on USR1.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use nginx_sys::{ngx_open_file_t, ngx_str_t};

use super::live::{Live, get};

/// A file of a configuration. The value must be kept in that configuration.
pub struct OpenFile(Live<'static, ngx_open_file_t>);

impl OpenFile {
    /// `None` for null.
    ///
    /// # Safety
    /// The file must live as long as the configuration that keeps this value.
    pub(super) unsafe fn new(file: *mut ngx_open_file_t) -> Option<OpenFile> {
        // SAFETY: as the caller says.
        unsafe { Live::new(file) }.map(OpenFile)
    }

    /// The full name.
    pub fn name(&self) -> ngx_str_t {
        get!(self.0, name)
    }

    /// A duplicate of the descriptor that NGINX has open. This function never waits for a disk.
    ///
    /// # Errors
    /// The errors of the system, and an error if NGINX has not opened the file.
    pub fn duplicate(&self) -> io::Result<File> {
        let descriptor = get!(self.0, fd);
        if descriptor < 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        // SAFETY: The descriptor is open while the configuration is in use. It is borrowed for this call only.
        unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().map(File::from)
    }
}
