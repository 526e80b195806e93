//! Datagrams of QUIC.

use core::marker::PhantomData;

use crate::measure::attribution::Attribute;
use crate::measure::owner::Owner;
use crate::nginx::connection::Connection;
use crate::nginx::event::{Event, EventHandler, HandleEvent, handle};
use crate::nginx::hook::Hook;
use crate::nginx::listening::quic_input;

/// Reports to the layer above.
pub trait Datagrams: Attribute {
    /// A datagram has arrived on the connection with this index.
    fn begin_datagram(&mut self, at: usize);
}

/// `ngx_quic_input_handler`, a static function of ngx_event_quic.c.
static QUIC_INPUT: Hook<EventHandler> = Hook::new();

/// Datagrams of a known QUIC connection arrive in the event of the listening socket. There `ngx_quic_recvmsg` calls the
/// connection's read handler. So our function stands in for that handler, and finds the owner by its connection.
pub fn watch<W: Datagrams>(c: Connection<'_>) {
    if let Some(event) = quic_input(c) {
        QUIC_INPUT.replace(event.handler(), handle::<Input<W>>);
    }
}

struct Input<W>(PhantomData<W>);

impl<W: Datagrams> HandleEvent for Input<W> {
    fn handle(event: Event<'_>) {
        let from_listener = W::with(|worker| {
            let from_listener = worker.owner() == Owner::Listener;
            // A QUIC connection has no other event for which this handler is called.
            let at = worker.places().index_of_event(&event).filter(|&at| worker.is_client(at));
            if let Some(at) = at {
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
        QUIC_INPUT.call(event);
        if from_listener == Some(true) {
            // The next datagram may belong to another connection.
            W::with(|worker| worker.switch(Owner::Listener));
        }
    }
}
