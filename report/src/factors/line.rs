//! Takes the fields out of a log line, by a log format or from JSON (see [`json`]), without copying any.

use std::fmt;

use memchr::memmem::{Finder, FinderRev};

use super::fields::{Field, Fields, Invalid, Names, Record};
use super::format::{Escape, LogFormat, Piece};
use super::json::{self, Faults, Unreadable};

/// The format of the README and of the demonstration, which the last variables may be missing from.
const DEFAULT_FORMAT: &str = "$host $request_uri $status $bytes_sent $request_time $request_cpu_time $connection_requests \
                              $upstream_cache_status $ssl_protocol $tls_key $ssl_session_reused \
                              $request_cpu_subrequest";
const DEFAULT_LEAST: usize = 7;

/// Reads lines of a format.
pub struct Reader {
    names: Names,
    splitter: Splitter,
    /// whether a line that is a JSON object is read as such
    takes_json: bool,
}

/// Why a line was not understood.
#[derive(Debug)]
pub enum Misfit<'r> {
    /// the text that should stand before the first variable is not there
    Begin(&'r [u8]),
    /// the text that should follow on a variable is not there
    After(&'r str, &'r [u8]),
    /// there is more than the format has, in this last variable
    Surplus(&'r str),
    /// a number is none
    Invalid(Invalid),
    /// it begins as JSON does, and cannot be read
    Json(Unreadable<'r>),
}

impl fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(text) => write!(f, "it does not begin with \"{}\"", text.escape_ascii()),
            Self::After(variable, b"") => write!(f, "it goes on after ${variable}"),
            Self::After(variable, text) => {
                write!(f, "no \"{}\" follows on ${variable}", text.escape_ascii())
            }
            Self::Surplus(variable) => {
                write!(f, "there is more in it than the format has, after ${variable}")
            }
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Json(unreadable) => unreadable.fmt(f),
        }
    }
}

impl Reader {
    /// Reads the format of the demonstration, and JSON objects.
    pub fn of_default(names: Names) -> anyhow::Result<Self> {
        let mut splitter = Splitter::new(&LogFormat::parse(DEFAULT_FORMAT)?, &names);
        splitter.least = DEFAULT_LEAST;
        splitter.is_open = true;
        Ok(Self { names, splitter, takes_json: true })
    }

    /// Reads lines of this format.
    pub fn of_format(format: &LogFormat, names: Names) -> Self {
        Self { splitter: Splitter::new(format, &names), names, takes_json: false }
    }

    /// The names of fields.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Whether lines of the format can tell this; JSON can tell everything.
    pub fn tells(&self, field: Field) -> bool {
        self.takes_json || self.splitter.slots.iter().any(|slot| slot.fields.contains(&field))
    }

    /// Whether values have to be turned back to what they were before they were written.
    pub fn is_escaped(&self) -> bool {
        self.splitter.escape != Escape::None
    }

    /// The variables that cannot be told from their neighbours, since no text stands between them.
    pub fn glued(&self) -> &[String] {
        &self.splitter.glued
    }

