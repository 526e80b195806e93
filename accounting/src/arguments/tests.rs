//! Unit and property tests.

use super::others_as_html;

fn others(uri: &str) -> String {
    let own = ["format", "detail", "zone", "key", "asset"];
    String::from_utf8(others_as_html(uri.as_bytes(), &own)).unwrap_or_default()
}

#[test]
fn arguments_of_others_go_along() {
    assert_eq!(others("/cpu"), "");
    assert_eq!(others("/cpu?"), "");
    assert_eq!(others("/cpu?format=html&zone=a&key=b&detail=low&ASSET=x"), "");
    assert_eq!(others("/cpu?token=a%20b%26&format=html&&x"), "token=a%20b%26&amp;x&amp;");
    assert_eq!(others("/cpu?a?b=c"), "a?b=c&amp;");
}

#[test]
fn arguments_cannot_leave_the_attribute_that_they_are_in() {
    assert_eq!(
        others("/cpu?a=\"><script>'`{{arguments}}#"),
        "a=%22%3E%3Cscript%3E%27%60%7B%7Barguments%7D%7D%23&amp;"
    );
    assert_eq!(others("/cpu?\u{e9}"), "%C3%A9&amp;");
}
