//! A file to append to.

use core::ops::Range;
use std::io;

/// The identity and size of a file. Others may write into it, move it or truncate it at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// device and number
    pub id: [u64; 2],
    /// bytes
    pub size: u64,
    /// not a pipe or a device: its content can be read again
    pub is_regular: bool,
}

/// A file to append to.
pub trait Append {
    /// Returns the identity and the size.
    ///
    /// # Errors
    /// Errors of the system.
    fn about(&mut self) -> io::Result<About>;

    /// Appends some of the bytes. Returns their number.
    ///
    /// # Errors
    /// Errors of the system. Nothing has been written then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Truncates the file to this size.
    ///
    /// # Errors
    /// Errors of the system.
    fn cut(&mut self, size: u64) -> io::Result<()>;

    /// Reads some of the bytes at a place, at most as many as fit. Returns 0 at the end of the file.
    ///
    /// # Errors
    /// An error if the file can only be written.
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize>;
}

/// The amount that was written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// lines
    pub lines: u64,
    /// bytes
    pub bytes: u64,
}

pub(super) fn find(region: &[u8], text: &[u8]) -> Option<usize> {
    // the usual case: the batch was written alone, in one call
    if region.starts_with(text) {
        return Some(0);
    }
    region.windows(text.len().max(1)).position(|window| window == text)
}

pub(super) fn read(file: &mut dyn Append, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let mut there = 0;
    while there < bytes.len() {
        match file.read(range.start + there as u64, &mut bytes[there..])? {
            0 => break,
            more => there += more,
        }
    }
    bytes.truncate(there);
    Ok(bytes)
}
