//! Calls a function for each line, from several threads at once.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{self};
use std::thread;

use super::blocks::{Block, BlockReader, Lines, next};
use super::files::warn_of_repeated;
use super::marks;
use super::options::Options;
use super::prefix;
use super::progress;
use super::summary::Summary;

/// One reading thread cannot supply more threads than these.
const MAX_WORKERS: usize = 8;

/// The place of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinePlace {
    /// the file's place in the list of files
    pub file: usize,
    /// from 1 on
    pub line: u64,
}

/// Calls `each` for every line of the files, from several threads at once. Empty lines and line ends are left
/// out. Each thread has its own state, made by `new`, and all states are returned. Lines of one file may go
/// to any thread. `-` is standard input. Lines that `each` refuses are counted and skipped, and the summary
/// keeps the reasons of the first ones. Files that cannot be read are counted, and named on stderr at once.
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

/// As [`fold`], but `each` also gets the place of the line.
pub fn fold_places<State, Reason>(
    files: &[PathBuf],
    options: &Options,
    new: impl Fn() -> State + Sync,
    each: impl Fn(&mut State, LinePlace, &[u8]) -> Result<(), Reason> + Sync,
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
                    line = marks::strip(line, |nuls| summary.nuls.count(block.file, number, nuls));
                }
                let line = prefix::strip(line);
                if line.is_empty() {
                    continue;
                }
                summary.lines += 1;
                if let Err(reason) = each(&mut state, LinePlace { file: block.file, line: number }, &line) {
                    summary.count_broken(block.file, number, &reason);
                }
            }
            // the reader may have ended
            let _ = used.send(block.bytes);
        }
        (state, summary)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut reader = BlockReader {
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
        // the threads end when the sender is gone
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::super::blocks::MAX_LINE_BYTES;
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
