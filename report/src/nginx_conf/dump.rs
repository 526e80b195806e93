//! The files in the output of `nginx -T`.

use std::rc::Rc;

use memchr::memchr;

/// Before each file, NGINX writes a line with its name (`main` in nginx.c).
const HEADER: &[u8] = b"# configuration file ";

/// A file of the configuration.
#[derive(Debug)]
pub struct File<'a> {
    pub name: Rc<str>,
    pub text: &'a [u8],
}

/// The files of a configuration, in the order in which NGINX has read them.
#[derive(Debug)]
pub struct Dump<'a> {
    pub files: Vec<File<'a>>,
    /// whether this is the output of `nginx -T`, and not a file of a configuration
    pub is_whole: bool,
}

impl<'a> Dump<'a> {
    /// The files in this text. A text without NGINX's lines is one file, of this name.
    pub fn of(text: &'a [u8], name: &str) -> Self {
        let mut files: Vec<File<'a>> = Vec::new();
        // where the current file begins
        let mut begin = 0;
        let mut at = 0;
        while let Some(line) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let end = memchr(b'\n', line).map_or(line.len(), |end| end + 1);
            let line = line.get(..end).unwrap_or_default();
            if let Some(name) = name_in(line)
                && (name.starts_with('/') || may_be_relative(&files, text.get(..at).unwrap_or_default()))
            {
                end_file(&mut files, text.get(begin..at));
                files.push(File { name, text: &[] });
                begin = at + end;
            }
            at += end;
        }
        end_file(&mut files, text.get(begin..));
        let is_whole = !files.is_empty();
        if files.is_empty() {
            files.push(File { name: name.into(), text });
        }
        Dump { files, is_whole }
    }
}

fn end_file<'a>(files: &mut [File<'a>], text: Option<&'a [u8]>) {
    if let Some(last) = files.last_mut() {
        last.text = text.unwrap_or_default();
    }
}

/// The name in NGINX's line before a file. Names are paths, so a comment is rarely mistaken for this line.
fn name_in(line: &[u8]) -> Option<Rc<str>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let name = line.strip_prefix(HEADER)?.strip_suffix(b":")?;
    let is_path = name.starts_with(b"/") || name.contains(&b'/') && !name.contains(&b' ');
    is_path.then(|| String::from_utf8_lossy(name).into())
}

/// Whether names may be relative: with a relative folder in `nginx -p`, all names begin with that folder. Only messages
/// of NGINX come before the first name.
fn may_be_relative(files: &[File<'_>], before: &[u8]) -> bool {
    match files.first() {
        Some(first) => !first.name.starts_with('/'),
        None => before.split(|byte| *byte == b'\n').all(|line| line.is_empty() || is_message(line)),
    }
}

/// Whether a line begins as `nginx: ` or with the name of a fork.
fn is_message(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    name > 0 && line.get(name..).is_some_and(|rest| rest.starts_with(b": "))
}
