//! This module among NGINX's modules: its descriptor, and its place in arrays of configurations and contexts.
//!
//! Not `ngx::http::HttpModule`: its `create_main_conf` writes to null where there is no memory
//! (`ngx::core::Pool::allocate`), its `merge_loc_conf` does not hand over the configuration that is being read,
//! and its configurations are found without a look whether the cycle has the module.

use core::ffi::c_void;

use nginx_sys::{NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF_OFFSET, ngx_module_t};

use super::live::get;
use super::request::Request;

/// This module.
pub struct Module;

/// Where the descriptor of [`Module`] is. `lib.rs` says so, since the descriptor names everything.
pub trait Descriptor {
    /// A static of this library.
    fn descriptor() -> *mut ngx_module_t;
}

/// A configuration of this module's.
///
/// # Safety
/// The module makes a value of this type for each of these places, and no other value.
pub unsafe trait Configuration {
    /// What `ngx_command_t` says of the place.
    const OFFSET: usize;
}

/// The configuration in `http`.
///
/// # Safety
/// [`Configuration::OFFSET`] is [`IN_MAIN`]. The value changes through cells only.
pub unsafe trait MainConfiguration: Configuration {}

/// The configuration of a location.
///
/// # Safety
/// [`Configuration::OFFSET`] is [`IN_LOCATION`]. The value changes through cells only.
pub unsafe trait LocationConfiguration: Configuration {}

pub const IN_MAIN: usize = NGX_HTTP_MAIN_CONF_OFFSET;
pub const IN_LOCATION: usize = NGX_HTTP_LOC_CONF_OFFSET;

/// The module's place in the arrays of contexts and configurations of HTTP modules.
#[inline]
pub fn context_index() -> usize {
    // SAFETY: `ngx_http_block` sets it while the configuration is read; after that it is only read.
    unsafe { (*Module::descriptor()).ctx_index }
}

/// `NGX_MODULE_UNSET_INDEX`
const UNSET_INDEX: usize = usize::MAX;

/// Whether a module has this place.
pub(super) fn has_index(module: &ngx_module_t, index: usize) -> bool {
    module.ctx_index == index
}

/// Gives the module a place among the HTTP modules, if `http` has not done that.
pub(super) fn set_context_index(free: impl FnOnce() -> usize) {
    // SAFETY: called by `ngx_init_modules`, in the one thread that reads configurations. A place that is set is
    // kept by `ngx_count_modules`.
    unsafe {
        if (*Module::descriptor()).ctx_index == UNSET_INDEX {
            (*Module::descriptor()).ctx_index = free();
        }
    }
}

/// What the module's element of such an array as in [`element`] is known by.
///
/// # Safety
/// As there.
pub(super) unsafe fn element_id(array: *const *mut c_void) -> *const c_void {
    // SAFETY: as the caller says.
    unsafe { (*array.add(context_index())).cast_const() }
}

/// The module's element of an array that has one for each HTTP module. The module must be in the cycle of the array.
///
/// # Safety
/// `array` must be such an array, and live for `'a`; the element was made for `T`.
#[inline]
pub(super) unsafe fn element<'a, T: Configuration>(array: *const *mut c_void) -> Option<&'a T> {
    // SAFETY: as the caller says.
    unsafe { (*array.add(context_index())).cast::<T>().as_ref() }
}

/// The module's configuration of the location that a request is in.
#[inline]
pub fn location<T: LocationConfiguration>(r: Request<'_>) -> &T {
    // SAFETY: the request is there. A cycle that has requests with a configuration of this module has the module,
    // and NGINX makes a configuration for each location.
    unsafe { &*(*get!(r.live(), loc_conf).add(context_index())).cast::<T>() }
}
