//! The traffic log's line: one JSON object per key and interval.
//!
//! New members are at the line's end, so that readers of older lines go on.

mod fault;
mod members;
mod read;
mod write;

pub use members::{
    FIELDS, FIELDS_IN_ORDER, Field, MEMBERS, MEMBERS_IN_ORDER, Member, NAMES, Need, RESPONSES, cells, member,
};
pub use read::Line;
pub use write::Head;

/// No interval is longer than ten years of 366 days: no log may be told to have one, no line says more, and
/// `cpu-report` takes all up to it.
pub const MAX_INTERVAL_MS: u64 = 10 * 366 * 86_400_000;

/// If a part is written at most this long after the end of its interval, its end is that of the interval.
pub fn tolerance_ms(interval_ms: u64) -> u64 {
    (interval_ms / 20).min(500)
}
