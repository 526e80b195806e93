//! Bodies of refused requests: as little as possible of them is read.
//!
//! NGINX discards the body of a request that it has refused (`ngx_http_discard_request_body`), for as long as `lingering_time`, and
//! reads it for the page of an `error_page` that comes from another server. Either costs as much as the client likes. So a refused request
//! with a large body, or with one of unknown length, goes on as a request without a body. Its connection is closed after the
//! answer as NGINX closes others whose body was not read (`ngx_http_set_lingering_close`): what the client still sends is read
//! up to a bound, and is left in the kernel's buffer from there on, until the client has closed or `lingering_timeout` is over.
//!
//! In HTTP/2 and HTTP/3, flow control lets a client send no more than a first window for a stream that nobody reads from.

use core::ptr::null_mut;

use nginx_sys::{
    NGX_AGAIN, NGX_USE_CLEAR_EVENT, ngx_connection_t, ngx_event_flags, ngx_http_discard_request_body,
    ngx_http_request_t, ngx_recv_pt, ngx_uint_t, u_char,
};

use crate::charge::context::dropped_body;
use crate::charge::verdict::Dropped;
use crate::measure::attribution;
use crate::nginx::bits;

/// As many bytes of a refused request's body are read at most.
pub const MAX_READ: usize = 64 * 1024;

/// Takes the body from a refused request if it may be large. Whether the connection is to be watched, by [`watch`].
///
/// # Safety
/// `r` must be a main request in its preaccess phase.
pub unsafe fn drop_large(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as the caller says; its header has been read, and it has a connection with its events.
    unsafe {
        let headers = &raw mut (*r).headers_in;
        let is_small =
            (*headers).content_length_n <= MAX_READ as i64 && !bits::headers_in::CHUNKED.is_set(headers);
        // another module may have read it already
        if is_small || !(*r).request_body.is_null() || bits::request::DISCARD_BODY.is_set(r) {
            return false;
        }
        bits::request::EXPECT_TESTED.set(r, 1);
        let is_multiplexed = attribution::connection_of(r) != (*r).connection;
        if is_multiplexed {
            // tells HTTP/2 that frames of the stream are to be skipped; there is nothing to do for HTTP/3
            ngx_http_discard_request_body(r);
        }
        // as `ngx_http_process_request_headers` leaves a request without a body
        (*headers).content_length = null_mut();
        (*headers).content_length_n = -1;
        bits::headers_in::CHUNKED.set(headers, 0);
        if is_multiplexed {
            return false;
        }
        bits::request::KEEPALIVE.set(r, 0);
        bits::request::LINGERING_CLOSE.set(r, 1);
        // what has come already is not read before more comes, or the client closes
        bits::event::READY.set((*(*r).connection).read, 0);
        true
    }
}

/// From now on, reading from the connection of this request ends at the bound. To be called again when NGINX may have given the
/// connection another `recv`, as `ngx_ssl_shutdown` does.
///
/// # Safety
/// `r` must be a main request of HTTP/1 that has not been freed, and has `dropped`.
pub unsafe fn watch(r: *mut ngx_http_request_t, dropped: &mut Dropped) {
    // SAFETY: as the caller says, so its connection is there.
    unsafe {
        let c = (*r).connection;
        if !is_ours((*c).recv) {
            dropped.recv = (*c).recv;
            (*c).recv = Some(receive);
        }
    }
}

/// The request is being freed: its connection gets back what it had.
///
/// # Safety
/// As for [`watch`].
pub unsafe fn leave(r: *mut ngx_http_request_t, dropped: &Dropped) {
    // SAFETY: as the caller says.
    unsafe {
        let c = (*r).connection;
        if is_ours((*c).recv) {
            (*c).recv = dropped.recv;
        }
    }
}

fn is_ours(recv: ngx_recv_pt) -> bool {
    recv.is_some_and(|recv| recv as usize == receive as *const () as usize)
}

/// In the place of the connection's `recv`.
unsafe extern "C" fn receive(c: *mut ngx_connection_t, buffer: *mut u_char, size: usize) -> isize {
    /// what `recv` returns when the other end has closed
    const CLOSED: isize = 0;
    // SAFETY: NGINX reads from an open connection. Its data is the request or one of its subrequests, which have not been freed: see
    // `leave`.
    unsafe {
        let r = (*c).data.cast::<ngx_http_request_t>();
        let Some(dropped) = dropped_body((*r).main) else { return CLOSED };
        let Some(recv) = dropped.recv else { return CLOSED };
        if dropped.left > 0 {
            let count = recv(c, buffer, size.min(dropped.left));
            dropped.left -= usize::try_from(count).unwrap_or(0).min(dropped.left);
            return count;
        }
        // An event method that goes on reporting what is not read would keep the worker busy; the connection is closed at once then.
        let reports_once = (&raw const ngx_event_flags).read() & NGX_USE_CLEAR_EVENT as ngx_uint_t != 0;
        if !reports_once || bits::event::PENDING_EOF.is_set((*c).read) {
            return CLOSED;
        }
        bits::event::READY.set((*c).read, 0);
        NGX_AGAIN as isize
    }
}
