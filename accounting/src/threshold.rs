//! The threshold from which a second is active.

use crate::limit::parse_decimal;

/// The default threshold: the CPU of an active second, in nanoseconds, 1 % of a core.
pub const ACTIVE_THRESHOLD_NS: u64 = 10_000_000;

/// The CPU from which a second is active, in nanoseconds: a number of cores from 0 to 100, or a percentage of one
/// core (`1%`), without sign or exponent. Parts of a nanosecond are dropped. `None` if the text is neither.
pub fn parse_active_threshold(text: &[u8]) -> Option<u64> {
    let ns = match text.strip_suffix(b"%") {
        Some(percent) => parse_decimal(percent)? / 100,
        None => parse_decimal(text)?,
    };
    (ns <= 100_000_000_000).then_some(ns)
}

#[cfg(test)]
mod tests;