    /// The record of a line, and its faults; see [`Self::read_into`].
    #[cfg(test)]
    pub fn read<'r, 'a>(&'r self, line: &'a [u8]) -> Result<(Record<'a>, Faults), Misfit<'r>> {
        let mut record = Record::default();
        self.read_into(line, &mut record).map(|faults| (record, faults))
    }

    /// Whether a line is taken for JSON.
    pub fn is_json(&self, line: &[u8]) -> bool {
        self.takes_json
            && match line.first() {
                Some(b'{') => true,
                Some(b' ' | b'\t' | b'[' | b']' | b'"' | b'}') => {
                    let line = json::trimmed(line);
                    matches!(line.first(), Some(b'{')) || is_of_an_array(line)
                }
                _ => false,
            }
    }

    /// Reads a line into a record that is empty. The faults are those of a line that is no valid JSON, and was read all the same.
    pub fn read_into<'r, 'a>(
        &'r self,
        line: &'a [u8],
        record: &mut Record<'a>,
    ) -> Result<Faults, Misfit<'r>> {
        if self.is_json(line) {
            let mut faults = Faults::default();
            if json::strict(line, &self.names, &mut record.fields).is_err() {
                *record = Record::default();
                faults = json::tolerant(line, &self.names, &mut record.fields).map_err(Misfit::Json)?;
            }
            return record.read_numbers().map(|()| faults).map_err(Misfit::Invalid);
        }
        let numbers = |record: &mut Record<'a>| record.read_numbers().map_err(Misfit::Invalid);
        let split = self.splitter.split(line, &mut record.fields);
        let Err(misfit) = split.and_then(|()| numbers(record)) else { return Ok(Faults::default()) };
        // a value that has in it what should end it: what stands behind it may be read from the line's end. Of several that
        // could be meant, the last: texts of clients tend to stand behind
        for pivot in self.splitter.loose.iter().rev() {
            *record = Record::default();
            let split = self.splitter.split_around(line, *pivot, &mut record.fields);
            if split.and_then(|()| numbers(record)).is_ok() {
                return Ok(Faults::default());
            }
        }
        if self.takes_json && json::is_value(line) {
            let is_array = json::trimmed(line).first() == Some(&b'[');
            return Err(Misfit::Json(if is_array { Unreadable::Array } else { Unreadable::NoObject }));
        }
        Err(misfit)
    }

    /// The variable that requests are added up by.
    pub fn by(&self) -> Option<&str> {
        Some(self.names.name(Field::By)).filter(|name| *name != "-")
    }

    /// The variables of the format, without those of JSON.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.splitter.slots.iter().map(|slot| slot.name.as_str())
    }
}

/// Whether a line without blanks around it is part of a JSON array, or of an object over several lines.
fn is_of_an_array(line: &[u8]) -> bool {
    // a domain may be an IPv6 address in brackets
    let is_begin = line.strip_prefix(b"[").is_some_and(|rest| {
        let next = json::trimmed(rest);
        matches!(next.first(), None | Some(b'{' | b'[' | b'"' | b']'))
    });
    is_begin || matches!(line, b"]" | b"]," | b"}" | b"},") || json::is_member(line)
}

// ---- by a format --------------------------------------------------------------------------------------------------

/// A format, made ready to take lines apart.
struct Splitter {
    escape: Escape,
    begin: Vec<u8>,
    slots: Vec<Slot>,
    /// slots of variables that may have anything in them
    loose: Vec<usize>,
    /// a line may end after so many slots
    least: usize,
    /// whether a line may have more, after a space
    is_open: bool,
    glued: Vec<String>,
}

/// A variable, and the text after it; several variables that no text is between are one.
struct Slot {
    name: String,
    fields: Vec<Field>,
    is_loose: bool,
    /// the length of its value, if that is always the same
    len: Option<usize>,
    after: Text,
}

struct Text {
    bytes: Vec<u8>,
    finder: Finder<'static>,
    reverse: FinderRev<'static>,
    /// whether it is only one where no backslash stands before it
    is_quote: bool,
}

impl Text {
    fn new(bytes: &[u8], escape: Escape) -> Self {
        Self {
            bytes: bytes.to_vec(),
            finder: Finder::new(bytes).into_owned(),
            reverse: FinderRev::new(bytes).into_owned(),
            // ngx_escape_json() puts a backslash before each quote and backslash; by escape=default a value has neither
            is_quote: escape == Escape::Json && bytes.first() == Some(&b'"'),
        }
    }

    fn find(&self, line: &[u8]) -> Option<usize> {
        if let [byte] = self.bytes.as_slice()
            && !self.is_quote
        {
            return memchr::memchr(*byte, line);
        }
        self.finder.find_iter(line).find(|at| !self.is_escaped(line, *at))
    }

