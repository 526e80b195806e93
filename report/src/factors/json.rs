//! Takes the fields out of a log line that is a JSON object.
//!
//! serde_json reads the line first. If it refuses the line, [`tolerant`] reads it. That reader accepts the
//! output of NGINX without `escape=json`, and of variables without quotes and without a value.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::escape::unescape;
use super::fields::{Fields, Set};
use super::names::FieldNames;

/// Faults of a line that is not valid JSON, but can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// `\x22` and other escapes that JSON does not have
    pub escapes: bool,
    /// a value that has no quotes, and is no number: `-`, nothing, or a text
    pub values: bool,
    /// a tab or another control character that is not escaped
    pub controls: bool,
    /// a comma after the last member
    pub last_commas: bool,
    /// a comma after the object
    pub commas: bool,
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable<'n> {
    /// it is an array, or part of one
    Array,
    /// it is a value, but no object
    NoObject,
    /// it is part of an object over several lines
    Lines,
    /// it ends before the object does
    Cut,
    /// more follows on the object
    Follows,
    /// a name in quotes is missing
    Name,
    /// a value that is followed by something else than a comma or the end
    Value,
    /// this variable has an object or an array as its value
    Nested(&'n str),
}

impl fmt::Display for Unreadable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array => f.write_str(
                "a JSON array is not a log line; jq -c '.[]' FILE writes each of its objects as a line",
            ),
            Self::NoObject => {
                f.write_str("the line is a JSON value, but not an object with members named like variables")
            }
            Self::Lines => f.write_str(
                "the line is part of a JSON object of several lines; jq -c . FILE writes each object as one \
                 line",
            ),
            Self::Cut => f.write_str(
                "the line ends before its JSON object does; if objects have several lines, jq -c . FILE \
                 writes each as one line",
            ),
            Self::Follows => f.write_str(
                "more than one JSON object is in the line; jq -c . FILE writes each as a line of its own",
            ),
            Self::Name => f.write_str(
                "the JSON object has a member whose name is not in quotes, or has no \":\" after it",
            ),
            Self::Value => f.write_str(
                "a value in the JSON object has a quote or a bracket in it that is not escaped; add \
                 escape=json to the log_format",
            ),
            Self::Nested(name) => write!(f, "${name} is neither a text nor a number"),
        }
    }
}

/// Reads a line that [`strict`] refuses.
pub fn tolerant<'n, 'a>(
    line: &'a [u8],
    names: &'n FieldNames,
    fields: &mut Fields<'a>,
) -> Result<Faults, Unreadable<'n>> {
    let mut faults = Faults::default();
    let mut line = trimmed(line);
    if let Some(before) = line.strip_suffix(b",") {
        (line, faults.commas) = (trimmed(before), true);
    }
    if line.first() == Some(&b'[') || line == b"]" {
        return Err(Unreadable::Array);
    }
    if line.first() == Some(&b'}') || is_member(line) {
        return Err(Unreadable::Lines);
    }
    let mut rest = line.strip_prefix(b"{").ok_or(Unreadable::Name)?;
    let mut is_first = true;
    loop {
        rest = trimmed(rest);
        match rest {
            [] => return Err(Unreadable::Cut),
            [b'}', after @ ..] => {
                faults.last_commas |= !is_first;
                return end(after).map(|()| faults);
            }
            _ => {}
        }
        is_first = false;
        let Some(name) = rest.strip_prefix(b"\"") else { return Err(Unreadable::Name) };
        let (name, after) = text(name).ok_or(Unreadable::Cut)?;
        let wanted = match memchr::memchr(b'\\', name) {
            Some(_) => names.fields(&unescape(name)),
            None => names.fields(name),
        };
        let after = trimmed(after);
        if after.is_empty() {
            return Err(Unreadable::Cut);
        }
        let after = trimmed(after.strip_prefix(b":").ok_or(Unreadable::Name)?);
        let (value, after) = match after.first() {
            None => return Err(Unreadable::Cut),
            Some(b'"') => {
                let (value, after) = text(after.get(1..).unwrap_or_default()).ok_or(Unreadable::Cut)?;
                faults.check_text(value);
                (value, after)
            }
            Some(b'{' | b'[') => {
                let after = nested(after, &mut faults).ok_or(Unreadable::Cut)?;
                if let Some(field) = wanted.iter().next() {
                    return Err(Unreadable::Nested(names.name(field)));
                }
                (&b""[..], after)
            }
            Some(_) => {
                let (value, after) = bare(after)?;
                faults.values |= !is_json_literal(value);
                (if value == b"null" { &b""[..] } else { value }, after)
            }
        };
        for field in wanted.iter() {
            fields.replace(field, value);
        }
        match trimmed(after) {
            [] => return Err(Unreadable::Cut),
            [b',', after @ ..] => rest = after,
            [b'}', after @ ..] => return end(after).map(|()| faults),
            _ => return Err(Unreadable::Value),
        }
    }
}

