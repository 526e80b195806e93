//! Exact numbers. Quantities and money are whole numbers of their smallest unit, and rates are decimals.
//! Quotients are rounded once, to the smallest unit of money.
//!
//! Decimals with a fixed number of digits are not enough: they silently round products that need more digits,
//! and no decimal can be divided exactly by the 3.6 · 10^12 ns of a CPU hour.

use std::fmt;

use num_bigint::BigUint;

use crate::output;

/// Digits that a number may have, and places that its exponent may move the point by.
const MAX_DIGITS: usize = 40;

/// A number of at least 0: digits / 10^scale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decimal {
    digits: BigUint,
    scale: u32,
}

/// The rounding of a half. Any other number goes to the nearest whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// up, as in trade
    #[default]
    HalfUp,
    /// to the even number, as banks do
    HalfEven,
}

impl Rounding {
    /// The name in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::HalfUp => "half-up",
            Self::HalfEven => "half-even",
        }
    }

    /// The whole number next to a fraction. The denominator is not 0.
    pub fn round(self, numerator: &BigUint, denominator: &BigUint) -> BigUint {
        let whole = numerator / denominator;
        let twice = (numerator % denominator) << 1u8;
        let is_up = match twice.cmp(denominator) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => self == Self::HalfUp || whole.bit(0),
        };
        if is_up { whole + 1u8 } else { whole }
    }
}

impl Decimal {
    /// Reads digits with an optional point and exponent, as in TOML but without a sign. None for any other
    /// text, or for more than 40 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
        if whole.is_empty() || !is_part(whole) || !is_part(fraction) {
            return None;
        }
        let of = |part: &str| part.bytes().filter(u8::is_ascii_digit).collect::<Vec<u8>>();
        let (whole, fraction) = (of(whole), of(fraction));
        let digits = [whole.as_slice(), &fraction].concat();
        if digits.is_empty() || digits.len() > MAX_DIGITS || exponent.unsigned_abs() as usize > MAX_DIGITS {
            return None;
        }
        let mut digits = BigUint::parse_bytes(&digits, 10)?;
        let scale = fraction.len() as i32 - exponent;
        if scale < 0 {
            digits *= power_of_ten(scale.unsigned_abs());
        }
        Some(Self { digits, scale: scale.max(0) as u32 })
    }

    /// The digits as a whole number at this number of decimals. None if there are more decimals.
    pub fn with_decimals(&self, decimals: u32) -> Option<BigUint> {
        self.times(&power_of_ten(decimals))
    }

    /// The product with a whole number, if it is whole.
    pub fn times(&self, unit: &BigUint) -> Option<BigUint> {
        let product = &self.digits * unit;
        let divisor = power_of_ten(self.scale);
        (&product % &divisor == BigUint::ZERO).then(|| product / divisor)
    }

    /// The number of decimals as written.
    pub fn scale(&self) -> u32 {
        self.scale
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.digits == BigUint::ZERO
    }
}

/// As it was written, without an exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&with_point(&self.digits, self.scale))
    }
}

/// 10^n.
pub fn power_of_ten(n: u32) -> BigUint {
    BigUint::from(10u8).pow(n)
}

/// A whole number of 10^-decimals.
pub fn with_point(number: &BigUint, decimals: u32) -> String {
    // the usual case, which is several times as fast
    match u128::try_from(number) {
        Ok(number) => point_in(number.to_string(), decimals),
        Err(_) => point_in(number.to_string(), decimals),
    }
}

fn point_in(digits: String, decimals: u32) -> String {
    let decimals = decimals as usize;
    if decimals == 0 {
        return digits;
    }
    let digits =
        if digits.len() > decimals { digits } else { format!("{digits:0>width$}", width = decimals + 1) };
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    format!("{whole}.{fraction}")
}

/// The same, with commas.
pub fn grouped(number: &str) -> String {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = output::grouped_digits(whole);
    if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") }
}

/// A quantity in a unit, rounded to so many decimals, without trailing zeros. Only for display.
pub fn in_unit(quantity: u128, unit: u128, decimals: u32) -> String {
    let number = match 10u128.checked_pow(decimals).and_then(|scale| quantity.checked_mul(scale)) {
        // the usual case, which is several times as fast
        Some(numerator) if unit > 0 => {
            let (whole, rest) = (numerator / unit, numerator % unit);
            let is_up = rest > unit - rest || (rest == unit - rest && whole % 2 == 1);
            point_in((whole + u128::from(is_up)).to_string(), decimals)
        }
        _ => {
            let numerator = BigUint::from(quantity) * power_of_ten(decimals);
            with_point(&Rounding::HalfEven.round(&numerator, &BigUint::from(unit.max(1))), decimals)
        }
    };
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number,
    }
}

