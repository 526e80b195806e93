//! The owner of an event.
//!
//! NGINX itself knows on whose behalf it runs: that is what it prints in the error log. An event of a connection has that
//! connection's log, and an upstream connection, a subrequest, or a timer of another module carries the client's log:
//! event, log, `ngx_http_log_ctx_t`, request, main request.
//!
//! An event may not tell its owner. Then the work in its handler call may: see [`io`](crate::measure::io).

use nginx_sys::{
    ngx_connection_t, ngx_event_t, ngx_http_log_ctx_t, ngx_http_request_t, ngx_listening_t, ngx_log_t, u_char,
};

use crate::measure::charge::Charge;
use crate::measure::owner::Owner;
use crate::measure::places::Places;
#[cfg(ngx_feature = "http_v3")]
use crate::nginx::bits;
use crate::nginx::hook::{Hook, Hooks};

type LogHandler = unsafe extern "C" fn(*mut ngx_log_t, *mut u_char, usize) -> *mut u_char;

/// `ngx_http_log_error`, a static function of ngx_http_request.c, once the first connection was set up.
static HTTP_LOG_ERROR: Hook<LogHandler> = Hook::new();
/// Handlers of logs that are not HTTP's: `ngx_stream_log_error` and its like, static functions too, and some to spare.
static FOREIGN: Hooks<LogHandler, 4> = Hooks::new();

/// What attribution needs from the layer above: requests, and the clients' connections.
pub trait Attribute: Charge {
    /// The arrays of the cycle that the worker serves.
    fn places(&self) -> &Places;

    /// The identity of a main request, if it has one.
    ///
    /// # Safety
    /// `main` must be a main request that has not been freed.
    unsafe fn find_request(main: *mut ngx_http_request_t) -> Option<Self::Request>;

    /// The request runs: the running lap is its, from the start of the handler call if that was not attributed yet.
    fn attribute(&mut self, request: Self::Request);

    /// Whether there is a client's connection at this place.
    fn is_client(&self, at: usize) -> bool;

    /// The owner of an event of a client's connection of HTTP; `None` if there is none at this place.
    ///
    /// # Safety
    /// NGINX is about to call the event's handler.
    unsafe fn owner_of_client(&mut self, at: usize, event: *mut ngx_event_t) -> Option<Owner<Self::Request>>;

    /// Whether the connection at this place is QUIC's, and carries requests.
    fn is_quic(&self, at: usize) -> bool;

    /// The upstream connection at this place is used for a request.
    fn set_upstream(&mut self, at: usize, request: Self::Request);

    /// The owner of the upstream connection at this place, once its request is gone.
    fn owner_of_upstream(&mut self, at: usize) -> Option<Owner<Self::Request>>;

    /// The place of a client's connection.
    fn client(&self, connection: *mut ngx_connection_t) -> Option<usize> {
        self.places().index(connection).filter(|&at| self.is_client(at))
    }
}

/// A connection of HTTP was set up: its log has the handler that all logs of HTTP have.
///
/// # Safety
/// The connection must be open.
pub unsafe fn learn_http(c: *const ngx_connection_t) {
    // SAFETY: as the caller says, so its log is there.
    HTTP_LOG_ERROR.remember(unsafe { (*(*c).log).handler });
}

/// A connection was set up by another handler. Returns whether it is not HTTP's; then its log's handler is known from now on.
///
/// # Safety
/// The connection must be open.
pub unsafe fn learn_foreign(c: *const ngx_connection_t) -> bool {
    // SAFETY: as the caller says, so its log is there.
    let handler = unsafe { (*(*c).log).handler };
    if handler.is_some_and(|handler| HTTP_LOG_ERROR.is(handler)) {
        return false;
    }
    if let Some(handler) = handler {
        FOREIGN.number_of(handler);
    }
    true
}

/// The log of a request's connection has the handler that we look for. So it is known even if another module's function stands
/// before the listening sockets.
///
/// # Safety
/// `log` must be the log of a request's connection.
pub unsafe fn learn(log: *const ngx_log_t) {
    if !HTTP_LOG_ERROR.is_known() {
        // SAFETY: as the caller says.
        HTTP_LOG_ERROR.remember(unsafe { (*log).handler });
    }
}

/// Whether the log of a connection of HTTP has a request.
///
/// # Safety
/// The connection must be open.
pub unsafe fn has_request(c: *const ngx_connection_t) -> bool {
    // SAFETY: as the caller says, so its log is valid; with this handler it has a context.
    unsafe {
        let log = (*c).log.as_ref();
        let log = log.filter(|log| log.handler.is_some_and(|handler| HTTP_LOG_ERROR.is(handler)));
        log.and_then(|log| log.data.cast::<ngx_http_log_ctx_t>().as_ref())
            .is_some_and(|context| !context.request.is_null())
    }
}

