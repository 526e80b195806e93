//! Keys of accounts.

use std::borrow::Cow;
use std::fmt::Write;

/// Longest key in bytes; a longer one is cut there.
pub const MAX_KEY_BYTES: usize = 255;

/// The key of the overflow account.
pub const OVERFLOW_KEY: &[u8] = b"*";

/// A key as text, different for different keys.
///
/// Most keys stay as they are. Where a key has invalid UTF-8 or control characters, these and its backslashes are
/// written as `\xHH` byte by byte, the form of NGINX's access log; so are the backslashes of a key that already looks
/// like that. Newlines and tabs stay, since every format has an escape for them; others would reach the terminal of
/// somebody who looks at the status of keys that clients choose, and a NUL ends a scrape of Prometheus.
pub fn display(key: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(key) {
        Ok(text) if !has_hex_escape(key) && !text.contains(is_escaped) => Cow::Borrowed(text),
        _ => Cow::Owned(escape(key)),
    }
}

fn escape(key: &[u8]) -> String {
    let mut out = String::with_capacity(key.len() + 16);
    let push_hex = |out: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // writing to a String cannot fail
            let _ = write!(out, "\\x{byte:02X}");
        }
    };
    for chunk in key.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char == '\\' || is_escaped(char) {
                push_hex(&mut out, char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                out.push(char);
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

fn is_escaped(char: char) -> bool {
    char.is_control() && !matches!(char, '\n' | '\t')
}

fn has_hex_escape(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| {
        matches!(window, [b'\\', b'x', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}
