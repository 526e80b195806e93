//! Who may read a location, as far as NGINX's own modules decide it.
//!
//! The configurations of these modules are private to them. Each begins with pointers or a length that show whether
//! the module restricts the location. The structures have been the same since NGINX 1.21; NGINX sets the members in
//! `ngx_http_access_rule`, `ngx_http_set_complex_value_slot`, `ngx_http_auth_basic_user_file` and
//! `ngx_http_auth_request`.

use core::ffi::{CStr, c_void};
use core::net::{Ipv4Addr, Ipv6Addr};

use nginx_sys::{
    NGX_HTTP_MODULE, ngx_http_complex_value_t, ngx_http_conf_addr_t, ngx_http_conf_port_t,
    ngx_http_core_loc_conf_t, ngx_http_phases_NGX_HTTP_ACCESS_PHASE, ngx_str_t,
};

use super::bits::core_loc_conf::NAMED;
use super::conf::{Conf, Core};
use super::configurations::Configurations;
use super::links::elements;
use super::live::{Live, get, member, of_static};
use super::server::Server;

/// `NGX_CONF_UNSET_PTR`
const UNSET: usize = usize::MAX;

/// NGINX's own modules that restrict access. Each has one handler in the access phase.
const KNOWN: [&CStr; 3] =
    [c"ngx_http_access_module", c"ngx_http_auth_basic_module", c"ngx_http_auth_request_module"];

/// Whether everyone can read a location, as far as NGINX's own modules decide it. `false` also if nobody can know it:
/// the location is reached only from other locations, or another module restricts access too.
///
/// All modules must have merged their configurations.
pub fn is_open(cf: &Conf<'_>, location: Configurations) -> bool {
    let Some(cycle) = cf.cycle() else { return false };
    let named = |name: &CStr| {
        cycle.module_named(name).filter(|module| get!(*module, type_) == NGX_HTTP_MODULE as usize)
    };
    let is_restricted = |name: &CStr, restricts: unsafe fn(*const usize) -> bool| {
        // SAFETY: The module is in the cycle that is being made, whose configuration is being read. The configuration
        // is the one that the module with this name makes.
        named(name).is_some_and(|module| unsafe {
            let conf: *const usize = location.of(module).cast();
            !conf.is_null() && restricts(conf)
        })
    };
    let known = KNOWN.iter().filter(|name| named(name).is_some()).count();
    let has_other_modules = access_handlers(cf.core()) > known;
    let [access, basic, request] = KNOWN;
    !(has_other_modules
        || is_reached_from_others(location)
        || is_restricted(access, has_rules)
        || is_restricted(basic, has_realm)
        || is_restricted(request, has_uri))
}

/// Whether clients cannot request this location: it is a named one, or has `internal`.
fn is_reached_from_others(location: Configurations) -> bool {
    // SAFETY: The core module is in each cycle that has `http`, and makes this structure for each location.
    let core: Option<Live<'_, ngx_http_core_loc_conf_t>> =
        unsafe { Live::new(location.of(of_static!(ngx_http_core_module)).cast_mut().cast()) };
    core.is_none_or(|core| NAMED.is_on(core) || get!(core, internal) == 1)
}

/// The number of handlers in the access phase. Modules that are loaded after this one have added none yet.
fn access_handlers(core: Core<'_>) -> usize {
    let phase = member!(core, phases).element(ngx_http_phases_NGX_HTTP_ACCESS_PHASE as usize);
    phase.map_or(0, |phase| phase.handlers().len())
}

/// `allow` or `deny` for addresses. `ngx_http_access_loc_conf_t` has two or three pointers to lists of rules: for
/// IPv4, for IPv6 where NGINX supports it, and for UNIX sockets. Rules for UNIX sockets alone restrict no other client.
///
/// # Safety
/// This must be the configuration of `ngx_http_access_module`.
unsafe fn has_rules(conf: *const usize) -> bool {
    // SAFETY: On Linux, NGINX supports UNIX sockets. So there are at least two pointers.
    unsafe { *conf != 0 || *conf.add(1) != 0 }
}

/// `auth_basic`. `ngx_http_auth_basic_loc_conf_t` has pointers to the realm and to the name of the file of users. If
/// one of them is null, `ngx_http_auth_basic_handler` checks nothing. The realm `off` means no check either.
///
/// # Safety
/// This must be the configuration of `ngx_http_auth_basic_module`.
unsafe fn has_realm(conf: *const usize) -> bool {
    // SAFETY: The configuration consists of two pointers. The first is null, unset, or leads to the realm. The second
    // is only compared.
    let (realm, users) = unsafe { (*conf.cast::<*mut ngx_http_complex_value_t>(), *conf.add(1)) };
    if realm.addr() == UNSET || [0, UNSET].contains(&users) {
        return false;
    }
    // SAFETY: as above; the realm lives as long as the configuration.
    unsafe { Live::new(realm) }.is_some_and(|realm| {
        let text: ngx_str_t = get!(realm, value);
        text.as_bytes() != b"off"
    })
}

/// `auth_request`. `ngx_http_auth_request_conf_t` begins with the URI, which is empty for `off`.
///
/// # Safety
/// This must be the configuration of `ngx_http_auth_request_module`.
unsafe fn has_uri(conf: *const usize) -> bool {
    // SAFETY: The configuration begins with an `ngx_str_t`, which begins with its length.
    unsafe { *conf != 0 }
}

/// An address on which a server listens and that other machines can reach, as NGINX writes it. `None` if all its
/// addresses are of the loopback interface, or UNIX sockets.
pub fn public_address(core: Core<'_>, server: *const c_void) -> Option<ngx_str_t> {
    // SAFETY: This is an array of ports (`ngx_http_add_listen`).
    let ports = core.ports().map(|ports| unsafe { elements::<ngx_http_conf_port_t>(ports) });
    let mut addresses = ports.into_iter().flatten().flat_map(|port| port.addresses());
    let is_its = |address: Live<'_, ngx_http_conf_addr_t>| {
        address.servers().map(Server::of).any(|its| its.id == server)
    };
    let found = addresses.find(|&address| is_public(address) && is_its(address))?;
    Some(get!(found, opt.addr_text))
}

fn is_public(address: Live<'_, ngx_http_conf_addr_t>) -> bool {
    let address: *const libc::sockaddr = get!(address, opt.sockaddr).cast_const().cast();
    // SAFETY: NGINX has parsed this address of a `listen` (`ngx_parse_url`), so it is null or is as long as its family
    // says.
    unsafe {
        match address.as_ref().map(|address| i32::from(address.sa_family)) {
            None | Some(libc::AF_UNIX) => false,
            Some(libc::AF_INET) => {
                let address = (*address.cast::<libc::sockaddr_in>()).sin_addr.s_addr;
                !Ipv4Addr::from(address.to_ne_bytes()).is_loopback()
            }
            Some(libc::AF_INET6) => {
                let address: [u8; 16] =
                    (&raw const (*address.cast::<libc::sockaddr_in6>()).sin6_addr).cast::<[u8; 16]>().read();
                !Ipv6Addr::from(address).to_canonical().is_loopback()
            }
            Some(_) => true,
        }
    }
}
