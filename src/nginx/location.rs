//! The location that a request is in.

use super::live::get;
use super::module::{LocationConfiguration, context_index};
use super::request::Request;

/// The module's configuration of the location that a request is in.
#[inline]
pub fn configuration<T: LocationConfiguration>(r: Request<'_>) -> &T {
    // SAFETY: the request is there. A cycle that has requests with a configuration of this module has the module,
    // and NGINX makes a configuration for each location.
    unsafe { &*(*get!(r.live(), loc_conf).add(context_index())).cast::<T>() }
}