    fn find_last(&self, line: &[u8]) -> Option<usize> {
        self.reverse.rfind_iter(line).find(|at| !self.is_escaped(line, *at))
    }

    fn is_escaped(&self, line: &[u8], at: usize) -> bool {
        self.is_quote
            && line
                .get(..at)
                .is_some_and(|value| value.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1)
    }
}

impl Splitter {
    fn new(format: &LogFormat, names: &Names) -> Self {
        let mut begin = Vec::new();
        let mut slots: Vec<Slot> = Vec::new();
        let mut glued: Vec<String> = Vec::new();
        let mut is_after_variable = false;
        for piece in &format.pieces {
            match (piece, slots.last_mut()) {
                (Piece::Text(text), Some(slot)) => {
                    slot.after = Text::new(text, format.escape);
                    is_after_variable = false;
                }
                (Piece::Text(text), None) => begin.clone_from(text),
                (Piece::Variable(name), Some(slot)) if is_after_variable => {
                    if glued.last() != Some(&slot.name) {
                        glued.push(slot.name.clone());
                    }
                    glued.push(name.clone());
                    slot.name.clone_from(name);
                    (slot.fields, slot.is_loose, slot.len) = (Vec::new(), true, None);
                }
                (Piece::Variable(name), _) => {
                    is_after_variable = true;
                    slots.push(Slot {
                        name: name.clone(),
                        fields: names.fields(name.as_bytes()).iter().collect(),
                        is_loose: !has_no_space(name),
                        len: (name == "time_local").then_some("31/Jan/2026:12:00:00 +0000".len()),
                        after: Text::new(b"", format.escape),
                    });
                }
            }
        }
        let loose = slots.iter().enumerate().filter(|(_, slot)| slot.is_loose).map(|(at, _)| at).collect();
        Self { escape: format.escape, begin, loose, least: slots.len(), is_open: false, slots, glued }
    }

    /// Each value goes up to the first place where the text after it stands.
    fn split<'r, 'a>(&'r self, line: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Misfit<'r>> {
        let mut rest = line.strip_prefix(self.begin.as_slice()).ok_or(Misfit::Begin(&self.begin))?;
        let mut before: Option<&Slot> = None;
        for (at, slot) in self.slots.iter().enumerate() {
            let is_last = at + 1 == self.slots.len();
            let value;
            (value, rest) = match slot.value(rest, is_last && !self.is_open) {
                Some(found) => found,
                None if at + 1 >= self.least && self.is_open => (rest, &[][..]),
                None => return Err(Misfit::After(&slot.name, &slot.after.bytes)),
            };
            if is_last && self.is_open {
                let end = memchr::memchr(b' ', value).unwrap_or(value.len());
                fields_of(slot, value.get(..end).unwrap_or(value), fields);
                break;
            }
            if is_last
                && !slot.is_loose
                && slot.len.is_none()
                && let Some(before) = before
                && before.after.find(value).is_some()
            {
                return Err(Misfit::Surplus(&slot.name));
            }
            fields_of(slot, value, fields);
            if rest.is_empty() && at + 1 >= self.least {
                break;
            }
            before = Some(slot);
        }
        Ok(())
    }

    /// The values before slot `pivot` as [`Self::split`] finds them, those after it from the line's end, and what is left in
    /// between is its own.
    fn split_around<'r, 'a>(
        &'r self,
        line: &'a [u8],
        pivot: usize,
        fields: &mut Fields<'a>,
    ) -> Result<(), Misfit<'r>> {
        let mut rest = line.strip_prefix(self.begin.as_slice()).ok_or(Misfit::Begin(&self.begin))?;
        let (before, others) = self.slots.split_at(pivot);
        for slot in before {
            let (value, after) =
                slot.value(rest, false).ok_or(Misfit::After(&slot.name, &slot.after.bytes))?;
            fields_of(slot, value, fields);
            rest = after;
        }
        // from behind, a value begins where the text after its neighbour ends
        let mut end = rest;
        for (at, slot) in others.iter().enumerate().rev() {
            end = end
                .strip_suffix(slot.after.bytes.as_slice())
                .ok_or(Misfit::After(&slot.name, &slot.after.bytes))?;
            let neighbour = at.checked_sub(1).and_then(|at| others.get(at));
            let begin = match neighbour {
                None => 0,
                // the text before it is looked at next
                Some(_) if slot.len.is_some_and(|len| len <= end.len()) => {
                    end.len() - slot.len.unwrap_or_default()
                }
                Some(neighbour) => {
                    let found = neighbour.after.find_last(end);
                    found.ok_or(Misfit::After(&neighbour.name, &neighbour.after.bytes))?
                        + neighbour.after.bytes.len()
                }
            };
            let (left, value) = end.split_at(begin.min(end.len()));
            fields_of(slot, value, fields);
            end = left;
        }
        Ok(())
    }
}

