//! Connections.

use nginx_sys::{ngx_chain_t, ngx_connection_t, ngx_listening_t, ngx_log_t, off_t, u_char};

use super::callback::argument;
use super::event::Event;
use super::live::{Live, get, member};
use super::pool::Pool;

/// The type of a connection's `recv`.
pub type Receive = unsafe extern "C" fn(*mut ngx_connection_t, *mut u_char, usize) -> isize;
#[cfg_attr(not(any(ngx_feature = "http_v2", ngx_feature = "threads")), allow(dead_code))]
/// The type of a connection's `send_chain`.
pub type SendChain = unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_chain_t, off_t) -> *mut ngx_chain_t;

/// An open connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connection<'a>(Live<'a, ngx_connection_t>);

argument!(Connection: ngx_connection_t);

impl<'a> Connection<'a> {
    /// # Safety
    /// The connection must be open for `'a`, with its pool and its log.
    #[inline]
    pub unsafe fn new(c: *mut ngx_connection_t) -> Connection<'a> {
        // SAFETY: as the caller says.
        Connection(unsafe { Live::at(c) })
    }

    /// An open connection.
    #[inline]
    pub(super) fn of(c: Live<'a, ngx_connection_t>) -> Connection<'a> {
        Connection(c)
    }

    /// The pointer, for functions of NGINX.
    #[inline]
    pub fn as_ptr(self) -> *mut ngx_connection_t {
        self.0.as_ptr()
    }

    #[inline]
    pub(super) fn live(self) -> Live<'a, ngx_connection_t> {
        self.0
    }

    #[cfg(ngx_feature = "http_v2")]
    /// `$connection`
    #[inline]
    pub fn number(self) -> nginx_sys::ngx_atomic_uint_t {
        get!(self.0, number)
    }

    /// Bytes that were sent.
    #[inline]
    pub fn sent_bytes(self) -> u64 {
        get!(self.0, sent).max(0) as u64
    }

    /// The number of requests so far, the current one included.
    #[inline]
    pub fn requests(self) -> u64 {
        get!(self.0, requests) as u64
    }

    /// The time at which the connection was accepted, by NGINX's monotonic clock.
    #[inline]
    pub fn start_ms(self) -> u64 {
        get!(self.0, start_time) as u64
    }

    /// The connection's log.
    #[inline]
    pub fn log(self) -> *mut ngx_log_t {
        get!(self.0, log)
    }

    /// The connection's read event.
    #[inline]
    pub fn read_event(self) -> Option<Event<'a>> {
        self.0.read_event().map(Event::of)
    }

    /// The connection's pool.
    #[inline]
    pub fn pool(self) -> Option<Pool<'a>> {
        self.0.pool().map(Pool::of)
    }

    /// The pointer to the function that reads from the connection.
    #[inline]
    pub fn recv(self) -> Live<'a, Option<Receive>> {
        member!(self.0, recv)
    }

    #[cfg(ngx_feature = "http_v2")]
    /// The pointer to the function that sends a chain of buffers.
    #[inline]
    pub fn send_chain(self) -> Live<'a, Option<SendChain>> {
        member!(self.0, send_chain)
    }

    /// The listening socket of the connection. If the connection was accepted, this is the socket from which it came.
    #[inline]
    pub(super) fn listening(self) -> Option<Live<'a, ngx_listening_t>> {
        self.0.listening()
    }

    /// The QUIC connection to which a stream belongs.
    #[cfg(ngx_feature = "http_v3")]
    #[inline]
    pub fn quic_parent(self) -> Option<Connection<'a>> {
        self.0.quic_stream()?.parent().map(Connection)
    }

    #[cfg(not(ngx_feature = "http_v3"))]
    #[inline]
    pub fn quic_parent(self) -> Option<Connection<'a>> {
        None
    }

    /// The client's connection. For a QUIC stream, this is the stream's QUIC connection. For any other connection, it
    /// is the connection itself.
    #[inline]
    pub fn client(self) -> Connection<'a> {
        self.quic_parent().unwrap_or(self)
    }

    /// The progress of the connection's QUIC stream; `None` if it has none.
    #[cfg(ngx_feature = "http_v3")]
    #[inline]
    pub fn quic_stream(self) -> Option<QuicStream> {
        self.0.quic_stream().map(|stream| QuicStream {
            received_bytes: get!(stream, recv.size),
            acknowledged_bytes: get!(stream, acked),
            sent_bytes: get!(stream, sent),
            framed_bytes: get!(stream, send_offset),
        })
    }

    #[cfg(not(ngx_feature = "http_v3"))]
    #[inline]
    pub fn quic_stream(self) -> Option<QuicStream> {
        None
    }
}

/// The progress of a QUIC stream.
#[derive(Debug, Clone, Copy)]
pub struct QuicStream {
    /// bytes that have arrived, without gaps before them (`recv_last` includes the gaps)
    pub received_bytes: u64,
    /// bytes sent that the client has acknowledged
    pub acknowledged_bytes: u64,
    /// bytes that were given to the stream
    pub sent_bytes: u64,
    /// bytes of the stream that were put into frames
    pub framed_bytes: u64,
}
