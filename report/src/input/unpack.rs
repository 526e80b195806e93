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
    part: Option<PackedPart>,
}

/// The output of one call of a compressor: gzip calls it a member, zstd a frame, the others a stream.
enum PackedPart {
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
    fn open(&mut self, mut input: Peek) -> io::Result<Option<PackedPart>> {
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
                PackedPart::new(packing, input).map(Some).map_err(|error| self.explain(error))
            }
            // reading reports its error here
            None if begin.is_empty() => io::copy(&mut input, &mut io::sink()).map(|_| None),
            None => {
                let name = self.packing.name();
                let help = use_pipe(&with_file(self.packing.command(), &self.path));
                Err(io::Error::other(format!("other data follow the {name} data and are not read; {help}")))
            }
        }
    }

    /// An error in the user's words.
    fn explain(&self, error: io::Error) -> io::Error {
        let name = self.packing.name();
        match cause(&error) {
            Cause::Reading(code) => io::Error::from_raw_os_error(code),
            Cause::End => io::Error::other(format!("the {name} data are incomplete")),
            Cause::Damage => io::Error::other(format!("the {name} data are damaged")),
            Cause::Memory => {
                let command = match self.packing {
                    Packing::Zstd => "zstd -dc --long=31",
                    other => other.command(),
                };
                let help = use_pipe(&with_file(command, &self.path));
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

impl PackedPart {
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

    /// The input after the part, which must have been read completely.
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
        // 0 stands for a frame without a length
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

/// Decoders wrap the reader's error, some of them more than once.
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

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use bzip2::write::BzEncoder;
    use flate2::write::GzEncoder;
    use lzma_rust2::{XzOptions, XzWriter};
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const ALL: [Packing; 4] = [Packing::Gzip, Packing::Xz, Packing::Zstd, Packing::Bzip2];

    fn pack(packing: Packing, text: &[u8]) -> Vec<u8> {
        match packing {
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Xz => {
                let mut encoder = XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Zstd => compress_to_vec(text, CompressionLevel::Fastest),
            Packing::Bzip2 => {
                let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    /// Gives a few bytes at a time, as a pipe may.
    struct Slow(Cursor<Vec<u8>>, usize);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = into.len().min(self.1);
            self.0.read(&mut into[..most])
        }
    }

    fn unpack(packing: Packing, stored: Vec<u8>, at_once: usize) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let input = Peek::new(Box::new(Slow(Cursor::new(stored), at_once)));
        Unpack::new(Path::new("a.log"), packing, input)?.read_to_end(&mut text)?;
        Ok(text)
    }

    fn packings() -> impl Strategy<Value = Packing> {
        (0..ALL.len()).prop_map(|at| ALL[at])
    }

    /// Letters that repeat, so that there is something to compress.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(97..102_u8, 0..300),
            (prop::collection::vec(any::<u8>(), 1..60), 0..3000_usize)
                .prop_map(|(part, times)| part.repeat(times)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn parts_of_any_packing_with_zeros_between_read_as_their_texts(
            parts in prop::collection::vec((packings(), text(), prop_oneof![Just(0), 0..2000_usize]), 1..5),
            at_once in 1..5000_usize,
        ) {
            let first = parts[0].0;
            let stored: Vec<u8> = parts
                .iter()
                .flat_map(|(packing, text, zeros)| [pack(*packing, text), vec![0; *zeros]].concat())
                .collect();
            let text: Vec<u8> = parts.iter().flat_map(|(_, text, _)| text.clone()).collect();
            prop_assert_eq!(unpack(first, stored, at_once).unwrap(), text);
        }

        #[test]
        fn damage_is_found_or_changes_nothing(
            packing in packings(),
            texts in prop::collection::vec(text(), 1..3),
            place in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
        ) {
            let mut stored: Vec<u8> = texts.iter().flat_map(|text| pack(packing, text)).collect();
            let at = place.index(stored.len());
            stored[at] ^= flip;
            if let Ok(read) = unpack(packing, stored, 1000) {
                prop_assert_eq!(read, texts.concat());
            }
        }

        #[test]
        fn data_that_break_off_are_refused(
            packing in packings(),
            text in text(),
            place in any::<prop::sample::Index>(),
        ) {
            let mut stored = pack(packing, &text);
            stored.truncate(place.index(stored.len() - 10) + 10);
            let error = unpack(packing, stored, 1000).unwrap_err();
            let name = packing.name();
            prop_assert_eq!(error.to_string(), format!("the {name} data are incomplete"));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            packing in packings(),
            keep in 0..40_usize,
            text in text(),
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let mut stored = pack(packing, &text);
            stored.truncate(keep.max(10));
            stored.extend(bytes);
            // must return
            let _ = unpack(packing, stored, 1000);
        }
    }

    #[test]
    fn data_that_need_too_much_memory_are_refused_with_the_command_that_helps() {
        // a frame with a window of 1 GiB
        let zstd = [&b"\x28\xb5\x2f\xfd\x00"[..], &[20 << 3], b"\x01\0\0"].concat();
        let error = unpack(Packing::Zstd, zstd, 1000).unwrap_err();
        let message =
            "the zstd data need more than 256 MiB of memory; use: zstd -dc --long=31 a.log | cpu-report … -";
        assert_eq!(error.to_string(), message);
        let mut options = XzOptions::with_preset(0);
        options.lzma_options.dict_size = 1 << 30;
        let mut encoder = XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(b"a").unwrap();
        let error = unpack(Packing::Xz, encoder.finish().unwrap(), 1000).unwrap_err();
        assert_eq!(error.to_string(), message.replace("zstd", "xz").replace("--long=31 ", ""));
    }
}
