//! The status of a location.

use core::ffi::c_void;

use accounting::render::Detail;
use accounting::render::negotiate::Content;

use crate::nginx::conf::Place;
use crate::nginx::configurations::Configurations;
use crate::nginx::content::ContentHandler;

/// The parameters of `request_cpu_status`.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatusConf {
    pub(in crate::config) is_set: bool,
    /// the position of the directive, if it is set here
    pub(in crate::config) place: Option<Place>,
    /// none: the client selects the format
    pub content: Option<Content>,
    /// used unless the client selects another one
    pub detail: Detail,
    /// the handler that answers here
    pub(in crate::config) handler: Option<ContentHandler>,
}

impl StatusConf {
    /// Whether a request with this content handler is in a location with `request_cpu_status`. Valid after the rewrite
    /// phase.
    pub fn is_answered_by(&self, handler: Option<ContentHandler>) -> bool {
        matches!((self.handler, handler), (Some(ours), Some(its)) if core::ptr::fn_addr_eq(ours, its))
    }
}

/// A location with `request_cpu_status`. It is kept until the whole configuration has been read.
pub struct StatusPlace {
    /// identifies the server of the location
    pub server: *const c_void,
    /// the configurations of all modules for the location
    pub location: Configurations,
    /// the position of the directive
    pub place: Place,
}
