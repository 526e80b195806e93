//! Descriptors that this process has open, and which of them are of this copy of the module.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::fstat;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{DumpableBehavior, dumpable_behavior};

/// So many descriptors are tried where `/proc` does not tell which are open.
const TRIED: RawFd = 1 << 16;
/// The first descriptor that lasts: `ngx_daemon` redirects the first three.
pub const FIRST: RawFd = 3;

/// Descriptors that this process has open; others may be among them.
pub fn own() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return (0..TRIED).collect() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Calls `f` with a descriptor that may not be open: then what `f` asks the kernel fails.
pub fn with<R>(descriptor: RawFd, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
    // SAFETY: it is only handed to system calls that have no effect on what the descriptor leads to.
    (descriptor >= 0).then(|| f(unsafe { BorrowedFd::borrow_raw(descriptor) }))
}

/// The device and the number of the file that a descriptor leads to; `None` if it is not open.
pub fn id_of(descriptor: RawFd) -> Option<(u64, u64)> {
    let about = with(descriptor, |descriptor| fstat(descriptor))?.ok()?;
    Some((about.st_dev, about.st_ino))
}

/// A descriptor for as long as the master lives. What the master executes inherits it only where it could not
/// look it up: see [`memory`](super::memory).
///
/// # Errors
/// Those of the system.
pub fn keep(file: &File) -> io::Result<File> {
    // whether another process of the same user may look into this one
    let is_dumpable = matches!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
    let kept = fcntl_dupfd_cloexec(file, FIRST)?;
    if !is_dumpable {
        fcntl_setfd(&kept, FdFlags::empty())?;
    }
    Ok(kept.into())
}

/// Descriptors that this copy of the module has open, in this process.
static OURS: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Whether this copy of the module has it open.
pub fn is_ours(descriptor: RawFd) -> bool {
    OURS.lock().unwrap_or_else(PoisonError::into_inner).contains(&descriptor)
}

/// An open file that this copy of the module is known to have.
pub struct Kept(File);

impl Kept {
    pub fn new(file: File) -> Kept {
        OURS.lock().unwrap_or_else(PoisonError::into_inner).push(file.as_raw_fd());
        Kept(file)
    }

    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let descriptor = self.0.as_raw_fd();
        OURS.lock().unwrap_or_else(PoisonError::into_inner).retain(|&ours| ours != descriptor);
    }
}

/// Whether this process has the same file open by a descriptor that is not this copy's of the module. Files on
/// disks are told by their names, since asking for more would wait for a disk that hangs; memfds of one name by
/// their numbers.
pub fn is_open_elsewhere(file: &File) -> bool {
    let link = |descriptor: RawFd| fs::read_link(format!("/proc/self/fd/{descriptor}")).ok();
    let is_other = |descriptor: &RawFd| !is_ours(*descriptor);
    let own_id = || id_of(file.as_raw_fd());
    let Some(name) = link(file.as_raw_fd()) else {
        // there is no `/proc`
        return own().into_iter().filter(is_other).any(|descriptor| id_of(descriptor) == own_id());
    };
    let is_memory = name.as_os_str().as_bytes().starts_with(b"/memfd:");
    own().into_iter().filter(is_other).any(|descriptor| {
        link(descriptor).as_ref() == Some(&name) && (!is_memory || id_of(descriptor) == own_id())
    })
}
