//! Unit and property tests.

use super::*;

#[test]
fn ranges_are_in_order() {
    assert!(HIDDEN.iter().all(|(first, last)| first <= last));
    assert!(HIDDEN.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
}

#[test]
fn control_bidirectional_and_invisible_characters_are_hidden() {
    for char in [
        '\0',
        '\t',
        '\n',
        '\r',
        '\x1B',
        '\x7F',
        '\u{85}',
        '\u{9B}',
        '\u{A0}',
        '\u{AD}',
        '\u{61C}',
        '\u{115F}',
        '\u{1160}',
        '\u{1680}',
        '\u{180E}',
        '\u{2003}',
        '\u{200B}',
        '\u{200C}',
        '\u{200D}',
        '\u{200E}',
        '\u{200F}',
        '\u{2028}',
        '\u{2029}',
        '\u{202A}',
        '\u{202E}',
        '\u{202F}',
        '\u{2060}',
        '\u{2064}',
        '\u{2066}',
        '\u{2069}',
        '\u{3000}',
        '\u{3164}',
        '\u{FE0F}',
        '\u{FEFF}',
        '\u{FFA0}',
        '\u{E0001}',
        '\u{E0041}',
        '\u{E0100}',
        '\u{E0FFF}',
    ] {
        assert!(is_hidden(char), "{char:?}");
        assert_eq!(visible(&format!("a{char}b")).matches("\\x").count(), char.len_utf8(), "{char:?}");
    }
}

#[test]
fn letters_of_all_scripts_are_visible() {
    for text in [
        "a b~",
        "例え.jp",
        "münchen.de",
        "café",
        "שלום.example",
        "مثال.example",
        "пример",
        "उदाहरण",
        "한국.kr",
        "🦀",
    ] {
        assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text}");
    }
}
