//! A request that a content handler answers, and its answer, which may take many turns of the event loop.
//!
//! `ngx::http::Request` does what it can: it has no arguments, adds headers by copies, and knows nothing of an
//! answer in pieces.

use core::ffi::c_void;
use core::ptr::{NonNull, fn_addr_eq, null_mut};

use nginx_sys::{
    NGX_DONE, NGX_ERROR, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR,
    NGX_HTTP_REQUEST_TIME_OUT, NGX_LOG_INFO, NGX_OK, ngx_buf_t, ngx_chain_t, ngx_connection_t, ngx_event_t,
    ngx_handle_write_event, ngx_http_arg, ngx_http_core_loc_conf_t, ngx_http_finalize_request,
    ngx_http_headers_out_t, ngx_http_output_filter, ngx_http_request_t, ngx_http_test_reading, ngx_int_t,
    ngx_list_push, ngx_msec_t, ngx_pool_cleanup_add, ngx_posted_events, ngx_str_t, ngx_table_elt_t,
    ngx_uint_t, ngx_unescape_uri,
};
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};
use ngx::ngx_log_error;

use crate::nginx::text::text;
use crate::nginx::{bits, event};

/// What NGINX calls for the content of a location.
pub type ContentHandler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
const OK: ngx_int_t = NGX_OK as ngx_int_t;
const NO_MEMORY: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// What a request leads to.
struct Parts<'a> {
    r: &'a ngx_http_request_t,
    main: &'a ngx_http_request_t,
    connection: &'a ngx_connection_t,
    /// the event in which the connection can be written to
    write: *mut ngx_event_t,
}

/// A request that a content handler of ours answers. Not to be kept for longer than the request is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request(NonNull<ngx_http_request_t>);

impl Request {
    /// `None` for null.
    ///
    /// # Safety
    /// `r` must be what NGINX calls a content handler with. It is not used after the request is freed; a
    /// [`Pending`] in its pool is dropped before that.
    pub unsafe fn new(r: *mut ngx_http_request_t) -> Option<Request> {
        NonNull::new(r).map(Request)
    }

