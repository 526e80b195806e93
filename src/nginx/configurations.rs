//! The configurations of all HTTP modules for one location.

use core::ffi::c_void;

use nginx_sys::ngx_module_t;

use super::live::{Live, get};

/// The configurations of all HTTP modules for one location. A module's configuration keeps this value, and is in the
/// same pool.
#[derive(Clone, Copy)]
pub struct Configurations(*const *mut c_void);

impl Configurations {
    /// The location that NGINX merges: `ngx_http_merge_locations` and `ngx_http_merge_servers` set the context to it.
    pub(super) fn merged(first: *const *mut c_void) -> Configurations {
        Configurations(first)
    }

    /// The configuration of a module.
    ///
    /// # Safety
    /// The module must be an HTTP module of the cycle in whose configuration this location is.
    pub(super) unsafe fn of(self, module: Live<'_, ngx_module_t>) -> *const c_void {
        // SAFETY: `ngx_http_block` makes an array with an element for each HTTP module of the cycle.
        unsafe { (*self.0.add(get!(module, ctx_index))).cast_const() }
    }
}
