//! The traffic log's line: one JSON object per key and interval.
//!
//! New members are at the end of the line, so that readers of older lines still work.

mod fault;
mod members;
mod read;
mod write;

pub use members::{
    FIELDS, FIELDS_IN_ORDER, Field, MEMBERS, MEMBERS_IN_ORDER, Member, NAMES, Need, RESPONSES, cells, member,
};
pub use read::Line;
pub use write::Head;

/// The longest interval: ten years of 366 days. The configuration of a log allows no longer one, no line has a longer
/// one, and `cpu-report` accepts all up to it.
pub const MAX_INTERVAL_MS: u64 = 10 * 366 * 86_400_000;

/// The tolerance for late parts. If a part is written at most this long after the end of its interval, that end is the
/// end of the part.
pub fn tolerance_ms(interval_ms: u64) -> u64 {
    (interval_ms / 20).min(500)
}