    fn parts(&self) -> Parts<'_> {
        // SAFETY: the request is there, as the caller of `new` says, and so are its main request and its
        // connection with its events. No reference is kept over a call of NGINX.
        unsafe {
            let r = self.0.as_ref();
            Parts { r, main: &*r.main, connection: &*r.connection, write: (*r.connection).write }
        }
    }

    fn r_mut(&mut self) -> &mut ngx::http::Request {
        // SAFETY: as above; only the event loop's thread uses it.
        unsafe { ngx::http::Request::from_ngx_http_request(self.0.as_ptr()) }
    }

    fn headers_out(&mut self) -> &mut ngx_http_headers_out_t {
        &mut self.r_mut().as_mut().headers_out
    }

    /// The core module's configuration of the main request's location.
    fn core_conf(&self) -> Option<&ngx_http_core_loc_conf_t> {
        NgxHttpCoreModule::location_conf(self.parts().main)
    }

    /// The request, for functions that take it as NGINX does.
    pub fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    pub fn is_get_or_head(self) -> bool {
        self.parts().r.method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as ngx_uint_t != 0
    }

    /// Whether it is no subrequest.
    pub fn is_main(self) -> bool {
        self.parts().r.main == self.0.as_ptr()
    }

    /// The URI as the client has sent it.
    pub fn unparsed_uri(&self) -> &[u8] {
        self.parts().r.unparsed_uri.as_bytes()
    }

    /// Reads the body and throws it away.
    ///
    /// # Errors
    /// What the content handler must return.
    pub fn discard_body(mut self) -> Result<(), ngx_int_t> {
        let status = self.r_mut().discard_request_body();
        if status.is_ok() { Ok(()) } else { Err(status.0) }
    }

    /// An argument of the request, unescaped.
    pub fn argument(self, name: &str) -> Option<Vec<u8>> {
        let mut value = ngx_str_t::empty();
        // SAFETY: `ngx_http_arg` reads the name and the request's arguments, and sets the value to a part of them.
        // `ngx_unescape_uri` writes no more than it reads, in the same memory: it takes pointers to both for that.
        unsafe {
            let found = ngx_http_arg(self.as_ptr(), name.as_ptr().cast_mut(), name.len(), &mut value);
            let mut bytes = value.as_bytes().to_vec();
            let start = bytes.as_mut_ptr();
            let (mut to, mut from) = (start, start);
            ngx_unescape_uri(&mut to, &mut from, bytes.len(), 0);
            bytes.truncate(to.addr() - start.addr());
            (found == OK).then_some(bytes)
        }
    }

    /// All values of the request's headers of a name (in small letters), joined as one list.
    pub fn header_values(mut self, name: &[u8]) -> Vec<u8> {
        let mut values = Vec::new();
        for (key, value) in self.r_mut().headers_in_iterator() {
            if !key.as_bytes().eq_ignore_ascii_case(name) {
                continue;
            }
            if !values.is_empty() {
                values.push(b',');
            }
            values.extend_from_slice(value.as_bytes());
        }
        values
    }

    /// Adds a header to the answer. `None` if there is no memory.
    pub fn add_header(&mut self, name: &'static str, value: &'static str) -> Option<Header> {
        let headers = &raw mut self.headers_out().headers;
        // SAFETY: the list was made with the request, in its pool; an element of zeros is an empty header, and
        // its `next` (since 1.23) is null. NGINX does not write to the text of headers.
        unsafe {
            let header = ngx_list_push(headers).cast::<ngx_table_elt_t>();
            if header.is_null() {
                return None;
            }
            header.write_bytes(0, 1);
            (*header).hash = 1;
            (*header).key = text(name.as_bytes());
            (*header).value = text(value.as_bytes());
            Some(Header(header))
        }
    }

    /// The answer has this tag.
    pub fn set_etag(&mut self, header: Header) {
        self.headers_out().etag = header.0;
    }

    /// The answer is encoded already: NGINX's own filter does not compress it once more
    /// (`ngx_http_gzip_header_filter`).
    pub fn set_content_encoding(&mut self, header: Header) {
        self.headers_out().content_encoding = header.0;
    }

    pub fn set_status(&mut self, status: u32) {
        self.headers_out().status = status as ngx_uint_t;
    }

    pub fn set_content_type(&mut self, content_type: &'static str) {
        /// The end of a `Content-Type` with a charset.
        const CHARSET: &str = "; charset=utf-8";
        let headers = &mut self.headers_out();
        headers.content_type = text(content_type.as_bytes());
        // without parameters, as `ngx_http_upstream_copy_content_type` has it: `gzip_types` names types
        headers.content_type_len = content_type.find(';').unwrap_or(content_type.len());
        if content_type.ends_with(CHARSET) {
            // so that `charset` does not change it (`ngx_http_destination_charset`); the header has it already
            headers.charset = text(b"utf-8");
        }
    }

    /// Sends the header, with the length of the whole answer if that is known. Says with what the request ends,
    /// if nothing is to follow.
    fn send_header(&mut self, content_length: Option<usize>) -> Option<ngx_int_t> {
        self.headers_out().content_length_n = content_length.map_or(-1, |length| length as i64);
        let rc = self.r_mut().send_header().0;
        // SAFETY: the request is there.
        let is_header_only = unsafe { bits::request::HEADER_ONLY.is_set(self.as_ptr()) };
        (rc == ERROR || rc > OK || is_header_only).then_some(rc)
    }

    /// Sends what is on its way through the filters.
    ///
    /// # Errors
    /// With what the request ends.
    pub fn flush(self) -> Result<(), ngx_int_t> {
        // SAFETY: the request is there.
        let rc = unsafe { ngx_http_output_filter(self.as_ptr(), null_mut()) };
        if rc == ERROR { Err(rc) } else { Ok(()) }
    }

    /// Whether the connection is this request's now, and not that of a subrequest or of its parent.
    pub fn is_active(self) -> bool {
        self.parts().connection.data == self.as_ptr().cast()
    }

    /// Waits until the client takes more. A request that is not active is called when it gets so
    /// (`ngx_http_postpone_filter`).
    ///
    /// # Errors
    /// Those of the event method.
    pub fn wait_for_client(self) -> Result<(), ngx_int_t> {
        if !self.is_active() {
            return Ok(());
        }
        self.start_timer();
        let send_lowat = self.core_conf().map_or(0, |core| core.send_lowat);
        // SAFETY: the request's connection has its events.
        let status = unsafe { ngx_handle_write_event(self.parts().write, send_lowat) };
        if status == OK { Ok(()) } else { Err(ERROR) }
    }

    /// Limits how long a client is waited for. Also without waiting: a worker that is told to end does so as
    /// soon as there is no timer (`ngx_worker_process_cycle`), and would cut the answer short.
    pub fn start_timer(self) {
        self.set_timer(self.core_conf().map(|core| core.send_timeout));
    }

    /// The client is not waited for, unless `limit_rate` holds the answer back.
    pub fn stop_timer(self) {
        self.set_timer(None);
    }

    fn set_timer(self, wait_ms: Option<ngx_msec_t>) {
        let event = self.parts().write;
        // SAFETY: the request's connection has its events.
        unsafe {
            if !self.is_active() || bits::event::DELAYED.is_set(event) {
                return;
            }
            match wait_ms {
                Some(wait_ms) => event::add_timer(event, wait_ms),
                None if bits::event::TIMER_SET.is_set(event) => event::delete_timer(event),
                None => {}
            }
        }
    }

    /// Lets the connection's event run in this turn of the event loop. Its handler calls that of the
    /// connection's active request.
    pub fn post(self) {
        // SAFETY: the request's connection has its events.
        unsafe { event::post(self.parts().write, &raw mut ngx_posted_events) };
    }
}

