//! TLS handshakes of clients' connections: where they end, and whether a session was resumed.
//!
//! NGINX calls `c->ssl->handler` when a handshake is over (`ngx_ssl_handshake_handler`), and that one goes on to the request at
//! once, in the same wakeup. We stand before it, so that what the handshake has cost is known by itself. It is paid by the
//! connection's first request like all else that came before that one.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nginx_sys::{NGX_OK, ngx_connection_t, ngx_int_t, ngx_pool_t, ngx_str_t};

use crate::charge::worker::with;
use crate::nginx::bits;

type Handler = unsafe extern "C" fn(*mut ngx_connection_t);
type GetSessionReused =
    unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_pool_t, *mut ngx_str_t) -> ngx_int_t;

/// Address of `ngx_http_ssl_handshake_handler`, a static function of ngx_http_request.c; 0 until the first handshake has begun.
static HANDSHAKE_HANDLER: AtomicUsize = AtomicUsize::new(0);
/// Address of `ngx_ssl_get_session_reused`; 0 where NGINX was built without TLS, and the module with it.
static GET_SESSION_REUSED: AtomicUsize = AtomicUsize::new(0);

/// Looks up what is not in every NGINX.
pub fn find_functions() {
    // SAFETY: a name that ends with a null; the result is an address or null.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"ngx_ssl_get_session_reused".as_ptr()) };
    GET_SESSION_REUSED.store(function.addr(), Relaxed);
}

/// A wakeup of a connection that has had no request is over: if its handshake goes on, we will know when that ends.
///
/// # Safety
/// The connection must be open, and HTTP's.
pub unsafe fn watch(c: *mut ngx_connection_t) {
    // SAFETY: as the caller says; what NGINX allocates for TLS lives as long as the connection.
    unsafe {
        let Some(ssl) = (*c).ssl.as_mut() else { return };
        let Some(handler) = ssl.handler.filter(|_| !bits::ssl_connection::HANDSHAKED.is_set(ssl)) else {
            return;
        };
        let address = handler as usize;
        if address == handshake_over as *const () as usize {
            return;
        }
        let known = HANDSHAKE_HANDLER.load(Relaxed);
        // one that another module has put there is left alone
        if known == 0 || known == address {
            HANDSHAKE_HANDLER.store(address, Relaxed);
            ssl.handler = Some(handshake_over);
        }
    }
}

/// In the place of `ngx_http_ssl_handshake_handler`: a handshake is over, or has failed.
unsafe extern "C" fn handshake_over(c: *mut ngx_connection_t) {
    // SAFETY: NGINX calls with a connection that has TLS.
    let succeeded = unsafe { !(*c).ssl.is_null() && bits::ssl_connection::HANDSHAKED.is_set((*c).ssl) };
    if succeeded {
        with(|worker| {
            if let Some(at) = worker.connections.client(c) {
                worker.end_handshake(at);
            }
        });
    }
    let handler = HANDSHAKE_HANDLER.load(Relaxed);
    if handler != 0 {
        // SAFETY: `watch` has stored a handler of this type before it put us in its place.
        unsafe { core::mem::transmute::<usize, Handler>(handler)(c) };
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
    let function = GET_SESSION_REUSED.load(Relaxed);
    if function == 0 {
        return None;
    }
    let mut answer = ngx_str_t { len: 0, data: null_mut() };
    // SAFETY: the address is that of a function of this type, which looks at the session only, and needs no pool.
    let status =
        unsafe { core::mem::transmute::<usize, GetSessionReused>(function)(c, null_mut(), &mut answer) };
    // "r", or "." for a new one
    Some(status == NGX_OK as ngx_int_t && answer.as_bytes() == b"r")
}
