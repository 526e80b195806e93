//! Takes the values out of a line by a log format.

use memchr::memmem::{Finder, FinderRev};

use super::fields::{Field, Fields};
use super::format::{Escape, LogFormat, Piece};
use super::misfit::Misfit;
use super::names::FieldNames;

/// A format, prepared for splitting lines.
pub struct Splitter {
    pub escape: Escape,
    pub begin: Vec<u8>,
    pub slots: Vec<Slot>,
    /// slots of variables that may have anything in them
    pub loose: Vec<usize>,
    /// the least number of slots of a line
    pub least: usize,
    /// whether a line may have more, after a space
    pub is_open: bool,
    pub glued: Vec<String>,
}

/// A variable and the text after it. Variables without text between them are one slot.
pub struct Slot {
    pub name: String,
    pub fields: Vec<Field>,
    pub is_loose: bool,
    /// the length of its value, if that is always the same
    pub len: Option<usize>,
    pub after: FixedText,
}

pub struct FixedText {
    bytes: Vec<u8>,
    finder: Finder<'static>,
    reverse: FinderRev<'static>,
    /// whether it is only one where no backslash stands before it
    is_quote: bool,
}

impl FixedText {
    fn new(bytes: &[u8], escape: Escape) -> Self {
        Self {
            bytes: bytes.to_vec(),
            finder: Finder::new(bytes).into_owned(),
            reverse: FinderRev::new(bytes).into_owned(),
            // ngx_escape_json() puts a backslash before each quote and backslash; by escape=default a value
            // has neither
            is_quote: escape == Escape::Json && bytes.first() == Some(&b'"'),
        }
    }

    fn find(&self, line: &[u8]) -> Option<usize> {
        if let [byte] = self.bytes.as_slice()
            && !self.is_quote
        {
            return memchr::memchr(*byte, line);
        }
        self.finder.find_iter(line).find(|at| !self.is_escaped(line, *at))
    }

    fn find_last(&self, line: &[u8]) -> Option<usize> {
        self.reverse.rfind_iter(line).find(|at| !self.is_escaped(line, *at))
    }

    fn is_escaped(&self, line: &[u8], at: usize) -> bool {
        self.is_quote
            && line
                .get(..at)
                .is_some_and(|value| value.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1)
    }
}

impl Splitter {
    pub fn new(format: &LogFormat, names: &FieldNames) -> Self {
        let mut begin = Vec::new();
        let mut slots: Vec<Slot> = Vec::new();
        let mut glued: Vec<String> = Vec::new();
        let mut is_after_variable = false;
        for piece in &format.pieces {
            match (piece, slots.last_mut()) {
                (Piece::Text(text), Some(slot)) => {
                    slot.after = FixedText::new(text, format.escape);
                    is_after_variable = false;
                }
                (Piece::Text(text), None) => begin.clone_from(text),
                (Piece::Variable(name), Some(slot)) if is_after_variable => {
                    if glued.last() != Some(&slot.name) {
                        glued.push(slot.name.clone());
                    }
                    glued.push(name.clone());
                    slot.name.clone_from(name);
                    (slot.fields, slot.is_loose, slot.len) = (Vec::new(), true, None);
                }
                (Piece::Variable(name), _) => {
                    is_after_variable = true;
                    slots.push(Slot {
                        name: name.clone(),
                        fields: names.fields(name.as_bytes()).iter().collect(),
                        is_loose: !has_no_space(name),
                        len: (name == "time_local").then_some("31/Jan/2026:12:00:00 +0000".len()),
                        after: FixedText::new(b"", format.escape),
                    });
                }
            }
        }
        let loose = slots.iter().enumerate().filter(|(_, slot)| slot.is_loose).map(|(at, _)| at).collect();
        Self { escape: format.escape, begin, loose, least: slots.len(), is_open: false, slots, glued }
    }

