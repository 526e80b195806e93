//! The streams of a connection that carries several requests at a time: HTTP/2 and HTTP/3.

use core::ptr::NonNull;

use nginx_sys::{ngx_connection_t, ngx_http_request_t};

use accounting::account_set::AccountSet;

#[cfg(ngx_feature = "http_v2")]
pub type Http2 = nginx_sys::ngx_http_v2_connection_t;
#[cfg(not(ngx_feature = "http_v2"))]
pub type Http2 = core::ffi::c_void;

/// Receiving a byte costs as much as handling the acknowledgement of so many.
const RECEIVING: u64 = 8;
/// The least size that each path must carry, RFC 9000, section 14.
const BYTES_OF_PACKET: u64 = 1200;

/// What a connection that carries several requests has. In its pool.
pub struct Multiplex<C> {
    /// of HTTP/2; null for QUIC
    pub h2c: *mut Http2,
    /// the first one of the requests that are open
    pub streams: Option<NonNull<C>>,
    /// the one that the last frame was for
    pub recent: Option<NonNull<C>>,
    /// what was used to send, and is not divided yet, in nanoseconds
    pub sending_ns: u64,
    /// frames of HTTP/2 wait for room in the socket
    #[cfg(ngx_feature = "http_v2")]
    pub has_waiting: bool,
    pub tail: Tail,
}

/// A request that is gone, whose answer is not all acknowledged: QUIC keeps it, and sends the rest of it.
pub struct Tail {
    pub bytes: u64,
    /// what it may cost at most, in nanoseconds
    pub ns: u64,
    pub accounts: AccountSet,
    pub until_ms: u64,
}

/// A request's place among those of its connection.
pub struct Stream<C> {
    /// of HTTP/2
    pub id: usize,
    pub previous: Option<NonNull<C>>,
    pub next: Option<NonNull<C>>,
    /// how far it was when the connection's work was last divided
    pub seen: Progress,
    /// packets of QUIC that it has caused besides
    pub packets: Progress,
    pub joined: bool,
}

/// How far a stream is, as weights: bytes received and acknowledged, and bytes sent.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    pub receiving: u64,
    pub sending: u64,
}

impl Progress {
    /// # Safety
    /// `r` must be a request that has not been freed, of this kind of connection.
    pub unsafe fn of(r: *const ngx_http_request_t, is_quic: bool) -> Progress {
        // SAFETY: as the caller says; a request has its stream's connection.
        unsafe {
            let c = (*r).connection;
            if !is_quic {
                // `ngx_http_v2_handle_frame` adds the frames that are out
                return Progress { receiving: 0, sending: (*c).sent.max(0) as u64 };
            }
            Progress::of_quic(c)
        }
    }

    /// A datagram that is received costs more if it brings data than if it brings acknowledgements only, and those are for several that
    /// were sent. What is received has to be acknowledged. Only bytes that have come count (`ngx_quic_write_buffer`), and not those that
    /// are left out before them (`recv_last`): a client could leave out as many as it likes.
    #[cfg(ngx_feature = "http_v3")]
    unsafe fn of_quic(c: *const ngx_connection_t) -> Progress {
        // SAFETY: the connection of a stream is in use, and has that stream.
        match unsafe { (*c).quic.as_ref() } {
            Some(stream) => Progress {
                receiving: RECEIVING * stream.recv.size + stream.acked,
                sending: stream.send_offset + stream.recv.size,
            },
            None => Progress::default(),
        }
    }

    #[cfg(not(ngx_feature = "http_v3"))]
    unsafe fn of_quic(_c: *const ngx_connection_t) -> Progress {
        Progress::default()
    }
}

/// A new stream of QUIC: its header is short, but most often in a packet of its own, as its answer is.
pub const NEW_QUIC_STREAM: Progress =
    Progress { receiving: RECEIVING * BYTES_OF_PACKET, sending: BYTES_OF_PACKET };

impl<C> Stream<C> {
    /// What it has got further since the last division.
    pub fn advance(&self, progress: Progress) -> Progress {
        let since = |now: u64, seen: u64, packets: u64| now.saturating_sub(seen).saturating_add(packets);
        Progress {
            receiving: since(progress.receiving, self.seen.receiving, self.packets.receiving),
            sending: since(progress.sending, self.seen.sending, self.packets.sending),
        }
    }
}

/// Bytes that a request has sent and that are not acknowledged.
///
/// # Safety
/// `r` must be a request of HTTP/3 that has not been freed.
#[cfg(ngx_feature = "http_v3")]
pub unsafe fn outstanding(r: *const ngx_http_request_t) -> u64 {
    // SAFETY: as the caller says.
    unsafe { (*(*r).connection).quic.as_ref().map_or(0, |stream| stream.sent.saturating_sub(stream.acked)) }
}

#[cfg(not(ngx_feature = "http_v3"))]
pub unsafe fn outstanding(_r: *const ngx_http_request_t) -> u64 {
    0
}

impl<C> Default for Stream<C> {
    fn default() -> Self {
        let (seen, packets) = (Progress::default(), Progress::default());
        Stream { id: 0, previous: None, next: None, seen, packets, joined: false }
    }
}

/// Null where the request is not one of HTTP/2.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn connection_of_http2(r: *const ngx_http_request_t) -> *mut Http2 {
    #[cfg(ngx_feature = "http_v2")]
    // SAFETY: as the caller says; a stream has a connection.
    unsafe {
        if let Some(stream) = (*r).stream.as_ref() {
            return stream.connection;
        }
    }
    let _ = r;
    core::ptr::null_mut()
}

/// A stream's identifier of HTTP/2; 0 where it is not one.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn id_of(r: *const ngx_http_request_t) -> usize {
    #[cfg(ngx_feature = "http_v2")]
    // SAFETY: as the caller says; `ngx_http_v2_create_stream` has made the stream, which has its node until it is closed.
    unsafe {
        if let Some(node) = (*r).stream.as_ref().and_then(|stream| stream.node.as_ref()) {
            return node.id;
        }
    }
    let _ = r;
    0
}
