//! Functions of NGINX that may be called with any structures that are in use.
//!
//! The arguments prove that a function may be called: a [`Live`] is in use, and a [`Text`] is there. The function keeps
//! none of them. A pointer that it returns is null, or leads to a structure that is there for as long as the table
//! says. A function that requires more of its arguments is not in the table.

use core::ffi::c_void;

use nginx_sys::*;

use super::live::Live;
use super::text::Text;

/// An argument, as C has it.
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

/// What a function returns.
trait Returned<C> {
    /// # Safety
    /// A pointer must be null, or lead to a structure as [`Live::new`] wants it.
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
            // SAFETY: the arguments are valid, as their types say; and as the table says.
            unsafe { Returned::of($function($(Argument::pass($argument)),*)) }
        }
    )* };
}

functions! {
    /// Reads the body of a request and throws it away. It looks whether that may be done.
    fn discard_request_body(r: Live<'_, ngx_http_request_t>) -> ngx_int_t = ngx_http_discard_request_body;
    /// The value of a variable, which is there as long as the request. It compares the index with how many there are.
    fn flushed_variable<'a>(r: Live<'a, ngx_http_request_t>, index: ngx_uint_t)
        -> Option<Live<'a, ngx_http_variable_value_t>> = ngx_http_get_flushed_variable;
    /// Sends the header of an answer. It looks whether that was done.
    fn send_header(r: Live<'_, ngx_http_request_t>) -> ngx_int_t = ngx_http_send_header;
    /// Hands buffers to the filters, which do not keep the chain's links.
    fn output_filter(r: Live<'_, ngx_http_request_t>, chain: Option<Live<'_, ngx_chain_t>>) -> ngx_int_t
        = ngx_http_output_filter;
    /// Asks the event method for the event of writing of an open connection.
    fn handle_write_event(event: Live<'_, ngx_event_t>, low_water: usize) -> ngx_int_t = ngx_handle_write_event;

    /// Memory for so many bytes, which is aligned to a word (`NGX_ALIGNMENT`); null if there is none.
    fn palloc(pool: Live<'_, ngx_pool_t>, bytes: usize) -> *mut c_void = ngx_palloc;
    /// As above, not aligned.
    fn pnalloc(pool: Live<'_, ngx_pool_t>, bytes: usize) -> *mut c_void = ngx_pnalloc;
    /// A cleanup with so many bytes of data, which is there as long as the pool. It has no function yet.
    fn pool_cleanup_add<'a>(pool: Live<'a, ngx_pool_t>, bytes: usize) -> Option<Live<'a, ngx_pool_cleanup_t>>
        = ngx_pool_cleanup_add;

    /// A size, as directives have it.
    fn parse_size(value: &mut Text<'_>) -> isize = ngx_parse_size;
    /// A time, as directives have it.
    fn parse_time(value: &mut Text<'_>, in_seconds: ngx_uint_t) -> ngx_int_t = ngx_parse_time;
    /// Makes a path a whole one, in the configuration's pool, if it is not.
    fn conf_full_name<'a>(cycle: Live<'a, ngx_cycle_t>, name: &mut Text<'a>, of_conf: ngx_uint_t) -> ngx_int_t
        = ngx_conf_full_name;
    /// The index of a variable. The name is copied.
    fn variable_index(cf: Live<'_, ngx_conf_t>, name: &mut Text<'_>) -> ngx_int_t = ngx_http_get_variable_index;
    /// A variable of this name, which is there as long as the configuration. The name is copied.
    fn add_variable<'a>(cf: Live<'a, ngx_conf_t>, name: &mut Text<'_>, flags: ngx_uint_t)
        -> Option<Live<'a, ngx_http_variable_t>> = ngx_http_add_variable;

    /// A piece of shared memory; null if there is none.
    fn slab_alloc(pool: Live<'_, ngx_slab_pool_t>, bytes: usize) -> *mut c_void = ngx_slab_alloc;
    /// Gives back a mutex. It looks whether this process has it.
    fn shmtx_unlock(mutex: Live<'_, ngx_shmtx_t>) = ngx_shmtx_unlock;
    /// A time of day in parts.
    fn gmtime(seconds: time_t, tm: &mut ngx_tm_t) = ngx_gmtime;
}
