//! Shared memory that a new binary goes on with.
//!
//! NGINX's own shared memory is anonymous, and gone for a process that was executed (`ngx_shm_alloc`). So what must outlive a
//! binary upgrade is in a memfd that the master keeps open: the new binary inherits the descriptor, as it inherits the
//! listening sockets, and knows it by its name in `/proc/self/fd`. Old and new workers then use the same memory.
//!
//! Only masters have the descriptor. Worker processes close theirs and keep the mapping. Like listening sockets, it is also
//! inherited by what other modules let the master execute; where NGINX is started that way it is not looked for.

use core::ffi::CStr;
use core::ptr::NonNull;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

/// What the names of all our memfds begin with.
const PREFIX: &[u8] = b"request_cpu";

/// A piece of shared memory. Each cycle that uses it has a copy of this; with the last one it is unmapped and closed.
#[derive(Clone)]
pub struct Memory {
    map: Arc<MmapRaw>,
    base: NonNull<u8>,
    /// none in worker processes
    descriptor: Option<Rc<File>>,
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
        Memory::map(file, bytes)
    }

    /// The memory of this name that the binary before has left open for us.
    pub fn inherited(what: &[u8]) -> Option<Memory> {
        let wanted = name(what);
        let (_, descriptor) = descriptors().into_iter().find(|(found, _)| *found == wanted)?;
        // SAFETY: open, and nobody else's: a new binary has not made any itself when it looks for this name.
        let file = unsafe { File::from_raw_fd(descriptor) };
        let bytes = usize::try_from(file.metadata().ok()?.len()).ok()?;
        Memory::map(file, bytes).ok()
    }

    /// All memory whose names begin like this that the binary before has left open for us.
    pub fn all_inherited(what: &[u8]) -> Vec<Memory> {
        let wanted = name(what);
        let found = descriptors().into_iter().filter(|(found, _)| found.starts_with(&wanted));
        let memory = found.filter_map(|(_, descriptor)| {
            // SAFETY: as above.
            let file = unsafe { File::from_raw_fd(descriptor) };
            let bytes = usize::try_from(file.metadata().ok()?.len()).ok()?;
            Memory::map(file, bytes).ok()
        });
        memory.collect()
    }

    fn map(file: File, bytes: usize) -> io::Result<Memory> {
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        let base = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Memory { map: Arc::new(map), base, descriptor: Some(Rc::new(file)) })
    }

    /// Where it is: at the start of a page.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Keeps it mapped, also in another thread.
    pub fn mapping(&self) -> Arc<MmapRaw> {
        self.map.clone()
    }

    /// What this process executes does not inherit it.
    pub fn close(&mut self) {
        self.descriptor = None;
    }

    fn raw_descriptor(&self) -> Option<RawFd> {
        self.descriptor.as_ref().map(|file| file.as_raw_fd())
    }
}

/// Closes what the binary before has left open, and this one has no use for.
pub fn close_inherited<'a>(used: impl Iterator<Item = &'a Memory>) {
    let used: Vec<RawFd> = used.filter_map(Memory::raw_descriptor).collect();
    for (_, descriptor) in descriptors().into_iter().filter(|(_, descriptor)| !used.contains(descriptor)) {
        // SAFETY: open, named as ours are, and nobody's in this process.
        drop(unsafe { File::from_raw_fd(descriptor) });
    }
}

fn name(what: &[u8]) -> Vec<u8> {
    [PREFIX, what].concat()
}

/// The memfds of this process whose names begin as ours, by name.
fn descriptors() -> Vec<(Vec<u8>, RawFd)> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let ours = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        let name = target.as_os_str().as_bytes().strip_prefix(b"/memfd:")?.strip_suffix(b" (deleted)")?;
        let descriptor = entry.file_name().to_str()?.parse().ok()?;
        name.starts_with(PREFIX).then(|| (name.to_vec(), descriptor))
    });
    ours.collect()
}

/// A memfd that a new binary will inherit. Not one of the first three descriptors: `ngx_daemon` redirects these.
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
    let first = open(flags | libc::MFD_NOEXEC_SEAL).or_else(|_| open(flags))?;
    // SAFETY: duplicates an open descriptor; the new one is open in what is executed.
    let descriptor = unsafe { libc::fcntl(first.as_raw_fd(), libc::F_DUPFD, 3) };
    // SAFETY: checked to be a descriptor that is nobody else's.
    (descriptor >= 0).then(|| unsafe { File::from_raw_fd(descriptor) }).ok_or_else(io::Error::last_os_error)
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
