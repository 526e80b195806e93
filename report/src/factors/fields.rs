//! What the figures are made of, and which variables of NGINX tell it.

use std::fmt;

use anyhow::bail;

/// Something that a log line can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// CPU time of the request in nanoseconds
    CpuNs,
    /// the same in seconds
    CpuSeconds,
    /// which request of its connection it is, from 1 on
    Order,
    /// `HIT`, `MISS` and so on
    Cache,
    /// bytes sent, with the header
    Bytes,
    /// bytes sent, without the header
    BodyBytes,
    /// the domain, by configuration
    ServerName,
    /// the domain, as the client asked for it
    Host,
    /// what the first figure is split by, if it is asked for
    Split,
    /// the kind of key of the server's certificate
    TlsKey,
    /// the cipher suite, which names the kind of key up to TLS 1.2
    Cipher,
    /// the TLS version; `-` without TLS
    Protocol,
    /// `r` if the TLS session is one of an earlier connection
    Session,
    /// seconds since 1970
    Msec,
    /// as `2026-01-31T12:00:00+00:00`
    Iso8601,
    /// as `31/Jan/2026:12:00:00 +0000`
    TimeLocal,
    /// `1` in the line of a subrequest
    Subrequest,
    /// a number that each main request has for itself
    RequestId,
    /// what `--by` asks for
    By,
    /// method, URI and protocol, which `--by` takes parts of
    Request,
    /// path and arguments, which `--by` takes the path of
    RequestUri,
}

impl Field {
    /// All of them.
    const ALL: [Self; FIELDS] = [
        Self::CpuNs,
        Self::CpuSeconds,
        Self::Order,
        Self::Cache,
        Self::Bytes,
        Self::BodyBytes,
        Self::ServerName,
        Self::Host,
        Self::Split,
        Self::TlsKey,
        Self::Cipher,
        Self::Protocol,
        Self::Session,
        Self::Msec,
        Self::Iso8601,
        Self::TimeLocal,
        Self::Subrequest,
        Self::RequestId,
        Self::By,
        Self::Request,
        Self::RequestUri,
    ];
}

/// How many there are.
const FIELDS: usize = Field::RequestUri as usize + 1;

/// Some fields: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u32);

