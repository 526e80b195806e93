//! Servers of a configuration that has been read as a whole.

use core::ffi::{CStr, c_void};
use core::fmt;

use nginx_sys::{ngx_array_t, ngx_http_core_main_conf_t, ngx_http_core_srv_conf_t};

use crate::nginx::module::context_index;

/// A server, with the configurations of all modules.
#[derive(Clone, Copy)]
pub struct Server<'a>(&'a ngx_http_core_srv_conf_t);

impl Server<'_> {
    /// Whether `$server_name` is empty.
    pub fn has_no_name(self) -> bool {
        self.0.server_name.len == 0
    }

    /// What it is known by, see [`Conf::server`](crate::nginx::conf::Conf::server).
    pub fn id(self) -> *const c_void {
        // SAFETY: a server has a context (`ngx_http_core_server`).
        unsafe { (*self.0.ctx).srv_conf.cast() }
    }

    /// What this module's configuration is known by that is for the server itself.
    pub fn own_location(self) -> *const c_void {
        // SAFETY: as above; the context has a place for each HTTP module.
        unsafe { *(*self.0.ctx).loc_conf.add(context_index()) }
    }
}

/// `FILE:LINE`
impl fmt::Display for Server<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.file_name.is_null() {
            // SAFETY: `ngx_http_core_create_srv_conf` sets it to the name of the file, which ends with a null.
            let name = unsafe { CStr::from_ptr(self.0.file_name.cast()) };
            write!(f, "{}", super::conf::text(name.to_bytes()))?;
        }
        write!(f, ":{}", self.0.line)
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
    // SAFETY: null without a server, else an array of `ngx_http_conf_port_t` (`ngx_http_add_listen`).
    let ports =
        unsafe { core.ports.as_ref().map_or(&[][..], |ports| elements::<ngx_http_conf_port_t>(ports)) };
    ports
        .iter()
        // SAFETY: `ngx_http_add_address` makes the array.
        .flat_map(|port| unsafe { elements::<ngx_http_conf_addr_t>(&port.addrs) })
        // SAFETY: a part of the element.
        .filter(|address| unsafe { QUIC.is_set(&address.opt) })
        // SAFETY: `ngx_http_add_server` makes the array.
        .flat_map(|address| unsafe { servers(&address.servers) })
}

/// # Safety
/// The array must be of pointers to servers, or not be made at all.
unsafe fn servers(array: &ngx_array_t) -> impl Iterator<Item = Server<'_>> {
    // SAFETY: as the caller says.
    unsafe { elements::<*mut ngx_http_core_srv_conf_t>(array) }
        .iter()
        // SAFETY: as above. Servers live as long as the configuration.
        .filter_map(|&server| unsafe { server.as_ref() })
        .map(Server)
}

/// # Safety
/// The array must be of `T`, or not be made at all.
unsafe fn elements<T>(array: &ngx_array_t) -> &[T] {
    if array.nelts == 0 {
        return &[];
    }
    // SAFETY: as the caller says; it does not change while it is borrowed.
    unsafe { core::slice::from_raw_parts(array.elts.cast(), array.nelts) }
}
