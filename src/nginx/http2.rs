//! Connections and streams of HTTP/2.

use nginx_sys::{
    ngx_event_t, ngx_http_empty_handler, ngx_http_v2_connection_t, ngx_http_v2_stream_t, u_char,
};

use super::bits;
use super::connection::Connection;
use super::event::EventHandler;
use super::hook::Hook;
use super::live::{Live, get, member};
use super::stand_in::Call;

/// The type of the handler of a connection's state.
pub type StateHandler =
    unsafe extern "C" fn(*mut ngx_http_v2_connection_t, *mut u_char, *mut u_char) -> *mut u_char;

/// NGINX reads the rest of a buffer of an HTTP/2 connection.
impl Call<'_, StateHandler> {
    /// The connection.
    #[inline]
    pub fn http2(&self) -> Http2<'_> {
        // SAFETY: NGINX calls with an open connection. The result is borrowed from the call, which is consumed when a
        // handler is called that may close the connection.
        unsafe { Http2::new(self.arguments.0) }
    }

    /// The rest of the buffer.
    #[inline]
    pub fn left(&self) -> &[u8] {
        let (_, pos, end) = self.arguments;
        // SAFETY: NGINX calls with its buffer. `end` is not before `pos`.
        unsafe { core::slice::from_raw_parts(pos, end.addr() - pos.addr()) }
    }

    /// Whether the whole buffer has been read.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.arguments.1.addr() >= self.arguments.2.addr()
    }

    /// Calls a handler, which reads. Returns `None` if the connection is being closed, and may be gone already.
    #[inline]
    pub fn read(self, handler: &Hook<StateHandler>) -> Option<Self> {
        let (h2c, _, end) = self.arguments;
        let pos = handler.pass(self)?;
        // SAFETY: A handler that does not return null has left the connection open, and returns the position up to
        // which it has read.
        (!pos.is_null()).then(|| unsafe { Call::of((h2c, pos, end)) })
    }

    /// The position up to which the buffer was read, for NGINX.
    #[inline]
    pub fn position(self) -> *mut u_char {
        self.arguments.1
    }
}

/// NGINX's state of an HTTP/2 connection, in the connection's pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Http2<'a>(Live<'a, ngx_http_v2_connection_t>);

impl<'a> Http2<'a> {
    /// # Safety
    /// The connection must be open for `'a`.
    #[inline]
    pub unsafe fn new(h2c: *mut ngx_http_v2_connection_t) -> Http2<'a> {
        // SAFETY: as the caller says.
        Http2(unsafe { Live::at(h2c) })
    }

    #[inline]
    pub fn as_ptr(self) -> *mut ngx_http_v2_connection_t {
        self.0.as_ptr()
    }

    /// The connection itself.
    #[inline]
    pub fn connection(self) -> Option<Connection<'a>> {
        self.0.connection().map(Connection::of)
    }

    /// The pointer to the function that reads the next bytes.
    #[inline]
    pub fn state_handler(self) -> Live<'a, Option<StateHandler>> {
        member!(self.0, state.handler)
    }

    /// Whether the connection is certainly between two frames, and not in a block of header fields
    /// (`ngx_http_v2_state_complete`).
    ///
    /// If NGINX has given up a connection in the middle of a frame (`ngx_http_v2_finalize_connection`), that connection
    /// seems to be between two frames too. It waits for its streams, or reads bytes that still arrive. This function
    /// excludes such connections.
    pub fn is_between_frames(self) -> bool {
        let state = member!(self.0, state);
        let handler = self.connection().and_then(|c| c.read_event()?.handler().function());
        let empty = ngx_http_empty_handler as unsafe extern "C" fn(*mut ngx_event_t) as EventHandler;
        let is_given_up = get!(self.0, lingering_time) != 0
            || handler.is_none_or(|handler| core::ptr::fn_addr_eq(handler, empty));
        !bits::v2_state::INCOMPLETE.is_on(state) && get!(state, pool).is_null() && !is_given_up
    }

    /// Whether the connection is within a block of header fields.
    #[inline]
    pub fn is_in_header(self) -> bool {
        !get!(self.0, state.pool).is_null()
    }

    /// The stream of the current frame; 0 if the frame is the connection's.
    #[inline]
    pub fn frame_stream(self) -> usize {
        get!(self.0, state.sid)
    }

    /// Bytes that are left of the current frame.
    #[inline]
    pub fn frame_bytes(self) -> usize {
        get!(self.0, state.length).saturating_add(get!(self.0, state.padding))
    }

    /// Bytes that the client may still send.
    #[inline]
    pub fn window(self) -> usize {
        get!(self.0, recv_window)
    }

    /// Streams that are open.
    #[inline]
    pub fn streams(self) -> usize {
        get!(self.0, processing)
    }
}

/// A stream of a request that has not been freed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stream<'a>(Live<'a, ngx_http_v2_stream_t>);

impl<'a> Stream<'a> {
    /// The stream of a request that has not been freed.
    #[inline]
    pub(super) fn of(stream: Live<'a, ngx_http_v2_stream_t>) -> Stream<'a> {
        Stream(stream)
    }

    /// The connection of the stream.
    #[inline]
    pub fn connection(self) -> Option<Http2<'a>> {
        self.0.h2c().map(Http2)
    }

    /// The stream's identifier; 0 if the stream is closed.
    pub fn id(self) -> usize {
        self.0.node().map_or(0, |node| get!(node, id))
    }

    /// Bytes that the client may still send.
    #[inline]
    pub fn window(self) -> usize {
        get!(self.0, recv_window)
    }

    /// Bytes of the body that arrived before NGINX began to read the body (`ngx_http_v2_state_read_data`). They are
    /// known until `ngx_http_v2_read_request_body` is called.
    #[inline]
    pub fn preread_bytes(self) -> usize {
        self.0
            .preread()
            .map_or(0, |buffer| get!(buffer, last).addr().saturating_sub(get!(buffer, pos).addr()))
    }

    /// Whether NGINX reads the body and throws it away (`ngx_http_v2_read_request_body` has set the window to its
    /// maximum).
    #[inline]
    pub fn skips_body(self) -> bool {
        bits::v2_stream::SKIP_DATA.is_on(self.0) && bits::v2_stream::NO_FLOW_CONTROL.is_on(self.0)
    }
}
