//! Warnings about mistakes in a valid configuration. They are logged after the configuration has been read.

use nginx_sys::{NGX_LOG_WARN, ngx_log_t};

use crate::config::key::Key;
use crate::config::main::MainConf;
use crate::config::place::Place;
use crate::config::zone::Zone;
use crate::config::zone_use::ZoneUse;
use crate::nginx::access;
use crate::nginx::conf::{Conf, Core, Failed};
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::server::{self, Server};

/// Checks the whole configuration for mistakes.
///
/// # Errors
/// NGINX has no servers.
pub fn give(cf: &mut Conf<'_>, main: &MainConf) -> Result<(), Failed> {
    warn_of_status(cf, main);
    if !main.is_measured() {
        return Ok(());
    }
    let log = cf.log();
    let core = cf.core();
    warn_of_servers_without_name(core, main, log);
    #[cfg(ngx_feature = "http_v3")]
    warn_of_http_host(core, main, log);
    Ok(())
}

/// Warns of a status that everyone can read, and of one without zones.
fn warn_of_status(cf: &Conf<'_>, main: &MainConf) {
    for status in main.statuses.as_slice() {
        if main.zones().len() == 0 {
            cf.warn(format_args!(
                "\"request_cpu_status\" shows no accounts: no \"request_cpu_zone\" is defined in {}",
                status.place
            ));
        }
        if let Some(address) = access::public_address(cf.core(), status.server)
            && access::is_open(cf, status.location)
        {
            cf.warn(format_args!(
                "\"request_cpu_status\" is open to all clients of {address}: restrict its location with \"allow\" and \
                 \"deny\", or write \"allow all\" if that is intended, in {}",
                status.place
            ));
        }
    }
}

/// Warns of servers without a name: `$server_name` is empty there, and requests with an empty key are not counted.
fn warn_of_servers_without_name(core: Core<'_>, main: &MainConf, log: *mut ngx_log_t) {
    for server in server::all(core).filter(|server| server.has_no_name()) {
        if let Some(zone) = counted(main, server, |zone| matches!(zone.key, Key::ServerName(_))) {
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "no \"server_name\" is defined for the \"server\" in {server}: its requests are not counted in zone \
                 \"{}\", whose key $server_name is empty there; \"server_name _;\" gives them the key \"_\"",
                zone.name
            );
        }
    }
}

/// Warns of keys with `$http_host` in a server with HTTP/3. NGINX takes `$http_host` only from the header `Host`. For
/// HTTP/2 it adds this header (`ngx_http_v2_construct_host_header`, and `ngx_http_v2_parse_authority` before 1.27).
/// For HTTP/3 it does not (`ngx_http_v3_init_pseudo_headers`).
#[cfg(ngx_feature = "http_v3")]
fn warn_of_http_host(core: Core<'_>, main: &MainConf, log: *mut ngx_log_t) {
    use accounting::key;
    for zone in main.zones().filter(|zone| key::has_variable(zone.key_text.as_bytes(), b"http_host")) {
        let is_it = |other: &Zone| core::ptr::eq(other, zone);
        if let Some(server) = server::quic(core).find(|&server| counted(main, server, is_it).is_some()) {
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "the key of zone \"{}\" in \"request_cpu_zone\" has $http_host, which is empty in HTTP/3 requests, \
                 and the \"server\" in {server} listens for these; use $host",
                zone.name
            );
        }
    }
}

/// The first zone of a kind in which requests of a server are counted, without requests that read the status.
fn counted<'a>(main: &'a MainConf, server: Server<'_>, wanted: impl Fn(&Zone) -> bool) -> Option<&'a Zone> {
    let Server { id, own_location: own, .. } = server;
    let places = || main.places.as_slice().iter().filter(move |place| place.server == id);
    // A server that serves only the status need not be counted. The configuration of the server itself applies only to
    // its remaining addresses.
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
