//! Opens a file, and decompresses it where it is compressed.

use indicatif::ProgressBar;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::files::is_stdin;
use super::format::{self, Foreign, KNOWN_AFTER, Packing};
use super::peek::Peek;
use super::unpack::Unpack;

/// The text of a file. Compression is recognised by the first bytes, not by the name.
pub fn open(path: &Path, progress: &ProgressBar) -> io::Result<Peek> {
    if !is_stdin(path) && path.is_dir() {
        let some = path.join("*");
        let message = format!("this is a folder; name its files, such as {}", some.display());
        return Err(io::Error::other(message));
    }
    let file: Box<dyn Read> =
        if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut stored = Peek::new(Box::new(progress.wrap_read(file)));
    let begin = stored.peek(KNOWN_AFTER);
    let Some(packing) = Packing::of(begin) else {
        return match Foreign::of(begin) {
            Some(foreign) => Err(io::Error::other(foreign.message(path, None))),
            None => Ok(stored),
        };
    };
    let mut text = Peek::new(Box::new(Unpack::new(path, packing, stored)?));
    let begin = text.peek(KNOWN_AFTER);
    if let Some(inner) = Packing::of(begin) {
        return Err(io::Error::other(format::twice_packed(packing, inner, path)));
    }
    match Foreign::of(begin) {
        Some(foreign) => Err(io::Error::other(foreign.message(path, Some(packing)))),
        None => Ok(text),
    }
}
