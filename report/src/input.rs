//! Reads log files line by line: plain or compressed, any number of them, and standard input.
//!
//! One thread reads and decompresses, and cuts what it has read into blocks of whole lines; others take a block at a time. So a
//! log may be of any size: in memory are a few blocks, and what the caller keeps.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use indicatif::ProgressBar;

use self::format::{Foreign, KNOWN_AFTER, Packing};
use self::marks::Nuls;
use self::peek::Peek;
use self::unpack::Unpack;
use crate::output::{complain, counted, grouped};
use crate::progress;
use copies::Copies;

mod copies;
mod format;
mod marks;
mod peek;
mod prefix;
mod unpack;

/// A line may be as long as this; longer ones are counted as broken.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// One thread cannot read for more.
const MAX_WORKERS: usize = 8;

/// So many of the broken lines are shown.
const SHOWN_BROKEN: usize = 5;

/// Arguments of all commands that read logs, for `#[command(flatten)]`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// The same as "--broken error"
    #[arg(long, help_heading = "Input", conflicts_with = "broken")]
    pub strict: bool,

    /// What to do if there are broken lines; "error" for bills, and "skip" for others, if nothing is said
    #[arg(long, help_heading = "Input", value_name = "WHAT")]
    pub broken: Option<Broken>,

    /// Show no progress
    #[arg(long, short, help_heading = "Input")]
    pub quiet: bool,
}

/// What to do if there are broken lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// end with status 1; there is no bill
    Error,
    /// leave them out, and say how many there are
    Skip,
}

impl Options {
    /// What is asked for, or else `usual`.
    pub fn broken(&self, usual: Broken) -> Broken {
        if self.strict { Broken::Error } else { self.broken.unwrap_or(usual) }
    }
}

/// What was read, and what was not.
#[derive(Debug, Default)]
pub struct Summary {
    /// files that were read to their end
    pub files: u64,
    /// files that could not be opened, or not be read to their end
    pub unreadable: u64,
    /// lines, without empty ones
    pub lines: u64,
    /// lines that the caller refused, or that were too long
    pub broken: u64,
    /// bytes after decompression
    pub bytes: u64,
    /// files that were named before
    pub repeated: u64,
    shown: Vec<BrokenLine>,
    nuls: Nuls,
    copies: Copies,
}

/// A line that was not understood.
#[derive(Debug)]
struct BrokenLine {
    file: usize,
    line: u64,
    reason: String,
}

impl Summary {
    /// Says which files begin as others do, where that is found in no other way.
    pub fn report_copies(&self, files: &[PathBuf]) {
        if let Some(message) = self.copies.report(files) {
            complain(&message);
        }
    }

    /// Says on stderr which lines were skipped, if any were.
    pub fn report(&self, files: &[PathBuf]) {
        self.show_broken(files);
        if self.broken > 0 {
            let were = if self.broken == 1 { "was" } else { "were" };
            complain(&format!("{}, and {were} skipped", self.are_broken()));
        }
    }

    /// How many lines are broken, as a sentence without an end.
    pub fn are_broken(&self) -> String {
        let lines = counted(self.lines, "line", "lines");
        format!("{} of {lines} {} broken", grouped(self.broken), if self.broken == 1 { "is" } else { "are" })
    }

    /// Names the first broken lines on stderr.
    pub fn show_broken(&self, files: &[PathBuf]) {
        for broken in &self.shown {
            let file = files.get(broken.file).map(|file| name(file)).unwrap_or_default();
            complain(&format!("{file}:{}: {}", broken.line, broken.reason));
        }
    }