/// The readable names of an object's members.
pub fn member_names(line: &[u8], most: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = trimmed(line).strip_prefix(b"{").unwrap_or_default();
    while found.len() < most {
        let Some(name) = trimmed(rest).strip_prefix(b"\"") else { break };
        let Some((name, after)) = text(name) else { break };
        found.push(String::from_utf8_lossy(&unescape(name)).into_owned());
        let Some(after) = trimmed(after).strip_prefix(b":").map(trimmed) else { break };
        let after = match after.first() {
            Some(b'"') => text(after.get(1..).unwrap_or_default()).map(|(_, after)| after),
            Some(b'{' | b'[') => nested(after, &mut Faults::default()),
            _ => bare(after).ok().map(|(_, after)| after),
        };
        let Some(after) = after.and_then(|after| trimmed(after).strip_prefix(b",")) else { break };
        rest = after;
    }
    found
}

/// Whether a line begins as a member of an object does: a name in quotes, and a colon.
pub fn is_member(line: &[u8]) -> bool {
    let name = line.strip_prefix(b"\"").and_then(text);
    name.is_some_and(|(_, after)| trimmed(after).first() == Some(&b':'))
}

fn end<'n>(after: &[u8]) -> Result<(), Unreadable<'n>> {
    match trimmed(after) {
        [] => Ok(()),
        // objects with commas between them, and the end of an array
        [b',' | b']', ..] => Err(Unreadable::Array),
        _ => Err(Unreadable::Follows),
    }
}

/// The text without blanks before and after it.
pub fn trimmed(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let begin = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(begin, |last| last + 1);
    text.get(begin..end).unwrap_or_default()
}

/// The text up to the next unescaped quote, and the text after that quote.
fn text(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        at += 2;
    }
}

/// A value without quotes, up to the bracket at the end of the object, or up to a comma before the next
/// member. So a list of NGINX, such as `0.001, 0.002`, is one value.
fn bare<'n>(text: &[u8]) -> Result<(&[u8], &[u8]), Unreadable<'n>> {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let (value, after) = text.split_at(at);
        match byte {
            b'}' => return Ok((trimmed(value), after)),
            b',' if is_before_member(after.get(1..).unwrap_or_default()) => {
                return Ok((trimmed(value), after));
            }
            b'"' | b'{' | b'[' | b']' => return Err(Unreadable::Value),
            _ => at += 1,
        }
    }
    Err(Unreadable::Cut)
}

fn is_before_member(text: &[u8]) -> bool {
    let next = text.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    matches!(next, Some(b'"' | b'}') | None)
}

/// The text after an object or an array.
fn nested<'a>(value: &'a [u8], faults: &mut Faults) -> Option<&'a [u8]> {
    let mut depth = 0_usize;
    let mut rest = value;
    loop {
        let at = rest.iter().position(|byte| matches!(byte, b'{' | b'[' | b'}' | b']' | b'"'))?;
        let (byte, after) = rest.get(at..)?.split_first()?;
        rest = after;
        match byte {
            b'"' => {
                let (inside, after) = text(after)?;
                faults.check_text(inside);
                rest = after;
            }
            b'{' | b'[' => depth += 1,
            _ => depth = depth.checked_sub(1)?,
        }
        if depth == 0 {
            return Some(rest);
        }
    }
}

impl Faults {
    /// Checks a text between quotes. Bytes that are not UTF-8 are no fault, since NGINX writes them
    /// unchanged.
    fn check_text(&mut self, text: &[u8]) {
        self.controls |= text.iter().any(|byte| *byte < 0x20);
        self.escapes |= !has_json_escapes(text);
    }
}

/// Whether all backslashes in a text begin what they may in JSON.
fn has_json_escapes(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let escaped = rest.get(at + 1..).unwrap_or_default();
        let len = match escaped.first() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
            Some(b'u') if escaped.get(1..5).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => 5,
            _ => return false,
        };
        rest = escaped.get(len..).unwrap_or_default();
    }
    true
}

