//! Functions of NGINX that may be called with any structures that are in use.
//!
//! The types of the arguments prove that a function may be called: a [`Live`] is in use, and the bytes of a [`Text`]
//! exist. The function keeps none of its arguments. A pointer that it returns is null, or leads to a structure that
//! lives as long as the table says. Functions that require more of their arguments are not in the table.

use core::ffi::c_void;

use nginx_sys::*;

use super::live::Live;
use super::text::Text;

/// An argument in the form of C.
trait Argument<C> {
    fn pass(self) -> C;
}

impl<T> Argument<*mut T> for Live<'_, T> {
    #[inline]
    fn pass(self) -> *mut T {
        self.as_ptr()
    }
}

/// `None` is null.
impl<T> Argument<*mut T> for Option<Live<'_, T>> {
    #[inline]
    fn pass(self) -> *mut T {
        self.map_or(core::ptr::null_mut(), Live::as_ptr)
    }
}

impl Argument<*mut ngx_str_t> for &mut Text<'_> {
    fn pass(self) -> *mut ngx_str_t {
        self.as_mut_ptr()
    }
}

impl Argument<*mut ngx_tm_t> for &mut ngx_tm_t {
    fn pass(self) -> *mut ngx_tm_t {
        self
    }
}

impl<T> Argument<T> for T {
    #[inline]
    fn pass(self) -> T {
        self
    }
}

/// The return value of a function.
trait Returned<C> {
    /// # Safety
    /// A pointer must be null, or lead to a structure that fulfils the conditions of [`Live::new`].
    unsafe fn of(c: C) -> Self;
}

impl<T> Returned<T> for T {
    #[inline]
    unsafe fn of(c: T) -> T {
        c
    }
}

impl<T> Returned<*mut T> for Option<Live<'_, T>> {
    #[inline]
    unsafe fn of(c: *mut T) -> Self {
        // SAFETY: as the caller says.
        unsafe { Live::new(c) }
    }
}

macro_rules! functions {
    ($(
        $(#[$attribute:meta])*
        fn $name:ident$(<$lifetime:lifetime>)?($($argument:ident: $type:ty),*) $(-> $result:ty)? = $function:ident;
    )*) => { $(
        $(#[$attribute])*
        #[inline]
        pub(super) fn $name$(<$lifetime>)?($($argument: $type),*) $(-> $result)? {
            // SAFETY: The arguments are valid, as their types guarantee. The table gives the lifetime of the result.
            unsafe { Returned::of($function($(Argument::pass($argument)),*)) }
        }
    )* };
}

functions! {
    /// Reads the body of a request and throws it away. The function checks whether this is allowed.
    fn discard_request_body(r: Live<'_, ngx_http_request_t>) -> ngx_int_t = ngx_http_discard_request_body;
    /// The value of a variable, which lives as long as the request. The function compares the index with the number of
    /// variables.
    fn flushed_variable<'a>(r: Live<'a, ngx_http_request_t>, index: ngx_uint_t)
        -> Option<Live<'a, ngx_http_variable_value_t>> = ngx_http_get_flushed_variable;
    /// Sends the header of an answer. The function checks whether the header was sent already.
    fn send_header(r: Live<'_, ngx_http_request_t>) -> ngx_int_t = ngx_http_send_header;
    /// Hands buffers to the filters. They do not keep the links of the chain.
    fn output_filter(r: Live<'_, ngx_http_request_t>, chain: Option<Live<'_, ngx_chain_t>>) -> ngx_int_t
        = ngx_http_output_filter;
    /// Asks the event method to report when an open connection can be written to.
    fn handle_write_event(event: Live<'_, ngx_event_t>, low_water: usize) -> ngx_int_t = ngx_handle_write_event;

    /// Memory of this size, aligned to a word (`NGX_ALIGNMENT`); null if there is no memory.
    fn palloc(pool: Live<'_, ngx_pool_t>, bytes: usize) -> *mut c_void = ngx_palloc;
    /// As `palloc`, but not aligned.
    fn pnalloc(pool: Live<'_, ngx_pool_t>, bytes: usize) -> *mut c_void = ngx_pnalloc;
    /// A cleanup with this many bytes of data. It lives as long as the pool. It has no function yet.
    fn pool_cleanup_add<'a>(pool: Live<'a, ngx_pool_t>, bytes: usize) -> Option<Live<'a, ngx_pool_cleanup_t>>
        = ngx_pool_cleanup_add;

    /// Parses a size in the form that directives use.
    fn parse_size(value: &mut Text<'_>) -> isize = ngx_parse_size;
    /// Parses a time in the form that directives use.
    fn parse_time(value: &mut Text<'_>, in_seconds: ngx_uint_t) -> ngx_int_t = ngx_parse_time;
    /// Completes a relative path, in the configuration's pool.
    fn conf_full_name<'a>(cycle: Live<'a, ngx_cycle_t>, name: &mut Text<'a>, of_conf: ngx_uint_t) -> ngx_int_t
        = ngx_conf_full_name;
    /// The index of a variable. The name is copied.
    fn variable_index(cf: Live<'_, ngx_conf_t>, name: &mut Text<'_>) -> ngx_int_t = ngx_http_get_variable_index;
    /// A variable with this name, which lives as long as the configuration. The name is copied.
    fn add_variable<'a>(cf: Live<'a, ngx_conf_t>, name: &mut Text<'_>, flags: ngx_uint_t)
        -> Option<Live<'a, ngx_http_variable_t>> = ngx_http_add_variable;

    /// A piece of shared memory; null if there is none left.
    fn slab_alloc(pool: Live<'_, ngx_slab_pool_t>, bytes: usize) -> *mut c_void = ngx_slab_alloc;
    /// Unlocks a mutex. The function checks whether this process holds it.
    fn shmtx_unlock(mutex: Live<'_, ngx_shmtx_t>) = ngx_shmtx_unlock;
    /// Splits a time of day into its parts.
    fn gmtime(seconds: time_t, tm: &mut ngx_tm_t) = ngx_gmtime;
}
