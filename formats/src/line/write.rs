//! Writing a line.

use super::members::{FIELDS, FIELDS_IN_ORDER, PEAK, RESPONSES};

/// Members that all lines of one part of the log share.
#[derive(Debug)]
pub struct Head {
    start: String,
    names: String,
}

impl Head {
    /// `time` is the end of the part, in UTC, such as `2026-01-31T12:00:00.000Z`.
    pub fn new(time: &str, host: &str, zone: &str) -> Head {
        let mut names = b",\"host\":".to_vec();
        push_string(&mut names, host);
        names.extend_from_slice(b",\"zone\":");
        push_string(&mut names, zone);
        names.extend_from_slice(b",\"key\":");
        Head {
            start: format!("{{\"time\":\"{time}\",\"interval_ms\":"),
            names: String::from_utf8(names).unwrap_or_default(),
        }
    }

    /// Appends a line. Members that are written only if they are not zero are at its end. `peak_ns` is the highest
    /// value of the interval, not a difference.
    pub fn push_line(
        &self,
        out: &mut Vec<u8>,
        interval_ms: u64,
        key: &str,
        counted: &[u64; FIELDS],
        peak_ns: u64,
    ) {
        out.extend_from_slice(self.start.as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(interval_ms).as_bytes());
        out.extend_from_slice(self.names.as_bytes());
        push_string(out, key);
        // the sum of the numbers that follow, even while workers count
        let responses = counted.get(RESPONSES).unwrap_or_default();
        push_number(out, "requests", responses.iter().sum());
        let fields = || FIELDS_IN_ORDER.iter().zip(counted);
        for (field, &number) in fields().filter(|(field, _)| field.is_always) {
            push_number(out, field.name, number);
        }
        push_number(out, PEAK, peak_ns);
        for (field, &number) in fields().filter(|&(field, &number)| !field.is_always && number != 0) {
            push_number(out, field.name, number);
        }
        out.extend_from_slice(b"}\n");
    }
}

#[inline]
fn push_number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    // writing a string to a `Vec` cannot fail
    let _ = serde_json::to_writer(out, text);
}
