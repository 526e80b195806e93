//! Messages on standard error.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use super::style;
use super::text::printable;

/// Arguments that are wrong, which ends with status 2.
#[derive(Debug)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// A message on standard error.
pub fn complain(message: &str) {
    // nothing can be done if standard error is closed
    let _ = writeln!(io::stderr(), "cpu-report: {}", style::plain(&printable(without_numbers(message))));
}

/// A message without error numbers of the system. The text of the error stays.
pub fn without_numbers(message: &str) -> Cow<'_, str> {
    const BEGIN: &str = " (os error ";
    let mut out = Cow::Borrowed(message);
    while let Some(at) = out.find(BEGIN) {
        let (before, after) = out.split_at(at);
        let digits = after.get(BEGIN.len()..).unwrap_or_default();
        let Some(rest) = digits.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(')') else {
            break;
        };
        out = Cow::Owned(format!("{before}{rest}"));
    }
    out
}
