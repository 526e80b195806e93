//! The version of the formats.

/// The version of the formats: of the status document, of the text for Prometheus, of the traffic log's line and of
/// the columns of the state file. It is higher after each change of an example in `accounting/tests/golden`. The state
/// file also tells a version of its own, which says how its lines are read.
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

/// Refuses a line with a member `format` of a later version. A member that is no number is not one of ours.
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
