//! `$request_cpu_time` and its like: computed when they are read, since they change all the time; and
//! `$request_cpu_subrequest`, which tells the log lines of subrequests from those of main requests.

use nginx_sys::{
    NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_OK, ngx_conf_t, ngx_http_add_variable,
    ngx_http_core_main_conf_t, ngx_http_request_t, ngx_http_variable_t, ngx_http_variable_value_t, ngx_int_t,
    ngx_pnalloc, ngx_str_t, ngx_uint_t,
};

use ngx::ngx_string;

use crate::charge::limit;
use crate::charge::request::{self, Reading};
use crate::nginx::bits::variable_value::{LEN, NO_CACHEABLE, NOT_FOUND, VALID};

const NS_PER_S: u64 = 1_000_000_000;

const CONNECTION_NS: ngx_str_t = ngx_string!("request_cpu_connection_ns");

/// What a variable shows: a whole number, and decimals of it.
type Show = fn(&Reading) -> (u64, Option<u64>);

/// A variable's `data` is its place here.
const VARIABLES: [(ngx_str_t, Show); 4] = [
    (ngx_string!("request_cpu_time"), |r| (r.total_ns / NS_PER_S, Some(r.total_ns % NS_PER_S))),
    (ngx_string!("request_cpu_ns"), |r| (r.total_ns, None)),
    (ngx_string!("request_cpu_wakeups"), |r| (r.wakeups, None)),
    (CONNECTION_NS, |r| (r.connection_ns, None)),
];

pub unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    for (at, (mut name, _)) in VARIABLES.into_iter().enumerate() {
        // SAFETY: NGINX calls with a valid `cf`; it copies the name.
        let variable =
            unsafe { ngx_http_add_variable(cf, &mut name, NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t).as_mut() };
        let Some(variable) = variable else { return NGX_ERROR as ngx_int_t };
        variable.get_handler = Some(get);
        variable.data = at;
    }
    let mut name = ngx_string!("request_cpu_subrequest");
    // SAFETY: as above. A subrequest has the array of variables of its parent (ngx_http_subrequest), so no value may be kept.
    let variable =
        unsafe { ngx_http_add_variable(cf, &mut name, NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t).as_mut() };
    let Some(variable) = variable else { return NGX_ERROR as ngx_int_t };
    variable.get_handler = Some(get_subrequest);
    // SAFETY: as above.
    if unsafe { limit::add_variable(cf) }.is_err() {
        return NGX_ERROR as ngx_int_t;
    }
    NGX_OK as ngx_int_t
}

/// Which of the variables a configuration uses.
pub struct Used {
    pub any: bool,
    pub connection: bool,
}

/// Looks at all variables that directives have asked for by now (`ngx_http_get_variable_index`).
pub fn used(core: &ngx_http_core_main_conf_t) -> Used {
    // SAFETY: the core module's array of them.
    let indexed = unsafe { core.variables.as_slice::<ngx_http_variable_t>() };
    Used {
        any: indexed.iter().any(|v| VARIABLES.iter().any(|(name, _)| *name == v.name)),
        connection: indexed.iter().any(|v| v.name == CONNECTION_NS),
    }
}

/// Sets a variable to a number, or to a number with nine decimals.
unsafe extern "C" fn get(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    // SAFETY: NGINX calls with a request and with room for a value, which lives as long as the request's pool.
    unsafe {
        let v = &mut *v;
        let (Some(reading), Some((_, show))) = (request::read(r), VARIABLES.get(data)) else {
            NOT_FOUND.set(v, 1);
            return NGX_OK as ngx_int_t;
        };
        let (whole, decimals) = show(&reading);
        let (mut first, mut second) = (itoa::Buffer::new(), itoa::Buffer::new());
        let whole = first.format(whole).as_bytes();
        // a 1 in front keeps the zeros; the point takes its place
        let decimals = decimals.map_or(&[][..], |ns| second.format(NS_PER_S + ns).as_bytes());
        let len = whole.len() + decimals.len();
        let data = ngx_pnalloc((*r).pool, len).cast::<u8>();
        if data.is_null() {
            return NGX_ERROR as ngx_int_t;
        }
        data.copy_from_nonoverlapping(whole.as_ptr(), whole.len());
        let rest = data.add(whole.len());
        rest.copy_from_nonoverlapping(decimals.as_ptr(), decimals.len());
        if !decimals.is_empty() {
            rest.write(b'.');
        }
        v.data = data;
        set_valid(v, len);
        NGX_OK as ngx_int_t
    }
}

/// `1` in a subrequest, `0` in a main request.
unsafe extern "C" fn get_subrequest(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    // SAFETY: NGINX calls with a request and with room for a value.
    unsafe {
        let value = if (*r).main == r { "0" } else { "1" };
        (*v).data = value.as_ptr().cast_mut();
        set_valid(&mut *v, value.len());
    }
    NGX_OK as ngx_int_t
}

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
