//! Listening sockets, and the handlers that set up the connections that are accepted from them.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use nginx_sys::{
    ngx_connection_handler_pt, ngx_connection_t, ngx_cycle_t, ngx_http_init_connection, ngx_listening_t,
};

#[cfg(ngx_feature = "http_v3")]
use super::bits;
use super::connection::Connection;
use super::event::Event;
use super::live::{Live, get};

type ConnectionHandler = unsafe extern "C" fn(*mut ngx_connection_t);

/// The handlers of listening sockets that ours stands before, by their place in `cycle->listening`.
struct Handlers {
    first: *mut ngx_listening_t,
    handlers: Vec<ngx_connection_handler_pt>,
}

/// Set once. It stays when the process stops measuring, since ours still stands before the handlers.
static HANDLERS: AtomicPtr<Handlers> = AtomicPtr::new(null_mut());

fn handlers() -> Option<&'static Handlers> {
    // SAFETY: null, or leaked by `replace_handlers`, and never changed.
    unsafe { HANDLERS.load(Relaxed).as_ref() }
}

/// What is done about a connection that was accepted, or about a QUIC stream that was opened.
pub trait Accept {
    /// Does it, and calls the handler that sets the connection up.
    fn accept(c: Connection<'_>, handler: SetUp);
}

unsafe extern "C" fn accept<A: Accept>(c: *mut ngx_connection_t) {
    // SAFETY: `ngx_event_accept` and its like call with a connection that is complete but for what the handler adds.
    let c = unsafe { Connection::new(c) };
    if let Some(handler) = c.listening().and_then(handler_of) {
        A::accept(c, SetUp(handler));
    }
}

/// The handler that a listening socket had before.
fn handler_of(socket: Live<'_, ngx_listening_t>) -> ngx_connection_handler_pt {
    let handlers = handlers()?;
    let at = socket.as_ptr().addr().wrapping_sub(handlers.first.addr()) / size_of::<ngx_listening_t>();
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
///
/// # Safety
/// The cycle must be the one that the process is about to serve.
pub unsafe fn replace_handlers<A: Accept>(cycle: &mut ngx_cycle_t) {
    // SAFETY: an array of `ngx_listening_t`, complete since the configuration was read.
    let sockets = unsafe { cycle.listening.as_slice_mut::<ngx_listening_t>() };
    let handlers = sockets.iter_mut().map(|socket| socket.handler.replace(accept::<A>)).collect();
    let handlers = Handlers { first: cycle.listening.elts.cast(), handlers };
    HANDLERS.store(Box::into_raw(Box::new(handlers)), Relaxed);
}

/// Whether the event method queues listening sockets apart from all others, as `ngx_event_process_init` has told it.
///
/// With the accept mutex, accepting has the right of way. Without, NGINX does it in the order in which the method
/// reports, and so it has to be queued in that order too.
pub fn accept_first(first: bool) {
    let Some(handlers) = handlers() else { return };
    for at in 0..handlers.handlers.len() {
        // SAFETY: the array stays as long as the cycle. A socket that this process serves has a connection, with its
        // events. `ngx_close_listening_sockets` leaves a pointer to it, and then it may be another's, which has
        // another listening socket or none.
        unsafe {
            let socket = handlers.first.add(at);
            if let Some(c) = Live::new((*socket).connection).map(Connection::of)
                && c.listening().is_some_and(|its| its.as_ptr() == socket)
                && let Some(event) = c.read_event()
            {
                event.set_accept(first);
            }
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
