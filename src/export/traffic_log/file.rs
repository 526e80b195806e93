//! The file of a log, as this process has it open.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use accounting::traffic::{About, Append, Ledger};

use crate::nginx::thread::Progress;

/// The log's file, as this process has it open. NGINX replaces the descriptor when it reopens its files
/// (`ngx_reopen_files`), so a thread writes to a duplicate.
#[derive(Clone)]
pub struct Held {
    file: Arc<File>,
    id: [u64; 2],
}

impl Held {
    /// Opens the file of this name as NGINX does (`ngx_init_cycle`). For a cycle whose files NGINX has closed.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn reopened(path: &Path) -> io::Result<Held> {
        Held::new(OpenOptions::new().append(true).create(true).mode(0o644).open(path)?)
    }

    /// # Errors
    /// Errors of the system.
    pub fn new(file: File) -> io::Result<Held> {
        let id = Descriptor::new(&file).about()?.id;
        Ok(Held { file: Arc::new(file), id })
    }
}

/// An open file, for writing.
pub struct Descriptor<'a> {
    file: &'a File,
    progress: Option<&'a Progress>,
    /// a second descriptor for reading: NGINX opens its files only for writing
    readable: Option<File>,
}

impl<'a> Descriptor<'a> {
    fn new(file: &'a File) -> Self {
        Descriptor { file, progress: None, readable: None }
    }

    /// A file, for writing with progress.
    pub fn of(held: &'a Held, progress: &'a Progress) -> Self {
        Descriptor { progress: Some(progress), ..Descriptor::new(&held.file) }
    }
}

impl Append for Descriptor<'_> {
    fn about(&mut self) -> io::Result<About> {
        let found = self.file.metadata()?;
        Ok(About { id: [found.dev(), found.ino()], size: found.len(), is_regular: found.is_file() })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(progress) = self.progress {
            progress.note();
        }
        Ok(count)
    }

    fn cut(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        if self.readable.is_none() {
            // this path leads to the same file, even if the file was renamed
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            self.readable = Some(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?);
        }
        self.readable.as_ref().ok_or(io::ErrorKind::Unsupported)?.read_at(bytes, at)
    }
}

/// The files to write to.
#[derive(Clone, Default)]
pub struct Files {
    held: Option<Held>,
    /// the file before the reopening, as long as it may contain an unfinished batch
    before: Option<Held>,
}

impl Files {
    /// Switches to the file that NGINX has open now. `file` is a duplicate of it. This may wait for a disk.
    pub fn follow(&mut self, ledger: &Ledger, file: io::Result<File>) {
        if !ledger.is_open() {
            self.before = None;
        }
        // If the duplicate fails, the previous file is used.
        let Ok(new) = file.and_then(Held::new) else { return };
        if self.held.as_ref().is_none_or(|held| held.id != new.id) {
            let old = self.held.replace(new);
            self.before = self.before.take().or(old.filter(|_| ledger.is_open()));
        }
    }

    /// The files. The last one is the one to write to.
    pub fn all(&self) -> Vec<Held> {
        self.before.iter().chain(&self.held).cloned().collect()
    }
}
