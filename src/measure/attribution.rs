//! The owner of an event.
//!
//! NGINX itself knows for which request it runs: see [`http_log`]. If an event does not show its owner, the work in its
//! handler call may: see [`io`](crate::measure::io).

use crate::measure::charge::Charge;
use crate::measure::owner::Owner;
use crate::nginx::connection::Connection;
use crate::nginx::event::Event;
use crate::nginx::http_log::{self, Speaker};
use crate::nginx::listening::{self, Arrival};
use crate::nginx::places::Places;
use crate::nginx::request::Request;

/// The part of the layer above that attribution needs: requests, and clients' connections.
pub trait Attribute: Charge {
    /// The arrays of the cycle that the worker serves.
    fn places(&self) -> &Places;

    /// The identity of a main request, if it has one.
    fn find_request(main: Request<'_>) -> Option<Self::Request>;

    /// The request runs. The running lap belongs to it. If the handler call was not attributed yet, the lap belongs to
    /// the request from the start of the call.
    fn attribute(&mut self, request: Self::Request);

    /// Whether the connection with this index is a client's.
    fn is_client(&self, at: usize) -> bool;

    /// The client's connection with this index, if there is one. Then it is open.
    fn open_client(&self, at: usize) -> Option<Connection<'_>>;

    /// The owner of an event of a client's HTTP connection. `None` if no such connection has this index.
    fn owner_of_client(&mut self, at: usize, event: &Event<'_>) -> Option<Owner<Self::Request>>;

    /// Whether the connection with this index is one of QUIC that carries requests.
    fn is_quic(&self, at: usize) -> bool;

    /// The upstream connection with this index is used for a request.
    fn set_upstream(&mut self, at: usize, request: Self::Request);

    /// The owner of the upstream connection with this index, when its request is gone.
    fn owner_of_upstream(&mut self, at: usize) -> Option<Owner<Self::Request>>;

    /// The index of a client's connection.
    #[inline]
    fn client(&self, connection: Connection<'_>) -> Option<usize> {
        self.places().index(connection).filter(|&at| self.is_client(at))
    }
}

/// The owner of an event, as far as it is known before the event's handler runs.
#[inline]
pub fn owner_of<W: Attribute>(worker: &mut W, event: &Event<'_>) -> Owner<W::Request> {
    let at = worker.places().index_of_event(event);
    let Some(at) = at else { return owner_without_place(worker, event) };
    // For the most frequent events, the owner is known without a look at the log.
    if let Some(owner) = worker.owner_of_client(at, event) {
        return owner;
    }
    let c = worker.places().connection_of(at, event);
    match listening::arrival(c) {
        None => {}
        // Datagrams of a known UDP session belong to HTTP only if they are QUIC's.
        Some(Arrival::Datagrams) => return Owner::NoRequest,
        Some(_) => return Owner::Listener,
    }
    match owner_by_speaker(worker, http_log::speaker(c)) {
        Some(Owner::Request(request)) if !worker.is_client(at) => {
            worker.set_upstream(at, request);
            Owner::Request(request)
        }
        Some(owner) => owner,
        None if worker.is_client(at) => Owner::Connection(at),
        // `ngx_http_upstream_free_keepalive_peer` and lua's `setkeepalive` have removed the connection's log. The
        // connection is idle, and is closed by its other end or by a timer. It was kept open for the request that used
        // it last.
        None => worker.owner_of_upstream(at).unwrap_or(Owner::Nobody),
    }
}

/// The owner of an event that belongs to no connection with an index.
fn owner_without_place<W: Attribute>(worker: &W, event: &Event<'_>) -> Owner<W::Request> {
    match owner_by_speaker(worker, http_log::speaker_of_event(event)) {
        // `ngx_quic_push_handler` and other events of QUIC belong to no connection with an index.
        Some(Owner::Connection(at)) if worker.is_quic(at) => Owner::Sending(at),
        owner => owner.unwrap_or(Owner::Nobody),
    }
}

/// NGINX uses a connection. If the connection's log names a request, that request is running.
#[inline]
pub fn attribute_by_connection<W: Attribute>(c: Connection<'_>) {
    W::with(|worker| {
        if let Some(Owner::Request(request)) = owner_by_speaker(worker, http_log::speaker(c)) {
            worker.attribute(request);
        }
    });
}

/// The owner that a log names. If the log is one of stream or mail, NGINX runs for no request.
#[inline]
fn owner_by_speaker<W: Attribute>(worker: &W, speaker: Option<Speaker<'_>>) -> Option<Owner<W::Request>> {
    let connection = match speaker? {
        Speaker::Foreign => return Some(Owner::NoRequest),
        Speaker::Connection(connection) => connection.client(),
        Speaker::Request(request) => {
            let main = request.main();
            if let Some(request) = W::find_request(main) {
                return Some(Owner::Request(request));
            }
            main.client_connection()
        }
    };
    worker.client(connection).map(Owner::Connection)
}
