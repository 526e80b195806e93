//! Keys of accounts.
//!
//! Clients choose keys, and other programs and people read them. So a key has one shown form, [`display`], which is
//! used in the status, the traffic log and the error log. It has no hidden characters. Its length is bounded if any
//! part of the key must be escaped. It differs from the shown form of every other key.

use std::borrow::Cow;

mod hidden;

use hidden::push_hex;
pub use hidden::{is_hidden, visible};

/// The longest key in bytes. A longer key is cut to this length.
pub const MAX_KEY_BYTES: usize = 255;

/// The key of the overflow account.
pub const OVERFLOW_KEY: &[u8] = b"*";

/// The longest shown form of a key that contains characters to be escaped, in bytes. JSON and Prometheus' format write
/// backslashes and quotation marks as two bytes.
const MOST_BYTES: usize = 80;
/// The text between the start of a shortened key and its hash.
const CUT_MARK: &str = "\\...";
/// The number of bytes of the BLAKE2b hash that ends a shortened key, in hexadecimal digits. `b2sum -l 128` prints the
/// same hash. It is a cryptographic hash, since clients could otherwise create keys with the same shown form.
const HASH_BYTES: usize = 16;
/// The room for the start of a shortened key.
const START_BYTES: usize = MOST_BYTES - (CUT_MARK.len() + 1) - 2 * HASH_BYTES;

/// The shown form of a key. Different keys have different shown forms.
///
/// Most keys are shown unchanged. If a key has invalid UTF-8 or hidden characters ([`is_hidden`]), these and its
/// backslashes are written as `\xHH` byte by byte. This is the form of NGINX's access log. If a key already contains
/// this form, its backslashes are escaped too.
///
/// A key with such characters, backslashes or quotation marks is shortened if its shown form would be longer than
/// `MOST_BYTES`. The shown form is then its first characters, `\...`, and the hash of the whole key. A zone that is
/// full of such keys does not make an answer longer than a zone with ordinary keys.
pub fn display(key: &[u8]) -> Cow<'_, str> {
    if is_simple(key)
        && let Ok(text) = std::str::from_utf8(key)
    {
        return Cow::Borrowed(text);
    }
    let plain = plain(key).filter(|_| !is_cut(key));
    if let Some(text) = plain
        && !text.contains(['\\', '"'])
    {
        return Cow::Borrowed(text);
    }
    match (escape(key, plain.is_none(), MOST_BYTES), plain) {
        (Escaped::Whole(_), Some(text)) => Cow::Borrowed(text),
        (Escaped::Whole(text), None) => Cow::Owned(text),
        (Escaped::Cut(mut text), _) => {
            text.push_str(CUT_MARK);
            let hash = blake2b_simd::Params::new().hash_length(HASH_BYTES).hash(key);
            text.push_str(&hash.to_hex());
            Cow::Owned(text)
        }
    }
}

/// The text of a key of any length. [`decode`] returns the key.
pub fn encode(key: &[u8]) -> Cow<'_, str> {
    match plain(key) {
        Some(text) => Cow::Borrowed(text),
        None => match escape(key, true, usize::MAX) {
            Escaped::Whole(text) | Escaped::Cut(text) => Cow::Owned(text),
        },
    }
}

/// The key of a text from [`encode`], or from [`display`] if that did not shorten the key.
pub fn decode(text: &str) -> Vec<u8> {
    decode_bytes(text.as_bytes())
}

fn decode_bytes(mut rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        match rest {
            [b'\\', b'x', high, low, after @ ..] if has_hex_escape(&rest[..4]) => {
                key.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => {
                key.push(byte);
                rest = after;
            }
        }
    }
    key
}

/// The shown form of a key, from a text that shows it. An earlier version may have written the text: it escaped fewer
/// characters, and did not shorten keys.
pub fn shown_again(text: &str) -> Cow<'_, str> {
    if is_simple(text.as_bytes()) || is_cut(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let key = decode(text);
    let shown = display(&key);
    if shown == text { Cow::Borrowed(text) } else { Cow::Owned(shown.into_owned()) }
}

