//! Lines of the text format.

use crate::counter::{Family, PREFIX};

/// Labels of a sample, as text.
#[derive(Debug, Default)]
pub struct Labels(Vec<u8>);

impl Labels {
    /// One label.
    pub fn of(name: &str, value: &str) -> Labels {
        let mut labels = Labels::default();
        labels.push(name, value);
        labels
    }

    /// Removes all labels, and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends `name="value"`, and a comma before it if it is not the first label. Control characters other than the
    /// newline are not escaped; shown keys have none, see [`key::display`](crate::key::display).
    pub fn push(&mut self, name: &str, value: &str) {
        let labels = &mut self.0;
        if !labels.is_empty() {
            push(labels, ",");
        }
        push(labels, name);
        push(labels, "=\"");
        let mut rest = value;
        while let Some((at, escaped)) =
            rest.bytes().enumerate().find_map(|(at, byte)| Some((at, escape(byte)?)))
        {
            push(labels, rest.get(..at).unwrap_or_default());
            push(labels, escaped);
            rest = rest.get(at + 1..).unwrap_or_default();
        }
        push(labels, rest);
        push(labels, "\"");
    }
}

fn escape(byte: u8) -> Option<&'static str> {
    match byte {
        b'\\' => Some("\\\\"),
        b'"' => Some("\\\""),
        b'\n' => Some("\\n"),
        _ => None,
    }
}

/// The value of a sample.
pub(super) enum Value {
    Integer(u64),
    /// thousandths, such as milliseconds; written in the whole unit without loss
    Milliseconds(u64),
    /// billionths, such as nanoseconds; written in the whole unit without loss
    Seconds(u64),
}

/// Samples of one family that have the same labels, except one label.
pub(super) struct Samples<'a> {
    pub(super) family: &'a Family,
    /// whether the head of the family is written; a family without samples has no head
    is_named: &'a mut bool,
    labels: &'a Labels,
    out: &'a mut Vec<u8>,
}

impl<'a> Samples<'a> {
    pub(super) fn new(
        family: &'a Family,
        is_named: &'a mut bool,
        labels: &'a Labels,
        out: &'a mut Vec<u8>,
    ) -> Samples<'a> {
        Samples { family, is_named, labels, out }
    }

    /// Writes one line. `label` is one more label, whose value needs no escaping.
    pub(super) fn add(&mut self, suffix: &str, label: Option<(&str, &str)>, value: Value) {
        let Family { name, kind, help, .. } = self.family;
        if !core::mem::replace(self.is_named, true) {
            for part in ["# HELP ", PREFIX, name, " ", help, "\n# TYPE ", PREFIX, name, " ", kind, "\n"] {
                push(self.out, part);
            }
        }
        for part in [PREFIX, name, suffix, "{"] {
            push(self.out, part);
        }
        self.out.extend_from_slice(&self.labels.0);
        if let Some((name, value)) = label {
            for part in [",", name, "=\"", value, "\""] {
                push(self.out, part);
            }
        }
        push(self.out, "} ");
        match value {
            Value::Integer(value) => push(self.out, itoa::Buffer::new().format(value)),
            Value::Milliseconds(ms) => self.push_parts(ms, 1000),
            Value::Seconds(ns) => self.push_parts(ns, NS),
        }
        push(self.out, "\n");
    }

    /// Writes a number of parts as units. A unit has `per_unit` parts, which is a power of ten.
    fn push_parts(&mut self, parts: u64, per_unit: u64) {
        let mut digits = itoa::Buffer::new();
        push(self.out, digits.format(parts / per_unit));
        push(self.out, ".");
        // with the leading zeros
        push(self.out, digits.format(per_unit + parts % per_unit).get(1..).unwrap_or_default());
    }
}

/// Nanoseconds in a second.
const NS: u64 = 1_000_000_000;

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
