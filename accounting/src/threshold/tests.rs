//! Unit and property tests.

use super::*;

#[test]
fn a_threshold_is_cores_or_a_percentage_of_one() {
    let parse = |text: &str| parse_active_threshold(text.as_bytes());
    assert_eq!(parse("1%"), Some(crate::table::ACTIVE_THRESHOLD_NS));
    for (text, ns) in [
        ("0", 0),
        ("0%", 0),
        ("0.0", 0),
        ("0.01", 10_000_000),
        ("0.5%", 5_000_000),
        ("100%", 1_000_000_000),
        ("1", 1_000_000_000),
        ("1.5", 1_500_000_000),
        ("0.0000000019", 1),
        ("100", 100_000_000_000),
        ("10000%", 100_000_000_000),
    ] {
        assert_eq!(parse(text), Some(ns), "{text}");
    }
    for text in
        ["", "%", "x", "-1", "+1", "1e3", ".5", "1.", "1%%", "% 1", "1 %", "100.000000001", "10000.1%", "1,5"]
    {
        assert_eq!(parse(text), None, "{text}");
    }
    assert_eq!(parse("99999999999999999999"), None);
}
