//! This module among NGINX's modules: its descriptor, and its index in arrays of configurations and contexts.

use core::ffi::c_void;

use nginx_sys::{NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF_OFFSET, ngx_module_t};

use super::live::{Live, get, set};

/// This module.
pub struct Module;

/// The address of the descriptor of [`Module`]. `lib.rs` implements it, since the descriptor contains names of all
/// parts.
pub trait Descriptor {
    /// A static of this library.
    fn descriptor() -> *mut ngx_module_t;
}

impl Module {
    #[inline]
    pub(super) fn live() -> Live<'static, ngx_module_t> {
        // SAFETY: The descriptor is a static. NGINX changes it while a configuration is read, in the thread of the
        // event loop.
        unsafe { Live::at(Module::descriptor()) }
    }
}

/// A configuration of this module's.
///
/// # Safety
/// For each level to which `OFFSET` refers, the module makes a value of this type, and no other value.
pub unsafe trait Configuration {
    /// The offset by which `ngx_command_t` refers to this level.
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

/// The module's index in the arrays of contexts and configurations of HTTP modules.
#[inline]
pub fn context_index() -> usize {
    get!(Module::live(), ctx_index)
}

/// `NGX_MODULE_UNSET_INDEX`
const UNSET_INDEX: usize = usize::MAX;

/// Whether a module has this index.
pub(super) fn has_index(module: Live<'_, ngx_module_t>, index: usize) -> bool {
    get!(module, ctx_index) == index
}

/// Gives the module an index among the HTTP modules, if `http` has not done that. `ngx_count_modules` keeps an index
/// that is set.
pub(super) fn set_context_index(free: impl FnOnce() -> usize) {
    if get!(Module::live(), ctx_index) == UNSET_INDEX {
        set!(Module::live(), ctx_index, free());
    }
}

/// The identity of the module's element of an array, as in [`element`].
///
/// # Safety
/// The same as for [`element`].
#[inline]
pub(super) unsafe fn element_id(array: *const *mut c_void) -> *const c_void {
    // SAFETY: as the caller says.
    unsafe { (*array.add(context_index())).cast_const() }
}

/// The module's element of an array that has one element for each HTTP module. The module must be in the cycle of the
/// array.
///
/// # Safety
/// `array` must be an array with one element for each HTTP module, and must live for `'a`. The element must have been
/// made for `T`.
#[inline]
pub(super) unsafe fn element<'a, T: Configuration>(array: *const *mut c_void) -> Option<&'a T> {
    // SAFETY: as the caller says.
    unsafe { element_id(array).cast::<T>().as_ref() }
}
