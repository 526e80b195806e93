//! `$request_cpu_time` and its like: computed when they are read, since they change all the time.

use nginx_sys::{
    NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_OK, ngx_conf_t, ngx_http_add_variable,
    ngx_http_core_main_conf_t, ngx_http_request_t, ngx_http_variable_t, ngx_http_variable_value_t, ngx_int_t,
    ngx_pnalloc, ngx_str_t, ngx_uint_t,
};

use ngx::ngx_string;

use crate::request::{self, Reading};

const NS_PER_S: u64 = 1_000_000_000;
/// `18446744073.709551615`
const LONGEST: usize = 21;

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

pub extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    for (at, (mut name, _)) in VARIABLES.into_iter().enumerate() {
        // SAFETY: NGINX calls with a valid `cf`; it copies the name.
        let variable =
            unsafe { ngx_http_add_variable(cf, &mut name, NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t).as_mut() };
        let Some(variable) = variable else { return NGX_ERROR as ngx_int_t };
        variable.get_handler = Some(get);
        variable.data = at;
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
            v.set_not_found(1);
            return NGX_OK as ngx_int_t;
        };
        let (whole, decimals) = show(&reading);
        let mut text = [0u8; LONGEST];
        let mut at = text.len();
        if let Some(decimals) = decimals {
            digits(&mut text, &mut at, decimals, 9);
            at -= 1;
            text[at] = b'.';
        }
        digits(&mut text, &mut at, whole, 1);
        let text = &text[at..];
        let data = ngx_pnalloc((*r).pool, text.len()).cast::<u8>();
        if data.is_null() {
            return NGX_ERROR as ngx_int_t;
        }
        data.copy_from_nonoverlapping(text.as_ptr(), text.len());
        v.data = data;
        v.set_len(text.len() as u32);
        v.set_valid(1);
        v.set_no_cacheable(0);
        v.set_not_found(0);
        NGX_OK as ngx_int_t
    }
}

/// Writes a number in front of `at`, with at least `least` digits.
fn digits(text: &mut [u8; LONGEST], at: &mut usize, mut number: u64, least: usize) {
    let end = *at;
    while number > 0 || end - *at < least {
        *at -= 1;
        text[*at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
