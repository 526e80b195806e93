//! Reading a line.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fault;
use super::members::{FORMAT, MEMBERS, MEMBERS_IN_ORDER, Need};
use crate::{key, version};

/// The counts of one server for one key of a zone in a time interval. Members that are not in the table are ignored.
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
    /// in the order of [`MEMBERS_IN_ORDER`]; None if the line does not contain the number
    numbers: [Option<u64>; MEMBERS],
}

impl<'a> Line<'a> {
    /// Reads a line. With `is_raw`, names stay as they are in the log. Otherwise names of an earlier version get the
    /// current shown form.
    ///
    /// # Errors
    /// The first fault of a text that is not a line, as a message for users.
    pub fn read(line: &'a [u8], is_raw: bool) -> Result<Self, String> {
        let mut line = Self::parse_raw(line)?;
        if !is_raw {
            line.show_names();
        }
        Ok(line)
    }

    /// The number at this index of [`MEMBERS_IN_ORDER`]; None if the line does not contain it.
    #[inline]
    pub fn number(&self, member: usize) -> Option<u64> {
        self.numbers.get(member).copied().flatten()
    }

    #[inline]
    fn parse_raw(line: &'a [u8]) -> Result<Self, String> {
        // The form that the module writes is tried first; this halves the time of the whole command.
        match written(line) {
            Some(line) => Ok(line),
            // serde would also accept an array with the right number of elements
            None if line.trim_ascii_start().starts_with(b"{") => {
                serde_json::from_slice(line).map_err(|_| fault::of(line))
            }
            None => Err(fault::of(line)),
        }
    }

    fn show_names(&mut self) {
        // earlier versions escaped fewer characters
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

/// A text. It is not copied if it has no escapes.
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
        // the outer `Option` tells whether the member was there
        let mut numbers: [Option<Option<u64>>; MEMBERS] = [None; MEMBERS];
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            match &*name {
                "time" => set(&mut time, map.next_value::<Text<'de>>()?.0)?,
                "host" => set(&mut host, map.next_value::<Text<'de>>()?.0)?,
                "zone" => set(&mut zone, map.next_value::<Text<'de>>()?.0)?,
                "key" => set(&mut key, map.next_value::<Text<'de>>()?.0)?,
                "interval_ms" => set(&mut interval_ms, map.next_value()?)?,
                FORMAT => {
                    version::check_member(map.next_value::<&RawValue>()?.get()).map_err(de::Error::custom)?
                }
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

/// The index of the first member that lines of the first release do not have. They have all members before it.
const LATER: usize = super::members::member("duration_ms");

/// Reads a line with its members in the order in which the module writes them, without spaces, and with names without
/// escapes. None if the line has another form, whether right or wrong.
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

/// The rest of the line, which has not been read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn after(&mut self, literal: &str) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(self)
    }

    /// The number after a literal. The outer value is None if there is no number; the inner value is None if the
    /// literal is missing.
    #[inline]
    fn number_after(&mut self, literal: &[u8]) -> Option<Option<u64>> {
        if !self.0.as_bytes().starts_with(literal) {
            return Some(None);
        }
        self.0 = self.0.get(literal.len()..)?;
        self.number().map(Some)
    }

    /// The text up to the next quote, if it contains no escapes and no control characters.
    fn string(&mut self) -> Option<&'a str> {
        let end = memchr::memchr2(b'"', b'\\', self.0.as_bytes())?;
        let (string, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        // there is no early exit from the loop, which is faster
        let has_controls = string.bytes().fold(false, |has, byte| has | (byte < b' '));
        (!has_controls).then_some(string)
    }

    /// A number of at most 19 digits, which is less than 2^64.
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
mod tests;
