//! The members of the server, of a worker and of a zone. Each member is declared once.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, MapAccess};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::object::{Object, ReadObject};
use crate::counter::Unit;

/// A member of an object in the status, for the documentation and the live page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// its name
    pub name: &'static str,
    /// its unit; none: a text or a number without a unit
    pub unit: Option<Unit>,
    /// its meaning
    pub help: &'static str,
    /// whether it is a text; else it is a whole number
    pub is_text: bool,
    /// whether all releases have it
    pub is_in_first_release: bool,
}

/// The kind of a member's value.
trait Kind {
    const IS_TEXT: bool;
}

impl Kind for Cow<'_, str> {
    const IS_TEXT: bool = true;
}

impl Kind for u32 {
    const IS_TEXT: bool = false;
}

impl Kind for u64 {
    const IS_TEXT: bool = false;
}

/// Whether the first release had a member: `first` or `later`.
macro_rules! is_first {
    (first) => {
        true
    };
    (later) => {
        false
    };
}

/// An object: its members in the order of the document, each with its release, type, unit and meaning.
macro_rules! object {
    (
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? {
            $($release:ident $field:ident: $type:ty, $unit:expr, $help:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $(#[doc = $help] pub $field: $type,)*
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// The members in the order of the document.
            pub const MEMBERS: &'static [Member] = &[$(Member {
                name: stringify!($field),
                unit: $unit,
                help: $help,
                is_text: <$type as Kind>::IS_TEXT,
                is_in_first_release: is_first!($release),
            }),*];
        }

        impl $(<$life>)? Serialize for $name $(<$life>)? {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                self.members(&mut map)?;
                map.end()
            }
        }

        impl $(<$life>)? $name $(<$life>)? {
            pub(super) fn members<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $(map.serialize_entry(stringify!($field), &self.$field)?;)*
                Ok(())
            }
        }

        impl $(<$life>)? Object for $name $(<$life>)? {
            fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error> {
                match name {
                    $(stringify!($field) => self.$field = map.next_value()?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }

        impl<'de $(, $life)?> Deserialize<'de> for $name $(<$life>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(ReadObject::default())
            }
        }
    };
}

const NS: Option<Unit> = Some(Unit::Nanoseconds);

object! {
    /// The members before the workers: of the server as a whole.
    Server<'a> {
        first version: Cow<'a, str>, None, "Version of the module.";
        first nginx_version: Cow<'a, str>, None, "Version of NGINX, such as 1.28.3.";
        first time: Cow<'a, str>, None, "Time of the answer in UTC, such as 2026-01-31T12:00:00.000Z.";
        first clock: Cow<'a, str>, None, "Name of the clock that laps are read from.";
        first max_error_ns: u64, NS, "Largest error of a lap.";
    }
}

object! {
    /// A worker process and its totals since its event-loop hook was set.
    Worker {
        first worker: u32, None, "Number of the worker.";
        first pid: u32, None, "Number of its process.";
        first wakeups: u64, Some(Unit::Calls), "Calls of event handlers by the event loop.";
        first thread_cpu_ns: u64, NS, "CPU time of the worker: charged, no request, loop and other.";
        first charged_ns: u64, NS, "CPU time charged to requests and accounts.";
        later uncounted_ns: u64, NS, "CPU time charged to requests that is in no account.";
        first no_request_ns: u64, NS, "CPU time of connections that never sent a request.";
        first loop_ns: u64, NS, "CPU time of the event loop itself.";
        first other_ns: u64, NS, "CPU time without an owner.";
        first pool_threads_cpu_ns: u64, NS, "CPU time of the worker's other threads.";
        later pool_threads_charged_ns: u64, NS, "The part of it that is charged to requests and accounts.";
        later pending_ns: u64, NS, "CPU time of open connections that have sent no request yet.";
        later clock_readings: u64, Some(Unit::Calls), "Readings of the clock.";
    }
}

object! {
    /// The members of a zone before its accounts.
    Zone {
        first size_bytes: u64, Some(Unit::Bytes), "Size of the zone's shared memory.";
        first used_bytes: u64, Some(Unit::Bytes), "Bytes in use.";
        first capacity: u32, None, "Keys that the zone has room for.";
        first accounts: u32, None, "Keys that have an account.";
        first overflowed: u64, Some(Unit::Requests), "Requests whose key found no room in the zone.";
        later cut: u64, Some(Unit::Requests), "Requests whose key was cut.";
    }
}
