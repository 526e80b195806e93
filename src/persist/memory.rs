//! Shared memory that another master, or another copy of this module, goes on with.
//!
//! NGINX's own shared memory is anonymous, and gone for a process that was executed (`ngx_shm_alloc`); and a
//! module that is loaded from another path gets new memory at a reload (`ngx_init_cycle` compares tags). So
//! what must outlive that is in a memfd that the master keeps open. Who comes next finds it by its name in
//! `/proc`: the master of a new binary among the descriptors of its parent, the old master; another copy of the
//! module among those of its own process.
//!
//! Only masters have the descriptor. Worker processes close theirs and keep the mapping. What the master
//! executes does not inherit it, unless it could not look it up either: a process that has got rights by its
//! file (capabilities, set-user-ID) may not be looked into (`PR_GET_DUMPABLE`).

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
use ngx::ngx_log_error;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Resource, getrlimit};

use crate::persist::descriptors::{self, Kept};

/// What the names of all our memfds begin with.
const PREFIX: &[u8] = b"request_cpu";

/// A piece of shared memory. Each cycle that uses it has a copy of this; with the last one it is unmapped and
/// closed.
pub struct Memory {
    map: Arc<MmapRaw>,
    base: NonNull<u8>,
    name: Rc<[u8]>,
    /// none in worker processes
    descriptor: Cell<Option<Rc<Kept>>>,
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        let descriptor = self.descriptor.take();
        self.descriptor.set(descriptor.clone());
        let (map, name) = (self.map.clone(), self.name.clone());
        Memory { map, base: self.base, name, descriptor: Cell::new(descriptor) }
    }
}

/// Where others may have left memory for us.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// Another copy of this module in the same master.
    SameProcess,
    /// The master that has executed this one, by its process ID if it is still there.
    Parent(Option<u32>),
}

impl Memory {
    /// New memory, all zero; `what` it is for is part of its name.
    ///
    /// # Errors
    /// Those of the system, where it does not allow this.
    pub fn create(what: &[u8], bytes: usize) -> io::Result<Memory> {
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| bytes as u64 > limit) {
            // `ftruncate` would end the process with SIGXFSZ
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        let file = memfd(&CString::new(name(what))?)?;
        file.set_len(bytes as u64)?;
        // nobody can change its size any more, which would end every process that uses it
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Memory::map(file, bytes, name(what))
    }

    /// As [`Memory::create`]; none where the system does not allow that, which is logged.
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

    /// All memory whose names begin like this that others have left open for us. It stays theirs, too.
    pub fn left(what: &[u8], source: Source) -> Vec<Memory> {
        let wanted = name(what);
        let mut known = Vec::new();
        let mut memories = Vec::new();
        let own =
            || memfds("/proc/self/fd").into_iter().filter(|found| !descriptors::is_ours(found.descriptor));
        let found = match source {
            Source::SameProcess => own().collect(),
            // what an older release has left is inherited, and the parent has it too
            Source::Parent(pid) => {
                let parent = pid.map(|pid| memfds(&format!("/proc/{pid}/fd")));
                own().chain(parent.into_iter().flatten()).collect::<Vec<_>>()
            }
        };
        for found in found.iter().filter(|found| found.name.starts_with(&wanted)) {
            // by its path it is opened anew, in this process and in another one
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
        let descriptor = Cell::new(Some(Rc::new(Kept::new(file))));
        Ok(Memory { map: Arc::new(map), base, name: name.into(), descriptor })
    }

    /// Where it is: at the start of a page.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Whether it is for just this.
    pub fn is_named(&self, what: &[u8]) -> bool {
        *self.name == *name(what)
    }

    /// Keeps it mapped, also in another thread.
    pub fn mapping(&self) -> Arc<MmapRaw> {
        self.map.clone()
    }

    /// This process does not hand it on.
    pub fn close(&self) {
        self.descriptor.take();
    }

    /// Whether another copy of this module, in the same process, has it too.
    pub fn is_taken_over(&self) -> bool {
        let descriptor = self.descriptor.take();
        let taken_over = descriptor.as_ref().is_some_and(|kept| descriptors::is_open_elsewhere(kept.file()));
        self.descriptor.set(descriptor);
        taken_over
    }
}

/// Closes what an older release has left open for this binary, once the first configuration has taken what it needs.
pub fn close_inherited() {
    for found in memfds("/proc/self/fd").into_iter().filter(|found| !descriptors::is_ours(found.descriptor)) {
        // SAFETY: open, named as ours are, and nobody's in this process: it was inherited.
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

/// The memfds of a process whose names begin as ours.
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
    // the flag is known since Linux 6.3, where an administrator can require it
    let made = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create(name, flags))?;
    descriptors::keep(&made.into())
}
