//! Listening sockets, and the handlers that set up accepted connections.

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

/// The original handlers of listening sockets, by their index in `cycle->listening`. A function of ours stands in for
/// them.
struct Handlers {
    /// the first socket
    first: AtomicPtr<ngx_listening_t>,
    handlers: Vec<ngx_connection_handler_pt>,
}

/// Set once. It stays set when the process stops measuring, because our function still stands in for the handlers.
static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// The work at a connection that was accepted, or at a QUIC stream that was opened.
pub trait Accept {
    /// Does the work, and calls the handler that sets up the connection.
    fn accept(c: Connection<'_>, handler: SetUp);
}

callback! {
    /// `ngx_event_accept` and its like call this. The connection is complete except for the parts that the handler
    /// adds.
    fn accept<A: Accept>(c: Connection<'_>) {
        if let Some(handler) = c.listening().and_then(handler_of) {
            A::accept(c, SetUp(handler));
        }
    }
}

/// The original handler of a listening socket.
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
    /// Sets up a connection. Afterwards the connection may be closed.
    pub fn call(self, c: Connection<'_>) {
        // SAFETY: This is the handler that NGINX would have called.
        unsafe { self.0(c.as_ptr()) };
    }

    /// Whether the connections are HTTP's.
    pub fn is_http(self) -> bool {
        core::ptr::fn_addr_eq(self.0, ngx_http_init_connection as ConnectionHandler)
    }
}

/// Makes `A` stand in for the handler of every listening socket, in this process only.
pub fn replace_handlers<A: Accept>(cycle: ServedCycle) {
    let sockets = || cycle.live().sockets();
    let Some(first) = sockets().next() else { return };
    let handlers = sockets().map(|socket| get!(socket, handler)).collect();
    if HANDLERS.set(Handlers { first: AtomicPtr::new(first.as_ptr()), handlers }).is_ok() {
        sockets().for_each(|socket| set!(socket, handler, Some(accept::<A> as ConnectionHandler)));
    }
}
/// Sets whether the event method puts events of listening sockets into a queue of their own. `ngx_event_process_init`
/// has set this before.
///
/// With the accept mutex, accepts run first. Without it, NGINX runs them in the order in which the event method reports
/// events, so they must be queued in that order too.
pub fn accept_first(first: bool) {
    let Some(handlers) = HANDLERS.get() else { return };
    for at in 0..handlers.handlers.len() {
        // SAFETY: The element is within the array, which lives as long as the cycle.
        let socket = unsafe { Live::at(handlers.first.load(Relaxed).add(at)) };
        // If this process has closed the socket, its connection may be in use for another purpose. Then the connection
        // has another listening socket or none.
        if let Some(c) = socket.connection().map(Connection::of)
            && c.listening() == Some(socket)
            && let Some(event) = c.read_event()
        {
            event.set_accept(first);
        }
    }
}

/// The kind of data that arrives at a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Connections,
    /// Datagrams of a known UDP session are handled in the event of the socket (`ngx_event_recvmsg`).
    Datagrams,
    /// Datagrams of QUIC.
    #[cfg(ngx_feature = "http_v3")]
    Quic,
}

/// The kind of data that arrives in an event of this connection. `None` if the connection is not that of a listening
/// socket.
///
/// The event's flag `accept` does not show this: see [`accept_first`].
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

/// The event in which datagrams of a QUIC connection arrive. `None` if this is another kind of connection, or if QUIC
/// has given it up.
#[cfg(ngx_feature = "http_v3")]
pub fn quic_input(c: Connection<'_>) -> Option<Event<'_>> {
    let is_quic = bits::listening::QUIC.is_on(c.listening()?);
    let read = c.read_event()?;
    // `ngx_quic_run` sets the read handler for good, right after the timer of the idle timeout. If QUIC has given up
    // the connection, and waits for streams with early data, there is another handler and no timer.
    (is_quic && read.has_timer()).then_some(read)
}

#[cfg(not(ngx_feature = "http_v3"))]
pub fn quic_input(_c: Connection<'_>) -> Option<Event<'_>> {
    None
}
