//! Variables and their values.

use core::slice;

use nginx_sys::{
    NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_OK, ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t,
    ngx_str_t, ngx_uint_t,
};

#[cfg(ngx_feature = "pcre")]
use super::bits;
use super::bits::variable_value::{LEN, NO_CACHEABLE, NOT_FOUND, VALID};
use super::callback::callback;
use super::conf::{Conf, Core};
use super::functions;
use super::live::{Live, get, set};
use super::request::Request;
use super::text::Text;

const _: () = assert!(
    LEN.is_beside(VALID) && LEN.is_beside(NO_CACHEABLE) && LEN.is_beside(NOT_FOUND),
    "the bit fields of ngx_http_variable_value_t are not in one unit of 32 bits: this server is not supported"
);

/// The place for the value of a variable.
pub struct Value<'a> {
    value: Live<'a, ngx_http_variable_value_t>,
    request: Request<'a>,
}

/// There is no memory.
#[derive(Debug, Clone, Copy)]
pub struct NoMemory;

impl Value<'_> {
    /// Sets that the variable has no value.
    #[inline]
    pub fn set_missing(self) {
        NOT_FOUND.put(self.value, 1);
    }

    /// Sets the value to this text.
    #[inline]
    pub fn set(self, text: &'static str) {
        self.set_bytes(text.as_bytes());
    }

    /// Sets the value to a copy of this text, which is given in pieces. `f` changes the copy.
    ///
    /// # Errors
    /// There is no memory.
    #[inline]
    pub fn set_copy(self, pieces: &[&[u8]], f: impl FnOnce(&mut [u8])) -> Result<(), NoMemory> {
        let bytes = self.request.pool().ok_or(NoMemory)?.join(pieces).ok_or(NoMemory)?;
        f(bytes);
        self.set_bytes(bytes);
        Ok(())
    }

    #[inline]
    fn set_bytes(self, bytes: &[u8]) {
        set!(self.value, data, bytes.as_ptr().cast_mut());
        // `no_cacheable` and `not_found` are in the same unit, and become zero.
        LEN.put_unit(self.value, LEN.bits(bytes.len() as u32) | VALID.bits(1));
    }
}

/// A variable of ours. It is computed when it is read, because a request's values change all the time. A subrequest
/// shares the array of variables of its parent (`ngx_http_subrequest`), so no value may be kept.
pub trait Variable {
    /// Sets the value. `data` is the number that was given to [`add`].
    ///
    /// # Errors
    /// There is no memory.
    fn get(r: Request<'_>, value: Value<'_>, data: usize) -> Result<(), NoMemory>;
}

type Getter =
    unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_http_variable_value_t, usize) -> ngx_int_t;

callback! {
    fn handler<V: Variable>(
        r: Request<'_>,
        value: Live<'_, ngx_http_variable_value_t>,
        data: usize,
    ) -> ngx_int_t {
        let done = V::get(r, Value { value, request: r }, data);
        if done.is_ok() { NGX_OK as ngx_int_t } else { NGX_ERROR as ngx_int_t }
    }
}

/// Adds a variable. `None` if there is no memory, or if NGINX has logged another reason.
pub fn add<V: Variable>(cf: &Conf<'_>, name: &str, data: usize) -> Option<()> {
    let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
    let variable = functions::add_variable(cf.live(), &mut Text::new(name.as_bytes()), flags)?;
    set!(variable, get_handler, Some(handler::<V> as Getter));
    set!(variable, data, data);
    Some(())
}

/// The names of the variables that directives have used so far (`ngx_http_get_variable_index`).
pub fn indexed(core: Core<'_>) -> impl Iterator<Item = ngx_str_t> {
    core.indexed_variables().map(|variable| get!(variable, name))
}

/// A copy of a request's variables and captures.
pub struct KeptValues<'a> {
    request: Request<'a>,
    values: Vec<ngx_http_variable_value_t>,
    #[cfg(ngx_feature = "pcre")]
    captures: Captures,
}

/// The captures of a request's last pattern. An NGINX without PCRE has none.
#[cfg(ngx_feature = "pcre")]
struct Captures {
    captures: *mut core::ffi::c_int,
    count: ngx_uint_t,
    data: *mut nginx_sys::u_char,
    realloc: bool,
}

impl<'a> Request<'a> {
    /// The request's variables, by their index.
    fn values(self) -> &'a [ngx_http_variable_value_t] {
        let count = get!(self.live().core_main_conf(), variables.nelts);
        // SAFETY: `ngx_http_alloc_request` has made as many variables as the core module has indexed.
        // `ngx_http_variables_init_vars` has indexed all of them before the first request.
        unsafe { slice::from_raw_parts(get!(self.live(), variables), count) }
    }

    /// Copies variables and captures. `room` is reused for the copy.
    ///
    /// Sets `realloc_captures`. With this flag, `ngx_http_regex_exec` makes a new array of captures, as it does for a
    /// subrequest.
    #[inline]
    pub fn keep_variables(self, mut room: Vec<ngx_http_variable_value_t>) -> KeptValues<'a> {
        room.clear();
        room.extend_from_slice(self.values());
        #[cfg(ngx_feature = "pcre")]
        let captures = {
            let r = self.live();
            let realloc = bits::request::REALLOC_CAPTURES.is_on(r);
            bits::request::REALLOC_CAPTURES.put(r, 1);
            Captures {
                captures: get!(r, captures),
                count: get!(r, ncaptures),
                data: get!(r, captures_data),
                realloc,
            }
        };
        KeptValues {
            request: self,
            values: room,
            #[cfg(ngx_feature = "pcre")]
            captures,
        }
    }
}

impl KeptValues<'_> {
    /// Restores variables and captures. Returns the vector, so that it can be reused.
    #[inline]
    pub fn restore(self) -> Vec<ngx_http_variable_value_t> {
        let r = self.request.live();
        #[cfg(ngx_feature = "pcre")]
        {
            bits::request::REALLOC_CAPTURES.put(r, self.captures.realloc.into());
            set!(r, captures, self.captures.captures);
            set!(r, ncaptures, self.captures.count);
            set!(r, captures_data, self.captures.data);
        }
        let values: *mut ngx_http_variable_value_t = get!(r, variables);
        // SAFETY: The number of variables has not changed.
        unsafe { values.copy_from_nonoverlapping(self.values.as_ptr(), self.values.len()) };
        self.values
    }
}
