//! TLS handshakes of clients' connections: where they end, and whether a session was resumed.
//!
//! NGINX calls `c->ssl->handler` when a handshake is over (`ngx_ssl_handshake_handler`), and that one goes on to the request at
//! once, in the same wakeup. We stand before it, so that what the handshake has cost is known by itself. It is paid by the
//! connection's first request like all else that came before that one.

use core::ptr::null_mut;

use nginx_sys::{NGX_OK, ngx_connection_t, ngx_int_t, ngx_pool_t, ngx_str_t};

use crate::measure::attribution::Attribute;
use crate::nginx::bits;
use crate::nginx::hook::{FnPointer, Hook};

type Handler = unsafe extern "C" fn(*mut ngx_connection_t);
type GetSessionReused =
    unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_pool_t, *mut ngx_str_t) -> ngx_int_t;

/// `ngx_http_ssl_handshake_handler`, a static function of ngx_http_request.c, once the first handshake has begun.
static HANDSHAKE_HANDLER: Hook<Handler> = Hook::new();
/// `ngx_ssl_get_session_reused`, unless NGINX was built without TLS, and the module with it.
static GET_SESSION_REUSED: Hook<GetSessionReused> = Hook::new();

/// Looks up what is not in every NGINX.
pub fn find_functions() {
    // SAFETY: NGINX declares it so (ngx_event_openssl.h).
    unsafe { GET_SESSION_REUSED.look_up(c"ngx_ssl_get_session_reused") };
}

/// What is told to the layer above.
pub trait Handshakes: Attribute {
    /// Whether the connection at this place has had no request yet.
    fn is_fresh(&self, at: usize) -> bool;

    /// The handshake of the connection at this place is over.
    fn end_handshake(&mut self, at: usize);
}

/// A handler call of a connection of HTTP is over. If it has had no request and its handshake goes on, we will know when that ends.
#[inline]
pub fn watch<W: Handshakes>(worker: &W, at: usize) {
    if worker.is_fresh(at) {
        // SAFETY: `Handshakes::is_fresh` has found it open.
        unsafe { watch_connection::<W>(worker.places().connection(at)) };
    }
}

/// # Safety
/// The connection must be open.
unsafe fn watch_connection<W: Handshakes>(c: *mut ngx_connection_t) {
    // SAFETY: as the caller says; what NGINX allocates for TLS lives as long as the connection.
    unsafe {
        let Some(ssl) = (*c).ssl.as_mut() else { return };
        let Some(handler) = ssl.handler.filter(|_| !bits::ssl_connection::HANDSHAKED.is_set(ssl)) else {
            return;
        };
        if handler.address() == (handshake_over::<W> as Handler).address() {
            return;
        }
        // one that another module has put there is left alone
        if !HANDSHAKE_HANDLER.is_known() || HANDSHAKE_HANDLER.is(handler) {
            HANDSHAKE_HANDLER.replace(&raw mut ssl.handler, handshake_over::<W>);
        }
    }
}

/// In the place of `ngx_http_ssl_handshake_handler`: a handshake is over, or has failed.
unsafe extern "C" fn handshake_over<W: Handshakes>(c: *mut ngx_connection_t) {
    // SAFETY: NGINX calls with a connection that has TLS.
    let succeeded = unsafe { !(*c).ssl.is_null() && bits::ssl_connection::HANDSHAKED.is_set((*c).ssl) };
    if succeeded {
        W::with(|worker| {
            if let Some(at) = worker.client(c) {
                worker.end_handshake(at);
            }
        });
    }
    if let Some(handler) = HANDSHAKE_HANDLER.real() {
        // SAFETY: as NGINX called us.
        unsafe { handler(c) };
    }
}

/// Whether the connection has resumed the session of an earlier one, as `$ssl_session_reused`; none if it has no TLS.
///
/// # Safety
/// The connection must be open.
pub unsafe fn is_resumed(c: *mut ngx_connection_t) -> Option<bool> {
    // SAFETY: as the caller says.
    if unsafe { (*c).ssl.is_null() } {
        return None;
    }
    let get_session_reused = GET_SESSION_REUSED.real()?;
    let mut answer = ngx_str_t { len: 0, data: null_mut() };
    // SAFETY: it looks at the session only, and needs no pool.
    let status = unsafe { get_session_reused(c, null_mut(), &mut answer) };
    // "r", or "." for a new one
    Some(status == NGX_OK as ngx_int_t && answer.as_bytes() == b"r")
}
