//! Connections: accepted, set up, closed.

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use nginx_sys::{
    ngx_connection_handler_pt, ngx_connection_t, ngx_cycle_t, ngx_http_init_connection, ngx_listening_t,
    ngx_pool_cleanup_add,
};

use crate::measure::attribution::{self, quic_parent};
use crate::measure::owner::Owner;
use crate::measure::quic::{self, Datagrams};
use crate::measure::tls::{self, Handshakes};
use crate::nginx::bits;

type ConnectionHandler = unsafe extern "C" fn(*mut ngx_connection_t);

/// What is told to the layer above.
pub trait Clients: Datagrams + Handshakes {
    /// A connection was accepted, or handed to another listening socket. In the latter case it keeps the CPU it has used so far.
    fn open_connection(&mut self, at: usize);

    /// The connection is not HTTP: it has no requests.
    fn mark_other(&mut self, at: usize);

    /// The connection is being closed.
    fn close_connection(&mut self, at: usize);
}

/// The handlers of listening sockets that we stand before, by their place in `cycle->listening`.
struct Listeners {
    first: *mut ngx_listening_t,
    handlers: Vec<ngx_connection_handler_pt>,
}

/// Set once; stays when the process stops measuring, since we still stand before the handlers.
static LISTENERS: AtomicPtr<Listeners> = AtomicPtr::new(null_mut());

/// Puts us before every listening socket's handler, in this process only.
///
/// # Safety
/// The cycle must be the one that the process is about to serve.
pub unsafe fn hook<W: Clients>(cycle: &mut ngx_cycle_t) {
    // SAFETY: an array of `ngx_listening_t`, complete since the configuration was read.
    let sockets = unsafe { cycle.listening.as_slice_mut::<ngx_listening_t>() };
    let handlers = sockets.iter_mut().map(|socket| socket.handler.replace(accept::<W>)).collect();
    let listeners = Listeners { first: cycle.listening.elts.cast(), handlers };
    LISTENERS.store(Box::into_raw(Box::new(listeners)), Relaxed);
}

/// Whether the event method queues listening sockets apart from all others, as `ngx_event_process_init` has told it.
///
/// With the accept mutex, accepting has the right of way. Without, NGINX does it in the order in which the method reports,
/// and so it has to be queued in that order too.
pub fn accept_first(first: bool) {
    // SAFETY: null, or leaked by `hook`, and never changed. The array stays as long as the cycle; a socket that this
    // process serves has a connection, with its events. `ngx_close_listening_sockets` leaves a pointer to it, and then it may
    // be another's, which has another listening socket or none.
    unsafe {
        let Some(listeners) = LISTENERS.load(Relaxed).as_ref() else { return };
        for at in 0..listeners.handlers.len() {
            let socket = listeners.first.add(at);
            if let Some(connection) = (*socket).connection.as_ref()
                && core::ptr::addr_eq(connection.listening, socket)
            {
                bits::event::ACCEPT.set(connection.read, first.into());
            }
        }
    }
}

/// The handler that a listening socket had before.
fn handler_of(socket: *mut ngx_listening_t) -> ngx_connection_handler_pt {
    // SAFETY: null, or leaked by `hook`, and never changed.
    let listeners = unsafe { LISTENERS.load(Relaxed).as_ref() }?;
    let at = socket.addr().wrapping_sub(listeners.first.addr()) / size_of::<ngx_listening_t>();
    listeners.handlers.get(at).copied().flatten()
}

/// In the place of `ngx_http_init_connection` and its like: a connection was accepted, or a QUIC stream opened.
unsafe extern "C" fn accept<W: Clients>(c: *mut ngx_connection_t) {
    // SAFETY: `ngx_event_accept` and its like call with a connection that is complete but for what the handler adds.
    let Some(handler) = handler_of(unsafe { (*c).listening }) else { return };
    let from_listener = W::with(|worker| worker.owner()) == Some(Owner::Listener);
    // SAFETY: as above.
    let opened = match unsafe { quic_parent(c) } {
        // SAFETY: as above.
        None => unsafe { open::<W>(c) },
        Some(parent) => {
            // the first one of a connection says that its handshake is over
            W::with(|worker| {
                if let Some(at) = worker.client(parent) {
                    worker.end_handshake(at);
                }
            });
            None
        }
    };
    // SAFETY: the handler that would have been called without us.
    unsafe { handler(c) };
    W::with(|worker| {
        if let Some(at) = opened {
            opened_connection(worker, at, handler);
        }
        if from_listener {
            // the next connection is accepted in the same wakeup, or the next datagram read
            worker.switch(Owner::Listener);
        }
    });
}

/// Starts an entry for a connection, which owns the running lap from now on.
///
/// # Safety
/// The connection must be open.
unsafe fn open<W: Clients>(c: *mut ngx_connection_t) -> Option<usize> {
    let at = W::with(|worker| worker.places().index(c)).flatten()?;
    // SAFETY: the connection has its pool. The cleanup runs in `ngx_http_close_connection` and its like.
    unsafe {
        let cleanup = ngx_pool_cleanup_add((*c).pool, 0);
        if cleanup.is_null() {
            return None;
        }
        (*cleanup).handler = Some(closed::<W>);
        (*cleanup).data = core::ptr::without_provenance_mut(at);
    }
    W::with(|worker| {
        let connection = Owner::Connection(at);
        match worker.owner() {
            // what the accept has cost so far is this connection's
            Owner::Listener | Owner::NoRequest | Owner::Nobody => worker.take(connection),
            // `ngx_stream_pass_handler` hands an open connection to another listening socket
            owner if owner == connection => {}
            _ => worker.switch(connection),
        }
        worker.open_connection(at);
    });
    Some(at)
}

/// The handler has set a connection up, or closed it already.
fn opened_connection<W: Clients>(worker: &mut W, at: usize, handler: ConnectionHandler) {
    if !worker.is_client(at) {
        return;
    }
    let c = worker.places().connection(at);
    let is_http = core::ptr::fn_addr_eq(handler, ngx_http_init_connection as ConnectionHandler);
    // SAFETY: the connection is open.
    unsafe {
        if is_http {
            attribution::learn_http(c);
            quic::watch::<W>(c);
            tls::watch(worker, at);
        } else if attribution::learn_foreign(c) {
            worker.mark_other(at);
        }
    }
}

/// The pool of a client's connection is being destroyed.
unsafe extern "C" fn closed<W: Clients>(data: *mut c_void) {
    W::with(|worker| worker.close_connection(data.addr()));
}
