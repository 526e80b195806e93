//! Configurations of locations.

use core::ffi::c_void;

use nginx_sys::{ngx_http_core_loc_conf_t, ngx_http_core_module};

/// Whether something follows the answers of a location.
///
/// # Safety
/// It must be the configurations of all modules for a location, merged.
#[inline]
pub unsafe fn has_post_action(loc_conf: *mut *mut c_void) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        let core = (*loc_conf.add(ngx_http_core_module.ctx_index)).cast::<ngx_http_core_loc_conf_t>();
        !(*core).post_action.data.is_null()
    }
}
