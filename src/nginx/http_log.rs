//! Logs of connections tell for which connection or request NGINX runs.
//!
//! NGINX prints that in the error log. An event of a connection has that connection's log, and an upstream
//! connection, a subrequest, or a timer of another module carries the client's log: event, log, `ngx_http_log_ctx_t`,
//! request.

use nginx_sys::{ngx_http_log_ctx_t, ngx_log_t, u_char};

use super::connection::Connection;
use super::event::Event;
use super::hook::{Hook, Hooks};
use super::live::{Live, get};
use super::request::Request;

type LogHandler = unsafe extern "C" fn(*mut ngx_log_t, *mut u_char, usize) -> *mut u_char;

/// `ngx_http_log_error`, a static function of ngx_http_request.c, once the first connection was set up.
static HTTP_LOG_ERROR: Hook<LogHandler> = Hook::new();
/// Handlers of logs that are not HTTP's: `ngx_stream_log_error` and its like, static functions too, and some to spare.
static FOREIGN: Hooks<LogHandler, 4> = Hooks::new();

/// The connection or request that NGINX runs for.
pub enum Speaker<'a> {
    /// The log is one of stream or mail.
    Foreign,
    /// A client's connection of HTTP without a request.
    Connection(Connection<'a>),
    Request(Request<'a>),
}

#[inline]
fn handler_of(log: Live<'_, ngx_log_t>) -> Option<LogHandler> {
    get!(log, handler)
}

/// A connection of HTTP was set up: its log has the handler that all logs of HTTP have.
pub fn learn_http(c: Connection<'_>) {
    HTTP_LOG_ERROR.remember(c.live().log().and_then(handler_of));
}

/// A connection was set up by another handler. Returns whether it is not HTTP's; then its log's handler is known from
/// now on.
pub fn learn_foreign(c: Connection<'_>) -> bool {
    let Some(handler) = c.live().log().and_then(handler_of) else { return true };
    if HTTP_LOG_ERROR.is(handler) {
        return false;
    }
    FOREIGN.number_of(handler);
    true
}

/// The log of a request's connection has the handler that all logs of HTTP have. So it is known even if another
/// module's function stands before the listening sockets.
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
    // SAFETY: a log that has this handler has such a context.
    let context = unsafe { Live::<ngx_http_log_ctx_t>::new(get!(log, data).cast()) }?;
    match context.request() {
        Some(request) => Some(Speaker::Request(Request::of(request))),
        None => context.connection().map(Connection::of).map(Speaker::Connection),
    }
}

/// Whether the log of a connection of HTTP has a request.
pub fn has_request(c: Connection<'_>) -> bool {
    matches!(speaker(c), Some(Speaker::Request(_)))
}
