use super::*;

const KNOWN: [Known; 4] =
    [("zone", Form::Name), ("state", Form::Value), ("dry_run", Form::Flag), ("also", Form::Names)];

fn read<'a>(arguments: &[&'a str]) -> Result<Parameters<'a>, String> {
    Parameters::read("a_directive", arguments.iter().map(|argument| argument.as_bytes()), 1, &KNOWN)
}

fn refusal(arguments: &[&str]) -> String {
    read(arguments).map(|parameters| format!("accepted: {parameters:?}")).unwrap_or_else(|message| message)
}

#[test]
fn values_are_found_by_position_and_by_name() {
    let given = read(&["$host", "also=x", "zone=a=b", "dry_run", "state=", "also=y"]).unwrap();
    assert_eq!(given.at(0), b"$host");
    assert_eq!(given.at(1), b"");
    assert_eq!(given.get("zone"), Some(&b"a=b"[..]));
    assert_eq!(given.get("state"), Some(&b""[..]));
    assert!(given.has("dry_run"));
    assert_eq!(given.all("also").collect::<Vec<_>>(), [b"x", b"y"]);
    assert_eq!(read(&["zone=a"]).unwrap().get("zone"), None, "the first argument is a value by position");
}

#[test]
fn an_unknown_parameter_is_named() {
    for argument in ["", "zone", "zone=", "zonea=b", "ZONE=a", "dry_run=1", "dry_run2", "=", "also=", "state"]
    {
        assert_eq!(refusal(&["x", argument]), format!("invalid parameter \"{argument}\" in \"a_directive\""));
    }
    assert_eq!(
        refusal(&["x", "zone=a", "foo=1", "zone=b"]),
        "invalid parameter \"foo=1\" in \"a_directive\""
    );
}

#[test]
fn a_parameter_that_is_given_twice_is_named_as_it_is_written() {
    for argument in ["zone=b", "state=", "dry_run"] {
        assert_eq!(
            refusal(&["x", "zone=a", "state=a", "dry_run", argument]),
            format!("duplicate parameter \"{argument}\" in \"a_directive\"")
        );
    }
}

#[test]
fn a_missing_parameter_is_named() {
    let given = read(&["x", "dry_run"]).unwrap();
    assert_eq!(given.required("zone").unwrap_err(), "\"a_directive\" must have \"zone\" parameter");
    assert_eq!(read(&["x", "zone=a"]).unwrap().required("zone").unwrap(), b"a");
}

#[test]
fn a_bad_value_is_named_with_the_allowed_values() {
    let number = |value: &[u8]| str::from_utf8(value).ok()?.parse::<u8>().ok();
    let given = read(&["300", "state=7", "zone=x"]).unwrap();
    assert_eq!(given.parse("state", "state", "a number", number), Ok(Some(7)));
    assert_eq!(given.parse("also", "number", "a number", number), Ok(None));
    assert_eq!(
        given.parse("zone", "zone number", "from 0 to 255", number).unwrap_err(),
        "invalid zone number \"x\" in \"a_directive\", it must be from 0 to 255"
    );
    assert_eq!(
        given.valid(given.at(0), "level", "from 0 to 255", number).unwrap_err(),
        "invalid level \"300\" in \"a_directive\", it must be from 0 to 255"
    );
}

#[test]
fn bytes_that_are_no_text_are_escaped() {
    let refused = Parameters::read("a_directive", [&b"\xc3\xa4\xff"[..]], 0, &KNOWN);
    assert_eq!(refused.unwrap_err(), "invalid parameter \"\u{e4}\\xff\" in \"a_directive\"");
}
