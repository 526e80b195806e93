//! Unit and property tests.

use proptest::prelude::*;

use super::*;

const JSON: Content = Content::Status(Format::Json);
const PROMETHEUS: Content = Content::Status(Format::Prometheus);

#[test]
fn people_and_programs_without_a_wish_get_json() {
    for accept in [
        "",
        "*/*",
        "application/json",
        "APPLICATION/Json",
        "application/json; charset=utf-8",
        "application/*",
        "application/json, text/plain, */*",
        "application/json;q=0.9, text/plain;q=0.8",
        "image/png, video/*",
        // both are named, and neither is preferred
        "text/html, application/json",
        "text/html;q=0.5, */*",
    ] {
        assert_eq!(Content::from_accept(accept.as_bytes()), JSON, "{accept}");
    }
}

#[test]
fn browsers_get_the_page() {
    for accept in [
        "text/html",
        "TEXT/html",
        "text/html; charset=utf-8",
        "text/html;level=1",
        // Firefox, Chrome, Lynx
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
         application/signed-exchange;v=b3;q=0.7",
        "text/html, text/plain, text/sgml, text/css, */*;q=0.01",
        "text/html;q=0.3, application/json;q=0.2",
    ] {
        assert_eq!(Content::from_accept(accept.as_bytes()), Content::Page, "{accept}");
    }
}

#[test]
fn the_page_is_compressed_for_those_who_take_it() {
    for accept in [
        "gzip",
        "gzip, deflate, br, zstd",
        "GZIP;q=0.5",
        "deflate, *",
        "x-gzip",
        "identity;q=0.5, gzip",
        "*;q=0.1",
    ] {
        assert!(accepts_gzip(accept.as_bytes()), "{accept}");
    }
    for accept in [
        "",
        "identity",
        "gzip;q=0",
        "deflate, br",
        "gzip;q=0, *",
        "*;q=0",
        "gzip;q=0.5, identity",
        "gzip;q=x",
        "gzi",
        "q=1",
    ] {
        assert!(!accepts_gzip(accept.as_bytes()), "{accept}");
    }
}

#[test]
fn scrapers_get_the_prometheus_text() {
    for accept in [
        "text/plain",
        "Text/PLAIN",
        "text/*",
        "text/plain;version=0.0.4",
        "text/plain; version=\"0.0.4\"; charset=UTF-8",
        // Prometheus up to 2.48
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        // Prometheus 2.49 and later
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        // Prometheus 3
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        // with native histograms
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
         application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4",
        // the client is configured for one format only, which is not supported
        "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.4",
        "text/plain;version=1.0.0;q=0.3,*/*;q=0.2",
        "application/openmetrics-text",
        // vmagent
        "text/plain;version=0.0.4;q=1,*/*;q=0.1",
    ] {
        assert_eq!(Content::from_accept(accept.as_bytes()), PROMETHEUS, "{accept}");
    }
}

#[test]
fn the_most_specific_range_decides() {
    for (accept, format) in [
        ("text/plain;q=0.1, application/json;q=0.2, */*", JSON),
        ("application/json;q=0.1, */*;q=0.2", PROMETHEUS),
        ("application/json;q=0, */*", PROMETHEUS),
        ("text/*;q=0.9, text/plain;q=0.1, application/json;q=0.5", JSON),
        ("text/plain;q=0.1, text/plain;version=0.0.4;q=0.9, application/json;q=0.5", PROMETHEUS),
        ("text/plain;q=0.9, text/plain;version=0.0.4;q=0.1, application/json;q=0.5", JSON),
        ("text/plain;q=0", JSON),
        ("application/json;q=0, text/plain;q=0", JSON),
        ("application/*;q=0.3, text/*;q=0.4", PROMETHEUS),
    ] {
        assert_eq!(Content::from_accept(accept.as_bytes()), format, "{accept}");
    }
}

#[test]
fn weights_are_zero_to_one() {
    for (text, thousandths) in [
        ("0", Some(0)),
        ("0.", Some(0)),
        ("0.5", Some(500)),
        ("0.001", Some(1)),
        ("0.0019", Some(1)),
        ("1", Some(1000)),
        ("1.000", Some(1000)),
        ("1.001", None),
        ("2", None),
        ("", None),
        (".5", None),
        ("0.x", None),
        ("-1", None),
    ] {
        assert_eq!(weight(text.as_bytes()), thousandths, "{text}");
    }
}

#[test]
fn malformed_elements_are_passed_over() {
    for accept in [
        ", ,text/plain,,",
        "json, text/plain",
        "/, text/plain;;q=0.5;",
        "text/plain ; q = 0.5",
        "a/b;c=\"text/html,\\\"\", text/plain",
    ] {
        assert_eq!(Content::from_accept(accept.as_bytes()), PROMETHEUS, "{accept}");
    }
    for accept in ["text/plain;q=x", "a/b;c=\", text/plain", "text/plain;q=0.5.5", "*/plain", "text"] {
        assert_eq!(Content::from_accept(accept.as_bytes()), JSON, "{accept}");
    }
}

#[test]
fn names_of_formats_are_those_of_the_directive() {
    assert_eq!(Content::from_name(b"json"), Some(JSON));
    assert_eq!(Content::from_name(b"prometheus"), Some(PROMETHEUS));
    assert_eq!(Content::from_name(b"html"), Some(Content::Page));
    assert_eq!(Content::from_name(b"JSON"), None);
    assert_eq!(Content::from_name(b""), None);
}

proptest! {
    #![proptest_config(crate::testing::cases())]

    #[test]
    fn any_bytes_are_answered(accept: Vec<u8>) {
        Content::from_accept(&accept);
        accepts_gzip(&accept);
    }

    #[test]
    fn any_text_of_the_grammars_letters_is_answered(accept in "[a-z*/;,=q0-9.\" \\\\]{0,80}") {
        Content::from_accept(accept.as_bytes());
        accepts_gzip(accept.as_bytes());
    }

    #[test]
    fn the_order_of_ranges_does_not_matter(
        ranges in prop::collection::vec(
            (prop::sample::select(vec![
                "*/*", "text/*", "text/plain", "text/plain;version=0.0.4", "application/json", "application/*",
                "application/openmetrics-text", "text/html",
            ]), 0u32..=1000),
            0..6,
        )
    ) {
        let join = |ranges: &mut dyn Iterator<Item = &(&str, u32)>| {
            let ranges: Vec<_> =
                ranges.map(|(range, q)| format!("{range};q={}.{:03}", q / 1000, q % 1000)).collect();
            ranges.join(", ")
        };
        let (forwards, backwards) = (join(&mut ranges.iter()), join(&mut ranges.iter().rev()));
        prop_assert_eq!(
            Content::from_accept(forwards.as_bytes()),
            Content::from_accept(backwards.as_bytes())
        );
    }
}
