//! The location that a request is counted by.

use core::ptr::null;

use crate::config::location::{LocConf, loc_conf};
use crate::nginx::request::Request;

/// The location that a request is in.
#[inline]
pub fn location(r: Request<'_>) -> &LocConf {
    loc_conf(r)
}

/// The location that a request is counted by.
#[derive(Clone, Copy)]
pub struct CountedBy(*const LocConf);

impl CountedBy {
    /// The current location of the request, whichever it is.
    pub const CURRENT: CountedBy = CountedBy(null());

    /// The location in which the request is now, even if the request moves to another one.
    #[inline]
    pub fn this(r: Request<'_>) -> CountedBy {
        CountedBy(location(r))
    }

    /// Whether it is the current location of the request, whichever it is.
    #[inline]
    pub fn is_current(self) -> bool {
        self.0.is_null()
    }

    /// The location. `r` must be the request that this value was made for.
    #[inline]
    pub fn of(self, r: Request<'_>) -> &LocConf {
        // SAFETY: the pointer is null, or points to a location of the configuration that serves the request. That
        // configuration lives as long as its requests.
        unsafe { self.0.as_ref() }.unwrap_or_else(|| location(r))
    }
}