    /// Broken lines are no failure unless they are to be an error, or there is nothing but them; files that cannot be
    /// read are.
    pub fn status(&self, options: &Options) -> ExitCode {
        let nothing = self.lines > 0 && self.broken == self.lines;
        if self.unreadable > 0
            || nothing
            || (options.broken(Broken::Skip) == Broken::Error && self.broken > 0)
        {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.unreadable += other.unreadable;
        self.lines += other.lines;
        self.broken += other.broken;
        self.bytes += other.bytes;
        self.nuls.add(&other.nuls);
        self.shown.extend(other.shown);
        self.shown.sort_by_key(|broken| (broken.file, broken.line));
        self.shown.truncate(SHOWN_BROKEN);
    }

    fn note_broken(&mut self, file: usize, line: u64, reason: &dyn Display) {
        self.broken += 1;
        // the blocks come in order, so that these are the first ones that this thread sees
        if self.shown.len() < SHOWN_BROKEN {
            self.shown.push(BrokenLine { file, line, reason: reason.to_string() });
        }
    }
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// the file's place in the list of files
    pub file: usize,
    /// from 1 on
    pub line: u64,
}

/// Calls `each` with every line of the files that is not empty, without its line end, from several threads at once. Every thread
/// has a state of its own, made by `new`, and all states are returned; a line belongs to one of them, and lines of one file
/// may go to any. `-` is standard input. What `each` refuses is counted and skipped; the reasons of the first ones are
/// kept in the summary. Files that cannot be read are named on stderr at once, and counted.
pub fn fold<State, Reason>(
    files: &[PathBuf],
    options: &Options,
    new: impl Fn() -> State + Sync,
    each: impl Fn(&mut State, &[u8]) -> Result<(), Reason> + Sync,
) -> (Vec<State>, Summary)
where
    State: Send,
    Reason: Display,
{
    fold_places(files, options, new, |state, _, line| each(state, line))
}

/// The same, where `each` is told where the line stands.
pub fn fold_places<State, Reason>(
    files: &[PathBuf],
    options: &Options,
    new: impl Fn() -> State + Sync,
    each: impl Fn(&mut State, Place, &[u8]) -> Result<(), Reason> + Sync,
) -> (Vec<State>, Summary)
where
    State: Send,
    Reason: Display,
{
    let repeated = warn_of_repeated(files);
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS));
    let (blocks, taken) = mpsc::sync_channel::<Block>(2 * workers);
    let (used, empty) = mpsc::channel::<Vec<u8>>();
    let taken = Mutex::new(taken);
    let work = || {
        let (mut state, mut summary) = (new(), Summary::default());
        while let Some(block) = next(&taken) {
            let lines = block.bytes.get(..block.len).unwrap_or_default();
            for (line, number) in Lines(lines).zip(block.first_line..) {
                let mut line = line;
                if marks::may_begin(line) {
                    line = marks::strip(line, |nuls| summary.nuls.note(block.file, number, nuls));
                }
                let line = prefix::strip(line);
                if line.is_empty() {
                    continue;
                }
                summary.lines += 1;
                if let Err(reason) = each(&mut state, Place { file: block.file, line: number }, &line) {
                    summary.note_broken(block.file, number, &reason);
                }
            }
            // the reader may have ended
            let _ = used.send(block.bytes);
        }
        (state, summary)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut reader = Reader {
            blocks,
            empty,
            progress: progress::of_files(files, options),
            summary: Summary::default(),
        };
        for (at, file) in files.iter().enumerate() {
            reader.read(at, file);
        }
        reader.progress.finish_and_clear();
        let mut summary = reader.summary;
        summary.repeated = repeated;
        // the threads end when there is nobody to send them blocks
        drop(reader.blocks);
        let mut states = Vec::with_capacity(threads.len());
        for thread in threads {
            match thread.join() {
                Ok((state, part)) => {
                    states.push(state);
                    summary.add(part);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        summary.nuls.report(files);
        (states, summary)
    })
}

/// What the user called the file.
pub fn name(file: &Path) -> String {
    if is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() }
}

/// Whether it is standard input.
pub fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == OsStr::new("-")
}

