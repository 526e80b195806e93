//! Datagrams of QUIC.

use nginx_sys::ngx_connection_t;
#[cfg(ngx_feature = "http_v3")]
use nginx_sys::ngx_event_t;

use crate::measure::attribution::Attribute;
#[cfg(ngx_feature = "http_v3")]
use crate::measure::owner::Owner;
#[cfg(ngx_feature = "http_v3")]
use crate::nginx::bits;
#[cfg(ngx_feature = "http_v3")]
use crate::nginx::hook::Hook;

/// What is told to the layer above.
pub trait Datagrams: Attribute {
    /// A datagram has arrived on the connection at this place.
    fn begin_datagram(&mut self, at: usize);
}

#[cfg(ngx_feature = "http_v3")]
type EventHandler = unsafe extern "C" fn(*mut ngx_event_t);

/// `ngx_quic_input_handler`, a static function of ngx_event_quic.c.
#[cfg(ngx_feature = "http_v3")]
static QUIC_INPUT: Hook<EventHandler> = Hook::new();

/// Datagrams of a known QUIC connection arrive in the event of the listening socket, where `ngx_quic_recvmsg` calls the
/// connection's read handler: so that handler must tell whose they are.
///
/// # Safety
/// The connection must be open.
#[cfg(ngx_feature = "http_v3")]
pub unsafe fn watch<W: Datagrams>(c: *mut ngx_connection_t) {
    // SAFETY: the connection is open. `ngx_quic_run` has set its read handler for good, right after the timer of its idle timeout. Where
    // it has given the connection up, and waits for streams with early data, there is another handler, and no timer.
    unsafe {
        let is_quic = bits::listening::QUIC.is_set((*c).listening);
        let read = (*c).read;
        let has_run = bits::event::TIMER_SET.is_set(read);
        if is_quic && has_run {
            QUIC_INPUT.replace(&raw mut (*read).handler, quic_input::<W>);
        }
    }
}

#[cfg(not(ngx_feature = "http_v3"))]
pub unsafe fn watch<W: Datagrams>(_c: *mut ngx_connection_t) {}

#[cfg(ngx_feature = "http_v3")]
unsafe extern "C" fn quic_input<W: Datagrams>(event: *mut ngx_event_t) {
    // SAFETY: the data of a connection's event is the connection.
    let c = unsafe { (*event).data.cast::<ngx_connection_t>() };
    let from_listener = W::with(|worker| {
        let from_listener = worker.owner() == Owner::Listener;
        if let Some(at) = worker.client(c) {
            worker.begin_datagram(at);
            let connection = Owner::Connection(at);
            match worker.owner() {
                Owner::Listener | Owner::Nobody => worker.take(connection),
                owner if owner != connection => worker.switch(connection),
                _ => {}
            }
        }
        from_listener
    });
    if let Some(handler) = QUIC_INPUT.real() {
        // SAFETY: as NGINX called us.
        unsafe { handler(event) };
    }
    if from_listener == Some(true) {
        // the next datagram may be another connection's
        W::with(|worker| worker.switch(Owner::Listener));
    }
}
