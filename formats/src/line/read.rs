//! Reading a line.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fault;
use super::members::{MEMBERS, MEMBERS_IN_ORDER, Need};
use crate::key;

/// What one server counted for one key of a zone in an interval of time. Members that are not in the table are
/// ignored.
#[derive(Debug, PartialEq)]
pub struct Line<'a> {
    /// when the interval ended
    pub time: Cow<'a, str>,
    /// its length
    pub interval_ms: u64,
    /// the server's name
    pub host: Cow<'a, str>,
    /// the zone's name
    pub zone: Cow<'a, str>,
    /// the key
    pub key: Cow<'a, str>,
    /// as [`MEMBERS_IN_ORDER`]; None in a line that does not say it
    numbers: [Option<u64>; MEMBERS],
}

impl<'a> Line<'a> {
    /// Reads a line. `is_raw`: names are as they are in the log, also where an earlier version wrote them otherwise
    /// than they are shown now.
    ///
    /// # Errors
    /// The first fault of a text that is no line, in the user's words.
    pub fn read(line: &'a [u8], is_raw: bool) -> Result<Self, String> {
        let mut line = Self::parse_raw(line)?;
        if !is_raw {
            line.show_names();
        }
        Ok(line)
    }

    /// What the line says of the member at this place of [`MEMBERS_IN_ORDER`]; None where it says nothing.
    #[inline]
    pub fn number(&self, member: usize) -> Option<u64> {
        self.numbers.get(member).copied().flatten()
    }

    #[inline]
    fn parse_raw(line: &'a [u8]) -> Result<Self, String> {
        // as the module writes them; this halves the time that the whole command takes
        match written(line) {
            Some(line) => Ok(line),
            // an array of as many elements would pass as well
            None if line.trim_ascii_start().starts_with(b"{") => {
                serde_json::from_slice(line).map_err(|_| fault::of(line))
            }
            None => Err(fault::of(line)),
        }
    }

    fn show_names(&mut self) {
        // earlier versions wrote more characters as they are
        if let Cow::Owned(key) = key::shown_again(&self.key) {
            self.key = Cow::Owned(key);
        }
        for name in [&mut self.host, &mut self.zone] {
            if let Cow::Owned(shown) = key::visible(name) {
                *name = Cow::Owned(shown);
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Line<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyOrder)
    }
}

/// A line with its members in any order.
struct AnyOrder;

/// A text, without a copy where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AnyText)
    }
}

struct AnyText;

impl<'de> Visitor<'de> for AnyText {
    type Value = Text<'de>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a text")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

fn set<T, E: de::Error>(place: &mut Option<T>, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a member stands twice")),
    }
}