impl Set {
    /// Adds a field.
    pub fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u32;
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The fields, in the order of [`Field::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Field> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let at = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            Field::ALL.get(at as usize).copied()
        })
    }
}

/// The values of a line, as they stand in it. A field has none if the line does not have it, or if it has `-`, nothing or null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a>([Option<&'a [u8]>; FIELDS]);

impl<'a> Fields<'a> {
    /// The value of a field.
    pub fn get(&self, field: Field) -> Option<&'a [u8]> {
        self.0[field as usize].filter(|value| !matches!(*value, b"" | b"-"))
    }

    /// Whether the line has the field, with a value or not.
    pub fn has(&self, field: Field) -> bool {
        self.0[field as usize].is_some()
    }

    /// Sets a value, also if the field has one.
    pub fn replace(&mut self, field: Field, value: &'a [u8]) {
        self.0[field as usize] = Some(value);
    }

    /// Sets a value, unless the field has one.
    pub fn set(&mut self, field: Field, value: &'a [u8]) {
        self.0[field as usize].get_or_insert(value);
    }
}

/// What can be given another variable with `--field`, by the name that it has there.
const ROLES: [(&str, Field, &[Field]); 9] = [
    // the first field gets the variable, and the others none
    ("cpu", Field::CpuSeconds, &[Field::CpuNs]),
    ("cpu_ns", Field::CpuNs, &[Field::CpuSeconds]),
    ("order", Field::Order, &[]),
    ("cache", Field::Cache, &[]),
    ("bytes", Field::Bytes, &[Field::BodyBytes]),
    ("domain", Field::ServerName, &[Field::Host]),
    ("cipher", Field::Cipher, &[Field::TlsKey]),
    ("session", Field::Session, &[]),
    ("time", Field::Iso8601, &[Field::Msec, Field::TimeLocal]),
];

/// Which variable a field is taken from; for JSON, which member.
#[derive(Clone, Debug)]
pub struct Names(Vec<(String, Field)>);

impl Default for Names {
    fn default() -> Self {
        let names = [
            ("request_cpu_ns", Field::CpuNs),
            ("request_cpu_time", Field::CpuSeconds),
            ("connection_requests", Field::Order),
            ("upstream_cache_status", Field::Cache),
            ("bytes_sent", Field::Bytes),
            ("body_bytes_sent", Field::BodyBytes),
            ("server_name", Field::ServerName),
            ("host", Field::Host),
            ("tls_key", Field::TlsKey),
            ("ssl_cipher", Field::Cipher),
            ("ssl_protocol", Field::Protocol),
            ("ssl_session_reused", Field::Session),
            ("msec", Field::Msec),
            ("time_iso8601", Field::Iso8601),
            ("time_local", Field::TimeLocal),
            ("request_cpu_subrequest", Field::Subrequest),
            ("request_id", Field::RequestId),
        ];
        Self(names.map(|(name, field)| (name.to_owned(), field)).to_vec())
    }
}

impl Names {
    /// `role=variable`, as it was given on the command line.
    pub fn rename(&mut self, role_and_name: &str) -> anyhow::Result<()> {
        let Some((role, name)) = role_and_name.split_once('=') else {
            bail!("invalid field \"{role_and_name}\", it must be ROLE=VARIABLE");
        };
        let Some((_, field, others)) = ROLES.iter().find(|(known, ..)| *known == role) else {
            let known: Vec<&str> = ROLES.iter().map(|(known, ..)| *known).collect();
            bail!("invalid role \"{role}\" in \"{role_and_name}\", it must be one of {}", known.join(", "));
        };
        self.0.retain(|(_, known)| known != field && !others.contains(known));
        self.add(name, *field)
    }

    /// Takes what the first figure is split by from this variable.
    pub fn split_by(&mut self, name: &str) -> anyhow::Result<()> {
        self.0.retain(|(_, known)| !matches!(known, Field::TlsKey | Field::Cipher));
        self.add(name, Field::Split)
    }

    /// Adds up by the values of this variable. Parts of `$request` are taken from it where the log has nothing better.
    pub fn add_up_by(&mut self, name: &str) -> anyhow::Result<()> {
        self.add(name, Field::By)?;
        if let Some(part) = Part::of(self.name(Field::By)) {
            self.add("request", Field::Request)?;
            if part == Part::Path {
                self.add("request_uri", Field::RequestUri)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, field: Field) -> anyhow::Result<()> {
        let name = name.strip_prefix('$').unwrap_or(name);
        if name.is_empty() {
            bail!("the name of a variable is missing");
        }
        self.0.push((name.to_owned(), field));
        Ok(())
    }

    /// The fields that a variable tells.
    pub fn fields(&self, name: &[u8]) -> Set {
        let mut fields = Set::default();
        for (known, field) in &self.0 {
            if known.as_bytes().eq_ignore_ascii_case(name) {
                fields.insert(*field);
            }
        }
        fields
    }

    /// The name of the variable that a field is taken from.
    pub fn name(&self, field: Field) -> &str {
        self.0.iter().find(|(_, known)| *known == field).map_or("-", |(name, _)| name)
    }

    /// The names of those fields that have one, for a message.
    pub fn any_of(&self, fields: &[Field]) -> String {
        let known = self.0.iter().filter(|(_, field)| fields.contains(field));
        known.map(|(name, _)| format!("${name}")).collect::<Vec<_>>().join(" or ")
    }
}

/// The field that a role of `--field` is about: the `cpu` of `cpu=my_cpu`.
pub fn field_of_role(role_and_name: &str) -> Option<Field> {
    let (role, _) = role_and_name.split_once('=')?;
    ROLES.iter().find(|(known, ..)| *known == role).map(|(_, field, _)| *field)
}

// ---- values -------------------------------------------------------------------------------------------------------

/// A value that is not what its field has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// the field that has it
    pub field: Field,
    /// the value, or how it begins
    pub value: String,
}

impl Invalid {
    fn new(field: Field, value: &[u8]) -> Self {
        let shown = value.get(..40).unwrap_or(value);
        let dots = if shown.len() < value.len() { "…" } else { "" };
        Self { field, value: format!("{}{dots}", String::from_utf8_lossy(shown)) }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.field {
            Field::CpuNs => "CPU time in nanoseconds",
            Field::CpuSeconds => "CPU time in seconds",
            Field::Order => "order in a connection",
            Field::Bytes | Field::BodyBytes => "number of bytes",
            _ => "time",
        };
        write!(f, "\"{}\" is no {what}", self.value)
    }
}

/// A request of more nanoseconds than these is none.
const MOST_CPU_NS: u64 = 1_000_000_000_000_000_000;

/// What the figures take from a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// nanoseconds of CPU; none if the line has `-`
    pub cpu_ns: Option<u64>,
    /// which request of its connection it is
    pub order: Option<u64>,
    /// bytes that were sent
    pub bytes: Option<u64>,
    /// all other values
    pub fields: Fields<'a>,
}

impl<'a> Record<'a> {
    /// Reads the numbers among the fields.
    pub fn read_numbers(&mut self) -> Result<(), Invalid> {
        let fields = &self.fields;
        let number = |field, parse: fn(&[u8]) -> Option<u64>| match fields.get(field) {
            None => Ok(None),
            Some(value) => parse(value).map(Some).ok_or_else(|| Invalid::new(field, value)),
        };
        self.cpu_ns = match number(Field::CpuNs, integer)? {
            None => number(Field::CpuSeconds, nanoseconds)?,
            ns => ns,
        };
        // sums of more than these, 31 years, could not be kept
        if self.cpu_ns.is_some_and(|ns| ns > MOST_CPU_NS) {
            let ns = fields.get(Field::CpuNs).map(|value| (Field::CpuNs, value));
            let (field, value) = ns
                .or_else(|| fields.get(Field::CpuSeconds).map(|value| (Field::CpuSeconds, value)))
                .unwrap_or((Field::CpuNs, b""));
            return Err(Invalid::new(field, value));
        }
        self.bytes = match number(Field::Bytes, integer)? {
            None => number(Field::BodyBytes, integer)?,
            bytes => bytes,
        };
        self.order = number(Field::Order, integer)?;
        Ok(())
    }

    /// The domain; none if the line does not tell.
    pub fn domain(&self) -> Option<&'a [u8]> {
        self.fields.get(Field::ServerName).or_else(|| self.fields.get(Field::Host))
    }
}

impl<'a> Record<'a> {
    /// Whether a subrequest has written the line.
    pub fn is_subrequest(&self) -> bool {
        matches!(self.fields.get(Field::Subrequest), Some(b"1" | b"true"))
    }

    /// The value that `--by` asks for, `part` of `$request` if it is one; none if the line does not tell. The
    /// second is another variable that it was taken from.
    pub fn by(&self, part: Option<Part>) -> Option<(&'a [u8], Option<Field>)> {
        let own = self.fields.has(Field::By).then(|| self.fields.get(Field::By).unwrap_or(b"-"));
        if let Some(value) = own {
            return Some((value, None));
        }
        let part = part?;
        if let Some(uri) = self.fields.get(Field::RequestUri).filter(|_| part == Part::Path) {
            return Some((path(uri), Some(Field::RequestUri)));
        }
        if !self.fields.has(Field::Request) {
            return None;
        }
        let request = self.fields.get(Field::Request).unwrap_or(b"-");
        Some((part.of_request(request).unwrap_or(b"-"), Some(Field::Request)))
    }
}

/// A part of `$request`, as in `GET /a?b=1 HTTP/1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `$request_method`
    Method,
    /// `$request_uri`, with arguments
    Uri,
    /// `$uri`, without arguments
    Path,
}

impl Part {
    /// The fields that it can be taken from.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Self::Method | Self::Uri => &[Field::By, Field::Request],
            Self::Path => &[Field::By, Field::RequestUri, Field::Request],
        }
    }

    /// The part that has the name of a variable.
    pub fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "request_method" => Some(Self::Method),
            "request_uri" => Some(Self::Uri),
            "uri" => Some(Self::Path),
            _ => None,
        }
    }

    /// None of a text that is no request line; such lines are in logs when the client sends rubbish.
    fn of_request(self, request: &[u8]) -> Option<&[u8]> {
        let space = memchr::memchr(b' ', request)?;
        let (method, rest) = (request.get(..space)?, request.get(space + 1..)?);
        if !method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')) {
            return None;
        }
        let uri = match memchr::memrchr(b' ', rest) {
            Some(end) if rest.get(end + 1..)?.starts_with(b"HTTP/") => rest.get(..end)?,
            // HTTP/0.9
            _ => rest,
        };
        match self {
            Self::Method => Some(method),
            Self::Uri => Some(uri),
            Self::Path => Some(path(uri)),
        }
    }
}

