//! Listening sockets, and the handlers that set up the connections that are accepted from them.

use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::sync::OnceLock;

use nginx_sys::{ngx_connection_handler_pt, ngx_connection_t, ngx_http_init_connection, ngx_listening_t};

#[cfg(ngx_feature = "http_v3")]
use super::bits;
use super::callback::callback;
use super::connection::Connection;
use super::event::Event;
use super::live::{Live, get, set};
use super::served::ServedCycle;

type ConnectionHandler = unsafe extern "C" fn(*mut ngx_connection_t);

/// The handlers of listening sockets that ours stands before, by their place in `cycle->listening`.
struct Handlers {
    /// the first socket
    first: AtomicPtr<ngx_listening_t>,
    handlers: Vec<ngx_connection_handler_pt>,
}

/// Set once. It stays when the process stops measuring, since ours still stands before the handlers.
static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// What is done about a connection that was accepted, or about a QUIC stream that was opened.
pub trait Accept {
    /// Does it, and calls the handler that sets the connection up.
    fn accept(c: Connection<'_>, handler: SetUp);
}

callback! {
    /// `ngx_event_accept` and its like call with a connection that is complete but for what the handler adds.
    fn accept<A: Accept>(c: Connection<'_>) {
        if let Some(handler) = c.listening().and_then(handler_of) {
            A::accept(c, SetUp(handler));
        }
    }
}

/// The handler that a listening socket had before.
fn handler_of(socket: Live<'_, ngx_listening_t>) -> ngx_connection_handler_pt {
    let handlers = HANDLERS.get()?;
    let at = socket.as_ptr().addr().wrapping_sub(handlers.first.load(Relaxed).addr())
        / size_of::<ngx_listening_t>();
    handlers.handlers.get(at).copied().flatten()
}

/// The handler that sets up the connections of a listening socket: `ngx_http_init_connection` and its like.
#[derive(Clone, Copy)]
pub struct SetUp(ConnectionHandler);

impl SetUp {
    /// Sets a connection up, which may be closed then.
    pub fn call(self, c: Connection<'_>) {
        // SAFETY: the handler that NGINX would have called.
        unsafe { self.0(c.as_ptr()) };
    }

    /// Whether the connections are HTTP's.
    pub fn is_http(self) -> bool {
        core::ptr::fn_addr_eq(self.0, ngx_http_init_connection as ConnectionHandler)
    }
}

/// Puts `A` before every listening socket's handler, in this process only.
pub fn replace_handlers<A: Accept>(cycle: ServedCycle) {
    let sockets = || cycle.live().sockets();
    let Some(first) = sockets().next() else { return };
    let handlers = sockets().map(|socket| get!(socket, handler)).collect();
    if HANDLERS.set(Handlers { first: AtomicPtr::new(first.as_ptr()), handlers }).is_ok() {
        sockets().for_each(|socket| set!(socket, handler, Some(accept::<A> as ConnectionHandler)));
    }
}
/// Whether the event method queues listening sockets apart from all others, as `ngx_event_process_init` has told it.
///
/// With the accept mutex, accepting has the right of way. Without, NGINX does it in the order in which the method
/// reports, and so it has to be queued in that order too.
pub fn accept_first(first: bool) {
    let Some(handlers) = HANDLERS.get() else { return };
    for at in 0..handlers.handlers.len() {
        // SAFETY: within the array, which stays as long as the cycle.
        let socket = unsafe { Live::at(handlers.first.load(Relaxed).add(at)) };
        // one that this process has closed may lead to a connection that is another's, which has another listening
        // socket or none
        if let Some(c) = socket.connection().map(Connection::of)
            && c.listening() == Some(socket)
            && let Some(event) = c.read_event()
        {
            event.set_accept(first);
        }
    }
}

/// What arrives at a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Connections,
    /// Datagrams of a known UDP session are handled in the event of the socket (`ngx_event_recvmsg`).
    Datagrams,
    /// Datagrams of QUIC.
    #[cfg(ngx_feature = "http_v3")]
    Quic,
}

/// What arrives in an event of this connection; `None` if it is not the connection of a listening socket.
///
/// The event's flag `accept` does not tell: see [`accept_first`].
#[inline]
pub fn arrival(c: Connection<'_>) -> Option<Arrival> {
    let socket = c.listening()?;
    if get!(socket, connection) != c.as_ptr() {
        return None;
    }
    #[cfg(ngx_feature = "http_v3")]
    if bits::listening::QUIC.is_on(socket) {
        return Some(Arrival::Quic);
    }
    let is_datagram = get!(socket, type_) == libc::SOCK_DGRAM;
    Some(if is_datagram { Arrival::Datagrams } else { Arrival::Connections })
}

/// The event in which datagrams of a connection of QUIC arrive; `None` if it is another connection, or if QUIC has
/// given it up.
#[cfg(ngx_feature = "http_v3")]
pub fn quic_input(c: Connection<'_>) -> Option<Event<'_>> {
    let is_quic = bits::listening::QUIC.is_on(c.listening()?);
    let read = c.read_event()?;
    // `ngx_quic_run` has set its read handler for good, right after the timer of its idle timeout. Where it has given
    // the connection up, and waits for streams with early data, there is another handler, and no timer.
    (is_quic && read.has_timer()).then_some(read)
}

#[cfg(not(ngx_feature = "http_v3"))]
pub fn quic_input(_c: Connection<'_>) -> Option<Event<'_>> {
    None
}
