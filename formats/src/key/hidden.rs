//! Characters that a reader cannot see, or that change how a reader sees other characters.

use std::borrow::Cow;

/// Code points of Unicode 17 with the general category Cc (control), Cf (format, including bidirectional marks), Zl,
/// Zp, or Zs (spaces, except U+0020), and those with the property Default_Ignorable_Code_Point. U+2800 is added: it is
/// a blank letter of Braille.
const HIDDEN: [(u32, u32); 30] = [
    (0x0, 0x1F),
    (0x7F, 0xA0),
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x600, 0x605),
    (0x61C, 0x61C),
    (0x6DD, 0x6DD),
    (0x70F, 0x70F),
    (0x890, 0x891),
    (0x8E2, 0x8E2),
    (0x115F, 0x1160),
    (0x1680, 0x1680),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2000, 0x200F),
    (0x2028, 0x202F),
    (0x205F, 0x206F),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
];

/// Whether a character is a control, bidirectional or invisible one.
pub fn is_hidden(char: char) -> bool {
    match char {
        ' '..='~' => false,
        _ => {
            let at = HIDDEN.partition_point(|&(_, last)| last < u32::from(char));
            HIDDEN.get(at).is_some_and(|&(first, _)| first <= u32::from(char))
        }
    }
}

/// A text in which hidden characters are written as `\xHH`, byte by byte. Everything else is unchanged.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_hidden(char) {
            push_hex(&mut out, char.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.push(char);
        }
    }
    Cow::Owned(out)
}

/// Appends `\xHH` for each byte.
pub(super) fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in bytes {
        out.push_str("\\x");
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests;
