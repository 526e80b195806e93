//! Bodies of refused requests: the module reads as little of them as possible.
//!
//! NGINX discards the body of a refused request (`ngx_http_discard_request_body`) for as long as `lingering_time`. It
//! reads the body if an `error_page` comes from another server. In both cases the client decides how much CPU this
//! costs. Therefore a refused request with a large body, or with a body of unknown length, continues as a request
//! without a body. NGINX closes its connection after the answer, as it closes other connections with an unread body
//! (`ngx_http_set_lingering_close`). Data that the client still sends is read up to a bound. The rest stays in the
//! kernel's buffer until the client has closed the connection, or `lingering_timeout` has passed.
//!
//! In HTTP/2 and HTTP/3, flow control limits the client to one initial window on a stream that is not read.

use nginx_sys::NGX_AGAIN;

use crate::charge::context::find;
use crate::charge::verdict::{Dropped, LimitedRef};
use crate::charge::worker::with_context;
use crate::nginx::connection::Receive;
use crate::nginx::hook::FnPointer;
use crate::nginx::io::reports_once;
use crate::nginx::request::Request;
use crate::nginx::stand_in::{Call, Callable, StandIn};

/// The most bytes of a refused request's body that are read.
pub const MAX_READ: usize = 64 * 1024;

/// Takes the body from a refused request in its preaccess phase if the body may be large. Returns whether [`watch`]
/// must be called for the connection.
pub fn drop_large(r: Request<'_>) -> bool {
    if r.has_small_body(MAX_READ as i64) {
        return false;
    }
    r.skip_expect();
    let is_multiplexed = r.client_connection() != r.connection();
    if is_multiplexed {
        // HTTP/2 then skips the frames of the stream; HTTP/3 needs nothing.
        r.discard_body();
    }
    r.set_bodyless();
    if is_multiplexed {
        return false;
    }
    r.set_lingering_close();
    // Data that has arrived already is not read before more arrives, or the client closes.
    if let Some(event) = r.connection().read_event() {
        event.set_not_ready();
    }
    true
}

/// The data of a main request for limits, if its body was dropped. The worker must not be in use.
pub fn dropped_body(main: Request<'_>) -> Option<LimitedRef> {
    let limited = with_context(find(main)?, |context| context.limited).flatten()?;
    limited.dropped.is_dropped.get().then_some(limited)
}

/// From now on, reading from the HTTP/1 connection of this main request ends at the bound. Must be called again when
/// NGINX may have set another `recv` in the connection, as `ngx_ssl_shutdown` does.
pub fn watch(r: Request<'_>, dropped: &Dropped) {
    let recv = r.connection().recv();
    if !is_ours(recv.function()) {
        dropped.recv.remember(recv.function());
        recv.set_function(Some(Receive::ours::<ReadSome>()));
    }
}

/// Called when the request is freed: restores the `recv` function of its connection.
pub fn leave(r: Request<'_>, dropped: &Dropped) {
    let recv = r.connection().recv();
    if dropped.is_dropped.get() && is_ours(recv.function()) {
        recv.set_function(dropped.recv.real());
    }
}

fn is_ours(recv: Option<Receive>) -> bool {
    recv.is_some_and(|recv| recv.address() == Receive::ours::<ReadSome>().address())
}

/// Our function in place of the connection's `recv`.
struct ReadSome;

impl StandIn<Receive> for ReadSome {
    fn call(call: Call<'_, Receive>) -> isize {
        /// the value that `recv` returns when the client has closed
        const CLOSED: isize = 0;
        // SAFETY: our function is set only while the connection serves the request: see `leave`.
        let main = unsafe { Request::of_connection(call.connection()) };
        let Some(limited) = dropped_body(main) else { return CLOSED };
        let dropped = &limited.dropped;
        let left = dropped.left.get();
        if left > 0 {
            let Some(count) = call.read_at_most(left, &dropped.recv) else { return CLOSED };
            dropped.left.set(left - usize::try_from(count).unwrap_or(0).min(left));
            return count;
        }
        // An event method that keeps reporting unread data would keep the worker busy. The connection is then closed
        // at once.
        let Some(event) = call.connection().read_event() else { return CLOSED };
        if !dropped.recv.is_known() || !reports_once() || event.is_eof_pending() {
            return CLOSED;
        }
        event.set_not_ready();
        NGX_AGAIN as isize
    }
}
