//! This module among NGINX's modules: its descriptor, and its place in arrays of configurations and contexts.
//!
//! Not `ngx::http::HttpModule`: its `create_main_conf` writes to null where there is no memory
//! (`ngx::core::Pool::allocate`), its `merge_loc_conf` does not hand over the configuration that is being read,
//! and its configurations are found without a look whether the cycle has the module.

use core::ffi::c_void;

use nginx_sys::{NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF_OFFSET, ngx_module_t};

use super::live::{Live, get, set};

/// This module.
pub struct Module;

/// Where the descriptor of [`Module`] is. `lib.rs` says so, since the descriptor names everything.
pub trait Descriptor {
    /// A static of this library.
    fn descriptor() -> *mut ngx_module_t;
}

impl Module {
    #[inline]
    pub(super) fn live() -> Live<'static, ngx_module_t> {
        // SAFETY: a static, which NGINX changes while a configuration is read, in the thread of the event loop.
        unsafe { Live::at(Module::descriptor()) }
    }
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
    get!(Module::live(), ctx_index)
}

/// `NGX_MODULE_UNSET_INDEX`
const UNSET_INDEX: usize = usize::MAX;

/// Whether a module has this place.
pub(super) fn has_index(module: Live<'_, ngx_module_t>, index: usize) -> bool {
    get!(module, ctx_index) == index
}

/// Gives the module a place among the HTTP modules, if `http` has not done that. A place that is set is kept by
/// `ngx_count_modules`.
pub(super) fn set_context_index(free: impl FnOnce() -> usize) {
    if get!(Module::live(), ctx_index) == UNSET_INDEX {
        set!(Module::live(), ctx_index, free());
    }
}

/// What the module's element of such an array as in [`element`] is known by.
///
/// # Safety
/// As there.
#[inline]
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
    unsafe { element_id(array).cast::<T>().as_ref() }
}
