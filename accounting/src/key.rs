//! Keys of accounts.
//!
//! Clients choose keys, and other programs and people read them. So a key has one shown form, [`display`], in the status,
//! the traffic log and the error log: without hidden characters, of bounded length if anything in it must be escaped, and
//! different from that of every other key.

use std::borrow::Cow;

mod hidden;

use hidden::push_hex;
pub use hidden::{is_hidden, visible};

/// Longest key in bytes; a longer one is cut there.
pub const MAX_KEY_BYTES: usize = 255;

/// The key of the overflow account.
pub const OVERFLOW_KEY: &[u8] = b"*";

/// Most bytes of the shown form of a key that has something to be escaped, as JSON and Prometheus' format write it: there,
/// backslashes and quotation marks take two bytes.
const MOST_BYTES: usize = 80;
/// Between the start of a key that is shown cut, and its hash.
const CUT_MARK: &str = "\\...";
/// Of a key that is shown cut, BLAKE2b of this many bytes follows in hexadecimal digits: `b2sum -l 128` says the same. The
/// hash is a cryptographic one, since clients would make keys that look alike otherwise.
const HASH_BYTES: usize = 16;
/// What is left for the start of a key that is shown cut.
const START_BYTES: usize = MOST_BYTES - (CUT_MARK.len() + 1) - 2 * HASH_BYTES;

/// A key as it is shown; different for different keys.
///
/// Most keys stay as they are. Where a key has invalid UTF-8 or hidden characters ([`is_hidden`]), these and its backslashes
/// are written as `\xHH` byte by byte, the form of NGINX's access log; so are the backslashes of a key that already looks
/// like that.
///
/// A key that has such characters, backslashes or quotation marks, and would be longer than [`MOST_BYTES`] where it is shown,
/// is cut: its first characters are shown, then `\...`, then the hash of the whole key. A zone that is full of such keys makes
/// no longer an answer than one with ordinary keys.
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

/// A key as text from which [`decode`] makes the key again, however long that is.
pub fn encode(key: &[u8]) -> Cow<'_, str> {
    match plain(key) {
        Some(text) => Cow::Borrowed(text),
        None => match escape(key, true, usize::MAX) {
            Escaped::Whole(text) | Escaped::Cut(text) => Cow::Owned(text),
        },
    }
}

/// The key that [`encode`] has made this text of, or [`display`], unless it was cut there.
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

/// The shown form of a key, from a text that shows it: that may be written by an earlier version, which left more characters
/// as they are, and cut nothing.
pub fn shown_again(text: &str) -> Cow<'_, str> {
    if is_simple(text.as_bytes()) || is_cut(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let key = decode(text);
    let shown = display(&key);
    if shown == text { Cow::Borrowed(text) } else { Cow::Owned(shown.into_owned()) }
}

/// The shown form of a key that is cut there, by which the key is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    shown: Vec<u8>,
    /// of the key, which begins so
    start: Vec<u8>,
}

impl Cut {
    /// `None` if this is no such form.
    pub fn new(shown: &[u8]) -> Option<Cut> {
        let start = shown.get(..shown.len().checked_sub(CUT_MARK.len() + 2 * HASH_BYTES)?)?;
        is_cut(shown).then(|| Cut { shown: shown.to_vec(), start: decode_bytes(start) })
    }

    /// Whether this is the shown form of the key.
    pub fn is_of(&self, key: &[u8]) -> bool {
        key.starts_with(&self.start) && display(key).as_bytes() == self.shown
    }
}

