//! Reasons why a region cannot be used.

/// The reason why a region cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The region has no room for an account.
    TooSmall,
    /// The region holds something else, or was made by another version of the module.
    Foreign,
    /// The table has accounts of another key.
    OtherKey,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Error::TooSmall => "no account fits into the zone",
            Error::Foreign => "the zone was made by another version of the module",
            Error::OtherKey => "the zone has accounts of another key",
        })
    }
}
