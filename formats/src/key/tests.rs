//! Unit and property tests.

use proptest::prelude::*;

use super::*;

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
        // truncated in the middle of a character
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
        // printed by: printf '…' | b2sum -l 128
        (vec![0xFF; 255], "\\xFF\\xFF\\xFF\\xFF\\xFF\\xFF\\xFF\\xFF\\...e79ccc538661a3ce74c2bdc7c3b0efc3"),
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
    // a hash with capital letters is not the hash of a shortened key
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

/// Keys made of parts whose combinations look like escapes, marks and hashes.
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

/// The length of a text in JSON and in Prometheus' format.
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
    for text in
        ["$http_host", "${http_host}", "a$HTTP_Host-b", "$a$http_host", "${a}${http_host}x", "$http_host:$x"]
    {
        assert!(has_variable(text.as_bytes(), b"http_host"), "{text}");
    }
    for text in
        ["", "$", "${", "http_host", "$http_hosts", "$http_host_2", "${http_hostx}", "$host", "$http_hos"]
    {
        assert!(!has_variable(text.as_bytes(), b"http_host"), "{text}");
    }
}

/// Number of cases for each property. Miri is some hundred times slower: it gets only a few cases, and no files.
fn cases() -> ProptestConfig {
    let cases = if cfg!(miri) { 4 } else { ProptestConfig::default().cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
