//! Takes the fields out of a log line, by a log format or from JSON, without copying any.

use super::fields::Field;
use super::format::{Escape, LogFormat};
use super::json::{self, Faults, Unreadable};
use super::misfit::Misfit;
use super::names::FieldNames;
use super::record::Record;
use super::splitter::Splitter;

/// The format of the documentation and of the demonstration. The last variables may be missing.
const DEFAULT_FORMAT: &str = "$host $request_uri $status $bytes_sent $request_time $request_cpu_time \
                              $connection_requests $upstream_cache_status $ssl_protocol $tls_key \
                              $ssl_session_reused $request_cpu_subrequest";

const DEFAULT_LEAST: usize = 7;

/// Reads lines of a format.
pub struct LineReader {
    names: FieldNames,
    splitter: Splitter,
    /// whether a line that is a JSON object is read as such
    takes_json: bool,
}

impl LineReader {
    /// Reads the format of the demonstration, and JSON objects.
    pub fn of_default(names: FieldNames) -> anyhow::Result<Self> {
        let mut splitter = Splitter::new(&LogFormat::parse(DEFAULT_FORMAT)?, &names);
        splitter.least = DEFAULT_LEAST;
        splitter.is_open = true;
        Ok(Self { names, splitter, takes_json: true })
    }

    /// Reads lines of this format.
    pub fn of_format(format: &LogFormat, names: FieldNames) -> Self {
        Self { splitter: Splitter::new(format, &names), names, takes_json: false }
    }

    /// The names of fields.
    pub fn names(&self) -> &FieldNames {
        &self.names
    }

    /// Whether lines of the format can have this field. JSON can have every field.
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

    /// Reads a line into a record that is empty. The faults are those of a line that is not valid JSON, but
    /// was read all the same.
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
        // a value may contain the text that should end it; then the values after it are read from the line's
        // end. Of several candidates, the last one is tried first, as texts of clients usually come late in a
        // line
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::escape::unescape;
    use super::super::format::Piece;
    use super::*;

    fn reader(format: &str) -> LineReader {
        LineReader::of_format(&LogFormat::parse(format).unwrap(), FieldNames::default())
    }

    fn default() -> LineReader {
        LineReader::of_default(FieldNames::default()).unwrap()
    }

    /// Without the faults.
    trait Read {
        fn record<'a>(&self, line: &'a [u8]) -> Record<'a>;
    }

    impl Read for LineReader {
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
        let line =
            br#"10.0.0.1 - a b [31/Jan/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 12 "-" "\x22a\x5C b\x22" a.test 99"#;
        let record = reader.record(line);
        assert_eq!((record.cpu_ns, record.bytes, record.order), (Some(99), Some(12), None));
        assert_eq!(text(&record, Field::Host), "a.test");
        assert_eq!(text(&record, Field::TimeLocal), "31/Jan/2026:12:00:00 +0000");
    }

    #[test]
    fn a_value_may_contain_its_own_end() {
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
    fn variables_without_a_text_between_them_cannot_be_separated() {
        let reader = reader("$scheme://$host$request_uri $request_cpu_ns");
        assert_eq!(reader.glued(), ["host", "request_uri"]);
        assert!(!reader.tells(Field::Host) && reader.tells(Field::CpuNs));
        let record = reader.record(b"http://a.test/ 7");
        assert_eq!((record.cpu_ns, record.domain()), (Some(7), None));
    }

    #[test]
    fn a_json_line_is_read() {
        let mut names = FieldNames::default();
        names.rename("cpu=my_cpu").unwrap();
        names.split_by("host").unwrap();
        let reader = LineReader::of_default(names).unwrap();
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
        assert_eq!(message("[a] 200 - 0.1 5"), "\" \\\"\" is missing after $status");
        assert_eq!(message("[a] 200 \"-\" 0.1 5 x"), "more text than the format allows follows $pid");
        assert_eq!(message("[a] 200 \"-\" 0,1 5"), "\"0,1\" is not a valid CPU time in seconds");
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
            line in any::<Vec<u8>>(),
            format in any::<String>(),
            words in prop::collection::vec("[$\"'a ]|host|\\$request_cpu_ns", 1..9),
        ) {
            for format in [format, words.concat()] {
                if let Ok(format) = LogFormat::parse(&format) {
                    let _ = LineReader::of_format(&format, FieldNames::default()).read(&line);
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
            let reader = LineReader::of_format(&format, FieldNames::default());
            let record = reader.record(&line);
            prop_assert_eq!(record.cpu_ns, Some(ns));
            for (field, value) in [(Field::Host, &values[1]), (Field::TlsKey, &values[2])] {
                let read = record.fields.get(field).map(unescape).unwrap_or_default();
                let is_nothing = value.is_empty() || value == b"-";
                prop_assert_eq!(read, if is_nothing { Vec::new() } else { value.clone() });
            }
        }

        #[test]
        fn what_nginx_writes_as_a_json_object_is_read_back(
            host in any::<String>(),
            agent in value(),
            ns in 0..=MOST_NS,
        ) {
            let format =
                r#"escape=json '{"agent":"$http_user_agent","host":"$host","request_cpu_ns":$request_cpu_ns}'"#;
            let format = LogFormat::parse(format).unwrap();
            let line = line_of(&format, |name| match name {
                "host" => host.clone().into_bytes(),
                "http_user_agent" => agent.clone(),
                _ => ns.to_string().into_bytes(),
            });
            for reader in [default(), LineReader::of_format(&format, FieldNames::default())] {
                let record = reader.record(&line);
                prop_assert_eq!(record.cpu_ns, Some(ns));
                if host != "-" {
                    prop_assert_eq!(record.domain().map(unescape).unwrap_or_default(), host.as_bytes());
                }
            }
        }

        #[test]
        fn one_value_with_spaces_does_not_move_the_others(
            agent in "[a-z0-9. ]{0,12}",
            order in any::<u32>(),
            ns in 0..=MOST_NS,
        ) {
            let format =
                LogFormat::parse("$host $connection_requests $http_user_agent $bytes_sent $request_cpu_ns")
                .unwrap();
            let line = format!("a.test {order} {agent} 12 {ns}");
            let reader = LineReader::of_format(&format, FieldNames::default());
            let record = reader.record(line.as_bytes());
            prop_assert_eq!((record.order, record.bytes, record.cpu_ns), (Some(order.into()), Some(12), Some(ns)));
        }
    }
}
