//! Writing the status document, piece by piece.
//!
//! The order of the pieces is: [`begin`]; for each zone [`begin_zone`], its accounts by [`account`], and [`end_zone`];
//! then [`end`]. An error is written by [`error`] alone.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::account::{Account, Shown, Signal, Windows};
use super::members::{Server, Worker, Zone};
use super::names;
use crate::classes;
use crate::counters::Detail;

/// The members of the server, and its workers.
struct Head<'a>(&'a Server<'a>, &'a [Worker]);

impl Serialize for Head<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.0.members(&mut map)?;
        map.serialize_entry(names::WORKERS, self.1)?;
        map.end()
    }
}

/// Begins a document.
pub fn begin(server: &Server<'_>, workers: &[Worker], out: &mut Vec<u8>) {
    open(&Head(server, workers), out);
    open_member(names::ZONES, out);
}

/// Begins a zone.
pub fn begin_zone(is_first: bool, name: &str, zone: &Zone, out: &mut Vec<u8>) {
    separate(is_first, out);
    value(name, out);
    out.push(b':');
    open(zone, out);
    open_member(names::KEYS, out);
}

/// Writes an account of a zone. `key` is the shown form of its key.
pub fn account(is_first: bool, key: &str, account: &Account, detail: Detail, out: &mut Vec<u8>) {
    account_of(is_first, key, &Shown(account, detail), out);
}

pub(super) fn account_of<T: Serialize>(is_first: bool, key: &str, account: &T, out: &mut Vec<u8>) {
    separate(is_first, out);
    value(key, out);
    out.push(b':');
    value(account, out);
}

/// Ends a zone. `windows` has the sums of its accounts, if the document shows them.
pub fn end_zone(windows: Option<&[Signal; classes::WINDOWS.len()]>, out: &mut Vec<u8>) {
    end_zone_with(windows.map(Windows).as_ref(), out);
}

pub(super) fn end_zone_with<T: Serialize>(windows: Option<&T>, out: &mut Vec<u8>) {
    out.push(b'}');
    if let Some(windows) = windows {
        out.push(b',');
        value(names::WINDOWS, out);
        out.push(b':');
        value(windows, out);
    }
    out.push(b'}');
}

/// Ends a document.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}}\n");
}

/// Writes an object with an error instead of a document.
pub fn error(message: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    value(names::ERROR, out);
    out.push(b':');
    value(message, out);
    out.push(b'}');
}

fn separate(is_first: bool, out: &mut Vec<u8>) {
    if !is_first {
        out.push(b',');
    }
}

fn value<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // writing to a vector cannot fail, and all names are strings
    let _ = serde_json::to_writer(out, value);
}

/// Writes an object without its closing brace, so that more members can follow.
fn open<T: Serialize>(object: &T, out: &mut Vec<u8>) {
    value(object, out);
    out.pop();
}

/// Begins another member, which is an object.
fn open_member(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    value(name, out);
    out.extend_from_slice(b":{");
}
