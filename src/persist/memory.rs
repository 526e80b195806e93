//! Shared memory that another master, or another copy of this module, goes on with.
//!
//! NGINX's own shared memory is anonymous, and gone for a process that was executed (`ngx_shm_alloc`); and a module that is
//! loaded from another path gets new memory at a reload (`ngx_init_cycle` compares tags). So what must outlive that is in a
//! memfd that the master keeps open. Who comes next finds it by its name in `/proc`: the master of a new binary among the
//! descriptors of its parent, the old master; another copy of the module among those of its own process.
//!
//! Only masters have the descriptor. Worker processes close theirs and keep the mapping. What the master executes does not
//! inherit it, unless it could not look it up either: a process that has got rights by its file (capabilities, set-user-ID) may
//! not be looked into (`PR_GET_DUMPABLE`).

use core::cell::Cell;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{MmapOptions, MmapRaw};

/// What the names of all our memfds begin with.
const PREFIX: &[u8] = b"request_cpu";

/// A piece of shared memory. Each cycle that uses it has a copy of this; with the last one it is unmapped and closed.
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
        if bytes as u64 > file_size_limit() {
            // `ftruncate` would end the process with SIGXFSZ
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        let file = memfd(&CString::new(name(what))?)?;
        file.set_len(bytes as u64)?;
        seal(&file)?;
        Memory::map(file, bytes, name(what))
    }

    /// All memory whose names begin like this that others have left open for us. It stays theirs, too.
    pub fn left(what: &[u8], source: Source) -> Vec<Memory> {
        let wanted = name(what);
        let mut known = Vec::new();
        let mut memories = Vec::new();
        let own = || descriptors("/proc/self/fd").into_iter().filter(|found| !is_own(found.descriptor));
        let found = match source {
            Source::SameProcess => own().collect(),
            // what an older release has left is inherited, and the parent has it too
            Source::Parent(pid) => {
                let parent = pid.map(|pid| descriptors(&format!("/proc/{pid}/fd")));
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
        let file = keep(&file).ok()?;
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
        let taken_over = descriptor.as_ref().is_some_and(|kept| is_open_elsewhere(&kept.0));
        self.descriptor.set(descriptor);
        taken_over
    }
}

/// Whether this process has the same file open by a descriptor that is not this copy's of the module. Files on disks are told by
/// their names, since asking for more would wait for a disk that hangs; memfds of one name by their numbers.
pub fn is_open_elsewhere(file: &File) -> bool {
    let link = |descriptor: RawFd| fs::read_link(format!("/proc/self/fd/{descriptor}")).ok();
    let is_other = |descriptor: &RawFd| !is_own(*descriptor);
    let own_id = || id_of(file.as_raw_fd());
    let Some(own) = link(file.as_raw_fd()) else {
        // there is no `/proc`
        return own_descriptors()
            .into_iter()
            .filter(is_other)
            .any(|descriptor| id_of(descriptor) == own_id());
    };
    let is_memory = own.as_os_str().as_bytes().starts_with(b"/memfd:");
    own_descriptors().into_iter().filter(is_other).any(|descriptor| {
        link(descriptor).as_ref() == Some(&own) && (!is_memory || id_of(descriptor) == own_id())
    })
}

/// So many descriptors are tried where `/proc` does not tell which are open.
const TRIED: RawFd = 1 << 16;

/// Descriptors that this process has open; others may be among them.
pub fn own_descriptors() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return (0..TRIED).collect() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The device and the number of the file that a descriptor leads to; `None` if it is not open.
pub fn id_of(descriptor: RawFd) -> Option<(u64, u64)> {
    let mut about = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `fstat` fills `about` if it returns 0.
    (unsafe { libc::fstat(descriptor, about.as_mut_ptr()) } == 0).then(|| {
        // SAFETY: as above.
        let about = unsafe { about.assume_init() };
        (about.st_dev, about.st_ino)
    })
}

/// Descriptors that this copy of the module has open, in this process.
static OWN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

fn is_own(descriptor: RawFd) -> bool {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).contains(&descriptor)
}

/// An open file that this copy of the module is known to have.
pub struct Kept(File);

impl Kept {
    pub fn new(file: File) -> Kept {
        OWN.lock().unwrap_or_else(PoisonError::into_inner).push(file.as_raw_fd());
        Kept(file)
    }

    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let descriptor = self.0.as_raw_fd();
        OWN.lock().unwrap_or_else(PoisonError::into_inner).retain(|&own| own != descriptor);
    }
}

/// Closes what an older release has left open for this binary, once the first configuration has taken what it needs.
pub fn close_inherited() {
    for found in descriptors("/proc/self/fd").into_iter().filter(|found| !is_own(found.descriptor)) {
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
fn descriptors(folder: &str) -> Vec<Found> {
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

/// Whether another process of the same user may look into this one.
fn is_dumpable() -> bool {
    // SAFETY: only reads an attribute of the process.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) == 1 }
}

/// A descriptor for as long as the master lives. Not one of the first three: `ngx_daemon` redirects these.
pub fn keep(file: &File) -> io::Result<File> {
    let command = if is_dumpable() { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    // SAFETY: duplicates an open descriptor.
    let descriptor = unsafe { libc::fcntl(file.as_raw_fd(), command, 3) };
    // SAFETY: checked to be a descriptor that is nobody else's.
    (descriptor >= 0).then(|| unsafe { File::from_raw_fd(descriptor) }).ok_or_else(io::Error::last_os_error)
}

fn memfd(name: &CStr) -> io::Result<File> {
    let open = |flags| {
        // SAFETY: a string that ends with NUL; what is returned is a new descriptor, or -1.
        let descriptor = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        // SAFETY: checked to be a descriptor that is nobody else's.
        (descriptor >= 0)
            .then(|| unsafe { File::from_raw_fd(descriptor) })
            .ok_or_else(io::Error::last_os_error)
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // the flag is known since Linux 6.3, where an administrator can require it
    keep(&open(flags | libc::MFD_NOEXEC_SEAL).or_else(|_| open(flags))?)
}

/// Nobody can change its size any more, which would end every process that uses it.
fn seal(file: &File) -> io::Result<()> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: an open memfd.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn file_size_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: writes one `rlimit`.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    limit.rlim_cur
}
