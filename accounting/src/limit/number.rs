//! Numbers in directives.

use core::num::NonZeroU64;

/// Nanoseconds of one core in a second: the rate of one core.
pub(super) const CORE: u64 = 1_000_000_000;

/// The lowest rate, 0.001 cores.
pub(super) const MIN_RATE: u64 = CORE / 1000;

/// The highest rate, 100,000 cores.
pub(super) const MAX_RATE: u64 = CORE * 100_000;

/// A number of cores, as nanoseconds of CPU per second: a decimal number from 0.001 to 100000, without sign or
/// exponent. Decimals after the ninth are dropped. `None` if the text is not such a number.
pub fn parse_cores(text: &[u8]) -> Option<NonZeroU64> {
    NonZeroU64::new(parse_decimal(text)?).filter(|rate| (MIN_RATE..=MAX_RATE).contains(&rate.get()))
}

/// A decimal number without sign or exponent, in billionths. Decimals after the ninth are dropped. `None` if the text
/// is not such a number, or if it is too large.
pub fn parse_decimal(text: &[u8]) -> Option<u64> {
    let (whole, decimals) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], Some(&text[point + 1..])),
        None => (text, None),
    };
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if !digits(whole) || decimals.is_some_and(|decimals| !digits(decimals)) {
        return None;
    }
    let mut rate = 0u64;
    for digit in whole {
        rate = rate.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    rate = rate.checked_mul(CORE)?;
    let mut place = CORE;
    for digit in decimals.into_iter().flatten() {
        place /= 10;
        rate = rate.checked_add(place * u64::from(digit - b'0'))?;
    }
    Some(rate)
}
