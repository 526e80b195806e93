//! The open descriptors of this process, and those that belong to this copy of the module.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::fstat;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{DumpableBehavior, dumpable_behavior};

/// Number of descriptors that are tried if `/proc` does not list the open ones.
const TRIED: RawFd = 1 << 16;
/// The first descriptor that lasts: `ngx_daemon` redirects the first three.
pub const FIRST: RawFd = 3;

/// The open descriptors of this process. The list may also contain descriptors that are not open.
pub fn own() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return (0..TRIED).collect() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Calls `f` with a descriptor that may not be open. In that case, the system calls in `f` fail.
pub fn with<R>(descriptor: RawFd, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
    // SAFETY: the descriptor is only passed to system calls that have no effect on its file.
    (descriptor >= 0).then(|| f(unsafe { BorrowedFd::borrow_raw(descriptor) }))
}

/// The device and the inode number of a descriptor's file; `None` if the descriptor is not open.
pub fn id_of(descriptor: RawFd) -> Option<(u64, u64)> {
    let about = with(descriptor, |descriptor| fstat(descriptor))?.ok()?;
    Some((about.st_dev, about.st_ino))
}

/// Duplicates a descriptor for the lifetime of the master. A program that the master executes inherits the descriptor
/// only if the program could not look it up: see [`memory`](super::memory).
///
/// # Errors
/// Errors of the system.
pub fn keep(file: &File) -> io::Result<File> {
    // whether another process of the same user may look into this one
    let is_dumpable = matches!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
    let kept = fcntl_dupfd_cloexec(file, FIRST)?;
    if !is_dumpable {
        fcntl_setfd(&kept, FdFlags::empty())?;
    }
    Ok(kept.into())
}

/// The descriptors of this process that belong to this copy of the module.
static OURS: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Whether the descriptor belongs to this copy of the module.
pub fn is_ours(descriptor: RawFd) -> bool {
    OURS.lock().unwrap_or_else(PoisonError::into_inner).contains(&descriptor)
}

/// An open file that is registered as a file of this copy of the module.
pub struct KeptDescriptor(File);

impl KeptDescriptor {
    pub fn new(file: File) -> KeptDescriptor {
        OURS.lock().unwrap_or_else(PoisonError::into_inner).push(file.as_raw_fd());
        KeptDescriptor(file)
    }

    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for KeptDescriptor {
    fn drop(&mut self) {
        let descriptor = self.0.as_raw_fd();
        OURS.lock().unwrap_or_else(PoisonError::into_inner).retain(|&ours| ours != descriptor);
    }
}

/// Whether another part of this process has the same file open, by a descriptor that does not belong to this copy of
/// the module. Files on disks are compared by name, since a further system call would wait for a disk that hangs.
/// Memfds of one name are compared by inode number.
pub fn is_open_elsewhere(file: &File) -> bool {
    let link = |descriptor: RawFd| fs::read_link(format!("/proc/self/fd/{descriptor}")).ok();
    let is_other = |descriptor: &RawFd| !is_ours(*descriptor);
    let own_id = || id_of(file.as_raw_fd());
    let Some(name) = link(file.as_raw_fd()) else {
        // `/proc` does not exist
        return own().into_iter().filter(is_other).any(|descriptor| id_of(descriptor) == own_id());
    };
    let is_memory = name.as_os_str().as_bytes().starts_with(b"/memfd:");
    own().into_iter().filter(is_other).any(|descriptor| {
        link(descriptor).as_ref() == Some(&name) && (!is_memory || id_of(descriptor) == own_id())
    })
}
