//! Decompresses files: any number of parts one after the other, each of which is checked by its checksum.

use std::error::Error;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::format::{PACKING_KNOWN_AFTER, Packing, use_pipe, with_file};
use super::peek::Peek;

/// No file may ask for more memory to decompress it; `xz -9` and `zstd --ultra -22` need at most half of it.
const MOST_MEMORY_KIB: u32 = 256 << 10;

/// The text of a compressed file.
pub struct Unpack {
    path: PathBuf,
    packing: Packing,
    /// none after the end, and after an error
    part: Option<Part>,
}

/// What one call of a compressor has written: gzip calls it a member, zstd a frame, and the others a stream.
enum Part {
    Gzip(Box<GzDecoder<Peek>>),
    Xz(Box<XzReader<Peek>>),
    Zstd(Box<Frame>),
    Bzip2(Box<BzDecoder<Peek>>),
}

/// A frame of zstd, and how much of its text has been read.
struct Frame {
    decoder: StreamingDecoder<Peek, FrameDecoder>,
    bytes: u64,
}

impl Unpack {
    /// `input` begins with a part of this packing.
    pub fn new(path: &Path, packing: Packing, input: Peek) -> io::Result<Self> {
        let mut unpack = Self { path: path.to_owned(), packing, part: None };
        unpack.part = unpack.open(input)?;
        Ok(unpack)
    }

    /// The part that `input` begins with, if it is not at its end.
    fn open(&mut self, mut input: Peek) -> io::Result<Option<Part>> {
        // a frame of zstd that has no text
        while let Some(bytes) = skipped(input.peek(8)) {
            let copied = io::copy(&mut input.by_ref().take(bytes), &mut io::sink())?;
            if copied < bytes {
                return Err(self.explain(io::ErrorKind::UnexpectedEof.into()));
            }
            input.skip_zeros()?;
        }
        let begin = input.peek(PACKING_KNOWN_AFTER);
        match Packing::of(begin) {
            Some(packing) => {
                self.packing = packing;
                Part::new(packing, input).map(Some).map_err(|error| self.explain(error))
            }
            // an error of reading comes here
            None if begin.is_empty() => io::copy(&mut input, &mut io::sink()).map(|_| None),
            None => {
                let name = self.packing.name();
                let help = use_pipe(&with_file(self.packing.command(), &self.path));
                Err(io::Error::other(format!(
                    "after the {name} data are other data, which are not read; {help}"
                )))
            }
        }
    }

    /// An error in the user's words.
    fn explain(&self, error: io::Error) -> io::Error {
        let name = self.packing.name();
        match cause(&error) {
            Cause::Reading(code) => io::Error::from_raw_os_error(code),
            Cause::End => io::Error::other(format!("the {name} data break off")),
            Cause::Damage => io::Error::other(format!("the {name} data are damaged")),
            Cause::Memory => {
                let help = use_pipe(&with_file(self.packing.command(), &self.path));
                let most = MOST_MEMORY_KIB >> 10;
                io::Error::other(format!("the {name} data need more than {most} MiB of memory; {help}"))
            }
        }
    }
}

impl Read for Unpack {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Some(mut part) = self.part.take() {
            match part.read(into) {
                Ok(0) => {
                    let mut input = part.end().map_err(|error| self.explain(error))?;
                    // tapes and blocks are filled up with zeros
                    input.skip_zeros()?;
                    self.part = self.open(input)?;
                }
                Ok(got) => {
                    self.part = Some(part);
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.part = Some(part),
                Err(error) => return Err(self.explain(error)),
            }
        }
        Ok(0)
    }
}

impl Part {
    fn new(packing: Packing, input: Peek) -> io::Result<Self> {
        Ok(match packing {
            Packing::Gzip => Self::Gzip(Box::new(GzDecoder::new(input))),
            Packing::Xz => Self::Xz(Box::new(XzReader::new_mem_limit(input, false, MOST_MEMORY_KIB))),
            Packing::Zstd => {
                let most = u64::from(MOST_MEMORY_KIB) << 10;
                let decoder =
                    StreamingDecoder::new_with_max_window_size(input, most).map_err(io::Error::other)?;
                Self::Zstd(Box::new(Frame { decoder, bytes: 0 }))
            }
            Packing::Bzip2 => Self::Bzip2(Box::new(BzDecoder::new(input))),
        })
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(into),
            Self::Xz(decoder) => decoder.read(into),
            Self::Zstd(frame) => {
                let got = frame.decoder.read(into)?;
                frame.bytes += got as u64;
                Ok(got)
            }
            Self::Bzip2(decoder) => decoder.read(into),
        }
    }

    /// What follows the part, all of which has been read.
    fn end(self) -> io::Result<Peek> {
        match self {
            Self::Gzip(decoder) => Ok(decoder.into_inner()),
            Self::Xz(decoder) => Ok(decoder.into_inner()),
            Self::Zstd(frame) => frame.end(),
            Self::Bzip2(decoder) => Ok(decoder.into_inner()),
        }
    }
}

impl Frame {
    /// The decoder leaves the checks to its caller.
    fn end(self) -> io::Result<Peek> {
        let (input, decoder) = self.decoder.into_parts();
        let is_whole = match decoder.get_checksum_from_data() {
            Some(sum) => decoder.get_calculated_checksum() == Some(sum),
            None => true,
        };
        // 0 is that of a frame that does not tell
        let length = decoder.content_size();
        if is_whole && (length == 0 || length == self.bytes) {
            Ok(input)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

/// The length of a frame of zstd without text, with its header.
fn skipped(begin: &[u8]) -> Option<u64> {
    match *begin {
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d] => Some(8 + u64::from(u32::from_le_bytes([a, b, c, d]))),
        _ => None,
    }
}

/// Why data cannot be decompressed.
enum Cause {
    /// the system's error
    Reading(i32),
    End,
    Memory,
    Damage,
}

/// Decoders wrap what they got from the reader, some of them more than once.
fn cause(error: &io::Error) -> Cause {
    if let Some(code) = error.raw_os_error() {
        return Cause::Reading(code);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => return Cause::End,
        io::ErrorKind::OutOfMemory => return Cause::Memory,
        _ => {}
    }
    let mut inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    while let Some(error) = inner {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return cause(error);
        }
        if let Some(ruzstd::decoding::errors::FrameDecoderError::WindowSizeTooBig { .. }) =
            error.downcast_ref()
        {
            return Cause::Memory;
        }
        inner = error.source();
    }
    Cause::Damage
}