/// Whether a line is valid JSON, with or without a comma after it.
pub fn is_value(line: &[u8]) -> bool {
    let line = trimmed(line);
    let line = line.strip_suffix(b",").unwrap_or(line);
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

fn is_json_literal(value: &[u8]) -> bool {
    matches!(value, b"true" | b"false" | b"null")
        || serde_json::from_slice::<serde_json::Number>(value).is_ok()
}

// ---------------------------------------------------------------------------------------------------

/// Reads a line that is one valid JSON object.
pub fn strict<'a>(
    line: &'a [u8],
    names: &FieldNames,
    fields: &mut Fields<'a>,
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(line);
    json.deserialize_map(Members { names, fields })?;
    json.end()
}

struct Members<'n, 'f, 'de> {
    names: &'n FieldNames,
    fields: &'f mut Fields<'de>,
}

impl<'de> Visitor<'de> for Members<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<Map: MapAccess<'de>>(self, mut map: Map) -> Result<(), Map::Error> {
        while let Some(wanted) = map.next_key_seed(MemberName(self.names))? {
            if wanted.is_empty() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<&RawValue>()?.get();
            let value = match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
                Some(text) => text,
                None if value == "null" => "",
                None if value.starts_with(['{', '[']) => {
                    return Err(Map::Error::custom("no text and no number"));
                }
                None => value,
            };
            for field in wanted.iter() {
                self.fields.replace(field, value.as_bytes());
            }
        }
        Ok(())
    }
}

/// The name of a member, as the fields that it tells.
struct MemberName<'n>(&'n FieldNames);

impl<'de> DeserializeSeed<'de> for MemberName<'_> {
    type Value = Set;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Set, D::Error> {
        name.deserialize_identifier(self)
    }
}

impl Visitor<'_> for MemberName<'_> {
    type Value = Set;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Set, E> {
        Ok(self.0.fields(name.as_bytes()))
    }
}

