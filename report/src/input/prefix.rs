//! Finds the line of a log behind the prefix that a log collector wrote before it.
//!
//! The known prefixes are those of docker's json-file, CRI (containerd, CRI-O), syslog, the journal, `kubectl
//! logs` and `docker compose logs`. The text after a prefix is not changed, so a broken line stays broken.

use std::borrow::Cow;

use serde::Deserialize;

/// A record of docker's json-file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DockerRecord {
    log: String,
    #[serde(rename = "stream")]
    _stream: String,
    #[serde(rename = "time")]
    _time: String,
    #[serde(rename = "attrs")]
    _attributes: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The line without its prefix. A line without a prefix is returned unchanged.
pub fn strip(line: &[u8]) -> Cow<'_, [u8]> {
    match line.first() {
        Some(b'{') if may_be_record(line) => match record(line) {
            Some(text) => Cow::Owned(text),
            None => Cow::Borrowed(line),
        },
        None | Some(b'{') => Cow::Borrowed(line),
        Some(_) => Cow::Borrowed(behind(line).unwrap_or(line)),
    }
}

/// True if it begins like docker's record, also after another program has rewritten it.
fn may_be_record(line: &[u8]) -> bool {
    let members = line.get(1..).unwrap_or_default().trim_ascii_start();
    members.starts_with(b"\"log\"") || members.starts_with(b"\"stream\"")
}

/// The text of docker's record, if it is a whole line: a longer line lies in several records.
fn record(line: &[u8]) -> Option<Vec<u8>> {
    let record: DockerRecord = serde_json::from_slice(line).ok()?;
    let is_object = record.log.starts_with('{') && record.log.ends_with('}');
    // some programs remove the line end; a part of a line has none either
    let text = record.log.strip_suffix('\n').or(is_object.then_some(record.log.as_str()))?;
    let text = text.strip_suffix('\r').unwrap_or(text);
    // prefixes may be nested: docker's record of a line of syslog
    Some(behind(text.as_bytes()).unwrap_or(text.as_bytes()).to_vec())
}

fn behind(line: &[u8]) -> Option<&[u8]> {
    cri(line).or_else(|| object(line))
}

/// `2026-01-31T12:00:00.1Z stdout F `; any text may follow. A part of a line (`P`) stays as it is.
fn cri(line: &[u8]) -> Option<&[u8]> {
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    let (tag, rest) = rest.split_at_checked(2)?;
    (is_time(time) && matches!(stream, b"stdout" | b"stderr") && tag == b"F ").then_some(rest)
}

/// The object behind any other prefix: whatever it is, it ends before the first `{`.
fn object(line: &[u8]) -> Option<&[u8]> {
    let at = memchr::memchr(b'{', line)?;
    let (prefix, rest) = line.split_at_checked(at)?;
    let prefix = prefix.strip_suffix(b" ")?;
    (is_compose(prefix) || is_kubectl(prefix) || is_syslog(prefix)).then_some(rest)
}

/// `nginx-1  |`
fn is_compose(prefix: &[u8]) -> bool {
    let Some(name) = prefix.strip_suffix(b"|") else { return false };
    let name = name.trim_ascii_end();
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

/// `[pod/name/container]`, a time, or both
fn is_kubectl(prefix: &[u8]) -> bool {
    match prefix.strip_prefix(b"[pod/") {
        Some(rest) => match word(rest) {
            Some((name, time)) => name.ends_with(b"]") && is_time(time),
            None => rest.ends_with(b"]") && !rest.contains(&b' '),
        },
        None => is_time(prefix),
    }
}

/// `<190>Jan 31 12:00:00 host nginx:`, `2026-01-31T12:00:00Z host nginx[1]:`, each with or without the
/// number, and `<190>1 2026-01-31T12:00:00Z host nginx 1 - -`
fn is_syslog(prefix: &[u8]) -> bool {
    let rest = match prefix.strip_prefix(b"<") {
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            match rest.get(digits..).and_then(|rest| rest.strip_prefix(b">")) {
                Some(rest) if (1..=3).contains(&digits) => rest,
                _ => return false,
            }
        }
        None => prefix,
    };
    is_new_syslog(rest) || is_old_syslog(rest).unwrap_or(false)
}

fn is_new_syslog(rest: &[u8]) -> bool {
    let mut words = rest.splitn(7, |byte| *byte == b' ');
    words.next() == Some(b"1")
        && words.next().is_some_and(|time| time == b"-" || is_time(time))
        && words.by_ref().take(4).filter(|word| !word.is_empty()).count() == 4
        // elements of structured data; a mark of UTF-8 may stand before the text
        && words.next().is_some_and(|data| data == b"-" || (data.starts_with(b"[") && data.ends_with(b"]")))
}

