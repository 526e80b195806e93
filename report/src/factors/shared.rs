//! The names with rows of their own, which all threads share.

use std::borrow::Cow;

use super::admitted::Admitted;
use super::escape::unescape;
use super::part::RequestPart;

/// The most groups of the first figure.
pub const MAX_GROUPS: usize = 64;

/// NGINX has nine cache statuses, and a variable of the user's own may have others.
pub const MAX_STATUSES: usize = 64;

/// Longer names are cut there, as in the module's zones.
const MAX_NAME_BYTES: usize = 255;

/// The names that all threads share.
pub struct SharedNames {
    /// names of domains
    pub domains: Admitted,
    /// names of the groups of the first figure
    pub groups: Admitted,
    /// names of cache statuses
    pub statuses: Admitted,
    /// values of `--by`
    pub values: Admitted,
    /// whether requests are added up by a variable
    pub is_by: bool,
    /// the part of `$request` that the variable is
    pub part: Option<RequestPart>,
    /// whether values are to be turned back to what they were before they were written
    pub is_escaped: bool,
}

impl SharedNames {
    /// A name without NGINX's escapes, cut if it is long. So a name has one row, however it was escaped.
    pub fn name<'a>(&self, written: &'a [u8]) -> Cow<'a, [u8]> {
        if self.is_escaped && memchr::memchr(b'\\', written).is_some() {
            return Cow::Owned(cut(&unescape(written)).to_vec());
        }
        Cow::Borrowed(cut(written))
    }

    /// Room for so many domains, and so many values of the variable that requests are added up by.
    pub fn new(max_domains: usize, max_values: usize, by: Option<&str>, is_escaped: bool) -> Self {
        Self {
            is_escaped,
            values: Admitted::new(max_values),
            is_by: by.is_some(),
            part: by.and_then(RequestPart::of),
            domains: Admitted::new(max_domains),
            groups: Admitted::new(MAX_GROUPS),
            statuses: Admitted::new(MAX_STATUSES),
        }
    }
}

/// The beginning of a name, up to the end of a character.
fn cut(name: &[u8]) -> &[u8] {
    let is_within = |byte: &u8| byte & 0xc0 == 0x80;
    let Some(rest) = name.get(MAX_NAME_BYTES..).filter(|rest| !rest.is_empty()) else { return name };
    let begin = name.get(..MAX_NAME_BYTES).unwrap_or(name);
    if !rest.first().is_some_and(is_within) {
        return begin;
    }
    // a character has three bytes after its first one at most; other bytes are no UTF-8
    let tail = begin.iter().rev().take(3).take_while(|byte| is_within(byte)).count();
    begin.get(..begin.len() - tail - 1).unwrap_or(begin)
}
