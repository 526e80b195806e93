//! Mistakes in a configuration that is valid: what is warned of when it has been read.

use core::ffi::c_void;
use std::rc::Rc;

use crate::config::key::Key;
use crate::config::list::List;
use crate::config::main::MainConf;
use crate::config::zone::Zone;
use crate::config::zone_use::ZoneUse;
use crate::nginx::conf::Conf;
use crate::nginx::server::{self, Server};

/// A location, an `if` in it, or what is set in a server itself. `merge_loc_conf` is called for all of them, and knows the server
/// (`ngx_http_merge_servers`): later, the locations are only in the trees that NGINX makes of them.
pub struct Place {
    /// what the server is known by that it is in
    pub server: *const c_void,
    /// what it is known by itself
    pub location: *const c_void,
    pub uses: Option<Rc<List<ZoneUse>>>,
    /// see [`LocConf`](super::location::LocConf)
    pub in_status: bool,
}

impl Place {
    fn zones(&self) -> &[ZoneUse] {
        self.uses.as_ref().map_or(&[], |uses| uses.as_slice())
    }
}

/// Looks at the whole configuration.
pub fn give(cf: &mut Conf<'_>, main: &MainConf) {
    warn_of_servers_without_name(cf, main);
    #[cfg(ngx_feature = "http_v3")]
    warn_of_http_host(cf, main);
}

/// `$server_name` is empty in such a server, and requests with an empty key are not counted.
fn warn_of_servers_without_name(cf: &mut Conf<'_>, main: &MainConf) {
    let log = cf.log();
    for server in server::all(cf.core()).filter(|server| server.has_no_name()) {
        if let Some(zone) = counted(main, server, |zone| matches!(zone.key, Key::ServerName(_))) {
            ngx::ngx_log_error!(
                nginx_sys::NGX_LOG_WARN,
                log,
                "no \"server_name\" is defined for the \"server\" in {server}: its requests are not counted in zone \"{}\", \
                 whose key $server_name is empty there; \"server_name _;\" gives them the key \"_\"",
                zone.name
            );
        }
    }
}

/// NGINX makes `$http_host` of the header `Host` only. For HTTP/2 it adds that header (`ngx_http_v2_construct_host_header`,
/// and `ngx_http_v2_parse_authority` before 1.27), for HTTP/3 it does not (`ngx_http_v3_init_pseudo_headers`).
#[cfg(ngx_feature = "http_v3")]
fn warn_of_http_host(cf: &mut Conf<'_>, main: &MainConf) {
    use accounting::key;
    let log = cf.log();
    for zone in main.zones().filter(|zone| key::has_variable(zone.key_text.as_bytes(), b"http_host")) {
        let is_it = |other: &Zone| core::ptr::eq(other, zone);
        if let Some(server) = server::quic(cf.core()).find(|&server| counted(main, server, is_it).is_some()) {
            ngx::ngx_log_error!(
                nginx_sys::NGX_LOG_WARN,
                log,
                "the key of zone \"{}\" in \"request_cpu_zone\" has $http_host, which is empty in HTTP/3 requests, \
                 and the \"server\" in {server} listens for these; use $host",
                zone.name
            );
        }
    }
}

/// The first zone of a kind that requests of a server are counted in, other than those that read the status.
fn counted<'a>(main: &'a MainConf, server: Server<'_>, wanted: impl Fn(&Zone) -> bool) -> Option<&'a Zone> {
    let (id, own) = (server.id(), server.own_location());
    let places = || main.places.as_slice().iter().filter(move |place| place.server == id);
    // a server of its own for the status need not be counted; what is set in the server itself is for the rest of its addresses
    let mut locations = places().filter(|place| place.location != own).peekable();
    if locations.peek().is_some() && locations.all(|place| place.in_status) {
        return None;
    }
    places()
        .filter(|place| !place.in_status)
        .flat_map(Place::zones)
        .filter_map(ZoneUse::zone)
        .find(|zone| wanted(zone))
}
