//! Values of variables.

use nginx_sys::ngx_http_variable_value_t;

use super::bits::variable_value::{LEN, NO_CACHEABLE, NOT_FOUND, VALID};

const _: () = assert!(
    LEN.is_beside(VALID) && LEN.is_beside(NO_CACHEABLE) && LEN.is_beside(NOT_FOUND),
    "the bit fields of ngx_http_variable_value_t are not in one unit of 32 bits: this server is not supported"
);

/// The length of a variable's value.
#[inline]
pub fn len_of(v: &ngx_http_variable_value_t) -> usize {
    // SAFETY: a reference is valid.
    unsafe { LEN.get(v) as usize }
}

/// A value is there, is this long, and stays as it is.
#[inline]
pub fn set_valid(v: &mut ngx_http_variable_value_t, len: usize) {
    // SAFETY: a reference is valid; `no_cacheable` and `not_found` are in the same unit, and get zero.
    unsafe { LEN.set_unit(v, LEN.bits(len as u32) | VALID.bits(1)) };
}

/// The variable has no value.
#[inline]
pub fn set_missing(v: &mut ngx_http_variable_value_t) {
    // SAFETY: a reference is valid.
    unsafe { NOT_FOUND.set(v, 1) };
}
