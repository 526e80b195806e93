//! The ends of TLS handshakes on clients' connections.
//!
//! NGINX calls `c->ssl->handler` when a handshake is over (`ngx_ssl_handshake_handler`). That handler goes on to the
//! request at once, in the same handler call. Our function stands in for it, so that the cost of the handshake is known
//! separately. The handshake is charged to the connection's first request, as is all other work before that request.

#[cfg(ngx_feature = "ssl")]
use core::marker::PhantomData;

use crate::measure::attribution::Attribute;
use crate::nginx::connection::Connection;
#[cfg(ngx_feature = "ssl")]
use crate::nginx::hook::{FnPointer, Hook};
#[cfg(ngx_feature = "ssl")]
use crate::nginx::stand_in::{Call, Callable, StandIn};
#[cfg(ngx_feature = "ssl")]
use crate::nginx::tls::HandshakeHandler;

/// `ngx_http_ssl_handshake_handler`, a static function of ngx_http_request.c, once the first handshake has begun.
#[cfg(ngx_feature = "ssl")]
static HANDSHAKE_HANDLER: Hook<HandshakeHandler> = Hook::new();

/// Reports to the layer above.
pub trait Handshakes: Attribute {
    /// The HTTP connection with this index, if it has had no request yet. Then it is open.
    fn fresh(&self, at: usize) -> Option<Connection<'_>>;

    /// The handshake of the connection with this index is over.
    fn end_handshake(&mut self, at: usize);
}

/// A handler call of an HTTP connection is over. If the connection has had no request and its handshake goes on, our
/// function is called at the end of the handshake.
#[inline]
pub fn watch<W: Handshakes>(worker: &W, at: usize) {
    if let Some(c) = worker.fresh(at) {
        watch_connection::<W>(c);
    }
}

/// An NGINX without TLS has no handshakes.
#[cfg(not(ngx_feature = "ssl"))]
fn watch_connection<W: Handshakes>(_c: Connection<'_>) {}

#[cfg(ngx_feature = "ssl")]
fn watch_connection<W: Handshakes>(c: Connection<'_>) {
    let ours = HandshakeHandler::ours::<HandshakeOver<W>>();
    let Some(tls) = c.tls().filter(|tls| !tls.is_handshaked()) else { return };
    let Some(handler) = tls.handler().function() else { return };
    // A handler of another module is left in place.
    let is_nginx = !HANDSHAKE_HANDLER.is_known() || HANDSHAKE_HANDLER.is(handler);
    if handler.address() != ours.address() && is_nginx {
        HANDSHAKE_HANDLER.replace(tls.handler(), ours);
    }
}

/// Stands in for `ngx_http_ssl_handshake_handler`: a handshake is over, or has failed.
#[cfg(ngx_feature = "ssl")]
struct HandshakeOver<W>(PhantomData<W>);

#[cfg(ngx_feature = "ssl")]
impl<W: Handshakes> StandIn<HandshakeHandler> for HandshakeOver<W> {
    fn call(call: Call<'_, HandshakeHandler>) {
        let c = call.connection();
        if c.tls().is_some_and(|tls| tls.is_handshaked()) {
            W::with(|worker| {
                if let Some(at) = worker.client(c) {
                    worker.end_handshake(at);
                }
            });
        }
        HANDSHAKE_HANDLER.pass(call);
    }
}