/// Whether a line that is JSON says that it is one of the traffic log.
pub fn is_traffic_log(line: &[u8]) -> bool {
    let has = |name: &str| memchr::memmem::find(line, name.as_bytes()).is_some();
    has("\"interval_ms\"") && has("\"zone\"") && has("\"cpu_ns\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fields::Field;
    use super::*;

    const CPU: Field = Field::CpuNs;

    fn read(line: &[u8]) -> Result<(Fields<'_>, Faults), String> {
        let names = FieldNames::default();
        let mut fields = Fields::default();
        let faults = tolerant(line, &names, &mut fields).map_err(|error| error.to_string())?;
        Ok((fields, faults))
    }

    fn value<'a>(fields: &Fields<'a>, field: Field) -> &'a str {
        fields.get(field).map_or("-", |value| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn what_nginx_writes_without_escaping_for_json_is_read() {
        let (fields, faults) =
            read(br#"{"ua":"\x22bot\x22","host":"a\x5C","request_cpu_ns":5,"urt":0.001, 0.002 : -,"bytes_sent":-}"#)
                .unwrap();
        assert_eq!([value(&fields, Field::Host), value(&fields, CPU)], [r"a\x5C", "5"]);
        assert_eq!(faults, Faults { escapes: true, values: true, ..Faults::default() });
        assert!(fields.has(Field::Bytes) && fields.get(Field::Bytes).is_none());
    }

    #[test]
    fn a_value_may_be_missing_or_stand_without_quotes() {
        for (line, cpu) in [
            (r#"{"request_cpu_ns":,"host":a.test}"#, "-"),
            (r#"{"request_cpu_ns": ,"host":a.test}"#, "-"),
            (r#"{"request_cpu_ns":-,"host":a.test}"#, "-"),
            (r#"{"host":a.test,"request_cpu_ns":7}"#, "7"),
            (r#"{"host":a.test,"request_cpu_ns":}"#, "-"),
            (r#"  {"host" : a.test , "request_cpu_ns" : 7 , }  ,  "#, "7"),
        ] {
            let (fields, faults) = read(line.as_bytes()).unwrap();
            assert_eq!([value(&fields, CPU), value(&fields, Field::Host)], [cpu, "a.test"], "{line}");
            assert!(faults.values && !faults.escapes, "{line}");
            assert_eq!(faults.commas, line.ends_with("  "), "{line}");
        }
    }

    #[test]
    fn the_reason_why_a_line_cannot_be_read_comes_with_help() {
        for (line, message) in [
            ("[", "jq -c '.[]' FILE"),
            ("]", "jq -c '.[]' FILE"),
            (r#"[{"a":1},{"a":2}]"#, "jq -c '.[]' FILE"),
            ("{", "jq -c . FILE"),
            (r#"{"a":"#, "ends before"),
            (r#"{"a":"x"#, "ends before"),
            (r#"{"a""#, "ends before"),
            (r#"{"a":1,"#, "ends before"),
            (r#"{"a":{"b":"#, "ends before"),
            (r#"{"a":1}{"b":2}"#, "more than one JSON object"),
            (r#"{"a":"b" c","d":1}"#, "escape=json"),
            (r#"{"a":b"c"}"#, "escape=json"),
            (r#"{"a":1}]"#, "jq -c '.[]' FILE"),
            (r#"{"a":1},{"a":2}"#, "jq -c '.[]' FILE"),
            (r#"[{"a":1},"#, "jq -c '.[]' FILE"),
            (r#"{a:1}"#, "not in quotes"),
            (r#"{"a" 1}"#, "not in quotes"),
            (r#"{"host":{"a":1}}"#, "$host is neither a text nor a number"),
        ] {
            let found = read(line.as_bytes()).unwrap_err();
            assert!(found.contains(message), "{line}: {found}");
        }
    }

    #[test]
    fn the_names_of_members_are_found() {
        let line = br#"{"a":"\x22","b":-,"c":{"d":[1]},"e\u0066":null,"g":"#;
        assert_eq!(member_names(line, 10), ["a", "b", "c", "ef", "g"]);
        assert_eq!(member_names(line, 2), ["a", "b"]);
        assert!(member_names(b"a b", 10).is_empty());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let text = prop_oneof![any::<String>(), "[\"\\\\{}:, -]{0,6}"];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            text.prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn same(line: &[u8]) {
        let names = FieldNames::default();
        let (mut one, mut two) = (Fields::default(), Fields::default());
        if strict(line, &names, &mut one).is_ok() {
            let faults = tolerant(line, &names, &mut two);
            let shown = String::from_utf8_lossy(line);
            assert_eq!(faults, Ok(Faults::default()), "{shown}");
            assert_eq!(one, two, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn whatever_serde_reads_is_read_alike(
            members in prop::collection::vec(
                (prop::sample::select(&["host", "request_cpu_ns", "status", "h\"x"][..]), json()), 0..6),
            is_pretty in any::<bool>(),
        ) {
            let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
            let object = serde_json::Value::Object(members.collect());
            let line = if is_pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            same(line.unwrap().as_bytes());
        }

        #[test]
        fn also_where_it_was_changed(
            cuts in prop::collection::vec((any::<prop::sample::Index>(),
                    prop::sample::select(&b"\"\\{}[]:, -x0.\t"[..])), 0..4),
        ) {
            let mut line = br#" {"host":"a\"\u00e9","request_cpu_ns":1e3,"x":[{},"]"],"bytes_sent":null} "#.to_vec();
            for (at, byte) in cuts {
                let at = at.index(line.len());
                line[at] = byte;
            }
            same(&line);
            let _ = read(&line);
        }

        #[test]
        fn no_line_makes_it_panic(line in any::<Vec<u8>>(), signs in "[\"\\\\{}:, a-]{0,30}") {
            let _ = (read(&line), member_names(&line, 10), read(signs.as_bytes()), member_names(signs.as_bytes(), 10));
            let object = [b"{\"host\":", &line[..], b"}"].concat();
            let _ = (read(&object), member_names(&object, 10));
            same(&object);
        }

        #[test]
        fn a_value_that_nginx_wrote_with_its_default_escaping_is_read_back(value in any::<Vec<u8>>()) {
            let written: String = value
                .iter()
                .map(|byte| match byte {
                    b'"' | b'\\' | 0..=0x1f | 0x7f.. => format!("\\x{byte:02X}"),
                    _ => char::from(*byte).to_string(),
                })
                .collect();
            let line = format!("{{\"ua\":\"x\",\"host\":\"{written}\",\"request_cpu_ns\":9}}");
            let (fields, faults) = read(line.as_bytes()).unwrap();
            prop_assert_eq!(faults.escapes, written.contains('\\'));
            if value != b"-" {
                prop_assert_eq!(unescape(fields.get(Field::Host).unwrap_or_default()), value);
            }
            prop_assert_eq!(fields.get(CPU), Some(&b"9"[..]));
        }
    }
}
