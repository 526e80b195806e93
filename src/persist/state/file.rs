//! One state file: it is found, read, replaced and set aside here.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use accounting::state::{self, Refused, Saved};
use accounting::table::Table;
use accounting::traffic;

use crate::nginx::process::is_used;
use crate::nginx::thread::Progress;
use crate::persist::descriptors::{self, KeptDescriptor};

/// Number of files that are set aside before an operator must act.
const MAX_SET_ASIDE: usize = 100;
/// The number by which a table identifies a file, whichever process has written the file last.
pub fn name_of(path: &Path) -> u64 {
    traffic::name_of(b"", path.as_os_str().as_bytes())
}

/// Whether the accounts of a table are saved in this file.
pub fn is_of(path: &Path, table: &Table) -> bool {
    table.saved_as()[1] == name_of(path)
}

/// The content of a state file.
pub enum Content {
    /// There is no file, or the file is empty.
    Nothing,
    Saved(Saved),
    /// The file begins like a state file, but cannot be used. The text is the reason.
    Unusable(String),
}

/// Reads a file.
///
/// # Errors
/// The reason why the file must not be changed: it is not a state file, or cannot be read.
pub fn read(path: &Path, key_text: &[u8]) -> Result<Content, String> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Nothing),
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    if bytes.is_empty() {
        // A new log is as empty as a new state file, and would be replaced by one.
        let is_other = File::open(path)
            .is_ok_and(|file| descriptors::is_open_elsewhere(KeptDescriptor::new(file).file()));
        return if is_other {
            Err("NGINX has it open for something else".into())
        } else {
            Ok(Content::Nothing)
        };
    }
    if !bytes.starts_with(state::START) {
        return Err(format!("{}, and is left as it is", Refused::Foreign));
    }
    Ok(state::read(&bytes, key_text)
        .map_or_else(|refused| Content::Unusable(refused.to_string()), Content::Saved))
}

/// Reads the file. If it is not a state file, reads only its first bytes, which show that.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // opening a FIFO would wait
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(state::START.len() as u64).read_to_end(&mut bytes)?;
    if bytes == state::START {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A number that changes when the file is written. `None` if there is no file.
pub fn id(path: &Path) -> Option<u64> {
    let found = fs::metadata(path).ok()?;
    let time_ns = (found.mtime() as u64).wrapping_mul(1_000_000_000).wrapping_add(found.mtime_nsec() as u64);
    Some(found.ino().rotate_left(40) ^ time_ns)
}

/// Replaces a whole file by the output of `write`. The output is written to another file beside it, which is then
/// renamed.
///
/// # Errors
/// Errors of the system. The file is then unchanged. The exception is a file that cannot be replaced: see
/// [`overwrite`].
pub fn replace(
    path: &Path,
    progress: &Progress,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let folder = File::open(path.parent().ok_or(io::ErrorKind::NotFound)?)?;
    // Several processes may write at the same time, so each writes its own file.
    let temporary = with_suffix(path, &format!(".tmp-{}", process::id()));
    let written = create(&temporary).and_then(|file| {
        let noting = Noting { file: &file, progress };
        let mut out = BufWriter::with_capacity(64 * 1024, noting);
        write(&mut out)?;
        out.flush()?;
        file.sync_all()?;
        progress.note();
        match fs::rename(&temporary, path) {
            // the file is a mount point of its own, as in containers
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => overwrite(path, &temporary),
            result => result,
        }
    });
    if written.is_err() {
        // the error above is the one to report
        let _ = fs::remove_file(&temporary);
    }
    written?;
    progress.note();
    folder.sync_all()
}

fn create(path: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    create().or_else(|error| match error.kind() {
        // left by a killed process that had the same process ID
        io::ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| create()),
        _ => Err(error),
    })
}

/// Overwrites a file in place. If the process is killed during that, the file is damaged.
fn overwrite(path: &Path, from: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    // a file that remains does no harm
    let _ = fs::remove_file(from);
    Ok(())
}

/// Reports the progress of writing.
struct Noting<'a> {
    file: &'a File,
    progress: &'a Progress,
}

impl Write for Noting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.progress.note();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Renames the file to an unused name.
///
/// # Errors
/// Errors of the system, or too many files are set aside already.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let names = (0..MAX_SET_ASIDE).map(|n| match n {
        0 => with_suffix(path, ".bad"),
        n => with_suffix(path, &format!(".bad-{n}")),
    });
    for aside in names {
        match fs::symlink_metadata(&aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::rename(path, &aside)?;
                return Ok(aside);
            }
            _ => {}
        }
    }
    Err(io::Error::other("there are too many of its kind"))
}

/// Removes temporary files of processes that were killed while they wrote.
pub fn remove_leftovers(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Ok(entries) = fs::read_dir(folder).map(|entries| entries.flatten()) else { return };
    for entry in entries {
        let found = entry.file_name();
        let pid = found.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b".tmp-"));
        let pid: Option<u32> = pid.and_then(|pid| str::from_utf8(pid).ok()?.parse().ok());
        if pid.is_some_and(|pid| !is_used(pid)) {
            // a file that remains does no harm
            let _ = fs::remove_file(entry.path());
        }
    }
}

pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
