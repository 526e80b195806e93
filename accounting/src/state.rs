//! The totals of a zone's accounts in a file, which outlives their memory.
//!
//! The file consists of lines of JSON. The first line describes the others: the version of the form, the text of the
//! key in the configuration, two counts of the zone, and the names of the counters of an account. Each account is a
//! line with its key and its counters, in the order of the names. The key is written as the status shows it, but is
//! never cut. The last line is the checksum of all bytes before it.
//!
//! A counter that is not in the file counts as zero. A counter that this version does not know is ignored. So counters
//! can be added and removed without another version of the form.

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::Value;

use formats::state::columns;

use crate::account::{COUNTERS, Totals};
use crate::key;
use crate::table::{Slot, Spare, Table, TableBefore};

/// The first bytes of every file, of this version or another.
pub const START: &[u8] = b"{\"request_cpu_state\":";
const VERSION: u64 = 1;

const END_START: &str = "{\"crc32\":\"";
const END_BYTES: usize = END_START.len() + 8 + 3;

fn end(crc: u32) -> String {
    format!("{END_START}{crc:08x}\"}}\n")
}

/// The reason why a file is not used. Its text is a statement about the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The file does not begin like a state file.
    Foreign,
    /// The last line is missing.
    Truncated,
    /// Some bytes have changed since they were written.
    Corrupt,
    /// The form has another version.
    Version(u64),
    /// The accounts belong to another key, with this text.
    OtherKey(String),
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refused::Foreign => f.write_str("it is not a state file"),
            Refused::Truncated => f.write_str("it is truncated"),
            Refused::Corrupt => f.write_str("it is damaged"),
            Refused::Version(version) => write!(f, "it has version {version}, known is {VERSION}"),
            Refused::OtherKey(text) => write!(f, "it was saved for the key \"{text}\""),
        }
    }
}

/// Writes all accounts that have counted something. Workers may continue counting.
///
/// # Errors
/// Errors of `out`.
pub fn write(table: &Table, key_text: &[u8], out: impl Write) -> io::Result<()> {
    let mut out = Summed { out, crc: crc32fast::Hasher::new() };
    let fill = table.fill();
    let columns = columns();
    let names: Vec<&str> = columns.iter().map(|(name, _)| &**name).collect();
    out.write_all(START)?;
    write!(out, "{VERSION},\"key\":")?;
    serde_json::to_writer(&mut out, &key::encode(key_text))?;
    write!(out, ",\"overflowed\":{},\"cut\":{},\"counters\":", fill.overflowed, fill.cut)?;
    serde_json::to_writer(&mut out, &names)?;
    out.write_all(b"}\n")?;
    for (key, totals) in accounts(table) {
        let counters: Vec<u64> =
            columns.iter().filter_map(|&(_, cell)| totals.0.get(cell).copied()).collect();
        serde_json::to_writer(&mut out, &(key::encode(key), counters))?;
        out.write_all(b"\n")?;
    }
    let crc = out.crc.finalize();
    out.out.write_all(end(crc).as_bytes())?;
    out.out.flush()
}

/// Accounts that have counted something.
fn accounts(table: &Table) -> impl Iterator<Item = (&[u8], Totals)> {
    let slots = table.slots().into_iter();
    has_counted(slots.map(|slot| (table.key(slot), table.account(slot).totals())))
}

fn has_counted<'a>(
    accounts: impl Iterator<Item = (&'a [u8], Totals)>,
) -> impl Iterator<Item = (&'a [u8], Totals)> {
    accounts.filter(|(_, totals)| *totals != Totals([0; COUNTERS]))
}

