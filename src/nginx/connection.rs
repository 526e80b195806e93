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

/// A connection that is open.
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

    /// The connection, for functions of NGINX.
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

    /// Bytes sent.
    #[inline]
    pub fn sent_bytes(self) -> u64 {
        get!(self.0, sent).max(0) as u64
    }

    /// Requests so far, this one included.
    #[inline]
    pub fn requests(self) -> u64 {
        get!(self.0, requests) as u64
    }

    /// When it was accepted, by NGINX's monotonic time.
    #[inline]
    pub fn start_ms(self) -> u64 {
        get!(self.0, start_time) as u64
    }

    /// Its log.
    #[inline]
    pub fn log(self) -> *mut ngx_log_t {
        get!(self.0, log)
    }

    /// The event of reading.
    #[inline]
    pub fn read_event(self) -> Option<Event<'a>> {
        self.0.read_event().map(Event::of)
    }

    /// Its pool.
    #[inline]
    pub fn pool(self) -> Option<Pool<'a>> {
        self.0.pool().map(Pool::of)
    }

    /// The place of the function that reads from it.
    #[inline]
    pub fn recv(self) -> Live<'a, Option<Receive>> {
        member!(self.0, recv)
    }

    #[cfg(ngx_feature = "http_v2")]
    /// The place of the function that sends a chain of buffers.
    #[inline]
    pub fn send_chain(self) -> Live<'a, Option<SendChain>> {
        member!(self.0, send_chain)
    }

    /// The listening socket that it is the connection of. A connection that was accepted has the socket that it came
    /// from.
    #[inline]
    pub(super) fn listening(self) -> Option<Live<'a, ngx_listening_t>> {
        self.0.listening()
    }

    /// The connection of QUIC that a stream is part of.
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

    /// The client's connection: that of QUIC for a stream, and itself for any other.
    #[inline]
    pub fn client(self) -> Connection<'a> {
        self.quic_parent().unwrap_or(self)
    }

    /// How far its stream of QUIC is; `None` if it has none.
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

/// How far a stream of QUIC is.
#[derive(Debug, Clone, Copy)]
pub struct QuicStream {
    /// bytes that have come: not those that are left out before them (`recv_last`)
    pub received_bytes: u64,
    /// bytes sent that the client has acknowledged
    pub acknowledged_bytes: u64,
    /// bytes that were given to the stream
    pub sent_bytes: u64,
    /// bytes of it that were put into frames
    pub framed_bytes: u64,
}
