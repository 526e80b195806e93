//! Unit and property tests.

use proptest::prelude::*;

use super::*;

const LINE: &str = r#"{"time":"2026-01-31T12:01:00.000Z","interval_ms":60000,"host":"edge-1","zone":"domains","key":"example.com","requests":12,"cpu_ns":3400,"wakeups":5,"sent_bytes":6000,"received_bytes":7,"2xx":8,"4xx":9,"5xx":1,"more":[{}]}"#;

fn number(line: &Line<'_>, name: &str) -> Option<u64> {
    line.number(crate::line::member(name))
}

/// A line that the writer wrote is read in the fast way and in the other way. Each number is at its index.
#[test]
fn every_member_that_is_written_is_read() {
    let mut text = Vec::new();
    let counted = core::array::from_fn(|at| 100 + at as u64);
    let head = crate::line::Head::new("2026-01-31T12:01:00.000Z", "edge-1", "domains");
    head.push_line(&mut text, 60_000, "example.com", &counted, 7);
    let text = text.trim_ascii_end();
    let read = written(text).unwrap();
    assert_eq!(read, serde_json::from_slice(text).unwrap());
    let json: serde_json::Value = serde_json::from_slice(text).unwrap();
    for (at, member) in MEMBERS_IN_ORDER.iter().enumerate() {
        assert_eq!(
            (read.number(at), json[member.name].as_u64()),
            (json[member.name].as_u64(), read.number(at))
        );
        assert!(read.number(at).is_some(), "{}", member.name);
    }
    assert_eq!(json.as_object().unwrap().len(), MEMBERS + crate::line::NAMES.len());
}

#[test]
fn a_line_is_read() {
    let line = Line::read(LINE.as_bytes(), false).unwrap();
    assert_eq!(
        (line.host.as_ref(), line.zone.as_ref(), line.key.as_ref()),
        ("edge-1", "domains", "example.com")
    );
    assert!(matches!(line.key, Cow::Borrowed(_)));
    let said = ["requests", "cpu_ns", "sent_bytes", "4xx", "5xx", "refused"].map(|name| number(&line, name));
    assert_eq!(said, [12, 3400, 6000, 9, 1, 0].map(Some));
    let refused = LINE.replacen("\"more\":[{}]", "\"refused\":3", 1);
    assert_eq!(
        Line::read(refused.as_bytes(), false).unwrap().number(crate::line::member("refused")),
        Some(3)
    );
}

#[test]
fn a_line_of_a_later_version_is_refused_and_named() {
    let with = |format: &str| LINE.replacen("\"more\":[{}]", &format!("\"format\":{format}"), 1);
    let later = crate::VERSION + 1;
    let error = Line::read(with(&later.to_string()).as_bytes(), false).unwrap_err();
    assert!(error.starts_with(&format!("it has format {later}, but this program knows")), "{error}");
    for format in ["0", &crate::VERSION.to_string(), "\"json\"", "-1", "null", "1.5", "{}"] {
        assert!(Line::read(with(format).as_bytes(), false).is_ok(), "{format}");
    }
}

#[test]
fn an_array_is_no_line() {
    let array = br#"["2026-01-31T12:01:00Z",60000,"h","z","k",1,2,3,4,5,6,7,8,9,10,11,12,13,14]"#;
    assert_eq!(Line::read(array, false).unwrap_err(), "this is a JSON array, not an object");
}

#[test]
fn a_line_that_makes_no_sense_is_refused() {
    for (from, to) in [
        ("12,", "-12,"),
        ("12,", "1.5,"),
        ("12,", "18446744073709551616,"),
        ("\"key\":", "\"kee\":"),
        ("{\"time", "\"time"),
        ("[{}]}", "[{}]"),
        ("[{}]}", "[{}]} x"),
        ("example", "ex\u{1}mple"),
    ] {
        assert!(Line::read(LINE.replacen(from, to, 1).as_bytes(), false).is_err(), "{to}");
    }
    assert!(Line::read(b"{\"time\":\"\xff\"", false).is_err());
}

const MEASURES: &str = r#","duration_ms":11,"active_ms":12,"active_seconds":13,"billable_cpu_ns":14,"waived_cpu_ns":15,"memory_byte_ms":16,"peak_cpu_ns":17"#;

