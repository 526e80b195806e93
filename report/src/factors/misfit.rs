//! Why a line does not fit the log format.

use std::fmt;

use super::json::Unreadable;
use super::record::Invalid;

/// Why a line was not understood.
#[derive(Debug)]
pub enum Misfit<'r> {
    /// the text that should stand before the first variable is not there
    Begin(&'r [u8]),
    /// the text that should follow on a variable is not there
    After(&'r str, &'r [u8]),
    /// there is more than the format has, in this last variable
    Surplus(&'r str),
    /// a number is invalid
    Invalid(Invalid),
    /// it begins as JSON does, and cannot be read
    Json(Unreadable<'r>),
}

impl fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(text) => write!(f, "it does not begin with \"{}\"", text.escape_ascii()),
            Self::After(variable, b"") => write!(f, "more text follows ${variable}"),
            Self::After(variable, text) => {
                write!(f, "\"{}\" is missing after ${variable}", text.escape_ascii())
            }
            Self::Surplus(variable) => {
                write!(f, "more text than the format allows follows ${variable}")
            }
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Json(unreadable) => unreadable.fmt(f),
        }
    }
}
