//! Servers of a configuration that has been read as a whole.

use core::ffi::{CStr, c_void};
use core::fmt;

use nginx_sys::{ngx_array_t, ngx_http_core_main_conf_t, ngx_http_core_srv_conf_t};

use crate::nginx::module;
use crate::nginx::text::text;

/// A server, with the configurations of all modules.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    core: &'a ngx_http_core_srv_conf_t,
    file: Option<&'a CStr>,
    /// what it is known by, see [`Conf::server`](crate::nginx::conf::Conf::server)
    pub id: *const c_void,
    /// what this module's configuration is known by that is for the server itself
    pub own_location: *const c_void,
}

impl Server<'_> {
    /// Whether `$server_name` is empty.
    pub fn has_no_name(&self) -> bool {
        self.core.server_name.len == 0
    }
}

/// `FILE:LINE`
impl fmt::Display for Server<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", text(self.file.unwrap_or_default().to_bytes()), self.core.line)
    }
}

/// All servers.
pub fn all(core: &ngx_http_core_main_conf_t) -> impl Iterator<Item = Server<'_>> {
    // SAFETY: an array of pointers to servers (`ngx_http_core_create_main_conf`).
    unsafe { servers(&core.servers) }
}

/// Servers that listen for HTTP/3.
#[cfg(ngx_feature = "http_v3")]
pub fn quic(core: &ngx_http_core_main_conf_t) -> impl Iterator<Item = Server<'_>> {
    use nginx_sys::{ngx_http_conf_addr_t, ngx_http_conf_port_t};

    use crate::nginx::bits::listen_opt::QUIC;
    let mut found = Vec::new();
    // SAFETY: null without a server, else arrays of ports, of their addresses, and of the servers there
    // (`ngx_http_add_listen`, `ngx_http_add_address`, `ngx_http_add_server`).
    unsafe {
        let ports = core.ports.as_ref().map_or(&[][..], |ports| ports.as_slice::<ngx_http_conf_port_t>());
        for address in ports.iter().flat_map(|port| port.addrs.as_slice::<ngx_http_conf_addr_t>()) {
            if QUIC.is_set(&address.opt) {
                found.extend(servers(&address.servers));
            }
        }
    }
    found.into_iter()
}

/// # Safety
/// The array must be of pointers to servers, or not be made at all.
unsafe fn servers(array: &ngx_array_t) -> impl Iterator<Item = Server<'_>> {
    // SAFETY: as the caller says. One that was not made has no elements.
    let made = unsafe { (array.nelts > 0).then(|| array.as_slice::<*mut ngx_http_core_srv_conf_t>()) };
    // SAFETY: a server lives as long as the configuration, and has a context (`ngx_http_core_server`) with a
    // place for each HTTP module. `ngx_http_core_create_srv_conf` sets the name of the file, which ends with a
    // null.
    made.unwrap_or_default().iter().map(|&server| unsafe {
        let core = &*server;
        let file = (!core.file_name.is_null()).then(|| CStr::from_ptr(core.file_name.cast()));
        let (id, own_location) = ((*core.ctx).srv_conf.cast(), module::element_id((*core.ctx).loc_conf));
        Server { core, file, id, own_location }
    })
}
