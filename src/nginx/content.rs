//! A request that a content handler answers, and its answer. The answer may take many turns of the event loop.
//!
//! Arguments of the request are read, headers are added without copies, and an answer is sent in pieces.

use core::cell::RefCell;
use core::iter::successors;
use core::ptr::null_mut;

use nginx_sys::{
    NGX_DONE, NGX_ERROR, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR,
    NGX_HTTP_REQUEST_TIME_OUT, NGX_LOG_INFO, NGX_OK, ngx_buf_t, ngx_chain_t, ngx_http_arg,
    ngx_http_core_loc_conf_t, ngx_http_finalize_request, ngx_http_headers_out_t, ngx_http_request_t,
    ngx_http_test_reading, ngx_int_t, ngx_msec_t, ngx_str_t, ngx_table_elt_t, ngx_uint_t, ngx_unescape_uri,
};

use super::callback::{Argument, callback};
use super::error_log::ngx_log_error;
use super::event::Event;
use super::live::{Live, get, member, of_static, set};
use super::request;
pub use super::request::ContentHandler;
use super::text::text;
use super::zero::zeroed;
use super::{bits, functions};

const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
const OK: ngx_int_t = NGX_OK as ngx_int_t;
const NO_MEMORY: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// A request that a content handler of ours answers. The value must not be kept after the request is freed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request(request::Request<'static>);

impl Request {
    fn live(self) -> Live<'static, ngx_http_request_t> {
        self.0.live()
    }

    /// The event that reports when the connection can be written to.
    fn write_event(self) -> Option<Event<'static>> {
        self.live().connection().write_event().map(Event::of)
    }

    fn headers_out(self) -> Live<'static, ngx_http_headers_out_t> {
        member!(self.live(), headers_out)
    }

    /// The core module's configuration of the main request's location.
    fn core_conf(self) -> Live<'static, ngx_http_core_loc_conf_t> {
        self.live().main_request().core_loc_conf()
    }

    /// The request.
    pub fn request(&self) -> request::Request<'_> {
        self.0
    }

    /// The pointer, for functions of NGINX.
    pub fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    pub fn is_get_or_head(self) -> bool {
        get!(self.live(), method) & (NGX_HTTP_GET | NGX_HTTP_HEAD) as ngx_uint_t != 0
    }

    /// Whether the request is a main request.
    pub fn is_main(self) -> bool {
        self.0.is_main()
    }

    /// The URI as the client has sent it.
    pub fn unparsed_uri(self) -> ngx_str_t {
        get!(self.live(), unparsed_uri)
    }

    /// Reads the body and throws it away.
    ///
    /// # Errors
    /// The status that the content handler must return.
    pub fn discard_body(self) -> Result<(), ngx_int_t> {
        let status = functions::discard_request_body(self.live());
        if status == OK { Ok(()) } else { Err(status) }
    }

    /// An argument of the request, unescaped.
    pub fn argument(self, name: &str) -> Option<Vec<u8>> {
        let mut value = ngx_str_t::empty();
        // SAFETY: `ngx_http_arg` reads the name and the request's arguments, and sets the value to a part of them.
        // `ngx_unescape_uri` writes no more than it reads, in the same memory. It takes pointers to both positions for
        // that.
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

    /// The headers of the request.
    fn headers_in(self) -> impl Iterator<Item = Live<'static, ngx_table_elt_t>> {
        let first = member!(self.live(), headers_in.headers.part);
        successors(Some(first), |part| part.next()).flat_map(|part| {
            let elements: *mut ngx_table_elt_t = get!(part, elts).cast();
            // SAFETY: The elements of this list are headers (`ngx_http_process_request_headers`).
            (0..get!(part, nelts)).map(move |at| unsafe { Live::at(elements.add(at)) })
        })
    }

    /// All values of the request's headers with this name, joined as one list. The name must be in lower case.
    pub fn header_values(self, name: &[u8]) -> Vec<u8> {
        let mut values = Vec::new();
        for header in self.headers_in() {
            let (key, value) = (get!(header, key), get!(header, value));
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
        self.0.push_header(text(name.as_bytes()), text(value.as_bytes())).map(Header)
    }

    /// Sets the entity tag of the answer.
    pub fn set_etag(&mut self, header: Header) {
        set!(self.headers_out(), etag, header.0.as_ptr());
    }

    /// Marks the answer as encoded, so that NGINX's own filter does not compress it once more
    /// (`ngx_http_gzip_header_filter`).
    pub fn set_content_encoding(&mut self, header: Header) {
        set!(self.headers_out(), content_encoding, header.0.as_ptr());
    }

    pub fn set_status(&mut self, status: u32) {
        set!(self.headers_out(), status, status as ngx_uint_t);
    }

    pub fn set_content_type(&mut self, content_type: &'static str) {
        /// The end of a `Content-Type` with a charset.
        const CHARSET: &str = "; charset=utf-8";
        let headers = self.headers_out();
        set!(headers, content_type, text(content_type.as_bytes()));
        // The length excludes parameters, as in `ngx_http_upstream_copy_content_type`, because `gzip_types` contains
        // types only.
        set!(headers, content_type_len, content_type.find(';').unwrap_or(content_type.len()));
        if content_type.ends_with(CHARSET) {
            // With this, `charset` does not change the header (`ngx_http_destination_charset`). The header contains the
            // charset already.
            set!(headers, charset, text(b"utf-8"));
        }
    }

    /// Sends the header, with the length of the whole answer if that is known. If no body is to follow, returns the
    /// status with which the request ends.
    fn send_header(self, content_length: Option<usize>) -> Option<ngx_int_t> {
        set!(self.headers_out(), content_length_n, content_length.map_or(-1, |length| length as i64));
        let rc = functions::send_header(self.live());
        let is_header_only = bits::request::HEADER_ONLY.is_on(self.live());
        (rc == ERROR || rc > OK || is_header_only).then_some(rc)
    }

    /// Sends data that the filters still hold.
    ///
    /// # Errors
    /// The status with which the request ends.
    pub fn flush(self) -> Result<(), ngx_int_t> {
        let rc = functions::output_filter(self.live(), None);
        if rc == ERROR { Err(rc) } else { Ok(()) }
    }

    /// Whether the connection currently belongs to this request, and not to a subrequest or to the parent.
    pub fn is_active(self) -> bool {
        get!(self.live().connection(), data) == self.as_ptr().cast()
    }

    /// Waits until the client takes more. NGINX calls a request that is not active when it becomes active
    /// (`ngx_http_postpone_filter`).
    ///
    /// # Errors
    /// The errors of the event method.
    pub fn wait_for_client(self) -> Result<(), ngx_int_t> {
        if !self.is_active() {
            return Ok(());
        }
        self.start_timer();
        let event = self.write_event().ok_or(ERROR)?;
        let status = functions::handle_write_event(event.live(), get!(self.core_conf(), send_lowat));
        if status == OK { Ok(()) } else { Err(ERROR) }
    }

    /// Limits the time of waiting for the client. The timer is also needed without waiting: a worker that was told to
    /// end does so as soon as there is no timer (`ngx_worker_process_cycle`), and would cut the answer short.
    pub fn start_timer(self) {
        self.set_timer(Some(get!(self.core_conf(), send_timeout)));
    }

    /// Stops waiting for the client, unless `limit_rate` holds the answer back.
    pub fn stop_timer(self) {
        self.set_timer(None);
    }

    fn set_timer(self, wait_ms: Option<ngx_msec_t>) {
        let Some(event) = self.write_event() else { return };
        if !self.is_active() || event.is_delayed() {
            return;
        }
        match wait_ms {
            Some(wait_ms) => event.add_timer(wait_ms),
            None => event.delete_timer(),
        }
    }

    /// Makes the connection's event run in this turn of the event loop. The event's handler calls the handler of the
    /// connection's active request.
    pub fn post(self) {
        if let Some(event) = self.write_event() {
            event.post(of_static!(ngx_posted_events));
        }
    }
}

