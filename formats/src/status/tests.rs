//! Writing and reading the status document.

use super::*;
use crate::counters::{Detail, row};
use crate::version::VERSION;

fn server() -> Server<'static> {
    Server { version: "0.1.0".into(), clock: "thread".into(), max_error_ns: 7, ..Server::default() }
}

fn document(detail: Detail) -> String {
    let mut out = Vec::new();
    let workers = [Worker { pid: 4711, loop_ns: u64::MAX, ..Worker::default() }, Worker::default()];
    write::begin(&server(), &workers, &mut out);
    for (at, zone) in ["z", "a \"\\\u{2028}"].into_iter().enumerate() {
        write::begin_zone(at == 0, zone, &Zone { capacity: 9, cut: 3, ..Zone::default() }, &mut out);
        for (n, key) in ["b", "a", "*"].into_iter().enumerate() {
            let account = Account {
                cells: core::array::from_fn(|cell| (cell * (n + at)) as u64),
                in_flight: 2,
                cores: [0.1, 1.0 / 3.0, 1e-6],
                peak_cpu_ns: 1_500_000_001,
                limit: Some(Limit::default()),
                limits: vec![Limit { max_debt_ns: Some(1), ..Limit::default() }],
                windows: Default::default(),
            };
            write::account(n == 0, key, &account, detail, &mut out);
        }
        write::end_zone((detail == Detail::Full).then_some(&Default::default()), &mut out);
    }
    write::end(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_document_that_is_read_and_written_again_is_the_same() {
    for detail in [Detail::Full, Detail::Low] {
        let text = document(detail);
        let read = Document::read(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(read.write()).unwrap(), text);
        assert_eq!((&read.server, read.workers[0].loop_ns), (&server(), u64::MAX));
        let (name, zone) = &read.zones[0];
        assert_eq!((&**name, zone.zone.capacity, zone.keys.len()), ("z", 9, 3));
        let (key, account) = &zone.keys[1];
        let wakeups = crate::counters::cell("wakeups") as u64;
        assert_eq!((&**key, account.number(row("wakeups"))), ("a", Some(wakeups)));
        assert_eq!(account.json(row("by_request_cpu")).is_some(), detail == Detail::Full);
    }
}

#[test]
fn members_that_are_unknown_or_missing_do_no_harm() {
    let text = document(Detail::Low);
    let more = text.replacen("{\"worker\":0,", "{\"new\":[{}],", 1).replacen("\"requests\":", "\"new\":", 1);
    assert_ne!(more, text);
    let read = Document::read(more.as_bytes()).unwrap();
    assert_eq!(read.workers[0].pid, 4711);
    assert_eq!(read.zones[0].1.keys[0].1.number(row("requests")), None);
}

#[test]
fn a_document_of_a_later_version_is_refused_and_named() {
    let with = |format: String| document(Detail::Low).replacen('{', &format!("{{\"format\":{format},"), 1);
    assert!(Document::read(with(VERSION.to_string()).as_bytes()).is_ok());
    let later = format!("it has format {}, but this program knows formats up to", VERSION + 1);
    for text in [
        with((VERSION + 1).to_string()),
        // the other members of a later version may be anything
        format!("{{\"zones\":7,\"format\":{}}}", VERSION + 1),
        format!("{{\"format\":{}}}", VERSION + 1),
    ] {
        let error = Document::read(text.as_bytes()).unwrap_err();
        assert!(error.starts_with(&later), "{error}");
    }
}

#[test]
fn a_text_that_is_no_status_document_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        "{\"error\":\"unknown zone\"}",
        "{\"version\":\"1\",\"zones\":[]}",
        "{\"version\":1}",
    ] {
        let error = Document::read(text.as_bytes()).unwrap_err();
        assert!(error.starts_with("this is not a status document: "), "{text}: {error}");
    }
}
