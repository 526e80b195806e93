//! Bodies of refused requests: as little as possible of them is read.
//!
//! NGINX discards the body of a request that it has refused (`ngx_http_discard_request_body`), for as long as
//! `lingering_time`, and reads it for the page of an `error_page` that comes from another server. Either costs as
//! much as the client likes. So a refused request with a large body, or with one of unknown length, goes on as a
//! request without a body. Its connection is closed after the answer as NGINX closes others whose body was not read
//! (`ngx_http_set_lingering_close`): what the client still sends is read up to a bound, and is left in the kernel's
//! buffer from there on, until the client has closed or `lingering_timeout` is over.
//!
//! In HTTP/2 and HTTP/3, flow control lets a client send no more than a first window for a stream that nobody reads
//! from.

use nginx_sys::NGX_AGAIN;

use crate::charge::context::find;
use crate::charge::verdict::{Dropped, LimitedRef};
use crate::charge::worker::with_context;
use crate::nginx::connection::Receive;
use crate::nginx::hook::FnPointer;
use crate::nginx::io::reports_once;
use crate::nginx::request::Request;
use crate::nginx::stand_in::{Call, Callable, StandIn};

/// As many bytes of a refused request's body are read at most.
pub const MAX_READ: usize = 64 * 1024;

/// Takes the body from a refused request in its preaccess phase if it may be large. Whether the connection is to be
/// watched, by [`watch`].
pub fn drop_large(r: Request<'_>) -> bool {
    if r.has_small_body(MAX_READ as i64) {
        return false;
    }
    r.skip_expect();
    let is_multiplexed = r.client_connection() != r.connection();
    if is_multiplexed {
        // tells HTTP/2 that frames of the stream are to be skipped; there is nothing to do for HTTP/3
        r.discard_body();
    }
    r.set_bodyless();
    if is_multiplexed {
        return false;
    }
    r.set_lingering_close();
    // what has come already is not read before more comes, or the client closes
    if let Some(event) = r.connection().read_event() {
        event.set_not_ready();
    }
    true
}

/// What limits have to know of a main request besides, if its body was dropped. The worker must not be in use.
pub fn dropped_body(main: Request<'_>) -> Option<LimitedRef> {
    let limited = with_context(find(main)?, |context| context.limited).flatten()?;
    limited.dropped.is_dropped.get().then_some(limited)
}

/// From now on, reading from the connection of this main request of HTTP/1 ends at the bound. To be called again when
/// NGINX may have given the connection another `recv`, as `ngx_ssl_shutdown` does.
pub fn watch(r: Request<'_>, dropped: &Dropped) {
    let recv = r.connection().recv();
    if !is_ours(recv.function()) {
        dropped.recv.remember(recv.function());
        recv.set_function(Some(Receive::ours::<ReadSome>()));
    }
}

/// The request is being freed: its connection gets back the function that it had.
pub fn leave(r: Request<'_>, dropped: &Dropped) {
    let recv = r.connection().recv();
    if dropped.is_dropped.get() && is_ours(recv.function()) {
        recv.set_function(dropped.recv.real());
    }
}

fn is_ours(recv: Option<Receive>) -> bool {
    recv.is_some_and(|recv| recv.address() == Receive::ours::<ReadSome>().address())
}

/// In the place of the connection's `recv`.
struct ReadSome;

impl StandIn<Receive> for ReadSome {
    fn call(call: Call<'_, Receive>) -> isize {
        /// the value that `recv` returns when the other end has closed
        const CLOSED: isize = 0;
        // SAFETY: ours is there only while the connection serves the request: see `leave`.
        let main = unsafe { Request::of_connection(call.connection()) };
        let Some(limited) = dropped_body(main) else { return CLOSED };
        let dropped = &limited.dropped;
        let left = dropped.left.get();
        if left > 0 {
            let Some(count) = call.read_at_most(left, &dropped.recv) else { return CLOSED };
            dropped.left.set(left - usize::try_from(count).unwrap_or(0).min(left));
            return count;
        }
        // An event method that goes on reporting what is not read would keep the worker busy; the connection is
        // closed at once then.
        let Some(event) = call.connection().read_event() else { return CLOSED };
        if !dropped.recv.is_known() || !reports_once() || event.is_eof_pending() {
            return CLOSED;
        }
        event.set_not_ready();
        NGX_AGAIN as isize
    }
}