impl Argument for Request {
    type C = *mut ngx_http_request_t;

    #[inline(always)]
    unsafe fn of(c: *mut ngx_http_request_t) -> Self {
        // SAFETY: NGINX calls with this request. A value that outlives the call is kept in a [`Pending`], which is
        // dropped before the request is freed.
        Request(request::Request::of(unsafe { Live::at(c) }))
    }
}

/// A header of an answer.
pub struct Header(Live<'static, ngx_table_elt_t>);

/// A piece of an answer: text that is being made, or that was handed to the filters.
pub struct Piece {
    request: Request,
    text: Vec<u8>,
    /// the text is complete, and was handed to the filters
    sent: bool,
    /// the filters record in it how much of the text they have taken; it is in the request's pool; none until the
    /// header is sent
    buffer: Option<Live<'static, ngx_buf_t>>,
}

impl Piece {
    /// A piece of the answer to a request. It must be kept in a [`Pending`] for that request.
    pub fn new(request: Request, text: Vec<u8>) -> Piece {
        Piece { request, text, sent: false, buffer: None }
    }

    /// The text, if the filters do not hold it. When all of a sent text has been taken from its memory, the text is
    /// cleared. With HTTP/2, that happens while other streams are written.
    pub fn text(&mut self) -> Option<&mut Vec<u8>> {
        let taken = self.buffer.is_some_and(|buffer| get!(buffer, pos) == get!(buffer, last));
        if self.sent && taken {
            self.sent = false;
            self.text.clear();
        }
        (!self.sent).then_some(&mut self.text)
    }

    /// Hands the text to the filters, after the header. Returns `Ok` if the request goes on.
    ///
    /// # Errors
    /// The status with which the request ends.
    pub fn send(&mut self, is_last: bool) -> Result<(), ngx_int_t> {
        if self.text().is_none() {
            return Ok(());
        }
        let request = self.request;
        let buffer = match self.buffer {
            Some(buffer) => buffer,
            None => {
                let buffer = request.0.pool().and_then(|pool| pool.put_live(zeroed)).ok_or(NO_MEMORY)?;
                self.buffer = Some(buffer);
                if let Some(rc) = request.send_header(is_last.then_some(self.text.len())) {
                    return Err(rc);
                }
                buffer
            }
        };
        self.sent = true;
        let range = self.text.as_mut_ptr_range();
        set!(buffer, start, range.start);
        set!(buffer, pos, range.start);
        set!(buffer, last, range.end);
        set!(buffer, end, range.end);
        // With a flush, no part of the piece is held back by `postpone_output` or in TLS.
        bits::buf::TEMPORARY.put(buffer, (!self.text.is_empty()).into());
        bits::buf::FLUSH.put(buffer, (!is_last).into());
        bits::buf::LAST_IN_CHAIN.put(buffer, is_last.into());
        bits::buf::LAST_BUF.put(buffer, (is_last && request.is_main()).into());
        let mut link = ngx_chain_t { buf: buffer.as_ptr(), next: null_mut() };
        // The text does not change until it is taken. The buffer lives as long as the request.
        let rc = functions::output_filter(request.live(), Some(Live::ours(&mut link)));
        // `ngx_http_writer` sends the rest of the last piece.
        if is_last || rc == ERROR { Err(rc) } else { Ok(()) }
    }
}

/// The result of a turn.
pub enum Turn {
    /// The request is to be finalized with this status.
    Done(ngx_int_t),
    /// The answer goes on when the request's write handler is called.
    Later,
    /// The answer could go on, but its time in this turn is over.
    Spent,
}

/// An answer that is being sent to the client. It is in the request's pool.
pub trait Pending: 'static {
    /// The request that is answered.
    fn request(&self) -> Request;

    /// Goes on with the answer.
    fn go_on(&mut self) -> Turn;

    /// Whether the answer waits for its next turn, and not for its client.
    fn waits_for_turn(&self) -> bool;
}