impl<'de> Visitor<'de> for AnyOrder {
    type Value = Line<'de>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut time, mut host, mut zone, mut key) = (None, None, None, None);
        let mut interval_ms = None;
        // the outer one: whether the member was there
        let mut numbers: [Option<Option<u64>>; MEMBERS] = [None; MEMBERS];
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            match &*name {
                "time" => set(&mut time, map.next_value::<Text<'de>>()?.0)?,
                "host" => set(&mut host, map.next_value::<Text<'de>>()?.0)?,
                "zone" => set(&mut zone, map.next_value::<Text<'de>>()?.0)?,
                "key" => set(&mut key, map.next_value::<Text<'de>>()?.0)?,
                "interval_ms" => set(&mut interval_ms, map.next_value()?)?,
                name => {
                    let known =
                        MEMBERS_IN_ORDER.iter().zip(&mut numbers).find(|(member, _)| member.name == name);
                    match known {
                        Some((member, number)) => match member.need {
                            Need::Needed | Need::Zero => set(number, Some(map.next_value()?))?,
                            Need::Unknown => set(number, map.next_value()?)?,
                            Need::Ignored => {
                                *number = Some(map.next_value::<&RawValue>()?.get().parse().ok())
                            }
                        },
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
            }
        }
        let missing = |name| de::Error::missing_field(name);
        let mut line = Line {
            time: time.ok_or_else(|| missing("time"))?,
            interval_ms: interval_ms.ok_or_else(|| missing("interval_ms"))?,
            host: host.unwrap_or_default(),
            zone: zone.ok_or_else(|| missing("zone"))?,
            key: key.ok_or_else(|| missing("key"))?,
            numbers: numbers.map(Option::flatten),
        };
        for (member, number) in MEMBERS_IN_ORDER.iter().zip(&mut line.numbers) {
            match member.need {
                Need::Needed if number.is_none() => return Err(missing(member.name)),
                Need::Zero => *number = Some(number.unwrap_or(0)),
                _ => {}
            }
        }
        Ok(line)
    }
}

/// Lines of the first release have the members before this one, and no others.
const LATER: usize = super::members::member("duration_ms");

/// A line with its members in the order in which the module writes them, without spaces, and names without escapes.
/// None if it is otherwise, be it right or wrong.
#[inline]
fn written(line: &[u8]) -> Option<Line<'_>> {
    let mut rest = Rest(str::from_utf8(line).ok()?);
    let time = rest.after("{\"time\":\"")?.string()?;
    let interval_ms = rest.after(",\"interval_ms\":")?.number()?;
    let host = rest.after(",\"host\":\"")?.string()?;
    let zone = rest.after(",\"zone\":\"")?.string()?;
    let key = rest.after(",\"key\":\"")?.string()?;
    let mut numbers = [None; MEMBERS];
    for (at, (member, number)) in MEMBERS_IN_ORDER.iter().zip(&mut numbers).enumerate() {
        *number = rest.number_after(member.lead())?;
        match (member.need, *number) {
            (_, None) if at < LATER => return None,
            (Need::Zero, None) => *number = Some(0),
            _ => {}
        }
    }
    let [time, host, zone, key] = [time, host, zone, key].map(Cow::Borrowed);
    (rest.0 == "}").then_some(Line { time, interval_ms, host, zone, key, numbers })
}

/// What was not read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn after(&mut self, literal: &str) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(self)
    }

    /// The number after a literal. None if there is no number; none within if the literal is not there.
    #[inline]
    fn number_after(&mut self, literal: &[u8]) -> Option<Option<u64>> {
        if !self.0.as_bytes().starts_with(literal) {
            return Some(None);
        }
        self.0 = self.0.get(literal.len()..)?;
        self.number().map(Some)
    }

    /// Up to the next quote, if nothing before it means something else.
    fn string(&mut self) -> Option<&'a str> {
        let end = memchr::memchr2(b'"', b'\\', self.0.as_bytes())?;
        let (string, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        // without a way out of the loop, which is faster
        let has_controls = string.bytes().fold(false, |has, byte| has | (byte < b' '));
        (!has_controls).then_some(string)
    }

    /// One of at most 19 digits, which is below 2^64.
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

    const LINE: &str = r#"{"time":"2026-01-31T12:01:00.000Z","interval_ms":60000,"host":"edge-1","zone":"domains","key":"example.com","requests":12,"cpu_ns":3400,"wakeups":5,"sent_bytes":6000,"received_bytes":7,"2xx":8,"4xx":9,"5xx":1,"more":[{}]}"#;

    fn number(line: &Line<'_>, name: &str) -> Option<u64> {
        line.number(super::super::member(name))
    }

    /// What the writer wrote is what is read, the fast way and the other, each number at its place.
    #[test]
    fn every_member_that_is_written_is_read() {
        let mut text = Vec::new();
        let counted = core::array::from_fn(|at| 100 + at as u64);
        let head = crate::line::Head::new("2026-01-31T12:01:00.000Z", "edge-1", "domains");
        head.push_line(&mut text, 60_000, "example.com", &counted, 7);
        let text = text.trim_ascii_end();
        let read = written(text).unwrap();
        assert_eq!(read, serde_json::from_slice(text).unwrap());
        let json: serde_json::Value = serde_json::from_slice(text).unwrap();
        for (at, member) in MEMBERS_IN_ORDER.iter().enumerate() {
            assert_eq!(
                (read.number(at), json[member.name].as_u64()),
                (json[member.name].as_u64(), read.number(at))
            );
            assert!(read.number(at).is_some(), "{}", member.name);
        }
        assert_eq!(json.as_object().unwrap().len(), MEMBERS + crate::line::NAMES.len());
    }

    #[test]
    fn a_line_is_read() {
        let line = Line::read(LINE.as_bytes(), false).unwrap();
        assert_eq!(
            (line.host.as_ref(), line.zone.as_ref(), line.key.as_ref()),
            ("edge-1", "domains", "example.com")
        );
        assert!(matches!(line.key, Cow::Borrowed(_)));
        let said =
            ["requests", "cpu_ns", "sent_bytes", "4xx", "5xx", "refused"].map(|name| number(&line, name));
        assert_eq!(said, [12, 3400, 6000, 9, 1, 0].map(Some));
        let refused = LINE.replacen("\"more\":[{}]", "\"refused\":3", 1);
        assert_eq!(
            Line::read(refused.as_bytes(), false).unwrap().number(super::super::member("refused")),
            Some(3)
        );
    }

    #[test]
    fn an_array_is_no_line() {
        let array = br#"["2026-01-31T12:01:00Z",60000,"h","z","k",1,2,3,4,5,6,7,8,9,10,11,12,13,14]"#;
        assert_eq!(Line::read(array, false).unwrap_err(), "this is a JSON array, not an object");
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
            assert!(Line::read(LINE.replacen(from, to, 1).as_bytes(), false).is_err(), "{to}");
        }
        assert!(Line::read(b"{\"time\":\"\xff\"", false).is_err());
    }

