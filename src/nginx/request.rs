//! Requests.

use core::ffi::c_void;
use core::ptr::null_mut;

use nginx_sys::{
    NGX_HTTP_SWITCHING_PROTOCOLS, NGX_OK, ngx_buf_t, ngx_http_complex_value, ngx_http_complex_value_t,
    ngx_http_request_t, ngx_int_t, ngx_list_push, ngx_log_t, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};

use super::bits;
use super::callback::argument;
use super::connection::Connection;
use super::functions;
use super::live::{Live, get, member, set};
use super::pool::Pool;
use super::time::{cached_wall, now_ms};
use super::zero::zeroed;

/// The type of the function that NGINX calls for the content of a location.
pub type ContentHandler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// A request that has not been freed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a>(Live<'a, ngx_http_request_t>);

argument!(Request: ngx_http_request_t);

impl<'a> Request<'a> {
    /// # Safety
    /// The request must not be freed for `'a`.
    #[inline]
    pub unsafe fn new(r: *mut ngx_http_request_t) -> Request<'a> {
        // SAFETY: as the caller says.
        Request(unsafe { Live::at(r) })
    }

    /// A request that has not been freed.
    #[inline]
    pub(super) fn of(r: Live<'a, ngx_http_request_t>) -> Request<'a> {
        Request(r)
    }

    /// The pointer, for functions of NGINX.
    #[inline]
    pub fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    #[inline]
    pub(super) fn live(self) -> Live<'a, ngx_http_request_t> {
        self.0
    }

    /// The main request, which outlives its subrequests.
    #[inline]
    pub fn main(self) -> Request<'a> {
        Request(self.0.main_request())
    }

    /// Whether the request is a main request.
    #[inline]
    pub fn is_main(self) -> bool {
        get!(self.0, main) == self.as_ptr()
    }

    /// The request's connection. With HTTP/2 and HTTP/3 it is the stream's.
    #[inline]
    pub fn connection(self) -> Connection<'a> {
        Connection::of(self.0.connection())
    }

    /// The client's connection on which the request has arrived.
    #[inline]
    pub fn client_connection(self) -> Connection<'a> {
        #[cfg(ngx_feature = "http_v2")]
        if let Some(c) = self.stream().and_then(|stream| stream.connection()?.connection()) {
            return c;
        }
        self.connection().client()
    }

    /// The content handler of the request's location.
    #[inline]
    pub fn content_handler(self) -> Option<ContentHandler> {
        get!(self.0, content_handler)
    }

    /// The request's HTTP/2 stream.
    #[cfg(ngx_feature = "http_v2")]
    #[inline]
    pub fn stream(self) -> Option<super::http2::Stream<'a>> {
        self.0.stream().map(super::http2::Stream::of)
    }

    /// The log of the request's connection.
    #[inline]
    pub fn log(self) -> *mut ngx_log_t {
        self.connection().log()
    }

    /// Whether messages of this level are written to the log of the request's connection.
    #[inline]
    pub fn logs_at(self, level: ngx_uint_t) -> bool {
        self.connection().live().log().is_some_and(|log| level <= get!(log, log_level))
    }

    /// The request's pool; `None` if the request is being freed (`ngx_http_free_request`).
    #[inline]
    pub fn pool(self) -> Option<Pool<'a>> {
        self.0.pool().map(Pool::of)
    }

    /// `$request_length`
    #[inline]
    pub fn length_bytes(self) -> u64 {
        get!(self.0, request_length).max(0) as u64
    }

    /// The status of the answer, as in `ngx_http_variable_status`.
    #[inline]
    pub fn status(self) -> u64 {
        let error: ngx_uint_t = get!(self.0, err_status);
        if error != 0 { error as u64 } else { get!(self.0, headers_out.status) as u64 }
    }

    /// Whether the status of the answer is 101.
    #[inline]
    pub fn is_upgraded(self) -> bool {
        get!(self.0, headers_out.status) == NGX_HTTP_SWITCHING_PROTOCOLS as ngx_uint_t
    }

    /// `$upstream_cache_status`, as NGINX's number.
    #[inline]
    pub fn cache_status(self) -> usize {
        #[cfg(ngx_feature = "http_cache")]
        if let Some(upstream) = self.0.upstream() {
            return bits::upstream::CACHE_STATUS.of(upstream) as usize;
        }
        0
    }

    /// Whether the connection is kept open for other requests.
    #[inline]
    pub fn is_keepalive(self) -> bool {
        bits::request::KEEPALIVE.is_on(self.0)
    }

    /// Whether the request runs `post_action`.
    #[inline]
    pub fn is_post_action(self) -> bool {
        bits::request::POST_ACTION.is_on(self.0)
    }

    /// Whether NGINX may have cleared the request's contexts, as `ngx_http_internal_redirect` and
    /// `ngx_http_filter_finalize_request` do.
    #[inline]
    pub fn may_have_lost_contexts(self) -> bool {
        bits::request::INTERNAL.is_on(self.0) || bits::request::FILTER_FINALIZE.is_on(self.0)
    }

    /// The context of the module with this index.
    #[inline]
    pub fn context(self, index: usize) -> *mut c_void {
        self.context_place(index).read()
    }

    /// Sets the context of the module with this index.
    #[inline]
    pub fn set_context(self, index: usize, context: *mut c_void) {
        self.context_place(index).write(context);
    }

    #[inline]
    fn context_place(self, index: usize) -> Live<'a, *mut c_void> {
        let contexts: *mut *mut c_void = get!(self.0, ctx);
        // SAFETY: The array has an element for each module. `index` is the index of a module; indexes are set before
        // the first request.
        unsafe { Live::at(contexts.add(index)) }
    }

    /// Whether the request has a body, as its header says.
    #[inline]
    pub fn has_body(self) -> bool {
        get!(self.0, headers_in.content_length_n) > 0
            || bits::headers_in::CHUNKED.is_on(member!(self.0, headers_in))
    }

    /// The buffer into which the request's header was read.
    #[inline]
    fn header_buffer(self) -> Option<Live<'a, ngx_buf_t>> {
        self.0.header_buffer()
    }

    /// Bytes that were read from the connection but have not been used: the start of a body, or the next request.
    pub fn unused_bytes(self) -> u64 {
        let Some(buffer) = self.header_buffer() else { return 0 };
        get!(buffer, last).addr().saturating_sub(get!(buffer, pos).addr()) as u64
    }

    /// Memory that the request holds, in bytes: all of its pool, and the buffer of its header. `None` if the request is
    /// being freed.
    #[inline]
    pub fn held_bytes(self) -> Option<u64> {
        let mut bytes = self.pool()?.held_bytes();
        // The buffer of an HTTP/2 stream is in the pool (`ngx_http_v2_create_stream`).
        if get!(self.0, stream).is_null()
            && let Some(header) = self.header_buffer()
        {
            bytes += get!(header, end).addr() - get!(header, start).addr();
        }
        Some(bytes as u64)
    }

    /// The time from the start of the request to the running handler call, in nanoseconds. If the header came in parts,
    /// the request began in another handler call.
    #[inline]
    pub fn age_ns(self) -> u64 {
        let (sec, msec) = cached_wall();
        let (start_sec, start_msec) = (get!(self.0, start_sec), get!(self.0, start_msec));
        let is_now = sec == start_sec && msec as u64 == start_msec as u64;
        // A request that a module has made may have no start.
        if is_now || start_sec == 0 {
            return 0;
        }
        // This computation is that of `ngx_http_variable_request_time`.
        let ms = (sec - start_sec) * 1000 + (msec as i64 - start_msec as i64);
        if ms <= 0 {
            return 0;
        }
        // The time of day can be set. So the result is limited by the age of the connection.
        let connected_ms = now_ms().saturating_sub(self.connection().start_ms());
        ms.unsigned_abs().min(connected_ms) * 1_000_000
    }

    /// The configurations of the request's server. The pointer is only compared with those of other requests.
    #[inline]
    pub fn server(self) -> *mut *mut c_void {
        get!(self.0, srv_conf)
    }

    /// Whether the request's location has a `post_action`.
    #[inline]
    pub fn has_post_action(self) -> bool {
        !get!(self.0.core_loc_conf(), post_action.data).is_null()
    }

    /// The value of the variable with this index; `None` if it has none.
    #[inline]
    pub fn variable(self, index: ngx_uint_t) -> Option<&'a [u8]> {
        let value = functions::flushed_variable(self.0, index)?;
        if bits::variable_value::NOT_FOUND.is_on(value) {
            return None;
        }
        // SAFETY: The text of an NGINX variable is in memory of the request or of the configuration. Both outlive the
        // value.
        Some(unsafe { text(get!(value, data), bits::variable_value::LEN.of(value) as usize) })
    }

    /// The value of a text with variables. `None` on an error, which NGINX has logged.
    #[inline]
    pub fn evaluate(self, template: &ngx_http_complex_value_t) -> Option<&'a [u8]> {
        let mut value = ngx_str_t::empty();
        // SAFETY: `ngx_http_complex_value` only reads the template, and sets the value to memory of the request or of
        // the configuration.
        unsafe {
            let status = ngx_http_complex_value(self.as_ptr(), (&raw const *template).cast_mut(), &mut value);
            (status == NGX_OK as ngx_int_t).then(|| text(value.data, value.len))
        }
    }

    /// Adds a header to the answer. `None` if there is no memory.
    pub fn add_header(self, name: ngx_str_t, value: &[u8]) -> Option<()> {
        let value = self.pool()?.join(&[value])?;
        self.push_header(name, ngx_str_t { len: value.len(), data: value.as_mut_ptr() }).map(drop)
    }

    /// Adds a header to the answer. The name and the value must live as long as the request. `None` if there is no
    /// memory.
    pub(super) fn push_header(self, name: ngx_str_t, value: ngx_str_t) -> Option<Live<'a, ngx_table_elt_t>> {
        let headers = member!(self.0, headers_out.headers);
        // SAFETY: This is the list of the answer's headers, whose elements are of this type. `ngx_list_push` returns
        // memory for one element, or null.
        let header = unsafe { Live::new(ngx_list_push(headers.as_ptr()).cast::<ngx_table_elt_t>()) }?;
        // In newer versions, the element has a pointer to the next header with the same name.
        header.write(ngx_table_elt_t { hash: 1, key: name, value, ..zeroed() });
        Some(header)
    }
}

