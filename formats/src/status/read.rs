//! Reading the status document.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::members::{Server, Worker, Zone};
use super::names;
use super::object::{Object, ReadObject};
use crate::counters::{COUNTERS, LEN};
use crate::version;

/// A status document that was read.
#[derive(Debug, Default)]
pub struct Document {
    /// the server
    pub server: Server<'static>,
    /// its workers
    pub workers: Vec<Worker>,
    /// its zones by name, in the order of the document
    pub zones: Vec<(String, ZoneRead)>,
}

/// A zone that was read.
#[derive(Debug, Default)]
pub struct ZoneRead {
    /// its own members
    pub zone: Zone,
    /// its accounts by the shown form of the key, in the order of the document
    pub keys: Vec<(String, AccountMembers)>,
    /// the sums of its accounts over each window, as JSON, if the document shows them
    pub windows: Option<Box<RawValue>>,
}

/// The members of an account as JSON, in the order of the table of counters. None: the document does not contain the
/// member.
#[derive(Debug, Default)]
pub struct AccountMembers([Option<Box<RawValue>>; LEN]);

impl AccountMembers {
    /// The member at this index of the table, as JSON.
    pub fn json(&self, row: usize) -> Option<&str> {
        self.0.get(row)?.as_ref().map(|value| value.get())
    }

    /// The member at this index of the table, if it is a whole number.
    pub fn number(&self, row: usize) -> Option<u64> {
        self.json(row)?.parse().ok()
    }
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The text is not a status document, or is one of a later version.
    pub fn read(json: &[u8]) -> Result<Document, String> {
        let fault = |reason: &dyn fmt::Display| match format_of(json).map(version::check) {
            // a later version may differ in any part
            Some(Err(later)) => later,
            _ => format!("this is not a status document: {reason}"),
        };
        let document: Document = serde_json::from_slice(json).map_err(|error| fault(&error))?;
        if document.server.version.is_empty() {
            return Err(fault(&"\"version\" is missing"));
        }
        Ok(document)
    }
}

/// The version in a document.
fn format_of(json: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Format>(json).ok()?.0
}

#[derive(Default)]
struct Format(Option<u64>);

impl Object for Format {
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error> {
        if name != names::FORMAT {
            return Ok(false);
        }
        self.0 = map.next_value()?;
        Ok(true)
    }
}

impl Object for Document {
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error> {
        match name {
            names::FORMAT => version::check(map.next_value()?).map_err(de::Error::custom)?,
            names::WORKERS => self.workers = map.next_value()?,
            names::ZONES => self.zones = map.next_value::<Named<ZoneRead>>()?.0,
            _ => return self.server.member(name, map),
        }
        Ok(true)
    }
}

impl Object for ZoneRead {
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error> {
        match name {
            names::KEYS => self.keys = map.next_value::<Named<AccountMembers>>()?.0,
            names::WINDOWS => self.windows = map.next_value()?,
            _ => return self.zone.member(name, map),
        }
        Ok(true)
    }
}

impl Object for AccountMembers {
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error> {
        match COUNTERS.iter().zip(&mut self.0).find(|(counter, _)| counter.name == name) {
            Some((_, value)) => *value = Some(map.next_value()?),
            None => return Ok(false),
        }
        Ok(true)
    }
}

/// Objects by name, in the order of the document.
struct Named<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadNamed(PhantomData))
    }
}

struct ReadNamed<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ReadNamed<T> {
    type Value = Named<T>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Named<T>, M::Error> {
        let mut named = Vec::new();
        while let Some(entry) = map.next_entry()? {
            named.push(entry);
        }
        Ok(Named(named))
    }
}

macro_rules! deserialize {
    ($($type:ty),*) => {
        $(impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(ReadObject::default())
            }
        })*
    };
}

deserialize!(Document, ZoneRead, AccountMembers, Format);

impl Serialize for AccountMembers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (counter, value) in COUNTERS.iter().zip(&self.0) {
            if let Some(value) = value {
                map.serialize_entry(counter.name, value)?;
            }
        }
        map.end()
    }
}

impl Document {
    /// Writes the document again. A document of this version results in the same bytes.
    pub fn write(&self) -> Vec<u8> {
        use super::write;
        let mut out = Vec::new();
        write::begin(&self.server, &self.workers, &mut out);
        for (at, (name, zone)) in self.zones.iter().enumerate() {
            write::begin_zone(at == 0, name, &zone.zone, &mut out);
            for (at, (key, account)) in zone.keys.iter().enumerate() {
                write::account_of(at == 0, key, account, &mut out);
            }
            write::end_zone_with(zone.windows.as_ref(), &mut out);
        }
        write::end(&mut out);
        out
    }
}
