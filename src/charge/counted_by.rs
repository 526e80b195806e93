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
    /// The one that the request is in.
    pub const CURRENT: CountedBy = CountedBy(null());

    /// The one that the request is in now, wherever it is later.
    #[inline]
    pub fn this(r: Request<'_>) -> CountedBy {
        CountedBy(location(r))
    }

    /// Whether it is the location that the request is in.
    #[inline]
    pub fn is_current(self) -> bool {
        self.0.is_null()
    }

    /// The location, for the request that this is of.
    #[inline]
    pub fn of(self, r: Request<'_>) -> &LocConf {
        // SAFETY: null, or a location of the configuration that serves the request; that lives as long as its
        // requests.
        unsafe { self.0.as_ref() }.unwrap_or_else(|| location(r))
    }
}