fn is_old_syslog(rest: &[u8]) -> Option<bool> {
    let rest = match word(rest)? {
        (time, rest) if is_time(time) => rest,
        (month, rest) => {
            let (day, rest) = word(rest.trim_ascii_start())?;
            let (time, rest) = word(rest)?;
            let is_day = (1..=2).contains(&day.len()) && day.iter().all(u8::is_ascii_digit);
            let is_month = month.len() == 3 && month.iter().all(u8::is_ascii_alphabetic);
            if !is_month || !is_day || !fits(time, b"00:00:00") {
                return Some(false);
            }
            rest
        }
    };
    // the name of the host may be left out
    let tag = word(rest).map_or(rest, |(_, tag)| tag);
    Some(tag.len() > 1 && tag.ends_with(b":") && !tag.contains(&b' '))
}

/// Up to the first blank, and the rest behind it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// As RFC 3339 writes it.
fn is_time(text: &[u8]) -> bool {
    let begin = b"0000-00-00T00:00:00";
    text.get(..begin.len()).is_some_and(|time| fits(time, begin))
        && text.get(begin.len()..).is_some_and(|rest| {
            !rest.is_empty() && rest.iter().all(|byte| byte.is_ascii_digit() || b".,:+-Z".contains(byte))
        })
}

/// A digit for each `0`, and all else as in the pattern.
fn fits(text: &[u8], pattern: &[u8]) -> bool {
    text.len() == pattern.len()
        && text.iter().zip(pattern).all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            _ => byte == like,
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::strip;

    const PREFIXES: [&str; 14] = [
        "2026-01-31T12:00:00.123456789Z stdout F ",
        "2026-01-31T12:00:00.1+01:00 stderr F ",
        "[pod/web-7d9/nginx] ",
        "[pod/web-7d9/nginx] 2026-01-31T12:00:00.1Z ",
        "2026-01-31T12:00:00.1Z ",
        "nginx-1  | ",
        "<190>Jan 31 12:00:00 edge-1 nginx: ",
        "Jan  1 12:00:00 edge-1 nginx: ",
        "Jan 31 12:00:00 nginx: ",
        "Jan 31 12:00:00 edge-1 nginx[123]: ",
        "2026-01-31T12:00:00+00:00 edge-1 nginx: ",
        "<190>1 2026-01-31T12:00:00Z edge-1 nginx 1 - - ",
        "1 2026-01-31T12:00:00Z edge-1 nginx - - [a@1 b=\"c d\"] ",
        "<13>2026-01-31T12:00:00Z edge-1 nginx: ",
    ];

    fn docker(text: &str) -> String {
        let log = serde_json::to_string(text).unwrap();
        format!("{{\"log\":{log},\"stream\":\"stdout\",\"time\":\"2026-01-31T12:00:00.1Z\"}}")
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for line in [
            "",
            "{\"log\":\"a\"}",
            "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"\",\"uri\":\"/\"}",
            "::1 - - [31/Jan/2026:12:00:00 +0000] \"GET /{a} HTTP/1.1\" 200 5",
            "2026-01-31T12:00:00.1Z stdout P {\"time\":",
            "x {\"time\":1}",
            "nginx-1 {\"time\":1}",
            "Jan 31 12:00:00 edge-1 {\"time\":1}",
            "<1900>Jan 31 12:00:00 edge-1 nginx: {}",
            "\"a\",{\"time\":1}",
        ] {
            assert_eq!(strip(line.as_bytes()), line.as_bytes(), "{line}");
        }
        // as other programs write it
        for record in [
            r#"{"log": "{\"time\":1}\n", "stream": "stdout", "time": "2026-01-31T12:00:00Z"}"#,
            r#"{"log":"{\"time\":1}","stream":"stdout","time":"2026-01-31T12:00:00Z"}"#,
            r#"{ "stream":"stderr","log":"{\"time\":1}\n","time":"2026-01-31T12:00:00Z"}"#,
        ] {
            assert_eq!(&*strip(record.as_bytes()), b"{\"time\":1}", "{record}");
        }
        // a part of a line
        let part = docker("{\"time\":");
        assert_eq!(strip(part.as_bytes()), part.as_bytes());
    }

    proptest! {
        #[test]
        fn a_line_behind_a_prefix_is_found(text in "[{](\\PC|\"|\\\\){0,50}", at in 0..PREFIXES.len()) {
            let line = format!("{}{text}", PREFIXES[at]);
            prop_assert_eq!(&*strip(line.as_bytes()), text.as_bytes());
            for line in [docker(&format!("{text}\n")), docker(&format!("{line}\r\n"))] {
                prop_assert_eq!(&*strip(line.as_bytes()), text.as_bytes());
            }
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = strip(&bytes);
        }
    }
}