/// The owner of an event, as far as it can be known before its handler runs.
///
/// # Safety
/// NGINX is about to call the event's handler.
#[inline]
pub unsafe fn owner_of<W: Attribute>(worker: &mut W, event: *mut ngx_event_t) -> Owner<W::Request> {
    let at = worker.places().index_of_event(event);
    // the most frequent ones are known without their log
    if let Some(at) = at
        // SAFETY: as the caller says.
        && let Some(owner) = unsafe { worker.owner_of_client(at, event) }
    {
        return owner;
    }
    let log = match at {
        // SAFETY: NGINX is about to call the event's handler, so event and connection are in use, and the log of an open
        // connection is always valid.
        Some(at) => unsafe {
            let c = worker.places().connection(at);
            // not by its flag `accept`, see `accept_first`
            let socket = (*c).listening;
            if !socket.is_null() && core::ptr::eq((*socket).connection, c) {
                return owner_of_listener(socket);
            }
            (*c).log
        },
        // SAFETY: as above. A timer of another module may have no log.
        None => unsafe { (*event).log },
    };
    // SAFETY: as above.
    let owner = unsafe { owner_by_log(worker, log) };
    let Some(at) = at else {
        return match owner {
            Some(Owner::Connection(at)) if worker.is_quic(at) => {
                // `ngx_quic_push_handler` and other events of QUIC that have no connection's place
                Owner::Sending(at)
            }
            owner => owner.unwrap_or(Owner::Nobody),
        };
    };
    match owner {
        Some(Owner::Request(request)) if !worker.is_client(at) => {
            worker.set_upstream(at, request);
            Owner::Request(request)
        }
        Some(owner) => owner,
        None if worker.is_client(at) => Owner::Connection(at),
        // `ngx_http_upstream_free_keepalive_peer` and lua's `setkeepalive` have taken its log away: it is idle now, and closed
        // by its other end or by a timer. It was kept for the request that had it last.
        None => worker.owner_of_upstream(at).unwrap_or(Owner::Nobody),
    }
}

/// The event of a listening socket. Datagrams of a known UDP session are handled in it (`ngx_event_recvmsg`), which are never
/// HTTP's unless they are QUIC's.
///
/// # Safety
/// The socket must be null or one of the cycle's.
unsafe fn owner_of_listener<R>(socket: *mut ngx_listening_t) -> Owner<R> {
    // SAFETY: the connection of a listening socket has that one, for as long as it is open.
    let Some(socket) = (unsafe { socket.as_ref() }) else { return Owner::Listener };
    #[cfg(ngx_feature = "http_v3")]
    // SAFETY: as above.
    if unsafe { bits::listening::QUIC.is_set(socket) } {
        return Owner::Listener;
    }
    if socket.type_ == libc::SOCK_DGRAM { Owner::NoRequest } else { Owner::Listener }
}

/// Something is done with a connection. If the connection's log names a request, that request is running.
///
/// # Safety
/// The connection must be open.
#[inline]
pub unsafe fn attribute_by_connection<W: Attribute>(c: *mut ngx_connection_t) {
    // SAFETY: as the caller says.
    let log = unsafe { (*c).log };
    W::with(|worker| {
        // SAFETY: the log of an open connection is valid.
        if let Some(Owner::Request(request)) = unsafe { owner_by_log(worker, log) } {
            worker.attribute(request);
        }
    });
}

/// On whose behalf `ngx_http_log_error` would say that NGINX runs; a log of stream or mail says that it is no request's.
///
/// # Safety
/// The log must be null, or valid with what it refers to.
#[inline]
unsafe fn owner_by_log<W: Attribute>(worker: &W, log: *mut ngx_log_t) -> Option<Owner<W::Request>> {
    // SAFETY: a log that has this handler has an `ngx_http_log_ctx_t`, whose request is null or has not been freed
    // (`ngx_http_free_request` clears it).
    unsafe {
        let log = log.as_ref()?;
        let handler = log.handler?;
        if !HTTP_LOG_ERROR.is(handler) {
            return FOREIGN.has(handler).then_some(Owner::NoRequest);
        }
        let log_context = log.data.cast::<ngx_http_log_ctx_t>().as_ref()?;
        let connection = if log_context.request.is_null() {
            client_connection(log_context.connection)
        } else {
            let main = (*log_context.request).main;
            if let Some(request) = W::find_request(main) {
                return Some(Owner::Request(request));
            }
            connection_of(main)
        };
        worker.client(connection).map(Owner::Connection)
    }
}

/// The client's connection that a request came in on.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn connection_of(r: *mut ngx_http_request_t) -> *mut ngx_connection_t {
    // SAFETY: a request has a connection; a stream of HTTP/2 has its connection's.
    unsafe {
        #[cfg(ngx_feature = "http_v2")]
        if let Some(stream) = (*r).stream.as_ref() {
            return (*stream.connection).connection;
        }
        client_connection((*r).connection)
    }
}

/// A QUIC stream's connection is that of QUIC; any other is itself.
///
/// # Safety
/// As for [`quic_parent`].
unsafe fn client_connection(c: *mut ngx_connection_t) -> *mut ngx_connection_t {
    // SAFETY: as the caller says.
    unsafe { quic_parent(c) }.unwrap_or(c)
}

/// The connection of QUIC that a stream is part of.
///
/// # Safety
/// The connection must be null or in use.
#[cfg(ngx_feature = "http_v3")]
pub unsafe fn quic_parent(c: *mut ngx_connection_t) -> Option<*mut ngx_connection_t> {
    // SAFETY: null, or a connection in use; `ngx_quic_create_stream` has set `quic` and the parent.
    unsafe { c.as_ref()?.quic.as_ref().map(|stream| stream.parent) }
}

#[cfg(not(ngx_feature = "http_v3"))]
pub unsafe fn quic_parent(_c: *mut ngx_connection_t) -> Option<*mut ngx_connection_t> {
    None
}