/// A text of NGINX's. The pointer may be null if the text is empty.
///
/// # Safety
/// `data` must point to `len` bytes that live for `'a`.
#[inline]
unsafe fn text<'a>(data: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: as the caller says.
    if len == 0 { &[] } else { unsafe { core::slice::from_raw_parts(data, len) } }
}

/// Functions for the body of a request.
impl<'a> Request<'a> {
    #[cfg(ngx_feature = "http_v2")]
    /// Whether reading the body has not begun.
    #[inline]
    pub fn is_body_untouched(self) -> bool {
        get!(self.0, request_body).is_null()
    }

    #[cfg(ngx_feature = "http_v2")]
    /// Bytes of the body that were read; `None` if reading has not begun.
    #[inline]
    pub fn body_bytes(self) -> Option<usize> {
        Some(get!(self.0.body()?, received).max(0) as usize)
    }

    /// Whether the request's header announces no more than this many bytes of body, or the body is already being read
    /// or discarded.
    pub fn has_small_body(self, most_bytes: i64) -> bool {
        let headers = member!(self.0, headers_in);
        let is_small =
            get!(headers, content_length_n) <= most_bytes && !bits::headers_in::CHUNKED.is_on(headers);
        // Another module may have read the body already.
        is_small || !get!(self.0, request_body).is_null() || bits::request::DISCARD_BODY.is_on(self.0)
    }

