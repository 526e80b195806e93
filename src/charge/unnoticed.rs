//! Variables that are looked up while the request does not notice.

use nginx_sys::{ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_request_t};

use crate::charge::worker::{Worker, with};
#[cfg(ngx_feature = "pcre")]
use crate::nginx::bits;

/// Runs `f` so that the request does not notice: variables and captures are then what they were before. A variable that is
/// looked up before its time (a `map` of something that the upstream has not said yet) would keep that value for the rest of
/// the request, and a `map` with patterns would leave its captures behind.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn unnoticed<R>(r: *mut ngx_http_request_t, f: impl FnOnce() -> R) -> R {
    let mut kept = with(Worker::take_scratch).unwrap_or_default();
    // SAFETY: `ngx_http_alloc_request` has made as many variables as the core module has indexed. `ngx_http_variables_init_vars` has
    // indexed all of them before the first request.
    unsafe {
        let core = (*(*r).main_conf.add(ngx_http_core_module.ctx_index)).cast::<ngx_http_core_main_conf_t>();
        let variables = core::slice::from_raw_parts((*r).variables, (*core).variables.nelts);
        kept.extend_from_slice(variables);
        #[cfg(ngx_feature = "pcre")]
        let captures = keep_captures(r);

        let result = f();

        #[cfg(ngx_feature = "pcre")]
        captures.restore(r);
        (*r).variables.copy_from_nonoverlapping(kept.as_ptr(), kept.len());
        with(|worker| worker.put_scratch(kept));
        result
    }
}

/// The captures of a request's last pattern; an NGINX without PCRE has none.
#[cfg(ngx_feature = "pcre")]
struct Captures {
    captures: *mut core::ffi::c_int,
    count: nginx_sys::ngx_uint_t,
    data: *mut nginx_sys::u_char,
    realloc: bool,
}

/// Takes a request's captures aside. With `realloc_captures`, `ngx_http_regex_exec` makes itself a new array of captures, as it
/// does for a subrequest.
///
/// # Safety
/// `r` must be a request that has not been freed.
#[cfg(ngx_feature = "pcre")]
unsafe fn keep_captures(r: *mut ngx_http_request_t) -> Captures {
    // SAFETY: as the caller says.
    unsafe {
        let realloc = bits::request::REALLOC_CAPTURES.is_set(r);
        bits::request::REALLOC_CAPTURES.set(r, 1);
        Captures { captures: (*r).captures, count: (*r).ncaptures, data: (*r).captures_data, realloc }
    }
}

#[cfg(ngx_feature = "pcre")]
impl Captures {
    /// # Safety
    /// `r` must be the request that they are of, and not freed meanwhile.
    unsafe fn restore(self, r: *mut ngx_http_request_t) {
        // SAFETY: as the caller says.
        unsafe {
            bits::request::REALLOC_CAPTURES.set(r, self.realloc.into());
            (*r).captures = self.captures;
            (*r).ncaptures = self.count;
            (*r).captures_data = self.data;
        }
    }
}
