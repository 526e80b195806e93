//! A line of the traffic log.

use std::borrow::Cow;

use accounting::key;
use serde::Deserialize;

mod fault;

/// The numbers that one server counted for one key of a zone in one interval. Other members of the line are
/// ignored.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Line<'a> {
    /// when the interval ended
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    pub interval_ms: u64,
    /// the server's name
    #[serde(borrow, default)]
    pub host: Cow<'a, str>,
    /// the zone's name
    #[serde(borrow)]
    pub zone: Cow<'a, str>,
    /// the domain
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    pub requests: u64,
    pub cpu_ns: u64,
    pub sent_bytes: u64,
    /// None if the line lacks the member; the same holds for the optional members below
    #[serde(default)]
    pub received_bytes: Option<u64>,
    #[serde(default, rename = "4xx")]
    pub responses_4xx: u64,
    #[serde(default, rename = "5xx")]
    pub responses_5xx: u64,
    #[serde(default)]
    pub duration_ms: Option<u64>,
    #[serde(default)]
    pub active_ms: Option<u64>,
    #[serde(default)]
    pub active_seconds: Option<u64>,
    #[serde(default)]
    pub billable_cpu_ns: Option<u64>,
    #[serde(default)]
    pub waived_cpu_ns: Option<u64>,
    #[serde(default)]
    pub memory_byte_ms: Option<u64>,
    #[serde(default)]
    pub peak_cpu_ns: Option<u64>,
    /// the module leaves the member out if it is 0
    #[serde(default)]
    pub refused: u64,
}

/// The members that bills are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// requests that ended
    Requests,
    /// nanoseconds of CPU
    Cpu,
    /// bytes that were sent
    Sent,
    /// bytes that were received
    Received,
    /// milliseconds that requests were in flight, summed over requests
    Duration,
    /// milliseconds with at least one request in flight
    Active,
    /// seconds whose CPU reached the threshold
    ActiveSeconds,
    /// nanoseconds of CPU in these seconds
    Billable,
    /// nanoseconds of CPU in all other seconds
    Waived,
    /// bytes of memory times milliseconds
    Memory,
    /// nanoseconds of CPU in the highest second; the only member that is not a sum
    Peak,
}

impl Member {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Requests,
        Self::Cpu,
        Self::Sent,
        Self::Received,
        Self::Duration,
        Self::Active,
        Self::ActiveSeconds,
        Self::Billable,
        Self::Waived,
        Self::Memory,
        Self::Peak,
    ];

    /// The member's name in a line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Cpu => "cpu_ns",
            Self::Sent => "sent_bytes",
            Self::Received => "received_bytes",
            Self::Duration => "duration_ms",
            Self::Active => "active_ms",
            Self::ActiveSeconds => "active_seconds",
            Self::Billable => "billable_cpu_ns",
            Self::Waived => "waived_cpu_ns",
            Self::Memory => "memory_byte_ms",
            Self::Peak => "peak_cpu_ns",
        }
    }
}