/// Whether a text ends as [`display`] ends what it cuts.
fn is_cut(text: &[u8]) -> bool {
    let hash = text.len().checked_sub(2 * HASH_BYTES).map(|at| text.split_at(at));
    hash.is_some_and(|(start, hash)| {
        start.ends_with(CUT_MARK.as_bytes())
            && hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether a key consists of printable characters of ASCII without backslashes and quotation marks.
fn is_simple(key: &[u8]) -> bool {
    // without an early end, so that many bytes are compared at once
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
    /// as much of the start as leaves room for mark and hash
    Cut(String),
}

/// `escapes`: whether anything is written as `\xHH`. `most`: how many bytes it may be where backslashes and quotation marks
/// take two.
fn escape(key: &[u8], escapes: bool, most: usize) -> Escaped {
    let mut out = String::with_capacity(key.len().min(most) + 16);
    let (mut bytes, mut start) = (0, 0);
    // what each character takes, or each byte that is none
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
    // A character that begins within what fits ends within that and three bytes more. No byte takes less than itself.
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
        let (long, wide) = ("y".repeat(255), "例".repeat(85));
        for key in [
            "",
            "*",
            "example.com",
            "käse.example",
            "münchen.de",
            "例え.jp",
            "שלום.example",
            "مثال.example",
            "a\\b",
            "C:\\xyz",
            "\"quoted\"",
            "a b",
            &long,
            &wide,
        ] {
            assert_eq!(display(key.as_bytes()), key);
            assert!(matches!(display(key.as_bytes()), Cow::Borrowed(_)));
            assert_eq!(encode(key.as_bytes()), key);
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
            (b"\r\n\t", "\\x0D\\x0A\\x09"),
            (b"\x7F", "\\x7F"),
            ("\u{9B}2J".as_bytes(), "\\xC2\\x9B2J"),
            ("\u{202E}moc.live".as_bytes(), "\\xE2\\x80\\xAEmoc.live"),
            ("a\u{200B}b\u{A0}c\\".as_bytes(), "a\\xE2\\x80\\x8Bb\\xC2\\xA0c\\x5C"),
            // cut in the middle of a character
            (&"ä".as_bytes()[..1], "\\xC3"),
        ] {
            assert_eq!(display(key), text);
            assert_eq!(encode(key), text);
            assert_eq!(decode(text), key);
        }
    }

    #[test]
    fn a_long_key_that_must_be_escaped_is_cut_and_gets_its_hash() {
        for (key, shown) in [
            // printf '…' | b2sum -l 128
            (
                vec![0xFF; 255],
                "\\xFF\\xFF\\xFF\\xFF\\xFF\\xFF\\xFF\\xFF\\...e79ccc538661a3ce74c2bdc7c3b0efc3",
            ),
            (
                b"\"".repeat(255),
                "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\\...b4dceed8cd6712d2176ed6e45855ee12",
            ),
            (
                [&b"y".repeat(254)[..], b"\xC3"].concat(),
                "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\\...6d2e8494d4a1a9e96c2ae8be14d03510",
            ),
        ] {
            assert_eq!(display(&key), shown);
            assert_eq!(decode(&encode(&key)), key);
            assert!(Cut::new(shown.as_bytes()).unwrap().is_of(&key));
            assert!(!Cut::new(shown.as_bytes()).unwrap().is_of(&key[1..]));
        }
    }

    #[test]
    fn a_key_that_looks_like_one_that_is_cut_is_shown_otherwise() {
        let shown = display(&[0xFF; 255]).into_owned();
        let looks_like_it = display(shown.as_bytes()).into_owned();
        assert_ne!(looks_like_it, shown);
        assert_ne!(display(looks_like_it.as_bytes()), looks_like_it);
        let short = format!("a\\...{}", "0".repeat(32));
        assert_eq!(display(short.as_bytes()), format!("a\\x5C...{}", "0".repeat(32)));
        assert_eq!(Cut::new(b"\\..."), None);
        assert_eq!(Cut::new(&[]), None);
        // capital letters are no hash of ours
        let other = format!("a\\...{}", "A".repeat(32));
        assert_eq!(display(other.as_bytes()), other);
    }

    #[test]
    fn what_an_earlier_version_wrote_is_shown_as_today() {
        let old = "\\xFF".repeat(255);
        assert_eq!(shown_again(&old), display(&[0xFF; 255]));
        assert_eq!(shown_again("a\u{202E}b\n\\"), "a\\xE2\\x80\\xAEb\\x0A\\x5C");
        assert_eq!(shown_again("\\x5CxFF"), "\\x5CxFF");
        assert_eq!(shown_again("C:\\xyz"), "C:\\xyz");
    }

    /// Parts that are chosen so that their compositions look like escapes, marks and hashes.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        let parts = vec![
            &b"\\"[..],
            b"x",
            b"5C",
            b"\\x",
            b"\\x41",
            b"\xFF",
            b"a",
            b"\0",
            b"\n",
            b"F",
            b"\"",
            b"\\...",
            b"...",
            b"00000000000000000000000000000000",
            b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
            "\u{202E}".as_bytes(),
            "\u{E0041}".as_bytes(),
            "例".as_bytes(),
            b"\xE2\x80",
        ];
        prop::collection::vec(prop::sample::select(parts), 0..12).prop_map(|parts| {
            let mut key = parts.concat();
            key.truncate(MAX_KEY_BYTES);
            key
        })
    }

    /// As JSON and Prometheus' format write it.
    fn written_bytes(shown: &str) -> usize {
        shown.len() + shown.matches(['\\', '"']).count()
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn every_key_can_be_read_back(key: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&key)), key);
        }

        #[test]
        fn keys_that_look_like_escapes_can_be_read_back(key in tricky()) {
            prop_assert_eq!(decode(&encode(&key)), &key[..]);
            let shown = display(&key);
            if is_cut(shown.as_bytes()) {
                prop_assert!(Cut::new(shown.as_bytes()).is_some_and(|cut| cut.is_of(&key)));
            } else {
                prop_assert_eq!(decode(&shown), &key[..]);
            }
        }

        #[test]
        fn no_key_is_shown_as_the_shown_form_of_another(key in tricky()) {
            let shown = display(&key).into_owned();
            let other = shown.as_bytes();
            prop_assert!(other == key || display(other) != shown, "{:?} and {:?}", key, other);
        }

        #[test]
        fn what_is_shown_is_shown_again_as_it_is(key in tricky()) {
            let shown = display(&key);
            prop_assert_eq!(shown_again(&shown), &*shown);
        }

        #[test]
        fn different_keys_are_shown_differently(one in tricky(), other in tricky()) {
            prop_assert_eq!(one == other, display(&one) == display(&other));
            prop_assert_eq!(one == other, encode(&one) == encode(&other));
        }

        #[test]
        fn different_short_keys_are_shown_differently(
            one in "[\\\\x5C\u{0}-\u{1}A]{0,9}", other in "[\\\\x5C\u{0}-\u{1}A]{0,9}",
        ) {
            prop_assert_eq!(one == other, display(one.as_bytes()) == display(other.as_bytes()));
        }

        #[test]
        fn no_hidden_character_is_shown(key in tricky(), text in any::<String>()) {
            prop_assert!(!display(&key).contains(is_hidden));
            prop_assert!(!display(text.as_bytes()).contains(is_hidden));
            prop_assert!(!visible(&text).contains(is_hidden));
        }

        #[test]
        fn what_is_shown_is_bounded(key in tricky(), bytes: [u8; 255], text in any::<String>()) {
            for key in [&key[..], &bytes, text.as_bytes()] {
                let shown = display(key);
                let is_ordinary = shown.as_bytes() == key && !shown.contains(['\\', '"']);
                prop_assert!(is_ordinary || written_bytes(&shown) <= MOST_BYTES, "{}", shown);
            }
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
