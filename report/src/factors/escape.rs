//! Values as they were before NGINX escaped them.

/// A value without NGINX's escapes: `\xHH` of `escape=default`, and those of JSON. Any other backslash stays;
/// NGINX writes such only with `escape=none`.
pub fn unescape(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        let mut put = |byte: u8, len| {
            out.push(byte);
            len
        };
        let taken = match escaped.get(1) {
            Some(b'x') => hex(escaped.get(2..4)).map(|code| put(code as u8, 4)),
            Some(b'u') => hex(escaped.get(2..6)).map(|code| utf16(code, escaped.get(6..), &mut out)),
            Some(b'n') => Some(put(b'\n', 2)),
            Some(b'r') => Some(put(b'\r', 2)),
            Some(b't') => Some(put(b'\t', 2)),
            Some(b'b') => Some(put(8, 2)),
            Some(b'f') => Some(put(12, 2)),
            Some(&byte @ (b'\\' | b'"' | b'/')) => Some(put(byte, 2)),
            _ => None,
        };
        let taken = taken.unwrap_or_else(|| {
            out.push(b'\\');
            1
        });
        rest = escaped.get(taken..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// The number that these digits are.
fn hex(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Appends the character of `\uXXXX`, or of a pair. Returns the length in the value.
fn utf16(code: u32, rest: Option<&[u8]>, out: &mut Vec<u8>) -> usize {
    let low = match rest {
        Some([b'\\', b'u', digits @ ..]) => hex(digits.get(..4)),
        _ => None,
    };
    let (code, taken) = match low {
        Some(low @ 0xdc00..=0xdfff) if (0xd800..0xdc00).contains(&code) => {
            (0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00), 12)
        }
        _ => (code, 6),
    };
    let mut buffer = [0; 4];
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escaped_values_are_turned_back() {
        for (written, value) in [
            (r"a\x22b\x5C\xff", &b"a\"b\\\xff"[..]),
            (r#"\"\\\/\n\r\t\b\f\u001F"#, b"\"\\/\n\r\t\x08\x0c\x1f"),
            (r"\u00e9\uD83D\uDE00\ud83d", "é😀\u{fffd}".as_bytes()),
            (r"\x\xg0\q\", br"\x\xg0\q\"),
            (r"\u12", br"\u12"),
        ] {
            assert_eq!(unescape(written.as_bytes()), value, "{written}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(value in any::<Vec<u8>>()) {
            let _ = unescape(&value);
        }
    }
}
