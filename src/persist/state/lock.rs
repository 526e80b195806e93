//! One server at a time: a lock beside each state file.
//!
//! A state file is replaced as a whole, so it cannot carry a lock itself. The lock is a file beside it, of the
//! same name with `.lock` behind, on which the master holds `flock(2)`. It lasts as long as any descriptor of
//! the same opening: so an old and a new configuration, and an old and a new binary, share it.

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
use crate::persist::descriptors::{self, Kept};
use crate::persist::state::file::with_suffix;

/// The lock of a state file, as long as this, or a copy in another process, is there.
pub struct Lock {
    kept: Kept,
    path: PathBuf,
}

/// Why there is no lock.
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
    /// Takes the lock of a state file for a master, or shares the one that this server has already. Waits a
    /// little for a worker that writes the file and ends. `old_master` is that of the binary before, if this
    /// one goes on with what it has.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn take(state: &Path, old_master: Option<u32>) -> Result<Lock, Refused> {
        take(state, PATIENCE + Duration::from_secs(1), |opened| shared(opened, old_master))
    }

    /// Takes the lock for a worker whose zone is in no configuration any more, and waits a little for it.
    ///
    /// # Errors
    /// [`Refused::Busy`] too if the zone is in use again.
    pub fn take_in_worker(state: &Path) -> Result<Lock, Refused> {
        take(state, PATIENCE / 2, |_| None)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it up, and leaves nothing behind. Only for who does not share it.
    pub fn remove(self) {
        // who opens it in between finds that it is not there any more, and makes a new one
        let _ = fs::remove_file(&self.path);
    }

    /// Gives it up, and leaves nothing behind unless another master shares it: the one before or the one after
    /// a binary upgrade.
    pub fn release(self) {
        let Lock { kept, path } = self;
        drop(kept);
        let Ok(file) = options().open(&path) else { return };
        if matches!(lock(&file), Ok(true)) && is_at(&file, &path) {
            let _ = fs::remove_file(&path);
        }
    }

    /// Whether nobody shares it in this process.
    pub fn is_alone(&self) -> bool {
        let file = self.kept.file();
        file.metadata().is_ok_and(|about| find_own(&about, file.as_raw_fd()).is_none())
    }

    /// Whether another copy of this module, in the same process, shares it.
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
                return Ok(Lock { kept: Kept::new(descriptors::keep(&file)?), path });
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
    // for a lock it is enough to read, which workers may
    options.read(true).custom_flags(FLAGS);
    options
}

/// Whether this opening of the file has the lock now.
fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file is the one that has this name; its last holder removes it.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(path)) => (file.dev(), file.ino()) == (path.dev(), path.ino()),
        _ => false,
    }
}

/// The descriptor of another process that leads to a file.
fn find(pid: u32, wanted: &fs::Metadata) -> Option<RawFd> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().find_map(|entry| {
        let descriptor = entry.file_name().to_str()?.parse().ok()?;
        let found = fs::metadata(entry.path()).ok()?;
        ((found.dev(), found.ino()) == (wanted.dev(), wanted.ino())).then_some(descriptor)
    })
}

/// The descriptor of this process, but for one, that leads to a file.
fn find_own(wanted: &fs::Metadata, but: RawFd) -> Option<RawFd> {
    let is_it = |&descriptor: &RawFd| {
        descriptors::id_of(descriptor) == Some((wanted.dev(), wanted.ino())) && descriptor != but
    };
    descriptors::own().into_iter().find(is_it)
}

/// The opening by which this server has the lock already: one of this process, or of the master that has
/// executed it.
fn shared(opened: &File, old_master: Option<u32>) -> Option<File> {
    let wanted = opened.metadata().ok()?;
    if let Some(descriptor) = find_own(&wanted, opened.as_raw_fd()) {
        let copied =
            descriptors::with(descriptor, |descriptor| fcntl_dupfd_cloexec(descriptor, descriptors::FIRST));
        let file = copied?.ok()?.into();
        // what was shared without the lock may get it now
        let _ = lock(&file);
        return Some(file);
    }
    // only the first configuration of a new binary goes on with what the old master has
    let parent = old_master?;
    let descriptor = find(parent, &wanted)?;
    // the same opening, where the kernel and the rights allow it; else the old master keeps the lock alone as
    // long as it lives
    of_process(parent, descriptor).or_else(|| opened.try_clone().ok())
}

/// A duplicate of another process's descriptor.
fn of_process(pid: u32, descriptor: RawFd) -> Option<File> {
    let process = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty()).ok().map(File::from)
}
