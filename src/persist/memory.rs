//! Shared memory that another master, or another copy of this module, can continue to use.
//!
//! NGINX's own shared memory is anonymous, and is lost when a new binary is executed (`ngx_shm_alloc`). A module that
//! is loaded from another path also gets new memory at a reload (`ngx_init_cycle` compares tags). Memory that must
//! outlive both is therefore in a memfd that the master keeps open. The successor finds it by its name in `/proc`. The
//! master of a new binary searches the descriptors of its parent, the old master. Another copy of the module searches
//! those of its own process.
//!
//! Only masters have the descriptor. Worker processes close theirs and keep the mapping. A program that the master
//! executes finds the memory in `/proc`, so it does not inherit the descriptor. There is one exception: if the master
//! has got privileges by its file (capabilities, set-user-ID), other processes may not look into it
//! (`PR_GET_DUMPABLE`), so they inherit the descriptor.

use core::cell::Cell;
use core::ffi::CStr;
use core::ptr::NonNull;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use nginx_sys::NGX_LOG_NOTICE;
use nginx_sys::ngx_log_t;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Resource, getrlimit};

use crate::nginx::error_log::ngx_log_error;
use crate::persist::descriptors::{self, KeptDescriptor};

/// The prefix in the names of all our memfds.
const PREFIX: &[u8] = b"request_cpu";

/// A piece of shared memory. Each cycle that uses it has a copy of this value. It is unmapped and closed with the last
/// copy.
pub struct Memory {
    map: Arc<MmapRaw>,
    base: NonNull<u8>,
    name: Rc<[u8]>,
    /// none in worker processes
    descriptor: Cell<Option<Rc<KeptDescriptor>>>,
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        let descriptor = self.descriptor.take();
        self.descriptor.set(descriptor.clone());
        let (map, name) = (self.map.clone(), self.name.clone());
        Memory { map, base: self.base, name, descriptor: Cell::new(descriptor) }
    }
}

/// The place where another process or module may have left memory for this one.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// Another copy of this module in the same master.
    SameProcess,
    /// The master that has executed this one, by its process ID if that master still exists.
    Parent(Option<u32>),
}

impl Memory {
    /// Creates memory that is all zero. `what` describes its use, and is a part of its name.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn create(what: &[u8], bytes: usize) -> io::Result<Memory> {
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| bytes as u64 > limit) {
            // `ftruncate` would end the process with SIGXFSZ
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        let file = memfd(&CString::new(name(what))?)?;
        file.set_len(bytes as u64)?;
        // After this, no process can change its size, which would kill every process that uses the memory.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Memory::map(file, bytes, name(what))
    }

    /// As [`Memory::create`]. If the system does not allow it, the error is logged, and the result is `None`.
    pub fn create_or_log(what: &[u8], bytes: usize, log: *mut ngx_log_t) -> Option<Memory> {
        let memory = Memory::create(what, bytes);
        if let Err(error) = &memory {
            ngx_log_error!(
                NGX_LOG_NOTICE,
                log,
                "request_cpu: no memory that outlives a binary upgrade: {error}"
            );
        }
        memory.ok()
    }

    /// All memory with this prefix in its name that another process or copy has left open for this one. The other side
    /// keeps it too.
    pub fn left(what: &[u8], source: Source) -> Vec<Memory> {
        let wanted = name(what);
        let mut known = Vec::new();
        let mut memories = Vec::new();
        let own =
            || memfds("/proc/self/fd").into_iter().filter(|found| !descriptors::is_ours(found.descriptor));
        let found = match source {
            Source::SameProcess => own().collect(),
            // memory of an older release is inherited, and the parent has it too
            Source::Parent(pid) => {
                let parent = pid.map(|pid| memfds(&format!("/proc/{pid}/fd")));
                own().chain(parent.into_iter().flatten()).collect::<Vec<_>>()
            }
        };
        for found in found.iter().filter(|found| found.name.starts_with(&wanted)) {
            // a path in `/proc` opens the file anew, both for this process and for another one
            let Ok(file) = OpenOptions::new().read(true).write(true).open(&found.path) else { continue };
            let Ok(about) = file.metadata() else { continue };
            let id = (about.dev(), about.ino());
            if known.contains(&id) {
                continue;
            }
            known.push(id);
            memories.extend(Memory::take(file, about.len(), found.name.clone()));
        }
        memories
    }

    fn take(file: File, bytes: u64, name: Vec<u8>) -> Option<Memory> {
        let bytes = usize::try_from(bytes).ok()?;
        let file = descriptors::keep(&file).ok()?;
        Memory::map(file, bytes, name).ok()
    }

    fn map(file: File, bytes: usize, name: Vec<u8>) -> io::Result<Memory> {
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        let base = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        let descriptor = Cell::new(Some(Rc::new(KeptDescriptor::new(file))));
        Ok(Memory { map: Arc::new(map), base, name: name.into(), descriptor })
    }

    /// Its address, at the start of a page.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Whether the memory is named for exactly this use.
    pub fn is_named(&self, what: &[u8]) -> bool {
        *self.name == *name(what)
    }

    /// Keeps the memory mapped, also for another thread.
    pub fn mapping(&self) -> Arc<MmapRaw> {
        self.map.clone()
    }

    /// Closes the descriptor, so that this process does not pass it on.
    pub fn close(&self) {
        self.descriptor.take();
    }

    /// Whether another copy of this module in the same process has the memory too.
    pub fn is_taken_over(&self) -> bool {
        let descriptor = self.descriptor.take();
        let taken_over = descriptor.as_ref().is_some_and(|kept| descriptors::is_open_elsewhere(kept.file()));
        self.descriptor.set(descriptor);
        taken_over
    }
}

/// Closes memory that an older release has left open for this binary. Called once the first configuration has taken
/// the memory that it needs.
pub fn close_inherited() {
    for found in memfds("/proc/self/fd").into_iter().filter(|found| !descriptors::is_ours(found.descriptor)) {
        // SAFETY: the descriptor is open, has a name of ours, and no part of this process owns it: it was inherited.
        drop(unsafe { File::from_raw_fd(found.descriptor) });
    }
}

fn name(what: &[u8]) -> Vec<u8> {
    [PREFIX, what].concat()
}

/// An open memfd.
struct Found {
    name: Vec<u8>,
    path: std::path::PathBuf,
    descriptor: RawFd,
}

/// The memfds of a process with our prefix in their names.
fn memfds(folder: &str) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let ours = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        let name = target.as_os_str().as_bytes().strip_prefix(b"/memfd:")?.strip_suffix(b" (deleted)")?;
        let descriptor = entry.file_name().to_str()?.parse().ok()?;
        name.starts_with(PREFIX).then(|| Found { name: name.to_vec(), path: entry.path(), descriptor })
    });
    ours.collect()
}

fn memfd(name: &CStr) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // this flag exists since Linux 6.3, where an administrator can require it
    let made = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create(name, flags))?;
    descriptors::keep(&made.into())
}