impl<'a> Line<'a> {
    /// Reads a line.
    #[cfg(test)]
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        let mut line = Self::parse_raw(line)?;
        line.show_names();
        Ok(line)
    }

    /// Reads a line. Names stay as they are in the log.
    #[inline]
    fn parse_raw(line: &'a [u8]) -> Result<Self, String> {
        // the fast path, for lines as the module writes them; it halves the time of the whole command
        match written(line) {
            Some(line) => Ok(line),
            // serde would also accept an array with the same number of elements
            None if line.trim_ascii_start().starts_with(b"{") => {
                serde_json::from_slice(line).map_err(|_| fault::of(line))
            }
            None => Err(fault::of(line)),
        }
    }

    fn show_names(&mut self) {
        // earlier versions of the module escaped fewer characters
        if let Cow::Owned(key) = key::shown_again(&self.key) {
            self.key = Cow::Owned(key);
        }
        for name in [&mut self.host, &mut self.zone] {
            if let Cow::Owned(shown) = key::visible(name) {
                *name = Cow::Owned(shown);
            }
        }
    }

    /// Reads a line. With `is_raw`, names stay as they are in the log, even if an earlier version of the
    /// module escaped them differently.
    pub fn read(line: &'a [u8], is_raw: bool) -> Result<Self, String> {
        let mut line = Self::parse_raw(line)?;
        if !is_raw {
            line.show_names();
        }
        Ok(line)
    }

    /// The value of a member. None if the line lacks it.
    pub fn member(&self, member: Member) -> Option<u64> {
        match member {
            Member::Requests => Some(self.requests),
            Member::Cpu => Some(self.cpu_ns),
            Member::Sent => Some(self.sent_bytes),
            Member::Received => self.received_bytes,
            Member::Duration => self.duration_ms,
            Member::Active => self.active_ms,
            Member::ActiveSeconds => self.active_seconds,
            Member::Billable => self.billable_cpu_ns,
            Member::Waived => self.waived_cpu_ns,
            Member::Memory => self.memory_byte_ms,
            Member::Peak => self.peak_cpu_ns,
        }
    }
}

/// Reads a line that has its members in the module's order, no spaces, and no escapes in names. None for any
/// other line, valid or not.
#[inline]
fn written(line: &[u8]) -> Option<Line<'_>> {
    let mut rest = Rest(str::from_utf8(line).ok()?);
    let time = rest.after("{\"time\":\"")?.string()?;
    let interval_ms = rest.after(",\"interval_ms\":")?.number()?;
    let host = rest.after(",\"host\":\"")?.string()?;
    let zone = rest.after(",\"zone\":\"")?.string()?;
    let key = rest.after(",\"key\":\"")?.string()?;
    let requests = rest.after(",\"requests\":")?.number()?;
    let cpu_ns = rest.after(",\"cpu_ns\":")?.number()?;
    rest.after(",\"wakeups\":")?.number()?;
    let sent_bytes = rest.after(",\"sent_bytes\":")?.number()?;
    let received_bytes = Some(rest.after(",\"received_bytes\":")?.number()?);
    rest.after(",\"2xx\":")?.number()?;
    let responses_4xx = rest.after(",\"4xx\":")?.number()?;
    let responses_5xx = rest.after(",\"5xx\":")?.number()?;
    // older logs have none of these members, newer ones have all
    let duration_ms = rest.number_after(",\"duration_ms\":")?;
    let active_ms = rest.number_after(",\"active_ms\":")?;
    let active_seconds = rest.number_after(",\"active_seconds\":")?;
    let billable_cpu_ns = rest.number_after(",\"billable_cpu_ns\":")?;
    let waived_cpu_ns = rest.number_after(",\"waived_cpu_ns\":")?;
    let memory_byte_ms = rest.number_after(",\"memory_byte_ms\":")?;
    let peak_cpu_ns = rest.number_after(",\"peak_cpu_ns\":")?;
    // these members are written only if they are not 0
    for name in [",\"1xx\":", ",\"3xx\":", ",\"other\":"] {
        rest.number_after(name)?;
    }
    let refused = rest.number_after(",\"refused\":")?.unwrap_or(0);
    let [time, host, zone, key] = [time, host, zone, key].map(Cow::Borrowed);
    let line = Line {
        time,
        interval_ms,
        host,
        zone,
        key,
        requests,
        cpu_ns,
        sent_bytes,
        received_bytes,
        responses_4xx,
        responses_5xx,
        duration_ms,
        active_ms,
        active_seconds,
        billable_cpu_ns,
        waived_cpu_ns,
        memory_byte_ms,
        peak_cpu_ns,
        refused,
    };
    (rest.0 == "}").then_some(line)
}

