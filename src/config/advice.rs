//! Mistakes in a configuration that is valid: what is warned of when it has been read.

use core::ffi::c_void;

use nginx_sys::{
    NGX_LOG_WARN, ngx_array_t, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_main_conf_t,
    ngx_http_core_srv_conf_t, ngx_str_t,
};
use ngx::ngx_log_error;

use crate::config::conf::{Key, LocConf, MainConf, Zone, ZoneUse};
use crate::context_index;

/// A location, an `if` in it, or what is set in a server itself.
#[derive(Clone, Copy)]
pub struct Place {
    /// of the server that it is in
    srv_conf: *mut *mut c_void,
    loc: *const LocConf,
}

/// Keeps a place in mind. `merge_loc_conf` is called for all of them, and knows the server (`ngx_http_merge_servers`): later, the
/// locations are only in the trees that NGINX makes of them. `None` if there is no memory.
pub fn note(cf: &ngx_conf_t, main: &mut MainConf, loc: &LocConf) -> Option<()> {
    // SAFETY: within `http`, `cf.ctx` is an `ngx_http_conf_ctx_t`.
    let srv_conf = unsafe { (*cf.ctx.cast::<ngx_http_conf_ctx_t>()).srv_conf };
    main.places.push(cf, Place { srv_conf, loc })
}

/// Looks at the whole configuration.
pub fn give(cf: &ngx_conf_t, core: &ngx_http_core_main_conf_t, main: &MainConf) {
    warn_of_servers_without_name(cf, core, main);
    #[cfg(ngx_feature = "http_v3")]
    warn_of_http_host(cf, core, main);
}

/// `$server_name` is empty in such a server, and requests with an empty key are not counted.
fn warn_of_servers_without_name(cf: &ngx_conf_t, core: &ngx_http_core_main_conf_t, main: &MainConf) {
    for &server in elements::<*mut ngx_http_core_srv_conf_t>(&core.servers) {
        // SAFETY: `ngx_http_core_server` has put it there; its members are set, as all servers are merged by now.
        let server = unsafe { &*server };
        if server.server_name.len > 0 {
            continue;
        }
        let Some(zone) = counted(main, server, |zone| matches!(zone.key, Key::ServerName(_))) else {
            continue;
        };
        ngx_log_error!(
            NGX_LOG_WARN,
            cf.log,
            "no \"server_name\" is defined for the \"server\" in {}:{}: its requests are not counted in zone \"{}\", \
             whose key $server_name is empty there; \"server_name _;\" gives them the key \"_\"",
            file_name(server),
            server.line,
            zone.name
        );
    }
}

/// NGINX makes `$http_host` of the header `Host` only. For HTTP/2 it adds that header (`ngx_http_v2_construct_host_header`,
/// and `ngx_http_v2_parse_authority` before 1.27), for HTTP/3 it does not (`ngx_http_v3_init_pseudo_headers`).
#[cfg(ngx_feature = "http_v3")]
fn warn_of_http_host(cf: &ngx_conf_t, core: &ngx_http_core_main_conf_t, main: &MainConf) {
    use accounting::key;
    for zone in main.zones() {
        if !key::has_variable(zone.key_text.as_bytes(), b"http_host") {
            continue;
        }
        let is_it = |other: &Zone| core::ptr::eq(other, zone);
        if let Some(server) = quic_servers(core).find(|server| counted(main, server, is_it).is_some()) {
            ngx_log_error!(
                NGX_LOG_WARN,
                cf.log,
                "the key of zone \"{}\" in \"request_cpu_zone\" has $http_host, which is empty in HTTP/3 requests, \
                 and the \"server\" in {}:{} listens for these; use $host",
                zone.name,
                file_name(server),
                server.line
            );
        }
    }
}

/// The first zone of a kind that requests of a server are counted in, other than those that read the status.
fn counted<'a>(
    main: &'a MainConf,
    server: &ngx_http_core_srv_conf_t,
    wanted: impl Fn(&Zone) -> bool,
) -> Option<&'a Zone> {
    // SAFETY: a server has a context (`ngx_http_core_server`), and in that configurations of this module's.
    let (srv_conf, own) = unsafe {
        let ctx = &*server.ctx;
        (ctx.srv_conf, (*ctx.loc_conf.add(context_index())).cast::<LocConf>())
    };
    let locs = || {
        main.places
            .as_slice()
            .iter()
            .filter(move |place| place.srv_conf == srv_conf)
            // SAFETY: configurations of locations live in the configuration's pool.
            .map(|place| unsafe { &*place.loc })
    };
    let is_own = |loc: &LocConf| core::ptr::eq(loc, own);
    // a server of its own for the status need not be counted; what is set in the server itself is for the rest of its addresses
    let mut locations = locs().filter(|loc| !is_own(loc)).peekable();
    if locations.peek().is_some() && locations.all(|loc| loc.in_status) {
        return None;
    }
    locs()
        .filter(|loc| !loc.in_status)
        .flat_map(LocConf::zones)
        .filter_map(ZoneUse::zone)
        .find(|zone| wanted(zone))
}

/// Servers that listen for HTTP/3.
#[cfg(ngx_feature = "http_v3")]
fn quic_servers(core: &ngx_http_core_main_conf_t) -> impl Iterator<Item = &ngx_http_core_srv_conf_t> {
    use nginx_sys::{ngx_http_conf_addr_t, ngx_http_conf_port_t};
    // SAFETY: null without a server, else an array of `ngx_http_conf_port_t` (`ngx_http_add_listen`).
    let ports = unsafe { core.ports.as_ref() }.map_or(&[][..], elements::<ngx_http_conf_port_t>);
    ports
        .iter()
        .flat_map(|port| elements::<ngx_http_conf_addr_t>(&port.addrs))
        // SAFETY: an element of the array.
        .filter(|addr| unsafe { crate::nginx::bits::listen_opt::QUIC.is_set(&addr.opt) })
        .flat_map(|addr| elements::<*mut ngx_http_core_srv_conf_t>(&addr.servers))
        // SAFETY: as in `core.servers` (`ngx_http_add_server`).
        .map(|&server| unsafe { &*server })
}

/// The elements of an array of NGINX's that was made for `T`, or not made at all.
fn elements<T>(array: &ngx_array_t) -> &[T] {
    if array.nelts == 0 {
        return &[];
    }
    // SAFETY: the callers name the type that NGINX has made the array for; it does not change while this looks at it.
    unsafe { core::slice::from_raw_parts(array.elts.cast(), array.nelts) }
}

/// The file that a server is in.
fn file_name(server: &ngx_http_core_srv_conf_t) -> ngx_str_t {
    if server.file_name.is_null() {
        return ngx_str_t::empty();
    }
    // SAFETY: `ngx_http_core_create_srv_conf` sets it to the name of the file, which ends with a null.
    let len = unsafe { core::ffi::CStr::from_ptr(server.file_name.cast()) }.count_bytes();
    ngx_str_t { len, data: server.file_name }
}
