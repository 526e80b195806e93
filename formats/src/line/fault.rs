//! Explains why a text is not a line of the traffic log.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::members::{FORMAT, MEMBERS_IN_ORDER, Member, Need};
use crate::{key, version};

const NAMES: [&str; 3] = ["host", "zone", "key"];
const NEEDED_NAMES: [&str; 4] = ["time", "interval_ms", "zone", "key"];
/// A wrong value is shown up to this number of characters.
const SHOWN_CHARS: usize = 40;

/// The first fault of a line that was refused.
pub fn of(line: &[u8]) -> String {
    let text = match str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            return format!("the text is not UTF-8 from column {} on", error.valid_up_to() + 1);
        }
    };
    let begin = text.trim_start();
    if !begin.starts_with('{') {
        return not_an_object(begin).to_owned();
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let members = match json.deserialize_map(Members).and_then(|members| json.end().map(|()| members)) {
        Ok(members) => members,
        Err(error) if error.is_eof() => return "the line is incomplete".to_owned(),
        Err(error) => return format!("this is not JSON: syntax error at column {}", error.column()),
    };
    for (_, value) in members.iter().filter(|(name, _)| name == FORMAT) {
        if let Err(later) = version::check_member(value.get()) {
            return later;
        }
    }
    for (at, (name, _)) in members.iter().enumerate() {
        let is_known = name == "time" || NAMES.contains(&&**name) || is_number(name);
        if is_known && members.iter().take(at).any(|(before, _)| before == name) {
            return format!("\"{name}\" occurs twice");
        }
    }
    if ["log", "stream"].iter().all(|name| members.iter().any(|(member, _)| member == name)) {
        return "this is a part of a line in docker's log; use: jq -rj .log FILE | cpu-report …".to_owned();
    }
    let numbers = MEMBERS_IN_ORDER.iter().filter(|member| member.need == Need::Needed);
    let needed: Vec<&str> = NEEDED_NAMES.into_iter().chain(numbers.map(|member| member.name)).collect();
    let missing = needed.iter().find(|needed| !members.iter().any(|(name, _)| name == *needed));
    if let Some(missing) = missing {
        let is_access_log = members.iter().all(|(name, _)| !needed.contains(&&**name) || name == "time");
        return if is_access_log {
            format!("\"{missing}\" is missing; cpu-report factors reads access logs")
        } else {
            format!("\"{missing}\" is missing")
        };
    }
    for (name, value) in &members {
        let value = value.get();
        if is_number(name) && value.parse::<u64>().is_err() {
            let most = u64::MAX;
            return format!("\"{name}\" is {}, and it must be a whole number from 0 to {most}", shown(value));
        }
        if (name == "time" || NAMES.contains(&&**name)) && !value.starts_with('"') {
            return format!("\"{name}\" is {}, and it must be a text in quotes", shown(value));
        }
    }
    "this is not a line of a traffic log".to_owned()
}

fn is_number(name: &str) -> bool {
    let is_read = |member: &Member| member.name == name && member.need != Need::Ignored;
    name == "interval_ms" || MEMBERS_IN_ORDER.iter().any(is_read)
}

fn shown(value: &str) -> String {
    let begin: String = value.chars().take(SHOWN_CHARS).collect();
    let mut shown = key::visible(&begin).into_owned();
    if value.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

fn not_an_object(text: &str) -> &'static str {
    // for example: 2026/01/31 12:00:00 [notice] 1#1: ...
    let shape = |at: usize| text.as_bytes().get(at).copied();
    let is_error_log = [shape(4), shape(7), shape(10), shape(13), shape(19), shape(20)]
        == [b'/', b'/', b' ', b':', b' ', b'['].map(Some);
    if text.starts_with('[')
        && text.get(1..).is_some_and(|rest| rest.trim_start().starts_with(['{', '[', '"', ']']))
        || serde_json::from_str::<Vec<serde::de::IgnoredAny>>(text).is_ok()
    {
        "this is a JSON array, not an object"
    } else if text.contains(" stdout P ") || text.contains(" stderr P ") {
        "this is a part of a line (P) in the log of a container, whose parts are not joined"
    } else if is_error_log {
        "this looks like a line of NGINX's error log"
    } else if text.contains(" HTTP/") {
        "this looks like a line of an access log; cpu-report factors reads those"
    } else {
        "this is not a line of a traffic log: a JSON object is needed"
    }
}

type Named<'a> = (Cow<'a, str>, &'a RawValue);

/// All members of an object, in their order.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Named<'de>>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<Map: MapAccess<'de>>(self, mut map: Map) -> Result<Self::Value, Map::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            members.push((Cow::Owned(name), map.next_value::<&RawValue>()?));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests;