/// A header of an answer.
pub struct Header(*mut ngx_table_elt_t);

/// A piece of an answer: text that is being made, or that the filters have.
pub struct Piece {
    request: Request,
    text: Vec<u8>,
    /// it is complete, and the filters have it
    sent: bool,
    /// where they note how much of it they have taken; null until the header is sent
    buffer: *mut ngx_buf_t,
}

impl Piece {
    /// Of the answer to a request; to be kept in a [`Pending`] for that request.
    pub fn new(request: Request, text: Vec<u8>) -> Piece {
        Piece { request, text, sent: false, buffer: null_mut() }
    }

    /// The text, if the filters do not have it: one that was sent is thrown away when it has left its memory.
    /// With HTTP/2, that happens while other streams are written.
    pub fn text(&mut self) -> Option<&mut Vec<u8>> {
        // SAFETY: null, or made by `send`, in the pool of the request that this is for.
        let taken = unsafe { self.buffer.as_ref() }.is_some_and(|buffer| buffer.pos == buffer.last);
        if self.sent && taken {
            self.sent = false;
            self.text.clear();
        }
        (!self.sent).then_some(&mut self.text)
    }

    /// Hands the text over to the filters, the header first. Says with what the request ends, if it does.
    ///
    /// # Errors
    /// With what the request ends.
    pub fn send(&mut self, is_last: bool) -> Result<(), ngx_int_t> {
        if self.text().is_none() {
            return Ok(());
        }
        let mut request = self.request;
        if self.buffer.is_null() {
            // a buffer of zeros is one of NGINX's
            self.buffer = request.r_mut().pool().calloc_type();
            if self.buffer.is_null() {
                return Err(NO_MEMORY);
            }
            if let Some(rc) = request.send_header(is_last.then_some(self.text.len())) {
                return Err(rc);
            }
        }
        self.sent = true;
        let range = self.text.as_mut_ptr_range();
        // SAFETY: the text stays as it is until it is taken, and the buffer as long as the request. Filters do
        // not keep the link of a chain. A flush keeps no part of the piece back, be it for `postpone_output` or
        // in TLS.
        let rc = unsafe {
            let buffer = &mut *self.buffer;
            (buffer.start, buffer.pos) = (range.start, range.start);
            (buffer.last, buffer.end) = (range.end, range.end);
            bits::buf::TEMPORARY.set(buffer, (!self.text.is_empty()).into());
            bits::buf::FLUSH.set(buffer, (!is_last).into());
            bits::buf::LAST_IN_CHAIN.set(buffer, is_last.into());
            bits::buf::LAST_BUF.set(buffer, (is_last && request.is_main()).into());
            let mut link = ngx_chain_t { buf: self.buffer, next: null_mut() };
            request.r_mut().output_filter(&mut link).0
        };
        // what is left of the last piece is `ngx_http_writer`'s
        if is_last || rc == ERROR { Err(rc) } else { Ok(()) }
    }
}

