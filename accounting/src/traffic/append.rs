//! A file to append to.

use core::ops::Range;
use std::io;

/// A file that others may write into, move away or cut at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// device and number
    pub id: [u64; 2],
    /// bytes
    pub size: u64,
    /// not a pipe or a device, so that it can be known what is there
    pub is_regular: bool,
}

/// A file to append to.
pub trait Append {
    /// What and how large it is.
    ///
    /// # Errors
    /// Those of the system.
    fn about(&mut self) -> io::Result<About>;

    /// Appends some of the bytes; how many.
    ///
    /// # Errors
    /// Those of the system. Nothing has been written then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts it to this size.
    ///
    /// # Errors
    /// Those of the system.
    fn cut(&mut self, size: u64) -> io::Result<()>;

    /// Some of the bytes there, no more than fit; none at its end.
    ///
    /// # Errors
    /// If it may only be written.
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize>;
}

/// How much was written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// lines
    pub lines: u64,
    /// bytes
    pub bytes: u64,
}

pub(super) fn find(region: &[u8], text: &[u8]) -> Option<usize> {
    // where it was written by itself, at once
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