impl Slot {
    /// Its value at the beginning of `rest`, and what follows on the text after it.
    fn value<'a>(&self, rest: &'a [u8], is_last: bool) -> Option<(&'a [u8], &'a [u8])> {
        let after = &self.after;
        if is_last {
            return rest.strip_suffix(after.bytes.as_slice()).map(|value| (value, &[][..]));
        }
        if let Some(len) = self.len
            && let Some((value, rest)) = rest.split_at_checked(len)
            && let Some(rest) = rest.strip_prefix(after.bytes.as_slice())
        {
            return Some((value, rest));
        }
        if after.bytes.is_empty() {
            return None;
        }
        let at = after.find(rest)?;
        Some((rest.get(..at)?, rest.get(at + after.bytes.len()..)?))
    }
}

fn fields_of<'a>(slot: &Slot, value: &'a [u8], fields: &mut Fields<'a>) {
    for field in &slot.fields {
        fields.set(*field, value);
    }
}

/// Whether a value of this variable never has a space in it.
fn has_no_space(name: &str) -> bool {
    matches!(
        name,
        "binary_remote_addr"
            | "body_bytes_sent"
            | "bytes_sent"
            | "connection"
            | "connection_requests"
            | "connection_time"
            | "content_length"
            | "host"
            | "hostname"
            | "https"
            | "http2"
            | "http3"
            | "limit_req_status"
            | "limit_conn_status"
            | "msec"
            | "nginx_version"
            | "pid"
            | "pipe"
            | "remote_addr"
            | "remote_port"
            | "request_completion"
            | "request_id"
            | "request_length"
            | "request_method"
            | "request_time"
            | "scheme"
            | "server_addr"
            | "server_name"
            | "server_port"
            | "server_protocol"
            | "ssl_cipher"
            | "ssl_curve"
            | "ssl_protocol"
            | "ssl_session_id"
            | "ssl_session_reused"
            | "status"
            | "time_iso8601"
            | "time_local"
            | "upstream_cache_status"
            | "request_cpu_time"
            | "request_cpu_ns"
            | "request_cpu_wakeups"
            | "request_cpu_connection_ns"
            | "request_cpu_limit_status"
            | "request_cpu_subrequest"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fields::unescape;
    use super::*;

    fn reader(format: &str) -> Reader {
        Reader::of_format(&LogFormat::parse(format).unwrap(), Names::default())
    }

    fn default() -> Reader {
        Reader::of_default(Names::default()).unwrap()
    }

    /// Without the faults.
    trait Read {
        fn record<'a>(&self, line: &'a [u8]) -> Record<'a>;
    }

    impl Read for Reader {
        fn record<'a>(&self, line: &'a [u8]) -> Record<'a> {
            self.read(line).unwrap().0
        }
    }

    fn text<'a>(record: &Record<'a>, field: Field) -> &'a str {
        record.fields.get(field).map_or("-", |value| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn a_line_of_the_demonstration_is_read() {
        let reader = default();
        let line = b"tls.example /a?b=1 200 16256 0.001 0.000803694 3 HIT TLSv1.3 RSA r";
        let record = reader.record(line);
        assert_eq!((record.cpu_ns, record.order, record.bytes), (Some(803_694), Some(3), Some(16256)));
        assert_eq!(record.domain(), Some(&b"tls.example"[..]));
        let of = |field| text(&record, field);
        assert_eq!(
            [of(Field::Cache), of(Field::Protocol), of(Field::TlsKey), of(Field::Session)],
            ["HIT", "TLSv1.3", "RSA", "r"]
        );
    }

    #[test]
    fn lines_of_the_readmes_format_may_be_shorter_or_longer() {
        let reader = default();
        for (rest, cache, session) in [
            ("", None, None),
            (" MISS", Some(&b"MISS"[..]), None),
            (" - - -", None, None),
            (" - - - . one two", None, Some(&b"."[..])),
        ] {
            let line = format!("a.example / 200 5 0.001 0.000000007 1{rest}");
            let record = reader.record(line.as_bytes());
            assert_eq!((record.cpu_ns, record.order), (Some(7), Some(1)), "{line}");
            assert_eq!(
                (record.fields.get(Field::Cache), record.fields.get(Field::Session)),
                (cache, session)
            );
            assert_eq!(record.fields.has(Field::Cache), !rest.is_empty());
        }
        for line in
            ["", "a.example / 200 5 0.001 0.000000007", "a / 200 5 0.001 x 1", "a / 200 5 0.001 0.1 1st"]
        {
            assert!(reader.read(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_line_of_combined_with_more_is_read() {
        let reader = reader(
            r#"'$remote_addr - $remote_user [$time_local] "$request" '
               '$status $body_bytes_sent "$http_referer" "$http_user_agent" $host $request_cpu_ns'"#,
        );
        let line = br#"10.0.0.1 - a b [31/Jan/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "\x22a\x5C b\x22" a.test 99"#;
        let record = reader.record(line);
        assert_eq!((record.cpu_ns, record.bytes, record.order), (Some(99), Some(12), None));
        assert_eq!(text(&record, Field::Host), "a.test");
        assert_eq!(text(&record, Field::TimeLocal), "31/Jan/2026:12:00:00 +0000");
    }

    #[test]
    fn a_value_may_have_in_it_what_should_end_it() {
        // $upstream_addr is a list when there was more than one, and the browser's name is not in quotes here
        let reader = reader(
            "$host $upstream_addr $connection_requests $http_user_agent $bytes_sent $request_cpu_time",
        );
        let read = |line: &'static str| reader.record(line.as_bytes());
        for line in ["a 1:1 3 curl 5 0.2", "a 1:1, 2:2 3 curl 5 0.2", "a 1:1 3 a b 7 c 5 0.2"] {
            let record = read(line);
            assert_eq!(
                (record.cpu_ns, record.bytes, record.order),
                (Some(200_000_000), Some(5), Some(3)),
                "{line}"
            );
            assert_eq!(record.domain(), Some(&b"a"[..]));
        }
        for line in ["a 1:1 3 curl 5", "a 1:1 3 curl 5 0.2 more", "a 1:1 x y z 0.2", ""] {
            assert!(reader.read(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_time_has_a_space_in_it() {
        let reader = reader("$time_local $host $request_cpu_ns $http_x");
        let record = reader.record(b"31/Jan/2026:12:00:00 +0000 a.test 5 x y z");
        assert_eq!((record.domain(), record.cpu_ns), (Some(&b"a.test"[..]), Some(5)));
        let record = reader.record(b"31/Jan/2026:12:00:00 +0000 a.test 5 ");
        assert_eq!(text(&record, Field::TimeLocal), "31/Jan/2026:12:00:00 +0000");
    }

    #[test]
    fn quotes_in_json_values_do_not_end_them() {
        let reader = reader(r#"escape=json '"$http_x" "$host" $request_cpu_ns "$server_name"'"#);
        let record = reader.record(br#""a\" \"b\\" "h\"" 5 "s""#);
        assert_eq!((text(&record, Field::Host), text(&record, Field::ServerName)), (r#"h\""#, "s"));
    }

    #[test]
    fn variables_without_a_text_between_them_cannot_be_told_apart() {
        let reader = reader("$scheme://$host$request_uri $request_cpu_ns");
        assert_eq!(reader.glued(), ["host", "request_uri"]);
        assert!(!reader.tells(Field::Host) && reader.tells(Field::CpuNs));
        let record = reader.record(b"http://a.test/ 7");
        assert_eq!((record.cpu_ns, record.domain()), (Some(7), None));
    }

    #[test]
    fn a_json_line_is_read() {
        let mut names = Names::default();
        names.rename("cpu=my_cpu").unwrap();
        names.split_by("host").unwrap();
        let reader = Reader::of_default(names).unwrap();
        let line = br#"{"time":"x","host":"a.test","my_cpu":0.25,"connection_requests":"2","agent":"\" }\ud83d\ude00",
            "upstream_cache_status":null,"more":{"a":[1,{}]},"body_bytes_sent":"17", "ssl_session_reused":""}"#;
        let record = reader.record(line);
        assert_eq!((record.cpu_ns, record.order, record.bytes), (Some(250_000_000), Some(2), Some(17)));
        assert_eq!((text(&record, Field::Host), text(&record, Field::Split)), ("a.test", "a.test"));
        assert!(record.fields.has(Field::Cache) && record.fields.get(Field::Cache).is_none());
        // NGINX leaves bytes that are not UTF-8 as they are
        assert!(reader.read(b"{\"agent\":\"\xff\",\"my_cpu\":\"1e-3\"}").is_ok());
        for line in ["{", "{}x", "{\"host\":{}}", "{\"my_cpu\":true}", "{\"my_cpu\":-1}"] {
            assert!(reader.read(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn why_a_line_is_broken_is_said() {
        let reader = reader("[$host] $status \"$request\" $request_cpu_time $pid");
        let message = |line: &str| reader.read(line.as_bytes()).unwrap_err().to_string();
        assert_eq!(message("a"), "it does not begin with \"[\"");
        assert_eq!(message("[a] 200 - 0.1 5"), "no \" \\\"\" follows on $status");
        assert_eq!(message("[a] 200 \"-\" 0.1 5 x"), "there is more in it than the format has, after $pid");
        assert_eq!(message("[a] 200 \"-\" 0,1 5"), "\"0,1\" is no CPU time in seconds");
        let message = |line: &str| default().read(line.as_bytes()).unwrap_err().to_string();
        assert!(message("{\"a\"").starts_with("the line ends before its JSON object does"));
        for line in [
            "[",
            "]",
            "  \"host\": \"a\",",
            "}",
            "},",
            "[{\"host\":\"a\"}]",
            " [ {",
            "[1]",
            "[1],",
            "[]",
            "[\"a\"]",
        ] {
            assert!(message(line).contains("jq -c"), "{line}");
        }
    }

    /// A CPU time that is one.
    const MOST_NS: u64 = 1_000_000_000_000_000_000;

    // ---- what NGINX writes ----

    /// As ngx_http_log_escape() and ngx_escape_json() do.
    fn written(value: &[u8], escape: Escape) -> Vec<u8> {
        let mut out = Vec::new();
        for &byte in value {
            match (escape, byte) {
                (Escape::Default, b'"' | b'\\' | 0..=0x1f | 0x7f..) => {
                    out.extend(format!("\\x{byte:02X}").bytes())
                }
                (Escape::Json, b'"' | b'\\') => out.extend([b'\\', byte]),
                (Escape::Json, b'\n') => out.extend(b"\\n"),
                (Escape::Json, b'\r') => out.extend(b"\\r"),
                (Escape::Json, b'\t') => out.extend(b"\\t"),
                (Escape::Json, 8) => out.extend(b"\\b"),
                (Escape::Json, 12) => out.extend(b"\\f"),
                (Escape::Json, 0..=0x1f) => out.extend(format!("\\u{byte:04X}").bytes()),
                _ => out.push(byte),
            }
        }
        out
    }

    fn line_of(format: &LogFormat, value: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
        let mut line = Vec::new();
        for piece in &format.pieces {
            match piece {
                Piece::Text(text) => line.extend_from_slice(text),
                Piece::Variable(name) => line.extend(written(&value(name), format.escape)),
            }
        }
        line
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        // more often than not what could be taken for an end
        let byte = prop_oneof![prop::sample::select(&b"\" \\-[]x:{},"[..]), any::<u8>()];
        prop::collection::vec(byte, 0..12)
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(
            line in any::<Vec<u8>>(), format in any::<String>(), words in prop::collection::vec("[$\"'a ]|host|\\$request_cpu_ns", 1..9),
        ) {
            for format in [format, words.concat()] {
                if let Ok(format) = LogFormat::parse(&format) {
                    let _ = Reader::of_format(&format, Names::default()).read(&line);
                }
            }
            let _ = default().read(&line);
            let _ = default().read(&[b"{\"host\":", &line[..], b"}"].concat());
        }

        #[test]
        fn what_nginx_writes_in_quotes_is_read_back(
            values in prop::array::uniform3(value()), ns in 0..=MOST_NS, is_json in any::<bool>(),
        ) {
            let format = r#"'"$http_x" "$host" [$request_cpu_ns] "$tls_key"'"#;
            let format = if is_json { format!("escape=json {format}") } else { format.to_owned() };
            let format = LogFormat::parse(&format).unwrap();
            let line = line_of(&format, |name| match name {
                "http_x" => values[0].clone(),
                "host" => values[1].clone(),
                "tls_key" => values[2].clone(),
                _ => ns.to_string().into_bytes(),
            });
            prop_assert!(!line.contains(&b'\n'));
            let reader = Reader::of_format(&format, Names::default());
            let record = reader.record(&line);
            prop_assert_eq!(record.cpu_ns, Some(ns));
            for (field, value) in [(Field::Host, &values[1]), (Field::TlsKey, &values[2])] {
                let read = record.fields.get(field).map(unescape).unwrap_or_default();
                let is_nothing = value.is_empty() || value == b"-";
                prop_assert_eq!(read, if is_nothing { Vec::new() } else { value.clone() });
            }
        }

        #[test]
        fn what_nginx_writes_as_a_json_object_is_read_back(host in any::<String>(), agent in value(), ns in 0..=MOST_NS) {
            let format = r#"escape=json '{"agent":"$http_user_agent","host":"$host","request_cpu_ns":$request_cpu_ns}'"#;
            let format = LogFormat::parse(format).unwrap();
            let line = line_of(&format, |name| match name {
                "host" => host.clone().into_bytes(),
                "http_user_agent" => agent.clone(),
                _ => ns.to_string().into_bytes(),
            });
            for reader in [default(), Reader::of_format(&format, Names::default())] {
                let record = reader.record(&line);
                prop_assert_eq!(record.cpu_ns, Some(ns));
                if host != "-" {
                    prop_assert_eq!(record.domain().map(unescape).unwrap_or_default(), host.as_bytes());
                }
            }
        }

        #[test]
        fn one_value_with_spaces_does_not_move_the_others(agent in "[a-z0-9. ]{0,12}", order in any::<u32>(), ns in 0..=MOST_NS) {
            let format = LogFormat::parse("$host $connection_requests $http_user_agent $bytes_sent $request_cpu_ns").unwrap();
            let line = format!("a.test {order} {agent} 12 {ns}");
            let reader = Reader::of_format(&format, Names::default());
            let record = reader.record(line.as_bytes());
            prop_assert_eq!((record.order, record.bytes, record.cpu_ns), (Some(order.into()), Some(12), Some(ns)));
        }
    }
}
