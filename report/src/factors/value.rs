//! Numbers as they are written in a log.

/// Digits.
pub fn integer(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(number)
}

/// Seconds with decimals, as nanoseconds. Smaller parts are cut off. An exponent is accepted, as programs
/// other than NGINX may write one.
pub fn nanoseconds(text: &[u8]) -> Option<u64> {
    decimal(text).or_else(|| {
        let with_exponent = text.iter().any(|byte| matches!(byte, b'e' | b'E'));
        let seconds: f64 = std::str::from_utf8(text).ok().filter(|_| with_exponent)?.parse().ok()?;
        (0.0..=1e10).contains(&seconds).then_some((seconds * 1e9).round() as u64)
    })
}

fn decimal(text: &[u8]) -> Option<u64> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(point) => (text.get(..point)?, text.get(point + 1..)?),
        None => (text, &[][..]),
    };
    let mut ns = integer(whole)?;
    for at in 0..9 {
        let digit = match decimals.get(at) {
            Some(byte) => byte.wrapping_sub(b'0'),
            None => 0,
        };
        if digit > 9 {
            return None;
        }
        ns = ns.checked_mul(10)?.checked_add(digit.into())?;
    }
    if decimals.iter().skip(9).any(|byte| !byte.is_ascii_digit()) {
        return None;
    }
    Some(ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_are_read_to_the_nanosecond() {
        for (text, ns) in [
            ("0.000169292", Some(169_292)),
            ("0", Some(0)),
            ("12", Some(12_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("1.", Some(1_000_000_000)),
            ("0.0000000019", Some(1)),
            ("18446744073.709551615", Some(u64::MAX)),
            ("18446744073.709551616", None),
            ("99999999999999999999", None),
            (".5", None),
            ("-1", None),
            ("1e3", Some(1_000_000_000_000)),
            ("1.69292e-4", Some(169_292)),
            ("-1e3", None),
            ("1e30", None),
            ("e", None),
            ("0.00a", None),
            ("0.0000000001a", None),
            ("", None),
        ] {
            assert_eq!(nanoseconds(text.as_bytes()), ns, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(value in any::<Vec<u8>>()) {
            let _ = (integer(&value), nanoseconds(&value));
        }

        #[test]
        fn seconds_as_nginx_writes_them_are_exact(ns in any::<u64>()) {
            let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
            prop_assert_eq!(nanoseconds(text.as_bytes()), Some(ns));
        }
    }
}
