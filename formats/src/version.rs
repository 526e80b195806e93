//! The version of the formats.

/// The version of the formats: the status document, the text for Prometheus, the traffic log's line, and the columns
/// of the state file. It increases with each change of an example in `accounting/tests/golden`. The state file also
/// has its own version, which defines how its lines are read.
pub const VERSION: u32 = 1;

/// Refuses a version that is later than [`VERSION`].
///
/// # Errors
/// The message for users.
pub fn check(version: u64) -> Result<(), String> {
    if version <= VERSION.into() {
        return Ok(());
    }
    Err(format!(
        "it has format {version}, but this program knows formats up to {VERSION} only; use the cpu-report of the \
         release that wrote it"
    ))
}

/// Refuses a line with a member `format` of a later version. A member that is not a number belongs to another program.
///
/// # Errors
/// As for [`check`].
pub(crate) fn check_member(value: &str) -> Result<(), String> {
    value.parse().map_or(Ok(()), check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_is_refused_and_named() {
        assert_eq!((check(0), check(VERSION.into())), (Ok(()), Ok(())));
        for version in [u64::from(VERSION) + 1, u64::MAX] {
            let message = check(version).unwrap_err();
            assert!(message.starts_with(&format!("it has format {version}, but")), "{message}");
        }
    }
}
