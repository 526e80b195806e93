//! Zones, and the logs of zones.

use crate::nginx_conf::tree::{Directive, Place};

/// Bytes of an account, and the part of a zone that accounts can use. A test compares the result with the module's.
const ACCOUNT_BYTES: u64 = 1600;
const USABLE_PER_MILLE: u64 = 975;

/// A `request_cpu_zone`.
#[derive(Debug)]
pub struct Zone {
    pub name: String,
    pub key: String,
    pub size_bytes: Option<u64>,
    pub state: Option<String>,
    pub place: Place,
}

impl Zone {
    /// Reads the directive. None without a name.
    pub fn of(directive: &Directive) -> Option<Self> {
        let zone = directive.parameter("zone")?;
        let (name, size) = zone.split_once(':').unwrap_or((zone, ""));
        Some(Zone {
            name: name.to_owned(),
            key: directive.argument().to_owned(),
            size_bytes: size_bytes(size),
            state: directive.parameter("state").map(str::to_owned),
            place: directive.place.clone(),
        })
    }

    /// About how many accounts it holds.
    pub fn capacity(&self) -> Option<u64> {
        Some(self.size_bytes? / 1000 * USABLE_PER_MILLE / ACCOUNT_BYTES)
    }
}

/// A `request_cpu_log`.
#[derive(Debug)]
pub struct Log {
    pub path: String,
    pub zone: String,
    pub place: Place,
}

impl Log {
    /// Reads the directive.
    pub fn of(directive: &Directive) -> Self {
        Log {
            path: directive.argument().to_owned(),
            zone: directive.parameter("zone").unwrap_or_default().to_owned(),
            place: directive.place.clone(),
        }
    }
}

/// A size such as `8m`, as `ngx_parse_size` reads it.
fn size_bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capacity_is_near_to_that_of_the_module() {
        // the table in the documentation of request_cpu_zone
        for (size, accounts) in [("8m", 5121), ("16m", 10_251)] {
            let zone = Zone {
                name: String::new(),
                key: String::new(),
                size_bytes: size_bytes(size),
                state: None,
                place: Place { file: "".into(), line: 1 },
            };
            let capacity = zone.capacity().unwrap();
            assert!(capacity <= accounts && capacity + accounts / 50 > accounts, "{size}: {capacity}");
        }
        assert_eq!(size_bytes("8x"), None);
        assert_eq!(size_bytes("99999999999999999m"), None);
        assert_eq!(size_bytes("32767"), Some(32767));
    }
}
