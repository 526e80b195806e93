//! One server at a time: a lock beside each state file.
//!
//! A state file is replaced as a whole, so it cannot carry a lock itself. The lock is a file beside it, with the same
//! name and the suffix `.lock`. The master holds `flock(2)` on this file. The lock lasts as long as any descriptor of
//! the same open file description. So an old and a new configuration share it, and so do an old and a new binary.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::nginx::thread::PATIENCE;
use crate::persist::descriptors::{self, KeptDescriptor};
use crate::persist::state::file::with_suffix;

/// The lock of a state file. It is held as long as this value, or a copy in another process, exists.
pub struct Lock {
    kept: KeptDescriptor,
    path: PathBuf,
}

/// The reason why a lock was not taken.
pub enum Refused {
    /// Another server has it.
    Busy,
    /// The system does not allow it.
    Error(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Error(error)
    }
}

impl Lock {
    /// Takes the lock of a state file for a master, or shares the lock that this server has already. Waits shortly for
    /// an ending worker that writes the file. `old_master` is the master of the previous binary, if this one continues
    /// with its files.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn take(state: &Path, old_master: Option<u32>) -> Result<Lock, Refused> {
        take(state, PATIENCE + Duration::from_secs(1), |opened| shared(opened, old_master))
    }

    /// Takes the lock for a worker whose zone is no longer in any configuration. Waits shortly for the lock.
    ///
    /// # Errors
    /// [`Refused`]. It is also [`Refused::Busy`] if the zone is in use again.
    pub fn take_in_worker(state: &Path) -> Result<Lock, Refused> {
        take(state, PATIENCE / 2, |_| None)
    }

    /// The path of the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Releases the lock and removes its file. Only for a lock that is not shared.
    pub fn remove(self) {
        // a process that opens the file in between finds that it was removed, and creates a new one
        let _ = fs::remove_file(&self.path);
    }

    /// Releases the lock and removes its file. The file stays if another master shares the lock: the one before or the
    /// one after a binary upgrade.
    pub fn release(self) {
        let Lock { kept, path } = self;
        drop(kept);
        let Ok(file) = options().open(&path) else { return };
        if matches!(lock(&file), Ok(true)) && is_at(&file, &path) {
            let _ = fs::remove_file(&path);
        }
    }

    /// Whether no other part of this process shares the lock.
    pub fn is_alone(&self) -> bool {
        let file = self.kept.file();
        file.metadata().is_ok_and(|about| find_own(&about, file.as_raw_fd()).is_none())
    }

    /// Whether another copy of this module in the same process shares the lock.
    pub fn is_taken_over(&self) -> bool {
        descriptors::is_open_elsewhere(self.kept.file())
    }
}

fn take(state: &Path, patience: Duration, shared: impl Fn(&File) -> Option<File>) -> Result<Lock, Refused> {
    let path = with_suffix(state, ".lock");
    let begin = Instant::now();
    loop {
        let opened = open(&path)?;
        if let Some(file) = if lock(&opened)? { Some(opened) } else { shared(&opened) } {
            if is_at(&file, &path) {
                return Ok(Lock { kept: KeptDescriptor::new(descriptors::keep(&file)?), path });
            }
        } else if begin.elapsed() > patience {
            return Err(Refused::Busy);
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    options().custom_flags(FLAGS | libc::O_CREAT).mode(0o644).open(path)
}

const FLAGS: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // reading is enough for a lock, and workers may read the file
    options.read(true).custom_flags(FLAGS);
    options
}

/// Locks the file. Returns whether this open file description has the lock now.
fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file still has this name: its last holder removes it.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(path)) => (file.dev(), file.ino()) == (path.dev(), path.ino()),
        _ => false,
    }
}

/// The descriptor of another process that refers to the file.
fn find(pid: u32, wanted: &fs::Metadata) -> Option<RawFd> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().find_map(|entry| {
        let descriptor = entry.file_name().to_str()?.parse().ok()?;
        let found = fs::metadata(entry.path()).ok()?;
        ((found.dev(), found.ino()) == (wanted.dev(), wanted.ino())).then_some(descriptor)
    })
}

/// A descriptor of this process, except `but`, that refers to the file.
fn find_own(wanted: &fs::Metadata, but: RawFd) -> Option<RawFd> {
    let is_it = |&descriptor: &RawFd| {
        descriptors::id_of(descriptor) == Some((wanted.dev(), wanted.ino())) && descriptor != but
    };
    descriptors::own().into_iter().find(is_it)
}

/// The open file description by which this server has the lock already: one of this process, or one of the master that
/// has executed it.
fn shared(opened: &File, old_master: Option<u32>) -> Option<File> {
    let wanted = opened.metadata().ok()?;
    if let Some(descriptor) = find_own(&wanted, opened.as_raw_fd()) {
        let copied =
            descriptors::with(descriptor, |descriptor| fcntl_dupfd_cloexec(descriptor, descriptors::FIRST));
        let file = copied?.ok()?.into();
        // a description that was shared without the lock may get the lock now
        let _ = lock(&file);
        return Some(file);
    }
    // only the first configuration of a new binary continues with the files of the old master
    let parent = old_master?;
    let descriptor = find(parent, &wanted)?;
    // The same open file description is used if the kernel and the permissions allow it. Otherwise only the old master
    // has the lock, for as long as it lives.
    of_process(parent, descriptor).or_else(|| opened.try_clone().ok())
}

/// A duplicate of another process's descriptor.
fn of_process(pid: u32, descriptor: RawFd) -> Option<File> {
    let process = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty()).ok().map(File::from)
}