/// The unread part of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn after(&mut self, literal: &str) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(self)
    }

    /// The number after a literal. `None` if no number follows, `Some(None)` if the literal is not there.
    fn number_after(&mut self, literal: &str) -> Option<Option<u64>> {
        match self.after(literal) {
            Some(rest) => rest.number().map(Some),
            None => Some(None),
        }
    }

    /// The text up to the next quote. None if it has escapes or control characters.
    fn string(&mut self) -> Option<&'a str> {
        let end = memchr::memchr2(b'"', b'\\', self.0.as_bytes())?;
        let (string, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        // without an early exit, which is faster
        let has_controls = string.bytes().fold(false, |has, byte| has | (byte < b' '));
        (!has_controls).then_some(string)
    }

    /// A number of at most 19 digits, so it is below 2^64.
    fn number(&mut self) -> Option<u64> {
        let bytes = self.0.as_bytes();
        let mut number = 0;
        let mut len = 0;
        while let Some(digit @ b'0'..=b'9') = bytes.get(len) {
            if len == 19 || (len == 1 && number == 0) {
                return None;
            }
            number = number * 10 + u64::from(digit - b'0');
            len += 1;
        }
        self.0 = self.0.get(len..)?;
        (len > 0).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = concat!(
        r#"{"time":"2026-01-31T12:01:00.000Z","interval_ms":60000,"host":"edge-1","zone":"domains""#,
        r#","key":"example.com","requests":12,"cpu_ns":3400,"wakeups":5,"sent_bytes":6000"#,
        r#","received_bytes":7,"2xx":8,"4xx":9,"5xx":1,"more":[{}]}"#,
    );

    #[test]
    fn a_line_is_read() {
        let line = Line::parse(LINE.as_bytes()).unwrap();
        assert_eq!(
            (line.host.as_ref(), line.zone.as_ref(), line.key.as_ref()),
            ("edge-1", "domains", "example.com")
        );
        assert!(matches!(line.key, Cow::Borrowed(_)));
        assert_eq!((line.requests, line.cpu_ns, line.sent_bytes), (12, 3400, 6000));
        assert_eq!((line.responses_4xx, line.responses_5xx, line.refused), (9, 1, 0));
        let refused = LINE.replacen("\"more\":[{}]", "\"refused\":3", 1);
        assert_eq!(Line::parse(refused.as_bytes()).unwrap().refused, 3);
    }

    #[test]
    fn an_array_is_no_line() {
        let array = br#"["2026-01-31T12:01:00Z",60000,"h","z","k",1,2,3,4,5,6,7,8,9,10,11,12,13,14]"#;
        assert_eq!(Line::parse(array).unwrap_err(), "this is a JSON array, not an object");
    }

    #[test]
    fn a_line_that_makes_no_sense_is_refused() {
        for (from, to) in [
            ("12,", "-12,"),
            ("12,", "1.5,"),
            ("12,", "18446744073709551616,"),
            ("\"key\":", "\"kee\":"),
            ("{\"time", "\"time"),
            ("[{}]}", "[{}]"),
            ("[{}]}", "[{}]} x"),
            ("example", "ex\u{1}mple"),
        ] {
            assert!(Line::parse(LINE.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
        assert!(Line::parse(b"{\"time\":\"\xff\"").is_err());
    }

    const MEASURES: &str = concat!(
        r#","duration_ms":11,"active_ms":12,"active_seconds":13,"billable_cpu_ns":14,"waived_cpu_ns":15"#,
        r#","memory_byte_ms":16,"peak_cpu_ns":17"#,
    );

    #[test]
    fn what_a_line_does_not_say_is_not_nothing() {
        let numbers = [60_000, 1, 2, 3, 4, 5, 6, 0, 0];
        let said = |more: &str| {
            let line = line("example.com", numbers, more);
            let line = Line::parse(line.as_bytes()).unwrap();
            Member::ALL.map(|member| line.member(member))
        };
        assert_eq!(said("")[..4], [Some(1), Some(2), Some(4), Some(5)]);
        assert_eq!(said("")[4..], [None; 7]);
        assert_eq!(said(MEASURES)[4..], [11, 12, 13, 14, 15, 16, 17].map(Some));
        assert_eq!(said(r#","active_ms":0"#)[5], Some(0));
        for (more, peak) in [("", None), (r#","peak_cpu_ns":0"#, Some(0)), (MEASURES, Some(17))] {
            assert_eq!(Line::parse(line("a", numbers, more).as_bytes()).unwrap().peak_cpu_ns, peak);
        }
    }

    /// As the module writes it.
    fn line(key: &str, numbers: [u64; 9], more: &str) -> String {
        let [interval, requests, cpu, wakeups, sent, received, ok, bad, worse] = numbers;
        let key = serde_json::to_string(key).unwrap();
        format!(
            concat!(
                r#"{{"time":"2026-01-31T12:01:00.000Z","interval_ms":{interval},"host":"edge-1","zone":"domains""#,
                r#","key":{key},"requests":{requests},"cpu_ns":{cpu},"wakeups":{wakeups},"sent_bytes":{sent}"#,
                r#","received_bytes":{received},"2xx":{ok},"4xx":{bad},"5xx":{worse}{more}}}"#,
            ),
            more = more,
            interval = interval,
            key = key,
            requests = requests,
            cpu = cpu,
            wakeups = wakeups,
            sent = sent,
            received = received,
            ok = ok,
            bad = bad,
            worse = worse
        )
    }

    #[test]
    fn a_line_of_the_module_is_read_the_fast_way() {
        let measures = format!("{MEASURES},\"1xx\":1,\"refused\":2");
        for more in ["", r#","1xx":1"#, r#","1xx":1,"3xx":0,"other":3"#, r#","other":3"#, MEASURES, &measures]
        {
            let line = line("example.com", [60_000, 1, 2, 3, 4, 5, 6, 0, 9_999_999_999_999_999_999], more);
            let read = written(line.as_bytes());
            assert!(read.is_some(), "{line}");
            assert_eq!(read, serde_json::from_str(&line).ok());
        }
    }

    proptest! {
        #[test]
        fn both_ways_read_the_same(
            key in ".*",
            numbers: [u64; 9],
            more in prop_oneof![Just(""), Just(MEASURES), Just(",\"3xx\":05"), Just(",\"5xx\":1"), Just(",\"a\":[]")],
            at: prop::sample::Index,
            byte in prop_oneof![any::<u8>(), Just(b'"'), Just(b'0'), Just(b' '), Just(b'\\')],
            is_damaged: bool,
        ) {
            let mut line = line(&key, numbers, more).into_bytes();
            let at = at.index(line.len());
            if is_damaged {
                line[at] = byte;
            }
            if let Some(read) = written(&line) {
                prop_assert_eq!(read, serde_json::from_slice(&line).unwrap());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Line::parse(&bytes);
        }

        #[test]
        fn damaged_lines_are_read_or_refused(at in 0..LINE.len(), byte in any::<u8>(), len in 0..LINE.len()) {
            let mut bytes = LINE.as_bytes().to_vec();
            bytes[at] = byte;
            for bytes in [&bytes[..], &bytes[..len]] {
                let _ = Line::parse(bytes);
            }
        }

        #[test]
        fn any_name_is_read_as_the_module_shows_it(key in any::<String>()) {
            let line = LINE.replacen("\"example.com\"", &serde_json::to_string(&key).unwrap(), 1);
            prop_assert_eq!(&Line::parse(line.as_bytes()).unwrap().key, &key::shown_again(&key));
            // and that is read as it is
            let shown = key::display(key.as_bytes());
            let line = LINE.replacen("\"example.com\"", &serde_json::to_string(&shown).unwrap(), 1);
            prop_assert_eq!(&Line::parse(line.as_bytes()).unwrap().key, &shown);
        }
    }
}
