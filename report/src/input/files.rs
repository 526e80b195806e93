//! The files that are named as arguments.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::output::complain;

/// The file's name for messages.
pub fn name(file: &Path) -> String {
    if is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() }
}

/// Whether it is standard input.
pub fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == OsStr::new("-")
}

/// The identity of a file, independent of its name. None if the file does not exist.
pub fn identity(file: &Path) -> Option<(u64, u64)> {
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Warns of files that are named twice, and returns their number.
pub fn warn_of_repeated(files: &[PathBuf]) -> u64 {
    let mut seen = HashSet::new();
    let mut repeated = 0;
    for file in files {
        let identity = if is_stdin(file) { Some((0, 0)) } else { identity(file) };
        if identity.is_some_and(|identity| !seen.insert(identity)) {
            repeated += 1;
            complain(&format!("{} is named more than once", name(file)));
        }
    }
    repeated
}

/// Whether a file can be read a second time from its beginning.
pub fn is_regular(file: &Path) -> bool {
    !is_stdin(file) && file.metadata().is_ok_and(|metadata| metadata.is_file())
}