/// A URI without its arguments.
fn path(uri: &[u8]) -> &[u8] {
    uri.get(..memchr::memchr(b'?', uri).unwrap_or(uri.len())).unwrap_or(uri)
}

/// Digits.
pub fn integer(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(number)
}

/// Seconds with decimals as nanoseconds; what is smaller is cut off. Other programs than NGINX may have written them with an
/// exponent.
pub fn nanoseconds(text: &[u8]) -> Option<u64> {
    decimal(text).or_else(|| {
        let with_exponent = text.iter().any(|byte| matches!(byte, b'e' | b'E'));
        let seconds: f64 = std::str::from_utf8(text).ok().filter(|_| with_exponent)?.parse().ok()?;
        (0.0..=1e10).contains(&seconds).then_some((seconds * 1e9).round() as u64)
    })
}

fn decimal(text: &[u8]) -> Option<u64> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(point) => (text.get(..point)?, text.get(point + 1..)?),
        None => (text, &[][..]),
    };
    let mut ns = integer(whole)?;
    for at in 0..9 {
        let digit = match decimals.get(at) {
            Some(byte) => byte.wrapping_sub(b'0'),
            None => 0,
        };
        if digit > 9 {
            return None;
        }
        ns = ns.checked_mul(10)?.checked_add(digit.into())?;
    }
    if decimals.iter().skip(9).any(|byte| !byte.is_ascii_digit()) {
        return None;
    }
    Some(ns)
}