/// A quantity in a unit, for display: three decimals, or four significant digits below 1.
pub fn shown(quantity: u128, unit: u128) -> String {
    let mut decimals = 3;
    let mut least = unit;
    while decimals < 15 && quantity > 0 && quantity < least {
        decimals += 1;
        least /= 10;
    }
    grouped(&in_unit(quantity, unit, decimals))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for (text, written) in [
            ("0", "0"),
            ("12", "12"),
            ("0.02", "0.02"),
            ("0.0000002", "0.0000002"),
            ("2e-7", "0.0000002"),
            ("1.50", "1.50"),
            ("1_000.5", "1000.5"),
            ("1.5e3", "1500"),
            ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890"),
        ] {
            assert_eq!(decimal(text).to_string(), written, "{text}");
        }
        for wrong in
            ["", "-1", "+1", ".5", "1.", "1,5", "0x10", "inf", "nan", "1e", "1e99", "1.2.3", "_", " 1", "٣"]
        {
            assert_eq!(Decimal::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Decimal::parse(&"1".repeat(41)), None);
        // it is no float: 0.1 + 0.2 would be more than 0.3 there
        assert_eq!(decimal("0.3").times(&10u8.into()), Some(3u8.into()));
        assert_eq!(decimal("0.25").times(&10u8.into()), None);
    }

    #[test]
    fn halves_are_rounded_by_the_rule() {
        let round = |rounding: Rounding, numerator: u32| {
            u32::try_from(rounding.round(&numerator.into(), &10u8.into())).unwrap()
        };
        // 0.4, 0.5, 0.6, 1.4, 1.5, 2.5
        let numerators = [4, 5, 6, 14, 15, 25];
        assert_eq!(numerators.map(|n| round(Rounding::HalfUp, n)), [0, 1, 1, 1, 2, 3]);
        assert_eq!(numerators.map(|n| round(Rounding::HalfEven, n)), [0, 0, 1, 1, 2, 2]);
        // less than a half by one part in 10^30 is less than a half
        let (almost, whole) = (power_of_ten(30) - 1u8, power_of_ten(30) * 2u8);
        assert_eq!(Rounding::HalfUp.round(&almost, &whole), BigUint::ZERO);
    }

    #[test]
    fn quantities_are_shown_with_the_digits_that_matter() {
        assert_eq!(in_unit(1_234_567, 1_000_000, 12), "1.234567");
        assert_eq!(in_unit(3, 3, 2), "1");
        assert_eq!(in_unit(1, 3, 4), "0.3333");
        assert_eq!(shown(1_234_567_000_000, 1_000_000_000), "1,234.567");
        assert_eq!(shown(1_000_000_000_000, 1), "1,000,000,000,000");
        assert_eq!(shown(1_234_567, 3_600_000_000_000), "0.0000003429");
        assert_eq!(shown(0, 1000), "0");
        assert_eq!(grouped("1234567.50"), "1,234,567.50");
        assert_eq!(with_point(&5u8.into(), 2), "0.05");
        assert_eq!(with_point(&5u8.into(), 0), "5");
    }

    proptest! {
        #[test]
        fn what_is_rounded_is_at_most_a_half_away(
            numerator: u64,
            denominator in 1u64..,
            rounding in prop::sample::select(&[Rounding::HalfUp, Rounding::HalfEven][..]),
        ) {
            let (n, d) = (i128::from(numerator), i128::from(denominator));
            let rounded = i128::try_from(rounding.round(&numerator.into(), &denominator.into())).unwrap();
            prop_assert!(2 * (rounded * d - n).abs() <= d);
        }

        #[test]
        fn small_and_large_quantities_are_shown_alike(
            quantity: u64,
            unit in 1u128..1_000_000_000_000,
            decimals in 0u32..13,
        ) {
            let numerator = BigUint::from(quantity) * power_of_ten(decimals);
            let wanted = Decimal { digits: Rounding::HalfEven.round(&numerator, &unit.into()), scale: decimals };
            let found = Decimal::parse(&in_unit(quantity.into(), unit, decimals)).unwrap();
            prop_assert_eq!(found.with_decimals(decimals), wanted.with_decimals(decimals));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9._eE+-]{0,12}|.*") {
            if let Some(read) = Decimal::parse(&text) {
                prop_assert_eq!(Decimal::parse(&read.to_string()).unwrap(), read);
            }
        }
    }
}
