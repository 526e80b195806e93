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
    let plain = key.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'\\');
    match std::str::from_utf8(key) {
        Ok(text) if plain => Cow::Borrowed(text),
        Ok(text) if !has_hex_escape(key) && !text.contains(is_escaped) => Cow::Borrowed(text),
        _ => Cow::Owned(escape(key)),
    }
}

/// The key that [`display`] shows as this text.
pub fn from_display(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
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

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
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

/// Whether the text of a key in the configuration has the variable, as `$name` or `${name}`; in any case, as NGINX takes it.
pub fn has_variable(text: &[u8], name: &[u8]) -> bool {
    text.split(|&byte| byte == b'$').skip(1).any(|rest| {
        let rest = rest.strip_prefix(b"{").unwrap_or(rest);
        let found = rest.split(|&byte| !byte.is_ascii_alphanumeric() && byte != b'_').next();
        found.is_some_and(|found| found.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::cases;

    #[test]
    fn ordinary_keys_stay_as_they_are() {
        for key in [
            "",
            "*",
            "example.com",
            "käse.example",
            "a\\b",
            "C:\\xyz",
            "\"quoted\"",
            "two\nlines\tand a tab",
            "日本",
        ] {
            assert_eq!(display(key.as_bytes()), key);
            assert!(matches!(display(key.as_bytes()), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn what_is_no_text_is_written_in_hex() {
        for (key, text) in [
            (&b"\xFF"[..], "\\xFF"),
            (b"caf\xE9.example", "caf\\xE9.example"),
            (b"\xFF\\", "\\xFF\\x5C"),
            (b"\\xFF", "\\x5CxFF"),
            (b"\\xff", "\\x5Cxff"),
            (b"nul\0", "nul\\x00"),
            (b"\x1B[2J", "\\x1B[2J"),
            (b"\r\n", "\\x0D\n"),
            (b"\x7F", "\\x7F"),
            ("\u{9B}2J".as_bytes(), "\\xC2\\x9B2J"),
            // cut in the middle of a character
            (&"ä".as_bytes()[..1], "\\xC3"),
        ] {
            assert_eq!(display(key), text);
        }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn every_key_can_be_read_back(key: Vec<u8>) {
            prop_assert_eq!(from_display(&display(&key)), key);
        }

        #[test]
        fn keys_that_look_like_escapes_can_be_read_back(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    &b"\\"[..], b"x", b"5C", b"\\x", b"\\x41", b"\xFF", b"a", b"\0", b"\n", b"F",
                ]),
                0..8,
            )
        ) {
            let key = parts.concat();
            prop_assert_eq!(from_display(&display(&key)), key);
        }

        #[test]
        fn different_keys_are_written_differently(
            one in "[\\\\x5C\u{0}-\u{1}A]{0,9}", other in "[\\\\x5C\u{0}-\u{1}A]{0,9}",
        ) {
            prop_assert_eq!(one == other, display(one.as_bytes()) == display(other.as_bytes()));
        }

        #[test]
        fn no_control_character_is_written_but_newline_and_tab(key: Vec<u8>) {
            prop_assert!(!display(&key).contains(|char: char| char.is_control() && char != '\n' && char != '\t'));
        }
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        for text in [
            "$http_host",
            "${http_host}",
            "a$HTTP_Host-b",
            "$a$http_host",
            "${a}${http_host}x",
            "$http_host:$x",
        ] {
            assert!(has_variable(text.as_bytes(), b"http_host"), "{text}");
        }
        for text in
            ["", "$", "${", "http_host", "$http_hosts", "$http_host_2", "${http_hostx}", "$host", "$http_hos"]
        {
            assert!(!has_variable(text.as_bytes(), b"http_host"), "{text}");
        }
    }
}
