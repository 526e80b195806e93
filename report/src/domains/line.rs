//! A line of the traffic log.

use std::borrow::Cow;

use serde::Deserialize;

use super::store::{Metric, Usage};
use super::time::{self, Millis};

/// Longer intervals are no traffic log's.
const MAX_INTERVAL_MS: u64 = 31 * 86_400_000;

/// What one server counted for one key of a zone in an interval of time. Members that are not named here are ignored.
#[derive(Debug, Deserialize)]
pub struct Line<'a> {
    /// when the interval ended
    #[serde(borrow)]
    time: Cow<'a, str>,
    interval_ms: u64,
    /// the server's name
    #[serde(borrow, default)]
    pub host: Cow<'a, str>,
    /// the zone's name
    #[serde(borrow)]
    pub zone: Cow<'a, str>,
    /// the domain
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    requests: u64,
    cpu_ns: u64,
    sent_bytes: u64,
    #[serde(default, rename = "4xx")]
    responses_4xx: u64,
    #[serde(default, rename = "5xx")]
    responses_5xx: u64,
}

/// The time of the line before, as lines are written in batches of the same time.
#[derive(Debug, Default)]
pub struct LastTime {
    text: String,
    time: Millis,
}

impl<'a> Line<'a> {
    /// Reads a line.
    pub fn parse(line: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// When its interval begins and ends. An interval of nothing is taken for a millisecond.
    pub fn interval(&self, last: &mut LastTime) -> Result<(Millis, Millis), String> {
        if self.time != last.text {
            let time = time::parse(&self.time)
                .ok_or_else(|| format!("no time that is understood: {:?}", self.time))?;
            self.time.as_ref().clone_into(&mut last.text);
            last.time = time;
        }
        if self.interval_ms > MAX_INTERVAL_MS {
            return Err(format!("an interval of {} ms is longer than a month", self.interval_ms));
        }
        // it is small enough
        let begin = last.time - self.interval_ms.max(1) as Millis;
        if begin < 0 { Err("the interval begins before 1970".to_owned()) } else { Ok((begin, last.time)) }
    }

    /// What was used.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        usage[Metric::Requests] = self.requests.into();
        usage[Metric::Cpu] = self.cpu_ns.into();
        usage[Metric::Sent] = self.sent_bytes.into();
        usage[Metric::Responses4xx] = self.responses_4xx.into();
        usage[Metric::Responses5xx] = self.responses_5xx.into();
        usage
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = r#"{"time":"2026-01-31T12:01:00.000Z","interval_ms":60000,"host":"edge-1","zone":"domains","key":"example.com","requests":12,"cpu_ns":3400,"wakeups":5,"sent_bytes":6000,"received_bytes":7,"2xx":8,"4xx":9,"5xx":1,"more":[{}]}"#;

    #[test]
    fn a_line_is_read() {
        let line = Line::parse(LINE.as_bytes()).unwrap();
        assert_eq!(
            (line.host.as_ref(), line.zone.as_ref(), line.key.as_ref()),
            ("edge-1", "domains", "example.com")
        );
        assert!(matches!(line.key, Cow::Borrowed(_)));
        let end = time::parse("2026-01-31T12:01:00Z").unwrap();
        assert_eq!(line.interval(&mut LastTime::default()), Ok((end - 60_000, end)));
        let usage = line.usage();
        assert_eq!(Metric::ALL.map(|metric| usage[metric]), [12, 3400, 6000, 9, 1]);
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
        for (from, to) in [
            ("60000", "99999999999"),
            ("2026-01-31T", "31/Jan/2026:"),
            ("2026", "1969"),
            ("2026-01-31T12:01", "1970-01-01T00:00"),
        ] {
            let line = LINE.replacen(from, to, 1);
            assert!(
                Line::parse(line.as_bytes()).unwrap().interval(&mut LastTime::default()).is_err(),
                "{to}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Line::parse(&bytes);
        }

        #[test]
        fn damaged_lines_are_read_or_refused(at in 0..LINE.len(), byte in any::<u8>(), len in 0..LINE.len()) {
            let mut bytes = LINE.as_bytes().to_vec();
            bytes[at] = byte;
            for bytes in [&bytes[..], &bytes[..len]] {
                if let Ok(line) = Line::parse(bytes) {
                    let _ = line.interval(&mut LastTime::default());
                }
            }
        }

        #[test]
        fn any_name_is_read_as_it_was_written(key in any::<String>()) {
            let line = LINE.replacen("\"example.com\"", &serde_json::to_string(&key).unwrap(), 1);
            prop_assert_eq!(Line::parse(line.as_bytes()).unwrap().key, key);
        }
    }
}
