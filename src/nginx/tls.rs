//! TLS of connections.

use core::ptr::null_mut;

use nginx_sys::{NGX_OK, ngx_connection_t, ngx_int_t, ngx_pool_t, ngx_ssl_connection_t, ngx_str_t};

use super::bits;
use super::connection::Connection;
use super::hook::Hook;
use super::live::{Live, member};

/// The type of the function that NGINX calls when a handshake is over.
pub type HandshakeHandler = unsafe extern "C" fn(*mut ngx_connection_t);
type GetSessionReused =
    unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_pool_t, *mut ngx_str_t) -> ngx_int_t;

/// `ngx_ssl_get_session_reused`. It is missing if NGINX was built without TLS but the module with TLS.
static GET_SESSION_REUSED: Hook<GetSessionReused> = Hook::new();

/// Looks up functions that not every NGINX has.
pub fn find_functions() {
    // SAFETY: NGINX declares the function with this type (ngx_event_openssl.h).
    unsafe { GET_SESSION_REUSED.look_up(c"ngx_ssl_get_session_reused") };
}

/// TLS of an open connection.
#[derive(Clone, Copy)]
pub struct Tls<'a>(Live<'a, ngx_ssl_connection_t>);

impl<'a> Connection<'a> {
    /// The connection's TLS; `None` if it has none.
    #[inline]
    pub fn tls(self) -> Option<Tls<'a>> {
        self.live().tls().map(Tls)
    }

    /// Whether the connection has resumed the session of an earlier one, as `$ssl_session_reused`. `None` if it has no
    /// TLS.
    pub fn is_resumed(self) -> Option<bool> {
        self.tls()?;
        let get_session_reused = GET_SESSION_REUSED.real()?;
        let mut answer = ngx_str_t { len: 0, data: null_mut() };
        // SAFETY: The function only reads the session, and needs no pool.
        let status = unsafe { get_session_reused(self.as_ptr(), null_mut(), &mut answer) };
        // The answer is "r" for a resumed session, and "." for a new one.
        Some(status == NGX_OK as ngx_int_t && answer.as_bytes() == b"r")
    }
}

impl<'a> Tls<'a> {
    /// Whether the handshake has succeeded.
    #[inline]
    pub fn is_handshaked(self) -> bool {
        bits::ssl_connection::HANDSHAKED.is_on(self.0)
    }

    /// The pointer to the function that is called when the handshake is over.
    #[inline]
    pub fn handler(self) -> Live<'a, Option<HandshakeHandler>> {
        member!(self.0, handler)
    }
}
