//! Recognises the format of a file by its first bytes, and names the command that makes lines of it.

use std::path::Path;

use super::files::is_stdin;

/// The first bytes of a file that are enough to recognise its format.
pub const KNOWN_AFTER: usize = 512;

/// A supported compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

/// The first bytes of a compressed part that are enough to recognise its format.
pub const PACKING_KNOWN_AFTER: usize = 10;

impl Packing {
    /// The compression of data that begin like this.
    pub fn of(begin: &[u8]) -> Option<Self> {
        match begin {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            // a block, or the end of a file without blocks
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Self::Bzip2),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        }
    }

    /// The command that decompresses, with a file or standard input.
    pub fn command(self) -> &'static str {
        match self {
            Self::Gzip => "gzip -dc",
            Self::Xz => "xz -dc",
            Self::Zstd => "zstd -dc",
            Self::Bzip2 => "bzip2 -dc",
        }
    }
}

/// An unsupported format.
#[derive(Debug)]
pub struct Foreign {
    at: usize,
    magic: &'static [u8],
    /// follows "this is"
    name: &'static str,
    help: Help,
}

/// The way to make lines of a format.
#[derive(Clone, Copy, Debug)]
enum Help {
    /// by a command that reads a file, or standard input without a file
    Pipe(&'static str),
    /// by a command that reads only files
    File(&'static str),
    /// by a command for a file, and one for standard input
    Both(&'static str, &'static str),
    /// by other means
    Say(&'static str),
}

const LOG: Help = Help::Say("name the log itself");

const FOREIGN: [Foreign; 30] = [
    known(0, b"\x04\x22\x4d\x18", "compressed by lz4", Help::Pipe("lz4 -dc")),
    known(0, b"\x02\x21\x4c\x18", "compressed by lz4", Help::Pipe("lz4 -dc")),
    known(0, b"LZIP", "compressed by lzip", Help::Pipe("lzip -dc")),
    known(0, b"\x1f\x9d", "compressed by compress", Help::Pipe("gzip -dc")),
    known(0, b"\x1f\x1e", "compressed by pack", Help::Pipe("gzip -dc")),
    known(0, b"\x89LZO\0\r\n\x1a\n", "compressed by lzop", Help::Pipe("lzop -dc")),
    known(0, b"\xff\x06\0\0sNaPpY", "compressed by snappy", Help::Pipe("snzip -dc")),
    known(0, b"\x5d\0\0", "compressed by lzma", Help::Pipe("xz --format=lzma -dc")),
    known(0, b"LRZI", "compressed by lrzip", Help::File("lrzcat")),
    known(0, b"PK\x03\x04", "a zip archive", Help::File("unzip -p")),
    known(0, b"PK\x05\x06", "an empty zip archive", LOG),
    known(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", Help::File("7z x -so")),
    known(0, b"Rar!\x1a\x07", "a rar archive", Help::File("unrar p -inul")),
    known(257, b"ustar", "a tar archive", Help::Both("tar -xOf", "tar -xOf -")),
    known(0, b"\xff\xfe\0\0", "UTF-32 text", Help::Pipe("iconv -f UTF-32 -t UTF-8")),
    known(0, b"\0\0\xfe\xff", "UTF-32 text", Help::Pipe("iconv -f UTF-32 -t UTF-8")),
    known(0, b"\xff\xfe", "UTF-16 text", Help::Pipe("iconv -f UTF-16 -t UTF-8")),
    known(0, b"\xfe\xff", "UTF-16 text", Help::Pipe("iconv -f UTF-16 -t UTF-8")),
    known(0, b"{\0\"\0", "UTF-16 text", Help::Pipe("iconv -f UTF-16LE -t UTF-8")),
    known(0, b"\0{\0\"", "UTF-16 text", Help::Pipe("iconv -f UTF-16BE -t UTF-8")),
    known(0, b"age-encryption.org/", "encrypted by age", Help::Pipe("age -d -i KEY")),
    known(0, b"-----BEGIN PGP MESSAGE", "encrypted by gpg", Help::Pipe("gpg -d")),
    known(
        0,
        b"LPKSHHRH",
        "a journal of systemd",
        Help::Both("journalctl -o cat --file", "journalctl -o cat --file=-"),
    ),
    known(0, b"PAR1", "a Parquet file", Help::Say("export its rows as JSON, an object a line")),
    known(
        0,
        b"SQLite format 3\0",
        "an SQLite database",
        Help::Say("export its rows as JSON, an object a line"),
    ),
    known(0, b"\x7fELF", "a program", LOG),
    known(0, b"%PDF-", "a PDF document", LOG),
    known(0, b"\x89PNG\r\n", "a picture", LOG),
    known(0, b"<?xml", "an XML document", LOG),
    known(0, b"<svg", "a picture", LOG),
];

const HTML: Foreign = known(0, b"", "an HTML page", LOG);

const BINARY: Foreign = known(
    0,
    b"",
    "neither text nor a format that cpu-report knows",
    Help::Say("if it is compressed or encrypted, pipe its text to: cpu-report … -"),
);

const fn known(at: usize, magic: &'static [u8], name: &'static str, help: Help) -> Foreign {
    Foreign { at, magic, name, help }
}

impl Foreign {
    /// The format of data that begin like this, if they are no lines.
    pub fn of(begin: &[u8]) -> Option<&'static Self> {
        let is = |format: &&Self| begin.get(format.at..).is_some_and(|there| there.starts_with(format.magic));
        FOREIGN
            .iter()
            .find(is)
            .or_else(|| is_html(begin).then_some(&HTML))
            .or_else(|| is_binary(begin).then_some(&BINARY))
    }

    /// The message about the file, with a command that helps. `outer` is the compression around the data.
    pub fn message(&self, file: &Path, outer: Option<Packing>) -> String {
        let is = match outer {
            None => format!("this is {}", self.name),
            // two compressions are named in their order
            Some(outer) => match self.name.strip_prefix("compressed by ") {
                Some(inner) => format!("this is compressed twice, by {inner} and then by {}", outer.name()),
                None => format!("this is {} compressed by {}", self.name, outer.name()),
            },
        };
        let help = match (self.help, outer) {
            (Help::Say(help), _) => help.to_owned(),
            (Help::Pipe(command) | Help::Both(_, command), Some(outer)) => {
                use_pipe(&format!("{} | {command}", with_file(outer.command(), file)))
            }
            (Help::Both(_, command), None) if is_stdin(file) => use_pipe(command),
            (Help::Pipe(command) | Help::Both(command, _), None) => use_pipe(&with_file(command, file)),
            (Help::File(command), None) if !is_stdin(file) => use_pipe(&with_file(command, file)),
            (Help::File(command), None) => {
                format!("save it as FILE, then {}", use_pipe(&format!("{command} FILE")))
            }
            (Help::File(command), Some(outer)) => {
                let unpack = with_file(outer.command(), file);
                format!("use: {unpack} >FILE; {command} FILE | cpu-report … -")
            }
        };
        format!("{is}; {help}")
    }
}

/// The sentence for a file that is compressed twice.
pub fn twice_packed(outer: Packing, inner: Packing, file: &Path) -> String {
    let (outer_name, inner_name) = (outer.name(), inner.name());
    let help = use_pipe(&with_file(outer.command(), file));
    format!("this is compressed twice, by {inner_name} and then by {outer_name}; {help}")
}

/// How a command's output is read.
pub fn use_pipe(command: &str) -> String {
    format!("use: {command} | cpu-report … -")
}

/// The command with the file, quoted for a shell; without a file, it reads standard input.
pub fn with_file(command: &str, file: &Path) -> String {
    if is_stdin(file) { command.to_owned() } else { format!("{command} {}", quoted(file)) }
}

/// A name, quoted for a shell.
fn quoted(file: &Path) -> String {
    let name = file.display().to_string();
    let name = if name.starts_with('-') { format!("./{name}") } else { name };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/+:,@%=-".contains(c);
    if name.chars().all(is_plain) { name } else { format!("'{}'", name.replace('\'', r"'\''")) }
}

fn is_html(begin: &[u8]) -> bool {
    let begin = begin.trim_ascii_start();
    ["<!doctype html", "<html"]
        .iter()
        .any(|tag| begin.get(..tag.len()).is_some_and(|there| there.eq_ignore_ascii_case(tag.as_bytes())))
}

/// Text has no control characters, except a few. NUL does not count: a crash of the machine can leave it in
/// text.
fn is_binary(begin: &[u8]) -> bool {
    let is_control = |byte: &&u8| matches!(**byte, 1..=8 | 14..=26 | 28..=31 | 127);
    let others = begin.iter().filter(|byte| **byte != 0).count();
    others >= 32 && begin.iter().filter(is_control).count() * 20 > others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(begin: &[u8], file: &str) -> String {
        Foreign::of(begin).map(|format| format.message(Path::new(file), None)).unwrap_or_default()
    }

    #[test]
    fn a_format_that_is_not_read_is_named_with_the_command_that_helps() {
        assert_eq!(
            message(b"\x04\x22\x4d\x18....", "traffic.log.lz4"),
            "this is compressed by lz4; use: lz4 -dc traffic.log.lz4 | cpu-report … -"
        );
        assert_eq!(
            message(b"\x04\x22\x4d\x18", "-"),
            "this is compressed by lz4; use: lz4 -dc | cpu-report … -"
        );
        assert_eq!(
            message(b"PK\x03\x04", "a b's.zip"),
            r"this is a zip archive; use: unzip -p 'a b'\''s.zip' | cpu-report … -"
        );
        assert_eq!(
            message(b"PK\x03\x04", "-"),
            "this is a zip archive; save it as FILE, then use: unzip -p FILE | cpu-report … -"
        );
        let tar = [&b"traffic.log"[..], &[0; 246], b"ustar\0"].concat();
        assert_eq!(message(&tar, "-x.tar"), "this is a tar archive; use: tar -xOf ./-x.tar | cpu-report … -");
        assert_eq!(message(&tar, "-"), "this is a tar archive; use: tar -xOf - | cpu-report … -");
        assert_eq!(message(b"\n<!DOCTYPE HTML>", "a"), "this is an HTML page; name the log itself");
    }

    #[test]
    fn lines_are_no_other_format() {
        let lines: [&[u8]; 7] = [
            b"",
            b"{\"time\":\"2026-01-31T12:00:00.000Z\"}",
            b"\xef\xbb\xbf{\"time\":",
            b"\0\0\0\0{\"time\":",
            b"192.0.2.1 - - [31/Jan/2026:12:00:00 +0000] \"\\x16\\x03\\x01\" 400",
            "é ü ß 漢字 Ωμέγα, in a log that escapes nothing".as_bytes(),
            b"\x1b[31mcoloured by a container's runtime\x1b[0m and so on",
        ];
        for line in lines {
            assert!(Foreign::of(line).is_none() && Packing::of(line).is_none(), "{}", line.escape_ascii());
        }
    }
}