#[test]
fn what_a_line_does_not_say_is_not_nothing() {
    let numbers = [60_000, 1, 2, 3, 4, 5, 6, 0, 0];
    let said = |more: &str| {
        let line = line("example.com", numbers, more);
        let line = Line::read(line.as_bytes(), false).unwrap();
        [
            "requests",
            "cpu_ns",
            "sent_bytes",
            "received_bytes",
            "duration_ms",
            "active_ms",
            "active_seconds",
            "billable_cpu_ns",
            "waived_cpu_ns",
            "memory_byte_ms",
            "peak_cpu_ns",
        ]
        .map(|name| number(&line, name))
    };
    assert_eq!(said("")[..4], [Some(1), Some(2), Some(4), Some(5)]);
    assert_eq!(said("")[4..], [None; 7]);
    assert_eq!(said(MEASURES)[4..], [11, 12, 13, 14, 15, 16, 17].map(Some));
    assert_eq!(said(r#","active_ms":0"#)[5], Some(0));
    for (more, peak) in [("", None), (r#","peak_cpu_ns":0"#, Some(0)), (MEASURES, Some(17))] {
        assert_eq!(
            Line::read(line("a", numbers, more).as_bytes(), false)
                .unwrap()
                .number(crate::line::member("peak_cpu_ns")),
            peak
        );
    }
}

/// A line in the form that the module writes.
fn line(key: &str, numbers: [u64; 9], more: &str) -> String {
    let [interval, requests, cpu, wakeups, sent, received, ok, bad, worse] = numbers;
    let key = serde_json::to_string(key).unwrap();
    format!(
        r#"{{"time":"2026-01-31T12:01:00.000Z","interval_ms":{interval},"host":"edge-1","zone":"domains","key":{key},"requests":{requests},"cpu_ns":{cpu},"wakeups":{wakeups},"sent_bytes":{sent},"received_bytes":{received},"2xx":{ok},"4xx":{bad},"5xx":{worse}{more}}}"#
    )
}

#[test]
fn a_line_of_the_module_is_read_the_fast_way() {
    let measures = format!("{MEASURES},\"1xx\":1,\"refused\":2");
    for more in ["", r#","1xx":1"#, r#","1xx":1,"3xx":0,"other":3"#, r#","other":3"#, MEASURES, &measures] {
        let line = line("example.com", [60_000, 1, 2, 3, 4, 5, 6, 0, 9_999_999_999_999_999_999], more);
        let read = written(line.as_bytes());
        assert!(read.is_some(), "{line}");
        assert_eq!(read, serde_json::from_str(&line).ok());
    }
}

proptest! {
    #[test]
    fn both_ways_read_the_same(
        key in ".*",
        numbers: [u64; 9],
        more in prop_oneof![
            Just(""), Just(MEASURES), Just(",\"3xx\":05"), Just(",\"5xx\":1"), Just(",\"a\":[]")
        ],
        at: prop::sample::Index,
        byte in prop_oneof![any::<u8>(), Just(b'"'), Just(b'0'), Just(b' '), Just(b'\\')],
        is_damaged: bool,
    ) {
        let mut line = line(&key, numbers, more).into_bytes();
        let at = at.index(line.len());
        if is_damaged {
            line[at] = byte;
        }
        if let Some(read) = written(&line) {
            prop_assert_eq!(read, serde_json::from_slice(&line).unwrap());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Line::read(&bytes, false);
    }

    #[test]
    fn damaged_lines_are_read_or_refused(at in 0..LINE.len(), byte in any::<u8>(), len in 0..LINE.len()) {
        let mut bytes = LINE.as_bytes().to_vec();
        bytes[at] = byte;
        for bytes in [&bytes[..], &bytes[..len]] {
            let _ = Line::read(bytes, false);
        }
    }

    #[test]
    fn any_name_is_read_as_the_module_shows_it(key in any::<String>()) {
        let line = LINE.replacen("\"example.com\"", &serde_json::to_string(&key).unwrap(), 1);
        prop_assert_eq!(&Line::read(line.as_bytes(), false).unwrap().key, &key::shown_again(&key));
        // the shown form itself is read unchanged
        let shown = key::display(key.as_bytes());
        let line = LINE.replacen("\"example.com\"", &serde_json::to_string(&shown).unwrap(), 1);
        prop_assert_eq!(&Line::read(line.as_bytes(), false).unwrap().key, &shown);
    }
}