/// Begins an answer. If the client takes all of it, the answer is finished at once. Returns the status that the content
/// handler must return.
pub fn begin<P: Pending>(request: Request, pending: P) -> ngx_int_t {
    let Some(pending) = request.0.pool().and_then(|pool| pool.keep(RefCell::new(pending))) else {
        return NO_MEMORY;
    };
    if let Turn::Done(rc) = pending.borrow_mut().go_on() {
        return rc;
    }
    // This is what `ngx_http_upstream_init_request` and `ngx_http_set_write_handler` do. If a body is to be discarded,
    // `ngx_http_finalize_connection` sets the handler for reading.
    set!(request.live(), read_event_handler, Some(ngx_http_test_reading as RequestHandler));
    set!(request.live(), write_event_handler, Some(write_handler::<P> as RequestHandler));
    let main = request.live().main_request();
    bits::request::COUNT.put(main, bits::request::COUNT.of(main) + 1);
    NGX_DONE as ngx_int_t
}

type RequestHandler = unsafe extern "C" fn(*mut ngx_http_request_t);

callback! {
    /// The client takes more, or has taken nothing for too long, or the next turn begins. Works like `ngx_http_writer`.
    fn write_handler<P: Pending>(request: Request) {
        if let Turn::Done(rc) = go_on::<P>(request) {
            // SAFETY: NGINX has called with this request, and the request is not used after this.
            unsafe { ngx_http_finalize_request(request.as_ptr(), rc) };
        }
    }
}

fn go_on<P: Pending>(request: Request) -> Turn {
    // A request and its subrequests share one pool.
    let of_request =
        |pending: &RefCell<P>| pending.try_borrow().is_ok_and(|pending| pending.request() == request);
    let found = request.0.pool().and_then(|pool| pool.find_kept(of_request));
    let (Some(found), Some(event)) = (found, request.write_event()) else { return Turn::Done(ERROR) };
    let mut pending = found.borrow_mut();
    if event.is_timed_out() {
        if !pending.waits_for_turn() {
            let c = request.live().connection();
            ngx_log_error!(NGX_LOG_INFO, get!(c, log), "client timed out");
            bits::connection::TIMEDOUT.put(c, 1);
            return Turn::Done(NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t);
        }
        // The answer did not wait for the client, so this is no timeout of the client.
        bits::event::TIMEDOUT.put(event.live(), 0);
    }
    pending.go_on()
}
