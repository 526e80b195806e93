//! The servers of a configuration that was read completely.

use core::ffi::{CStr, c_void};
use core::fmt;

use nginx_sys::ngx_http_core_srv_conf_t;

use super::conf::Core;
use super::live::{Live, get};
use super::module;
use super::text::text;

/// A server, with the configurations of all modules.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    core: Live<'a, ngx_http_core_srv_conf_t>,
    file: Option<&'a CStr>,
    /// the server's identity, see [`Conf::server`](crate::nginx::conf::Conf::server)
    pub id: *const c_void,
    /// the identity of this module's location configuration for the server itself
    pub own_location: *const c_void,
}

impl Server<'_> {
    /// Whether `$server_name` is empty.
    pub fn has_no_name(&self) -> bool {
        get!(self.core, server_name.len) == 0
    }
}

/// `FILE:LINE`
impl fmt::Display for Server<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", text(self.file.unwrap_or_default().to_bytes()), get!(self.core, line))
    }
}

/// All servers.
pub fn all(core: Core<'_>) -> impl Iterator<Item = Server<'_>> {
    core.servers().map(Server::of)
}

/// Servers that listen for HTTP/3.
#[cfg(ngx_feature = "http_v3")]
pub fn quic(core: Core<'_>) -> impl Iterator<Item = Server<'_>> {
    use nginx_sys::ngx_http_conf_port_t;

    use super::bits::listen_opt::QUIC;
    use super::links::elements;
    use super::live::member;
    // SAFETY: This is an array of ports (`ngx_http_add_listen`).
    let ports = core.ports().map(|ports| unsafe { elements::<ngx_http_conf_port_t>(ports) });
    let addresses = ports.into_iter().flatten().flat_map(|port| port.addresses());
    let quic = addresses.filter(|&address| QUIC.is_on(member!(address, opt)));
    quic.flat_map(|address| address.servers()).map(Server::of)
}

impl<'a> Server<'a> {
    /// The server of an element of an array of pointers to servers.
    pub(super) fn of(server: Live<'a, *mut ngx_http_core_srv_conf_t>) -> Server<'a> {
        // SAFETY: A server lives as long as the configuration. `ngx_http_core_create_srv_conf` sets the name of the
        // file, which ends with a null. The cycle of the server's configurations contains the module.
        unsafe {
            let core = Live::at(server.read());
            let file: *mut u8 = get!(core, file_name);
            let file = (!file.is_null()).then(|| CStr::from_ptr(file.cast()));
            let context = core.configurations();
            let id = get!(context, srv_conf).cast_const().cast();
            Server { core, file, id, own_location: module::element_id(get!(context, loc_conf)) }
        }
    }
}
