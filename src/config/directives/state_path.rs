//! The path of `state=FILE`, and whether it can be a state file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use accounting::parameters::Text;

use crate::config::main::MainConf;
use crate::config::zone::Zone;
use crate::nginx::conf::Conf;
use crate::nginx::directive::Refusal;
use crate::nginx::thread::{NO_ANSWER, PATIENCE, within};

/// The longest suffix of the temporary files beside the state file (`.tmp-PID`).
const MAX_SUFFIX: usize = ".tmp-4294967295".len();
/// The most links that are followed, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// The path that `value` names. Like other paths, it is relative to NGINX's prefix.
///
/// # Errors
/// The reason why the file cannot be a state file.
pub fn parse(cf: &Conf<'_>, value: &[u8], main: &MainConf, directive: &str) -> Result<PathBuf, Refusal> {
    let refuse = |what: &str| {
        Refusal::from(format!("invalid state file \"{}\" in \"{directive}\": {what}", Text(value)))
    };
    if value.is_empty() {
        return Err(refuse("it has no name"));
    }
    let name = cf.full_name(value)?;
    // a worker may have another working directory
    let path = std::path::absolute(OsStr::from_bytes(name.as_bytes()))
        .map_err(|error| refuse(&error.to_string()))?;
    let folder = path.parent().filter(|_| path.file_name().is_some() && !value.ends_with(b"/"));
    if folder.is_none() {
        return Err(refuse("it is a folder"));
    }
    let path = match within(PATIENCE, move || find(&path)) {
        Some(Ok(path)) => path,
        Some(Err(what)) => return Err(refuse(&what)),
        None => return Err(refuse(NO_ANSWER)),
    };
    if !has_room_for_names(&path) {
        return Err(refuse("its name is too long"));
    }
    let has_it = |other: &&std::rc::Rc<Zone>| other.state_path() == Some(&path);
    match main.zones.look(|zones| zones.iter().find(has_it).map(|other| other.name)) {
        Some(other) => Err(refuse(&format!("zone \"{other}\" has it"))),
        None => Ok(path),
    }
}

/// Returns the path of a state file, or the reason why it cannot be one. This may wait for a disk.
fn find(path: &Path) -> Result<PathBuf, String> {
    match path.parent().map(fs::metadata) {
        Some(Ok(found)) if !found.is_dir() => return Err("its folder is a file".to_string()),
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err("its folder does not exist".to_string());
        }
        // The permissions of the users that start and run NGINX are not known yet.
        _ => {}
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err("it is a folder".to_string()),
        Ok(found) if !found.is_file() => return Err("it is not a regular file".to_string()),
        _ => {}
    }
    follow_links(path).map_err(|error| error.to_string())
}

/// Follows symbolic links: a link stays, and the file behind it is read and replaced. The file need not exist.
///
/// # Errors
/// A link cannot be read, or there are too many.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name())
            && let Ok(folder) = fs::canonicalize(folder)
        {
            path = folder.join(name);
        }
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&path)?;
                path = path.parent().map_or(target.clone(), |folder| folder.join(target));
            }
            // The permissions of the users that start and run NGINX are not known yet.
            _ => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Whether the names of the temporary files beside the file fit.
fn has_room_for_names(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.len() + MAX_SUFFIX <= libc::NAME_MAX as usize)
}