    const MEASURES: &str = r#","duration_ms":11,"active_ms":12,"active_seconds":13,"billable_cpu_ns":14,"waived_cpu_ns":15,"memory_byte_ms":16,"peak_cpu_ns":17"#;

    #[test]
    fn what_a_line_does_not_say_is_not_nothing() {
        let numbers = [60_000, 1, 2, 3, 4, 5, 6, 0, 0];
        let said = |more: &str| {
            let line = line("example.com", numbers, more);
            let line = Line::read(line.as_bytes(), false).unwrap();
            [
                "requests",
                "cpu_ns",
                "sent_bytes",
                "received_bytes",
                "duration_ms",
                "active_ms",
                "active_seconds",
                "billable_cpu_ns",
                "waived_cpu_ns",
                "memory_byte_ms",
                "peak_cpu_ns",
            ]
            .map(|name| number(&line, name))
        };
        assert_eq!(said("")[..4], [Some(1), Some(2), Some(4), Some(5)]);
        assert_eq!(said("")[4..], [None; 7]);
        assert_eq!(said(MEASURES)[4..], [11, 12, 13, 14, 15, 16, 17].map(Some));
        assert_eq!(said(r#","active_ms":0"#)[5], Some(0));
        for (more, peak) in [("", None), (r#","peak_cpu_ns":0"#, Some(0)), (MEASURES, Some(17))] {
            assert_eq!(
                Line::read(line("a", numbers, more).as_bytes(), false)
                    .unwrap()
                    .number(super::super::member("peak_cpu_ns")),
                peak
            );
        }
    }

    /// As the module writes it.
    fn line(key: &str, numbers: [u64; 9], more: &str) -> String {
        let [interval, requests, cpu, wakeups, sent, received, ok, bad, worse] = numbers;
        let key = serde_json::to_string(key).unwrap();
        format!(
            r#"{{"time":"2026-01-31T12:01:00.000Z","interval_ms":{interval},"host":"edge-1","zone":"domains","key":{key},"requests":{requests},"cpu_ns":{cpu},"wakeups":{wakeups},"sent_bytes":{sent},"received_bytes":{received},"2xx":{ok},"4xx":{bad},"5xx":{worse}{more}}}"#
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
            key in ".*", numbers: [u64; 9], more in prop_oneof![Just(""), Just(MEASURES), Just(",\"3xx\":05"), Just(",\"5xx\":1"), Just(",\"a\":[]")],
            at: prop::sample::Index, byte in prop_oneof![any::<u8>(), Just(b'"'), Just(b'0'), Just(b' '), Just(b'\\')], is_damaged: bool,
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
            let _ = Line::read(&bytes, false);
        }

        #[test]
        fn damaged_lines_are_read_or_refused(at in 0..LINE.len(), byte in any::<u8>(), len in 0..LINE.len()) {
            let mut bytes = LINE.as_bytes().to_vec();
            bytes[at] = byte;
            for bytes in [&bytes[..], &bytes[..len]] {
                let _ = Line::read(bytes, false);
            }
        }

        #[test]
        fn any_name_is_read_as_the_module_shows_it(key in any::<String>()) {
            let line = LINE.replacen("\"example.com\"", &serde_json::to_string(&key).unwrap(), 1);
            prop_assert_eq!(&Line::read(line.as_bytes(), false).unwrap().key, &key::shown_again(&key));
            // and that is read as it is
            let shown = key::display(key.as_bytes());
            let line = LINE.replacen("\"example.com\"", &serde_json::to_string(&shown).unwrap(), 1);
            prop_assert_eq!(&Line::read(line.as_bytes(), false).unwrap().key, &shown);
        }
    }
}
