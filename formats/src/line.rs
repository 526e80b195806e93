//! The traffic log's line: one JSON object per key and interval.
//!
//! New members are at the line's end, so that readers of older lines go on.

use crate::counters::{LEN, Log, Shape, ordered, table};

/// No interval is longer than ten years of 366 days: no log may be told to have one, no line says more, and `cpu-report`
/// takes all up to it.
pub const MAX_INTERVAL_MS: u64 = 10 * 366 * 86_400_000;

/// A number that a line tells as the difference between two readings of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// the place of its counter in the table
    pub row: usize,
    /// its cell among those of its counter
    pub cell: usize,
    /// what is stored is this many times what is told: differences of what is told add up
    pub divisor: u64,
    /// its name in the line
    pub name: &'static str,
    is_always: bool,
}

/// The order of the fields in a reading; it is that of the first release.
const ORDER: [usize; LEN] = ordered(&["cpu_ns", "wakeups", "sent_bytes", "received_bytes", "responses"]);

const fn fields_of(row: usize) -> usize {
    match table()[row].log {
        Log::No | Log::Peak(_) => 0,
        Log::Always | Log::IfNotZero | Log::First(_) => 1,
        Log::Classes(_) => table()[row].shape.cells(),
    }
}

/// How many fields there are.
pub const FIELDS: usize = {
    let (mut count, mut at) = (0, 0);
    while at < LEN {
        count += fields_of(at);
        at += 1;
    }
    count
};

/// Where the cell of each field is: the place of its counter in the table, and its place there.
pub const fn cells() -> [(usize, usize); FIELDS] {
    let mut places = [(0, 0); FIELDS];
    let mut at = 0;
    while at < FIELDS {
        places[at] = (FIELD_TABLE[at].row, FIELD_TABLE[at].cell);
        at += 1;
    }
    places
}

/// All fields, in the order of a reading.
pub static FIELDS_IN_ORDER: [Field; FIELDS] = FIELD_TABLE;
const FIELD_TABLE: [Field; FIELDS] = {
    let mut fields = [Field { row: 0, cell: 0, divisor: 1, name: "", is_always: false }; FIELDS];
    let (mut count, mut at) = (0, 0);
    while at < LEN {
        let row = ORDER[at];
        let counter = table()[row];
        let mut n = 0;
        while n < fields_of(row) {
            let (name, is_always) = match (counter.log, counter.shape) {
                (Log::First(name), _) => (name, false),
                (Log::Classes(always), Shape::Classes(classes)) => (classes[n], contains(always, classes[n])),
                (log, _) => (counter.name, matches!(log, Log::Always)),
            };
            fields[count] = Field { row, cell: n, divisor: counter.divisor, name, is_always };
            count += 1;
            n += 1;
        }
        at += 1;
    }
    fields
};

const fn contains(names: &[&str], name: &str) -> bool {
    let mut at = 0;
    while at < names.len() {
        if is_same(names[at].as_bytes(), name.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// The fields that count requests by class: `requests` is their sum.
pub const RESPONSES: core::ops::Range<usize> = {
    let row = crate::counters::row("responses");
    let (mut first, mut at) = (0, 0);
    while ORDER[at] != row {
        first += fields_of(ORDER[at]);
        at += 1;
    }
    first..first + fields_of(row)
};

/// The name of the peak.
const PEAK: &str = {
    let mut at = 0;
    loop {
        if let Log::Peak(name) = table()[at].log {
            break name;
        }
        at += 1;
    }
};

/// What the lines of one part of the log have in common.
#[derive(Debug)]
pub struct Head {
    start: String,
    names: String,
}

impl Head {
    /// `time` is the end of the part, in UTC, as `2026-01-31T12:00:00.000Z`.
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

    /// Appends a line. Members that are told only if they are not zero are at its end. `peak_ns` is no difference, but the
    /// highest value of the interval.
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
        // the sum of what follows, even while workers count
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

/// A member of a line that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// its name
    pub name: &'static str,
    /// every line has it; others only if it is not zero
    pub is_always: bool,
}

/// How many members of a line are numbers of the account.
pub const MEMBERS: usize = FIELDS + 2;

/// The members of a line that are numbers of the account, in the order of the line.
pub const MEMBERS_IN_ORDER: [Member; MEMBERS] = {
    let mut members = [Member { name: "requests", is_always: true }; MEMBERS];
    let mut count = 1;
    let mut at = 0;
    while at < FIELDS {
        if FIELD_TABLE[at].is_always {
            members[count] = Member { name: FIELD_TABLE[at].name, is_always: true };
            count += 1;
        }
        at += 1;
    }
    members[count] = Member { name: PEAK, is_always: true };
    count += 1;
    at = 0;
    while at < FIELDS {
        if !FIELD_TABLE[at].is_always {
            members[count] = Member { name: FIELD_TABLE[at].name, is_always: false };
            count += 1;
        }
        at += 1;
    }
    members
};

/// The place of a member in [`MEMBERS_IN_ORDER`]. For constants: a name that is not there does not compile.
pub const fn member(name: &str) -> usize {
    let mut at = 0;
    while !is_same(MEMBERS_IN_ORDER[at].name.as_bytes(), name.as_bytes()) {
        at += 1;
    }
    at
}

/// The members before the numbers, in the order of the line.
pub const NAMES: [&str; 5] = ["time", "interval_ms", "host", "zone", "key"];

#[inline]
fn push_number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    // a string can be written to a `Vec` without an error
    let _ = serde_json::to_writer(out, text);
}