/// What a turn has come to.
pub enum Turn {
    /// The request is to be finalized with this.
    Done(ngx_int_t),
    /// It goes on when the request's write handler is called.
    Later,
    /// It could go on, but has had its time.
    Spent,
}

/// An answer on its way to the client; in the request's pool.
pub trait Pending {
    /// The request that it answers.
    fn request(&self) -> Request;

    /// Goes on with it.
    fn go_on(&mut self) -> Turn;

    /// Whether it waits for a turn, and not for its client.
    fn waits_for_turn(&self) -> bool;
}

/// Begins with an answer, and finishes at once where the client takes it all. Returns what the content handler
/// must return.
pub fn begin<P: Pending>(mut request: Request, pending: P) -> ngx_int_t {
    const { assert!(align_of::<P>() <= align_of::<usize>()) }
    // SAFETY: the request has a pool. Memory from a pool is aligned to NGX_ALIGNMENT, which is enough for
    // pointers and 64-bit integers.
    let turn = unsafe {
        let cleanup = ngx_pool_cleanup_add(request.parts().r.pool, size_of::<P>());
        if cleanup.is_null() {
            return NO_MEMORY;
        }
        let place = (*cleanup).data.cast::<P>();
        place.write(pending);
        (*cleanup).handler = Some(freed::<P>);
        (*place).go_on()
    };
    if let Turn::Done(rc) = turn {
        return rc;
    }
    // as `ngx_http_upstream_init_request` and `ngx_http_set_write_handler`; with a body to be discarded,
    // `ngx_http_finalize_connection` sets the handler for reading
    request.r_mut().as_mut().read_event_handler = Some(ngx_http_test_reading);
    request.r_mut().as_mut().write_event_handler = Some(write_handler::<P>);
    let main = request.parts().r.main;
    // SAFETY: the main request is there as long as its subrequests.
    unsafe { bits::request::COUNT.set(main, bits::request::COUNT.get(main) + 1) };
    NGX_DONE as ngx_int_t
}

/// The request's pool is being destroyed: nothing refers to the answer any more.
unsafe extern "C" fn freed<P: Pending>(data: *mut c_void) {
    // SAFETY: `begin` has written it there, and this is called once.
    unsafe { data.cast::<P>().drop_in_place() };
}

/// The answer that a request is being sent.
fn find<P: Pending>(request: Request) -> Option<*mut P> {
    // SAFETY: the request has a pool, which subrequests have in common; data that has this handler is a `P`.
    unsafe {
        let mut cleanup = (*request.parts().r.pool).cleanup;
        while let Some(this) = cleanup.as_ref() {
            let pending = this.data.cast::<P>();
            let ours = freed::<P> as unsafe extern "C" fn(*mut c_void);
            if this.handler.is_some_and(|handler| fn_addr_eq(handler, ours))
                && (*pending).request() == request
            {
                return Some(pending);
            }
            cleanup = this.next;
        }
    }
    None
}

/// The client takes more, or has not for too long, or it is the next turn. As `ngx_http_writer`.
unsafe extern "C" fn write_handler<P: Pending>(r: *mut ngx_http_request_t) {
    // SAFETY: NGINX calls with a request that `begin` has set this handler for, so it has a `P`, which nothing
    // else uses now.
    unsafe {
        let Some(request) = Request::new(r) else { return };
        let Some(pending) = find::<P>(request) else { return ngx_http_finalize_request(r, ERROR) };
        let (c, event) = ((*r).connection, request.parts().write);
        let timed_out = bits::event::TIMEDOUT.is_set(event);
        let turn = if timed_out && !(*pending).waits_for_turn() {
            ngx_log_error!(NGX_LOG_INFO, (*c).log, "client timed out");
            bits::connection::TIMEDOUT.set(c, 1);
            Turn::Done(NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t)
        } else {
            if timed_out {
                // the client was not waited for
                bits::event::TIMEDOUT.set(event, 0);
            }
            (*pending).go_on()
        };
        if let Turn::Done(rc) = turn {
            ngx_http_finalize_request(r, rc);
        }
    }
}
