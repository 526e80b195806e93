//! Unit and property tests.

use proptest::prelude::*;

use super::of;

const LINE: &str = concat!(
    r#"{"time":"2026-01-31T12:01:00.000Z","interval_ms":60000,"host":"e","zone":"z","key":"k","#,
    r#""requests":12,"cpu_ns":3400,"sent_bytes":6000}"#
);

#[test]
fn a_fault_is_described_in_the_words_of_the_log() {
    for (from, to, told) in [
        ("\"requests\":12,", "", "\"requests\" is missing"),
        ("3400", "-12", "\"cpu_ns\" is -12, and it must be a whole number from 0 to 18446744073709551615"),
        ("3400", "1.5", "\"cpu_ns\" is 1.5, and it must be a whole number from 0 to 18446744073709551615"),
        ("\"z\"", "7", "\"zone\" is 7, and it must be a text in quotes"),
        ("12,", "12,\"requests\":2,", "\"requests\" occurs twice"),
        ("6000}", "60", "the line is incomplete"),
        ("6000}", "6000} x", "this is not JSON: syntax error at column 135"),
    ] {
        assert_eq!(of(LINE.replacen(from, to, 1).as_bytes()), told);
    }
}

#[test]
fn another_kind_of_file_is_named() {
    for (line, told) in [
        (&b"[1,2]"[..], "this is a JSON array, not an object"),
        (b"[", "this is not a line of a traffic log: a JSON object is needed"),
        (b"2026/01/31 12:00:00 [notice] 1#1: start", "this looks like a line of NGINX's error log"),
        (
            b"::1 - - [31/Jan/2026:12:00:00 +0000] \"GET / HTTP/1.1\" 200 5",
            "this looks like a line of an access log; cpu-report factors reads those",
        ),
        (b"{\"uri\":\"/\"}", "\"time\" is missing; cpu-report factors reads access logs"),
        (b"{\xff", "the text is not UTF-8 from column 2 on"),
    ] {
        assert_eq!(of(line), told);
    }
}

proptest! {
    #[test]
    fn damage_is_described_without_the_words_of_the_parser(at in 0..LINE.len(), byte: u8, len in 0..=LINE.len()) {
        let mut line = LINE.as_bytes().to_vec();
        line[at] = byte;
        let told = of(&line[..len]);
        prop_assert!(!told.contains("expected") && !told.contains("invalid type"), "{}", told);
    }
}
