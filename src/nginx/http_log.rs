//! Logs of connections show for which connection or request NGINX runs.
//!
//! NGINX prints that connection or request in the error log. An event of a connection has the connection's log. An
//! upstream connection, a subrequest, or a timer of another module has the client's log. The way leads from the event
//! to its log, to the `ngx_http_log_ctx_t`, and to the request.

use nginx_sys::{ngx_http_log_ctx_t, ngx_log_t, u_char};

use super::connection::Connection;
use super::event::Event;
use super::hook::{Hook, Hooks};
use super::live::{Live, get};
use super::request::Request;

type LogHandler = unsafe extern "C" fn(*mut ngx_log_t, *mut u_char, usize) -> *mut u_char;

/// `ngx_http_log_error`, a static function of ngx_http_request.c. It is known once the first connection was set up.
static HTTP_LOG_ERROR: Hook<LogHandler> = Hook::new();
/// Handlers of logs that are not HTTP's: `ngx_stream_log_error` and its like, which are static functions too. There is
/// room for some more.
static FOREIGN: Hooks<LogHandler, 4> = Hooks::new();

/// The connection or request for which NGINX runs.
pub enum Speaker<'a> {
    /// The log belongs to stream or mail.
    Foreign,
    /// A client's HTTP connection without a request.
    Connection(Connection<'a>),
    Request(Request<'a>),
}

#[inline]
fn handler_of(log: Live<'_, ngx_log_t>) -> Option<LogHandler> {
    get!(log, handler)
}

/// An HTTP connection was set up. Its log has the handler of all HTTP logs, so that handler is known from now on.
pub fn learn_http(c: Connection<'_>) {
    HTTP_LOG_ERROR.remember(c.live().log().and_then(handler_of));
}

/// A connection was set up by another handler. Returns whether it is not HTTP. If so, the handler of its log is known
/// from now on.
pub fn learn_foreign(c: Connection<'_>) -> bool {
    let Some(handler) = c.live().log().and_then(handler_of) else { return true };
    if HTTP_LOG_ERROR.is(handler) {
        return false;
    }
    FOREIGN.number_of(handler);
    true
}

/// The log of a request's connection has the handler of all HTTP logs. So the handler becomes known even if another
/// module's function stands in for the handlers of listening sockets.
#[inline]
pub fn learn_by_request(r: Request<'_>) {
    if !HTTP_LOG_ERROR.is_known() {
        learn_http(r.connection());
    }
}

/// The connection or request that `ngx_http_log_error` would name in an event.
#[inline]
pub fn speaker_of_event<'a>(event: &'a Event<'_>) -> Option<Speaker<'a>> {
    speaker_of_log(event.live().log()?)
}

/// The connection or request that `ngx_http_log_error` would name where NGINX uses a connection.
#[inline]
pub fn speaker(c: Connection<'_>) -> Option<Speaker<'_>> {
    speaker_of_log(c.live().log()?)
}

#[inline]
fn speaker_of_log(log: Live<'_, ngx_log_t>) -> Option<Speaker<'_>> {
    let handler = handler_of(log)?;
    if !HTTP_LOG_ERROR.is(handler) {
        return FOREIGN.has(handler).then_some(Speaker::Foreign);
    }
    // SAFETY: A log with this handler has a context of this type.
    let context = unsafe { Live::<ngx_http_log_ctx_t>::new(get!(log, data).cast()) }?;
    match context.request() {
        Some(request) => Some(Speaker::Request(Request::of(request))),
        None => context.connection().map(Connection::of).map(Speaker::Connection),
    }
}

/// Whether the log of an HTTP connection has a request.
pub fn has_request(c: Connection<'_>) -> bool {
    matches!(speaker(c), Some(Speaker::Request(_)))
}
