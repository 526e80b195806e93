//! The life of connections: they are accepted, set up and closed.

use core::marker::PhantomData;

use crate::measure::owner::Owner;
use crate::measure::quic::{self, Datagrams};
use crate::measure::tls::{self, Handshakes};
use crate::nginx::connection::Connection;
use crate::nginx::http_log;
use crate::nginx::listening::{Accept, SetUp, replace_handlers};
use crate::nginx::pool::AtEnd;
use crate::nginx::served::ServedCycle;

/// Reports to the layer above.
pub trait Clients: Datagrams + Handshakes {
    /// A connection was accepted, or was handed to another listening socket. In the latter case it keeps the CPU time
    /// that it has used so far.
    fn open_connection(&mut self, at: usize);

    /// The connection is not HTTP, so it has no requests.
    fn mark_other(&mut self, at: usize);

    /// The connection is being closed.
    fn close_connection(&mut self, at: usize);
}

/// Our functions that run when a connection is set up, and when it is closed.
struct Client<W>(PhantomData<W>);

/// Makes our function stand in for the handler of every listening socket, in this process only.
pub fn hook<W: Clients>(cycle: ServedCycle) {
    replace_handlers::<Client<W>>(cycle);
}

impl<W: Clients> Accept for Client<W> {
    fn accept(c: Connection<'_>, handler: SetUp) {
        let from_listener = W::with(|worker| worker.owner()) == Some(Owner::Listener);
        let opened = match c.quic_parent() {
            None => open::<W>(c),
            Some(parent) => {
                // The first stream of a QUIC connection shows that the handshake is over.
                W::with(|worker| {
                    if let Some(at) = worker.client(parent) {
                        worker.end_handshake(at);
                    }
                });
                None
            }
        };
        handler.call(c);
        W::with(|worker| {
            if let Some(at) = opened {
                opened_connection(worker, at, handler);
            }
            if from_listener {
                // In the same handler call, the next connection may be accepted, or the next datagram may be read.
                worker.switch(Owner::Listener);
            }
        });
    }
}

/// Makes an entry for a connection. The connection owns the running lap from now on.
fn open<W: Clients>(c: Connection<'_>) -> Option<usize> {
    let at = W::with(|worker| worker.places().index(c)).flatten()?;
    // `ngx_http_close_connection` and its like call this.
    c.pool()?.at_end::<Client<W>>(at)?;
    W::with(|worker| {
        let connection = Owner::Connection(at);
        match worker.owner() {
            // The cost of the accept so far belongs to this connection.
            Owner::Listener | Owner::NoRequest | Owner::Nobody => worker.take(connection),
            // `ngx_stream_pass_handler` hands an open connection to another listening socket
            owner if owner == connection => {}
            _ => worker.switch(connection),
        }
        worker.open_connection(at);
    });
    Some(at)
}

/// The handler has set up a connection, or has already closed it.
fn opened_connection<W: Clients>(worker: &mut W, at: usize, handler: SetUp) {
    let Some(c) = worker.open_client(at) else { return };
    if handler.is_http() {
        http_log::learn_http(c);
        quic::watch::<W>(c);
        tls::watch(worker, at);
    } else if http_log::learn_foreign(c) {
        worker.mark_other(at);
    }
}

impl<W: Clients> AtEnd for Client<W> {
    /// The pool of a client's connection is being destroyed.
    fn at_end(at: usize) {
        W::with(|worker| worker.close_connection(at));
    }
}