/// A value as it was before NGINX wrote it: `\xHH` of `escape=default` and what JSON has are turned back. A backslash that begins
/// neither stays; NGINX writes none such but with `escape=none`.
pub fn unescape(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        let mut put = |byte: u8, len| {
            out.push(byte);
            len
        };
        let taken = match escaped.get(1) {
            Some(b'x') => hex(escaped.get(2..4)).map(|code| put(code as u8, 4)),
            Some(b'u') => hex(escaped.get(2..6)).map(|code| utf16(code, escaped.get(6..), &mut out)),
            Some(b'n') => Some(put(b'\n', 2)),
            Some(b'r') => Some(put(b'\r', 2)),
            Some(b't') => Some(put(b'\t', 2)),
            Some(b'b') => Some(put(8, 2)),
            Some(b'f') => Some(put(12, 2)),
            Some(&byte @ (b'\\' | b'"' | b'/')) => Some(put(byte, 2)),
            _ => None,
        };
        let taken = taken.unwrap_or_else(|| {
            out.push(b'\\');
            1
        });
        rest = escaped.get(taken..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// The number that these digits are.
fn hex(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Appends the character of `\uXXXX`, or of two of them; how long that is in the value.
fn utf16(code: u32, rest: Option<&[u8]>, out: &mut Vec<u8>) -> usize {
    let low = match rest {
        Some([b'\\', b'u', digits @ ..]) => hex(digits.get(..4)),
        _ => None,
    };
    let (code, taken) = match low {
        Some(low @ 0xdc00..=0xdfff) if (0xd800..0xdc00).contains(&code) => {
            (0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00), 12)
        }
        _ => (code, 6),
    };
    let mut buffer = [0; 4];
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_are_read_to_the_nanosecond() {
        for (text, ns) in [
            ("0.000169292", Some(169_292)),
            ("0", Some(0)),
            ("12", Some(12_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("1.", Some(1_000_000_000)),
            ("0.0000000019", Some(1)),
            ("18446744073.709551615", Some(u64::MAX)),
            ("18446744073.709551616", None),
            ("99999999999999999999", None),
            (".5", None),
            ("-1", None),
            ("1e3", Some(1_000_000_000_000)),
            ("1.69292e-4", Some(169_292)),
            ("-1e3", None),
            ("1e30", None),
            ("e", None),
            ("0.00a", None),
            ("0.0000000001a", None),
            ("", None),
        ] {
            assert_eq!(nanoseconds(text.as_bytes()), ns, "{text}");
        }
    }

    #[test]
    fn a_field_can_be_taken_from_another_variable() {
        let mut names = Names::default();
        names.rename("cpu=my_cpu").unwrap();
        names.rename("domain=$tenant").unwrap();
        names.split_by("tenant").unwrap();
        assert_eq!(names.fields(b"my_cpu").iter().collect::<Vec<_>>(), [Field::CpuSeconds]);
        assert_eq!(names.fields(b"tenant").iter().collect::<Vec<_>>(), [Field::ServerName, Field::Split]);
        for gone in ["request_cpu_ns", "request_cpu_time", "host", "server_name", "tls_key"] {
            assert!(names.fields(gone.as_bytes()).is_empty(), "{gone}");
        }
        let message = |text: &str| Names::default().rename(text).unwrap_err().to_string();
        assert_eq!(message("cpu"), "invalid field \"cpu\", it must be ROLE=VARIABLE");
        assert!(
            message("cpus=x")
                .starts_with("invalid role \"cpus\" in \"cpus=x\", it must be one of cpu, cpu_ns,")
        );
        assert_eq!(message("cpu="), "the name of a variable is missing");
    }

    #[test]
    fn what_is_not_there_is_no_number_and_no_fault() {
        let mut fields = Fields::default();
        fields.set(Field::CpuSeconds, b"-");
        fields.set(Field::Order, b"");
        fields.set(Field::Bytes, b"12");
        fields.set(Field::Bytes, b"13");
        let mut record = Record { fields, ..Record::default() };
        record.read_numbers().unwrap();
        assert_eq!((record.cpu_ns, record.order, record.bytes), (None, None, Some(12)));
        assert!(fields.has(Field::Order) && !fields.has(Field::Cache));
        record.fields.set(Field::CpuNs, b"twelve");
        assert_eq!(
            record.read_numbers().unwrap_err().to_string(),
            "\"twelve\" is no CPU time in nanoseconds"
        );
    }

    #[test]
    fn a_set_has_what_was_put_into_it() {
        for (at, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, at);
            let mut set = Set::default();
            assert!(set.is_empty());
            set.insert(Field::CpuNs);
            set.insert(field);
            let expected: &[Field] = if at == 0 { &[Field::CpuNs] } else { &[Field::CpuNs, field] };
            assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn parts_of_a_request_line_are_told_apart() {
        let parts = |request: &'static str| {
            [Part::Method, Part::Uri, Part::Path].map(|part| {
                part.of_request(request.as_bytes()).map_or("none", |part| std::str::from_utf8(part).unwrap())
            })
        };
        assert_eq!(parts("GET /a?b=1 HTTP/1.1"), ["GET", "/a?b=1", "/a"]);
        assert_eq!(parts("M-SEARCH * HTTP/1.1"), ["M-SEARCH", "*", "*"]);
        assert_eq!(parts("GET /a b?c HTTP/2.0"), ["GET", "/a b?c", "/a b"]);
        assert_eq!(parts("GET /"), ["GET", "/", "/"]);
        for rubbish in ["", "-", "GET", "\\x16\\x03\\x01 x", "get / HTTP/1.1"] {
            assert_eq!(parts(rubbish), ["none"; 3], "{rubbish}");
        }
    }

    #[test]
    fn the_path_is_taken_from_what_the_log_has() {
        let by = |fields: &[(Field, &'static str)]| {
            let mut record = Record::default();
            fields.iter().for_each(|(field, value)| record.fields.set(*field, value.as_bytes()));
            record.by(Some(Part::Path)).map(|(value, _)| std::str::from_utf8(value).unwrap())
        };
        let (request, uri) = ((Field::Request, "GET /r?x HTTP/1.1"), (Field::RequestUri, "/u?x"));
        assert_eq!(by(&[(Field::By, "/own?x"), uri, request]), Some("/own?x"));
        assert_eq!(by(&[uri, request]), Some("/u"));
        assert_eq!(by(&[request]), Some("/r"));
        assert_eq!(by(&[(Field::Request, "")]), Some("-"));
        assert_eq!(by(&[(Field::By, ""), request]), Some("-"));
        assert_eq!(by(&[]), None);
    }

    #[test]
    fn escaped_values_are_turned_back() {
        for (written, value) in [
            (r"a\x22b\x5C\xff", &b"a\"b\\\xff"[..]),
            (r#"\"\\\/\n\r\t\b\f\u001F"#, b"\"\\/\n\r\t\x08\x0c\x1f"),
            (r"\u00e9\uD83D\uDE00\ud83d", "é😀\u{fffd}".as_bytes()),
            (r"\x\xg0\q\", br"\x\xg0\q\"),
            (r"\u12", br"\u12"),
        ] {
            assert_eq!(unescape(written.as_bytes()), value, "{written}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(value in any::<Vec<u8>>()) {
            let _ = (integer(&value), nanoseconds(&value), unescape(&value));
        }

        #[test]
        fn seconds_as_nginx_writes_them_are_exact(ns in any::<u64>()) {
            let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
            prop_assert_eq!(nanoseconds(text.as_bytes()), Some(ns));
        }
    }
}