/// Computes a checksum of the bytes that are written.
struct Summed<W> {
    out: W,
    crc: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.crc.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The content of a file.
#[derive(Debug)]
pub struct Saved {
    overflowed: u64,
    cut: u64,
    /// for each of the file's counters, its index in [`Totals`], if it is known there
    columns: Vec<Option<usize>>,
    /// keys, and one counter for each column
    accounts: Vec<(String, Vec<u64>)>,
}

/// Reads a file that [`write()`] wrote for a key with this text. The memory use is proportional to the size of the
/// file.
///
/// # Errors
/// The reason why the file is not used. A file is used as a whole, or not at all.
pub fn read(file: &[u8], key_text: &[u8]) -> Result<Saved, Refused> {
    let Some(rest) = file.strip_prefix(START) else {
        return Err(if START.starts_with(file) { Refused::Truncated } else { Refused::Foreign });
    };
    // another version may have another end
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let version = str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
    match version {
        Some(VERSION) => {}
        Some(other) => return Err(Refused::Version(other)),
        None => return Err(if rest.is_empty() { Refused::Truncated } else { Refused::Corrupt }),
    }
    let (body, last) = file.split_at_checked(file.len().wrapping_sub(END_BYTES)).ok_or(Refused::Truncated)?;
    if !last.starts_with(END_START.as_bytes()) {
        return Err(Refused::Truncated);
    }
    if last != end(crc32fast::hash(body)).as_bytes() {
        return Err(Refused::Corrupt);
    }
    parse(body, key_text)
}

/// Parses all lines except the last one.
fn parse(body: &[u8], key_text: &[u8]) -> Result<Saved, Refused> {
    let mut lines = body.strip_suffix(b"\n").ok_or(Refused::Corrupt)?.split(|&byte| byte == b'\n');
    let head: Value = lines.next().and_then(parse_line).ok_or(Refused::Corrupt)?;
    let number = |name: &str| head.get(name).and_then(Value::as_u64).ok_or(Refused::Corrupt);
    let text = head.get("key").and_then(Value::as_str).ok_or(Refused::Corrupt)?;
    let names = head.get("counters").and_then(Value::as_array).ok_or(Refused::Corrupt)?;
    let known: HashMap<String, usize> = columns().into_iter().collect();
    let columns: Vec<Option<usize>> = names.iter().map(|name| known.get(name.as_str()?).copied()).collect();
    let accounts: Option<Vec<(String, Vec<u64>)>> = lines.map(parse_line).collect();
    let accounts = accounts.ok_or(Refused::Corrupt)?;
    if accounts.iter().any(|(_, counters)| counters.len() != columns.len()) {
        return Err(Refused::Corrupt);
    }
    if key::decode(text) != key_text {
        return Err(Refused::OtherKey(text.to_string()));
    }
    Ok(Saved { overflowed: number("overflowed")?, cut: number("cut")?, columns, accounts })
}

fn parse_line<'a, T: serde::Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

/// The result of restoring accounts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Accounts that were restored.
    pub accounts: usize,
    /// Accounts for which there was no room. They were added to the overflow account.
    pub overflowed: usize,
}

impl Saved {
    /// Adds all accounts to a table in which nothing has been counted yet.
    pub fn restore(&self, table: &Table) -> Restored {
        let accounts = self.accounts.iter().map(|(text, counters)| {
            let mut totals = Totals([0; COUNTERS]);
            for (column, counter) in self.columns.iter().zip(counters) {
                if let Some(total) = column.and_then(|at| totals.0.get_mut(at)) {
                    *total = *counter;
                }
            }
            (key::decode(text), totals)
        });
        restore(table, accounts, self.overflowed, self.cut)
    }
}

/// Adds all accounts of one table to another one, in which nothing has been counted yet. Usage that is counted in the
/// first table during or after the copy may be missing in the other.
pub fn copy(from: &Table, to: &Table) -> Restored {
    let fill = from.fill();
    restore(to, accounts(from), fill.overflowed, fill.cut)
}

/// As [`copy`], from a table of another release.
pub fn copy_before(from: &TableBefore, to: &Table) -> Restored {
    let (overflowed, cut) = from.counts();
    restore(to, has_counted(from.accounts()), overflowed, cut)
}

fn restore(
    table: &Table,
    accounts: impl Iterator<Item = (impl AsRef<[u8]>, Totals)>,
    mut overflowed: u64,
    cut: u64,
) -> Restored {
    let mut spare = Spare::default();
    let mut restored = Restored::default();
    for (key, totals) in accounts {
        let found = table.find_or_insert(key.as_ref(), &mut spare);
        table.account(found.slot).restore(&totals);
        if found.overflowed {
            restored.overflowed += 1;
            overflowed = overflowed.wrapping_add(totals.requests());
        } else if found.slot != Slot::OVERFLOW {
            restored.accounts += 1;
        }
    }
    table.restore_counts(overflowed, cut);
    restored
}

#[cfg(test)]
mod tests;