    /// Splits from the begin. Each value ends at the first occurrence of the text after it.
    pub fn split<'r, 'a>(&'r self, line: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Misfit<'r>> {
        let mut rest = line.strip_prefix(self.begin.as_slice()).ok_or(Misfit::Begin(&self.begin))?;
        let mut before: Option<&Slot> = None;
        for (at, slot) in self.slots.iter().enumerate() {
            let is_last = at + 1 == self.slots.len();
            let value;
            (value, rest) = match slot.value(rest, is_last && !self.is_open) {
                Some(found) => found,
                None if at + 1 >= self.least && self.is_open => (rest, &[][..]),
                None => return Err(Misfit::After(&slot.name, &slot.after.bytes)),
            };
            if is_last && self.is_open {
                let end = memchr::memchr(b' ', value).unwrap_or(value.len());
                fields_of(slot, value.get(..end).unwrap_or(value), fields);
                break;
            }
            if is_last
                && !slot.is_loose
                && slot.len.is_none()
                && let Some(before) = before
                && before.after.find(value).is_some()
            {
                return Err(Misfit::Surplus(&slot.name));
            }
            fields_of(slot, value, fields);
            if rest.is_empty() && at + 1 >= self.least {
                break;
            }
            before = Some(slot);
        }
        Ok(())
    }

    /// Splits the slots before `pivot` as [`Self::split`] does, and those after it from the line's end. The
    /// rest in between is the value of `pivot`.
    pub fn split_around<'r, 'a>(
        &'r self,
        line: &'a [u8],
        pivot: usize,
        fields: &mut Fields<'a>,
    ) -> Result<(), Misfit<'r>> {
        let mut rest = line.strip_prefix(self.begin.as_slice()).ok_or(Misfit::Begin(&self.begin))?;
        let (before, others) = self.slots.split_at(pivot);
        for slot in before {
            let (value, after) =
                slot.value(rest, false).ok_or(Misfit::After(&slot.name, &slot.after.bytes))?;
            fields_of(slot, value, fields);
            rest = after;
        }
        // from behind, a value begins where the text after its neighbour ends
        let mut end = rest;
        for (at, slot) in others.iter().enumerate().rev() {
            end = end
                .strip_suffix(slot.after.bytes.as_slice())
                .ok_or(Misfit::After(&slot.name, &slot.after.bytes))?;
            let neighbour = at.checked_sub(1).and_then(|at| others.get(at));
            let begin = match neighbour {
                None => 0,
                // the text before it is looked at next
                Some(_) if slot.len.is_some_and(|len| len <= end.len()) => {
                    end.len() - slot.len.unwrap_or_default()
                }
                Some(neighbour) => {
                    let found = neighbour.after.find_last(end);
                    found.ok_or(Misfit::After(&neighbour.name, &neighbour.after.bytes))?
                        + neighbour.after.bytes.len()
                }
            };
            let (left, value) = end.split_at(begin.min(end.len()));
            fields_of(slot, value, fields);
            end = left;
        }
        Ok(())
    }
}

impl Slot {
    /// Its value at the beginning of `rest`, and the rest after the text that follows.
    fn value<'a>(&self, rest: &'a [u8], is_last: bool) -> Option<(&'a [u8], &'a [u8])> {
        let after = &self.after;
        if is_last {
            return rest.strip_suffix(after.bytes.as_slice()).map(|value| (value, &[][..]));
        }
        if let Some(len) = self.len
            && let Some((value, rest)) = rest.split_at_checked(len)
            && let Some(rest) = rest.strip_prefix(after.bytes.as_slice())
        {
            return Some((value, rest));
        }
        if after.bytes.is_empty() {
            return None;
        }
        let at = after.find(rest)?;
        Some((rest.get(..at)?, rest.get(at + after.bytes.len()..)?))
    }
}

fn fields_of<'a>(slot: &Slot, value: &'a [u8], fields: &mut Fields<'a>) {
    for field in &slot.fields {
        fields.set(*field, value);
    }
}

/// Whether a value of this variable never has a space in it.
fn has_no_space(name: &str) -> bool {
    matches!(
        name,
        "binary_remote_addr"
            | "body_bytes_sent"
            | "bytes_sent"
            | "connection"
            | "connection_requests"
            | "connection_time"
            | "content_length"
            | "host"
            | "hostname"
            | "https"
            | "http2"
            | "http3"
            | "limit_req_status"
            | "limit_conn_status"
            | "msec"
            | "nginx_version"
            | "pid"
            | "pipe"
            | "remote_addr"
            | "remote_port"
            | "request_completion"
            | "request_id"
            | "request_length"
            | "request_method"
            | "request_time"
            | "scheme"
            | "server_addr"
            | "server_name"
            | "server_port"
            | "server_protocol"
            | "ssl_cipher"
            | "ssl_curve"
            | "ssl_protocol"
            | "ssl_session_id"
            | "ssl_session_reused"
            | "status"
            | "time_iso8601"
            | "time_local"
            | "upstream_cache_status"
            | "request_cpu_time"
            | "request_cpu_ns"
            | "request_cpu_wakeups"
            | "request_cpu_connection_ns"
            | "request_cpu_limit_status"
            | "request_cpu_subrequest"
    )
}
