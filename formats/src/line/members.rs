//! The numbers of a line, in the order of the table of counters.

use crate::counters::{LEN, Log, Shape, ordered, table};

/// A number in a line. It is the difference between two readings of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// the index of its counter in the table
    pub row: usize,
    /// the index of its cell among those of its counter
    pub cell: usize,
    /// the stored value is this many times the written value, so that differences of written values add up
    pub divisor: u64,
    /// its name in the line
    pub name: &'static str,
    /// every line has it
    pub is_always: bool,
}

/// The order of the fields in a reading. It is the order of the first release.
const ORDER: [usize; LEN] = ordered(&["cpu_ns", "wakeups", "sent_bytes", "received_bytes", "responses"]);

const fn fields_of(row: usize) -> usize {
    match table()[row].log {
        Log::No | Log::Peak(_) => 0,
        Log::Always | Log::IfNotZero | Log::First(_) => 1,
        Log::Classes(_) => table()[row].shape.cells(),
    }
}

/// The number of fields.
pub const FIELDS: usize = {
    let (mut count, mut at) = (0, 0);
    while at < LEN {
        count += fields_of(at);
        at += 1;
    }
    count
};

/// The position of each field's cell: the index of its counter in the table, and its index among the counter's cells.
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
pub(super) const PEAK: &str = {
    let mut at = 0;
    loop {
        if let Log::Peak(name) = table()[at].log {
            break name;
        }
        at += 1;
    }
};

/// The reaction of a reader to a member that is missing or is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A line without it is refused.
    Needed,
    /// Without the member, the value counts as 0.
    Zero,
    /// Without the member, the value is unknown, which is not the same as 0.
    Unknown,
    /// No report reads the member, so its value may be anything.
    Ignored,
}

const NEEDED: [&str; 3] = ["requests", "cpu_ns", "sent_bytes"];
/// No report has read these members. Logs that other programs have changed may contain any value there.
const IGNORED: [&str; 5] = ["wakeups", "2xx", "1xx", "3xx", "other"];

const fn need(name: &str, is_always: bool, is_class: bool) -> Need {
    if contains(&NEEDED, name) {
        Need::Needed
    } else if contains(&IGNORED, name) {
        Need::Ignored
    } else if is_always && !is_class {
        Need::Unknown
    } else {
        Need::Zero
    }
}

/// A member of a line that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// its name
    pub name: &'static str,
    /// every line has it; otherwise a line has it if it is not zero
    pub is_always: bool,
    /// the reaction of a reader if it is missing
    pub need: Need,
    lead: Lead,
}

impl Member {
    const fn new(name: &'static str, is_always: bool, is_class: bool) -> Member {
        Member { name, is_always, need: need(name, is_always, is_class), lead: Lead::of(name) }
    }

    /// The text before the number in a line that the module wrote: `,"name":`.
    #[inline]
    pub(super) fn lead(&self) -> &[u8] {
        self.lead.bytes.get(..self.lead.len).unwrap_or_default()
    }
}

/// [`Member::lead`], computed at compile time: a reader compares it as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lead {
    bytes: [u8; 48],
    len: usize,
}

impl Lead {
    const fn of(name: &str) -> Lead {
        let (mut lead, name) = (Lead { bytes: [0; 48], len: 0 }, name.as_bytes());
        lead = lead.with(b",\"");
        lead = lead.with(name);
        lead.with(b"\":")
    }

    const fn with(mut self, text: &[u8]) -> Lead {
        let mut at = 0;
        while at < text.len() {
            self.bytes[self.len] = text[at];
            self.len += 1;
            at += 1;
        }
        self
    }
}

/// The number of members of a line that are numbers of the account.
pub const MEMBERS: usize = FIELDS + 2;

/// The members of a line that are numbers of the account, in the order of the line.
pub static MEMBERS_IN_ORDER: [Member; MEMBERS] = MEMBER_TABLE;
const MEMBER_TABLE: [Member; MEMBERS] = {
    let mut members = [Member::new("requests", true, false); MEMBERS];
    let mut count = 1;
    let mut at = 0;
    while at < FIELDS {
        if FIELD_TABLE[at].is_always {
            members[count] =
                Member::new(FIELD_TABLE[at].name, true, RESPONSES.start <= at && at < RESPONSES.end);
            count += 1;
        }
        at += 1;
    }
    members[count] = Member::new(PEAK, true, false);
    count += 1;
    at = 0;
    while at < FIELDS {
        if !FIELD_TABLE[at].is_always {
            members[count] = Member::new(FIELD_TABLE[at].name, false, false);
            count += 1;
        }
        at += 1;
    }
    members
};

/// The index of a member in [`MEMBERS_IN_ORDER`]. For constants: an unknown name does not compile.
pub const fn member(name: &str) -> usize {
    let mut at = 0;
    while !is_same(MEMBER_TABLE[at].name.as_bytes(), name.as_bytes()) {
        at += 1;
    }
    at
}

/// The members before the numbers, in the order of the line.
pub const NAMES: [&str; 5] = ["time", "interval_ms", "host", "zone", "key"];

/// Lines of later versions may contain their version.
pub(super) const FORMAT: &str = "format";