/// The file itself, whatever it is called; none if there is no such file.
pub fn identity(file: &Path) -> Option<(u64, u64)> {
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// A file that is named twice is hardly what was meant. Returns how many there are.
fn warn_of_repeated(files: &[PathBuf]) -> u64 {
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

// ---- blocks -------------------------------------------------------------------------------------------------------

/// Whole lines of a file.
struct Block {
    file: usize,
    first_line: u64,
    bytes: Vec<u8>,
    len: usize,
}

fn next(taken: &Mutex<Receiver<Block>>) -> Option<Block> {
    taken.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The lines of a block, without their ends.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match memchr::memchr(b'\n', self.0) {
            Some(end) => (self.0.get(..end)?, self.0.get(end + 1..)?),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

// ---- reading ------------------------------------------------------------------------------------------------------

struct Reader {
    blocks: SyncSender<Block>,
    empty: Receiver<Vec<u8>>,
    progress: ProgressBar,
    summary: Summary,
}

impl Reader {
    fn read(&mut self, at: usize, file: &Path) {
        let mut lines = 0;
        match self.read_blocks(at, file, &mut lines) {
            Ok(()) => self.summary.files += 1,
            Err(error) => {
                self.summary.unreadable += 1;
                let place = if lines > 0 { format!("after line {lines}: ") } else { String::new() };
                self.progress.suspend(|| complain(&format!("{}: {place}{error}", name(file))));
            }
        }
    }

    /// Sends the file's lines on, in blocks; `line` is how many there were so far.
    fn read_blocks(&mut self, file: usize, path: &Path, line: &mut u64) -> io::Result<()> {
        let mut input = open(path, &self.progress)?;
        let mut bytes = self.buffer();
        let mut len = 0;
        // whether the end of a line that is too long is still to come
        let mut in_long_line = false;
        loop {
            let read = fill(&mut input, bytes.get_mut(len..).unwrap_or_default());
            let (got, is_end) = match &read {
                Ok((got, is_end)) => (*got, *is_end),
                // what came before the error is taken, less a line that may have been cut
                Err((got, _)) => (*got, false),
            };
            let is_begin = *line == 0 && len == 0 && !in_long_line;
            self.summary.bytes += got as u64;
            len += got;
            let filled = bytes.get(..len).unwrap_or_default();
            if is_begin {
                self.summary.copies.note(file, filled);
            }
            let whole = match memchr::memrchr(b'\n', filled) {
                _ if is_end => len,
                Some(last) => last + 1,
                None => 0,
            };
            if in_long_line {
                // up to its end, nothing is kept
                match memchr::memchr(b'\n', filled) {
                    Some(end) => {
                        bytes.copy_within(end + 1..len, 0);
                        len -= end + 1;
                        *line += 1;
                        in_long_line = false;
                        if is_end {
                            self.send(file, line, &mut bytes, len, len);
                            return Ok(());
                        }
                    }
                    None => len = 0,
                }
            } else if whole > 0 {
                len = self.send(file, line, &mut bytes, whole, len);
            } else if let nuls @ 1.. = marks::leading_nuls(filled) {
                // there may be more of them than a line may be long
                self.summary.nuls.note(file, *line + 1, nuls as u64);
                bytes.copy_within(nuls..len, 0);
                len -= nuls;
            } else if len == bytes.len() {
                self.summary.lines += 1;
                self.summary.note_broken(file, *line + 1, &format!("longer than {MAX_LINE_BYTES} bytes"));
                in_long_line = true;
                len = 0;
            }
            match read {
                Err((_, error)) => return Err(error),
                Ok(_) if is_end => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    /// Sends the first `whole` bytes on, and keeps the rest, whose length is returned.
    fn send(&mut self, file: usize, line: &mut u64, bytes: &mut Vec<u8>, whole: usize, len: usize) -> usize {
        let mut next = self.buffer();
        let rest = bytes.get(whole..len).unwrap_or_default();
        let kept = rest.len();
        if let Some(begin) = next.get_mut(..kept) {
            begin.copy_from_slice(rest);
        }
        let first_line = *line + 1;
        *line += memchr::memchr_iter(b'\n', bytes.get(..whole).unwrap_or_default()).count() as u64;
        let full = std::mem::replace(bytes, next);
        // nobody takes it only if all threads have ended, which they do after the reader
        let _ = self.blocks.send(Block { file, first_line, bytes: full, len: whole });
        kept
    }

    fn buffer(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_else(|_| vec![0; MAX_LINE_BYTES])
    }
}

/// Reads until the buffer is full or the input ends: how much, and whether it ended.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<(usize, bool), (usize, io::Error)> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => return Ok((got, true)),
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((got, error)),
        }
    }
    Ok((got, false))
}

/// The file's text: a file that is compressed is decompressed, which is known by how it begins, whatever it is called.
fn open(path: &Path, progress: &ProgressBar) -> io::Result<Peek> {
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn read(contents: &[&[u8]]) -> (Vec<Vec<u8>>, Summary) {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..contents.len()).map(|at| folder.path().join(at.to_string())).collect();
        for (file, content) in files.iter().zip(contents) {
            std::fs::write(file, content).unwrap();
        }
        let each = |lines: &mut Vec<Vec<u8>>, line: &[u8]| {
            lines.push(line.to_vec());
            if line.starts_with(b"bad") { Err("it is bad") } else { Ok(()) }
        };
        let (states, summary) = fold(&files, &Options::default(), Vec::new, each);
        let mut lines: Vec<Vec<u8>> = states.into_iter().flatten().collect();
        lines.sort();
        (lines, summary)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn lines_of_plain_and_gzip_files_are_read() {
        let members = [gzip(b"c\nd"), gzip(b"\ne\n")].concat();
        let (lines, summary) = read(&[b"a\r\n\nb", &members, b""]);
        assert_eq!(lines, [b"a", b"b", b"c", b"d", b"e"]);
        assert_eq!((summary.files, summary.lines, summary.broken, summary.unreadable), (3, 5, 0, 0));
    }

    #[test]
    fn the_first_broken_lines_are_shown_with_their_numbers() {
        let many: Vec<u8> =
            (0..100_000).flat_map(|n| if n % 1000 == 7 { *b"bad line\n" } else { *b"goodline\n" }).collect();
        let (_, summary) = read(&[b"good\n", &many]);
        assert_eq!((summary.lines, summary.broken), (100_001, 100));
        let shown: Vec<_> = summary.shown.iter().map(|broken| (broken.file, broken.line)).collect();
        assert_eq!(shown, [(1, 8), (1, 1008), (1, 2008), (1, 3008), (1, 4008)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped() {
        for long in [MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 3 * MAX_LINE_BYTES + 17] {
            let content = [b"a\n", &vec![b'x'; long][..], b"\nb\nc"].concat();
            let (lines, summary) = read(&[&content]);
            assert_eq!(lines, [b"a", b"b", b"c"], "{long}");
            assert_eq!((summary.lines, summary.broken), (4, 1));
            assert_eq!(summary.shown[0].line, 2);
        }
    }

    #[test]
    fn what_comes_before_the_damage_of_a_file_is_taken() {
        let mut cut = gzip(&b"0123456789 a line\n".repeat(200_000));
        cut.truncate(cut.len() - 20);
        let (lines, summary) = read(&[&cut, b"z\n"]);
        assert!(lines.len() > 1 && lines.iter().all(|line| line == b"0123456789 a line" || line == b"z"));
        assert_eq!((summary.files, summary.unreadable, summary.broken), (1, 1, 0));
    }
}
