//! Bytes before a line that are not part of it: byte order marks and NULs.
//!
//! A crash of the machine leaves NULs. So does a writer that keeps its position in a log that is emptied.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::files::name;
use crate::output::{complain, counted, grouped};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether the line may begin with a mark, or be of blanks alone.
pub fn may_begin(line: &[u8]) -> bool {
    line.first().is_some_and(|first| *first <= b' ' || *first == 0xef)
}

/// The line without marks before it; a line of blanks alone is empty. `note` is told how many NULs there
/// were.
#[cold]
#[inline(never)]
pub fn strip(line: &[u8], note: impl FnOnce(u64)) -> &[u8] {
    let (mut rest, mut nuls) = (line, 0);
    loop {
        let count = leading_nuls(rest);
        nuls += count as u64;
        let after = rest.get(count..).unwrap_or_default();
        match after.strip_prefix(BYTE_ORDER_MARK) {
            Some(after) => rest = after,
            None => {
                rest = after;
                break;
            }
        }
    }
    if nuls > 0 {
        note(nuls);
    }
    if rest.trim_ascii().is_empty() { &[] } else { rest }
}

/// How many NULs stand at the beginning.
pub fn leading_nuls(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == 0).count()
}

/// The NULs that were skipped, by file.
#[derive(Debug, Default)]
pub struct Nuls(BTreeMap<usize, NulsOfFile>);

#[derive(Debug)]
struct NulsOfFile {
    bytes: u64,
    first_line: u64,
    last_line: u64,
}

impl Nuls {
    /// Counts the NULs before this line.
    pub fn count(&mut self, file: usize, line: u64, bytes: u64) {
        self.join(file, &NulsOfFile { bytes, first_line: line, last_line: line });
    }

    pub fn add(&mut self, other: &Self) {
        for (file, nuls) in &other.0 {
            self.join(*file, nuls);
        }
    }

    fn join(&mut self, file: usize, more: &NulsOfFile) {
        let nuls = self.0.entry(file).or_insert(NulsOfFile { bytes: 0, ..*more });
        nuls.bytes += more.bytes;
        nuls.first_line = nuls.first_line.min(more.first_line);
        nuls.last_line = nuls.last_line.max(more.last_line);
    }

    /// Says on stderr which NULs were skipped, a line for each file.
    pub fn report(&self, files: &[PathBuf]) {
        for (file, nuls) in &self.0 {
            let file = files.get(*file).map(|file| name(file)).unwrap_or_default();
            let bytes = counted(nuls.bytes, "NUL byte", "NUL bytes");
            let were = if nuls.bytes == 1 { "was" } else { "were" };
            let (first, last) = (grouped(nuls.first_line), grouped(nuls.last_line));
            let place = if first == last {
                format!("before line {first}")
            } else {
                format!("before lines {first} to {last}")
            };
            complain(&format!("{file}: {bytes} {place} {were} skipped"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_before_a_line_are_stripped() {
        let cases: [(&[u8], &[u8], u64); 11] = [
            (b"a", b"a", 0),
            (b" a ", b" a ", 0),
            (b"\xef\xbb\xbfa", b"a", 0),
            (b"\xef\xbb\xbf\xef\xbb\xbfa", b"a", 0),
            (b"\xef\xbba", b"\xef\xbba", 0),
            (b"\0\0a\0", b"a\0", 2),
            (b"\xef\xbb\xbf\0\0\xef\xbb\xbfa", b"a", 2),
            (b"\0\0\0", b"", 3),
            (b"\xef\xbb\xbf", b"", 0),
            (b" \t ", b"", 0),
            (b"", b"", 0),
        ];
        for (line, without, nuls) in cases {
            let mut noted = 0;
            assert_eq!(strip(line, |nuls| noted = nuls), without, "{}", line.escape_ascii());
            assert_eq!(noted, nuls, "{}", line.escape_ascii());
            assert!(may_begin(line) || strip(line, |_| ()) == line, "{}", line.escape_ascii());
        }
    }
}