/// The shown form of a shortened key. It is used to search the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    shown: Vec<u8>,
    /// the start of the key
    start: Vec<u8>,
}

impl Cut {
    /// `None` if the text is not the form of a shortened key.
    pub fn new(shown: &[u8]) -> Option<Cut> {
        let start = shown.get(..shown.len().checked_sub(CUT_MARK.len() + 2 * HASH_BYTES)?)?;
        is_cut(shown).then(|| Cut { shown: shown.to_vec(), start: decode_bytes(start) })
    }

    /// True if this is the shown form of the key.
    pub fn is_of(&self, key: &[u8]) -> bool {
        key.starts_with(&self.start) && display(key).as_bytes() == self.shown
    }
}

/// True if a text ends like a key that [`display`] has shortened.
fn is_cut(text: &[u8]) -> bool {
    let hash = text.len().checked_sub(2 * HASH_BYTES).map(|at| text.split_at(at));
    hash.is_some_and(|(start, hash)| {
        start.ends_with(CUT_MARK.as_bytes())
            && hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether a key consists of printable characters of ASCII without backslashes and quotation marks.
fn is_simple(key: &[u8]) -> bool {
    // there is no early exit, so that many bytes are compared at once
    key.iter()
        .fold(true, |simple, byte| simple & matches!(byte, b' '..=b'~') & (*byte != b'\\') & (*byte != b'"'))
}

/// The key as text, if nothing in it must be escaped.
fn plain(key: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(key).ok()?;
    let is_printable = key.iter().fold(true, |printable, byte| printable & matches!(byte, b' '..=b'~'));
    let is_plain =
        (is_printable || !text.contains(is_hidden)) && !(key.contains(&b'\\') && has_hex_escape(key));
    is_plain.then_some(text)
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
}

enum Escaped {
    Whole(String),
    /// the start of the key, with room left for mark and hash
    Cut(String),
}

/// Escapes a key. `escapes` tells whether some characters are written as `\xHH`. `most` is the highest number of
/// bytes, where backslashes and quotation marks count as two.
fn escape(key: &[u8], escapes: bool, most: usize) -> Escaped {
    let mut out = String::with_capacity(key.len().min(most) + 16);
    let (mut bytes, mut start) = (0, 0);
    // adds a character or an invalid byte, and the bytes that it takes
    let mut push = |text: Result<char, u8>| {
        bytes += match text {
            Err(byte) => {
                push_hex(&mut out, &[byte]);
                5
            }
            Ok(char) if escapes && (char == '\\' || is_hidden(char)) => {
                push_hex(&mut out, char.encode_utf8(&mut [0; 4]).as_bytes());
                5 * char.len_utf8()
            }
            Ok(char) => {
                out.push(char);
                if matches!(char, '\\' | '"') { 2 } else { char.len_utf8() }
            }
        };
        if bytes <= START_BYTES {
            start = out.len();
        }
        bytes <= most
    };
    // A character that begins within the limit ends at most three bytes after it. Each byte takes at least one byte.
    let looked_at = key.get(..most.saturating_add(4)).unwrap_or(key);
    let fits = looked_at.utf8_chunks().all(|chunk| {
        chunk.valid().chars().all(|char| push(Ok(char)))
            && chunk.invalid().iter().all(|&byte| push(Err(byte)))
    });
    if fits {
        return Escaped::Whole(out);
    }
    out.truncate(start);
    Escaped::Cut(out)
}

fn has_hex_escape(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| {
        matches!(window, [b'\\', b'x', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}

/// Whether the text of a key in the configuration contains the variable, as `$name` or `${name}`. The case does not
/// matter, as in NGINX.
pub fn has_variable(text: &[u8], name: &[u8]) -> bool {
    text.split(|&byte| byte == b'$').skip(1).any(|rest| {
        let rest = rest.strip_prefix(b"{").unwrap_or(rest);
        let found = rest.split(|&byte| !byte.is_ascii_alphanumeric() && byte != b'_').next();
        found.is_some_and(|found| found.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests;
