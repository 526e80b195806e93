//! The location of a request.

use super::live::get;
use super::module::{LocationConfiguration, context_index};
use super::request::Request;

/// The module's configuration of a request's location.
#[inline]
pub fn configuration<T: LocationConfiguration>(r: Request<'_>) -> &T {
    // SAFETY: The request has not been freed. A cycle that has requests with a configuration of this module contains
    // the module, and NGINX makes a configuration for each location.
    unsafe { &*(*get!(r.live(), loc_conf).add(context_index())).cast::<T>() }
}