    /// Makes NGINX not ask the client to send the body, even if the client waits for that (`ngx_http_test_expect`).
    pub fn skip_expect(self) {
        bits::request::EXPECT_TESTED.put(self.0, 1);
    }

    /// Reads the body and throws it away. With HTTP/2, NGINX skips further frames of the stream.
    pub fn discard_body(self) {
        functions::discard_request_body(self.0);
    }

    /// Marks the request as one without a body. The members get the values that `ngx_http_process_request_headers`
    /// leaves for such a request.
    pub fn set_bodyless(self) {
        let headers = member!(self.0, headers_in);
        set!(headers, content_length, null_mut());
        set!(headers, content_length_n, -1);
        bits::headers_in::CHUNKED.put(headers, 0);
    }

    /// Makes NGINX close the connection after the answer, as `ngx_http_set_lingering_close` does.
    pub fn set_lingering_close(self) {
        bits::request::KEEPALIVE.put(self.0, 0);
        bits::request::LINGERING_CLOSE.put(self.0, 1);
    }

    /// The main request of an HTTP/1 connection.
    ///
    /// # Safety
    /// The connection must be serving a request.
    pub unsafe fn of_connection(c: Connection<'a>) -> Request<'a> {
        // SAFETY: The connection's data is the request or one of its subrequests. None of them has been freed.
        unsafe { Request::new(get!(c.live(), data).cast()) }.main()
    }
}
