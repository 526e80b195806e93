//! The groups of the first figure: kinds of keys, or values of a variable.

use super::fields::Field;
use super::record::Record;

/// The group of connections without TLS.
const PLAIN: &[u8] = b"no TLS";

/// The group of connections with TLS, where the log does not tell the key.
const TLS: &[u8] = b"TLS";

/// The group of the first figure that a request belongs to; empty if the log knows no groups.
pub fn group<'a>(record: &Record<'a>) -> &'a [u8] {
    let fields = &record.fields;
    if let Some(name) = fields.get(Field::Split).or_else(|| fields.get(Field::TlsKey)) {
        return name;
    }
    if fields.has(Field::Split) {
        return b"-";
    }
    let protocol = fields.get(Field::Protocol);
    match fields.get(Field::Cipher) {
        Some(cipher) => key_of_cipher(cipher).unwrap_or(TLS),
        None if protocol.is_some() => TLS,
        None if fields.has(Field::Protocol) || fields.has(Field::Cipher) => PLAIN,
        None if fields.has(Field::TlsKey) => b"-",
        None => b"",
    }
}

/// The kind of key that a cipher suite up to TLS 1.2 names. Later suites name none.
fn key_of_cipher(cipher: &[u8]) -> Option<&'static [u8]> {
    let has = |word: &[u8]| cipher.windows(word.len()).any(|part| part == word);
    if has(b"ECDSA") {
        Some(b"ECDSA")
    } else if cipher.starts_with(b"TLS_") || has(b"PSK") || has(b"ADH") || has(b"AECDH") || has(b"DSS") {
        None
    } else {
        // also those that do not name it, such as AES128-SHA
        Some(b"RSA")
    }
}
