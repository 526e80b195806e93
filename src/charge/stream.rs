//! The streams of a connection that carries several requests at a time: HTTP/2 and HTTP/3.

use core::ptr::NonNull;

use crate::nginx::request::Request;
use accounting::account_set::AccountSet;

#[cfg(ngx_feature = "http_v2")]
pub type Http2 = nginx_sys::ngx_http_v2_connection_t;
#[cfg(not(ngx_feature = "http_v2"))]
pub type Http2 = core::ffi::c_void;

/// Receiving a byte costs as much as handling the acknowledgement of so many.
const RECEIVING: u64 = 8;
/// The least size that each path must carry, RFC 9000, section 14.
const BYTES_OF_PACKET: u64 = 1200;

/// What a connection that carries several requests has, until it is closed.
pub struct Multiplex<R> {
    /// of HTTP/2; none for QUIC
    pub h2c: Option<NonNull<Http2>>,
    /// the first one of the requests that are open
    pub streams: Option<R>,
    /// the one that the last frame was for
    pub recent: Option<R>,
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
pub struct Stream<R> {
    #[cfg_attr(not(ngx_feature = "http_v2"), allow(dead_code))]
    /// of HTTP/2
    pub id: usize,
    pub previous: Option<R>,
    pub next: Option<R>,
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

#[cfg(ngx_feature = "http_v2")]
impl<R> Multiplex<R> {
    /// The connection, if it is one of HTTP/2.
    pub fn http2(&self) -> Option<crate::nginx::http2::Http2<'_>> {
        // SAFETY: `ngx_http_v2_init` has made it in the pool of the connection, whose entry has this only until the
        // pool is destroyed.
        self.h2c.map(|h2c| unsafe { crate::nginx::http2::Http2::new(h2c.as_ptr()) })
    }
}

impl Progress {
    /// None yet.
    pub const NONE: Progress = Progress { receiving: 0, sending: 0 };

    /// A datagram that is received costs more if it brings data than if it brings acknowledgements only, and those
    /// are for several that were sent. What is received has to be acknowledged. Only bytes that have come count
    /// (`ngx_quic_write_buffer`), and not those that are left out before them (`recv_last`): a client could leave out
    /// as many as it likes.
    pub fn of(r: Request<'_>, is_quic: bool) -> Progress {
        let c = r.connection();
        if !is_quic {
            // `ngx_http_v2_handle_frame` adds the frames that are out
            return Progress { receiving: 0, sending: c.sent_bytes() };
        }
        c.quic_stream().map_or_else(Progress::default, |stream| Progress {
            receiving: RECEIVING * stream.received_bytes + stream.acknowledged_bytes,
            sending: stream.framed_bytes + stream.received_bytes,
        })
    }
}

/// A new stream of QUIC: its header is short, but most often in a packet of its own, as its answer is.
pub const NEW_QUIC_STREAM: Progress =
    Progress { receiving: RECEIVING * BYTES_OF_PACKET, sending: BYTES_OF_PACKET };

impl<R> Stream<R> {
    /// What it has got further since the last division.
    pub fn advance(&self, progress: Progress) -> Progress {
        let since = |now: u64, seen: u64, packets: u64| now.saturating_sub(seen).saturating_add(packets);
        Progress {
            receiving: since(progress.receiving, self.seen.receiving, self.packets.receiving),
            sending: since(progress.sending, self.seen.sending, self.packets.sending),
        }
    }
}

/// Bytes that a request of HTTP/3 has sent and that are not acknowledged.
pub fn outstanding_bytes(r: Request<'_>) -> u64 {
    let stream = r.connection().quic_stream();
    stream.map_or(0, |stream| stream.sent_bytes.saturating_sub(stream.acknowledged_bytes))
}

impl<R> Stream<R> {
    /// Of a request that has its connection for itself.
    pub const NEW: Stream<R> = Stream {
        id: 0,
        previous: None,
        next: None,
        seen: Progress::NONE,
        packets: Progress::NONE,
        joined: false,
    };
}

/// `None` if the request is not one of HTTP/2.
pub fn http2_of(r: Request<'_>) -> Option<NonNull<Http2>> {
    #[cfg(ngx_feature = "http_v2")]
    return NonNull::new(r.stream()?.connection()?.as_ptr());
    #[cfg(not(ngx_feature = "http_v2"))]
    {
        let _ = r;
        None
    }
}

/// A stream's identifier of HTTP/2; 0 if it is not one.
pub fn id_of(r: Request<'_>) -> usize {
    #[cfg(ngx_feature = "http_v2")]
    return r.stream().map_or(0, |stream| stream.id());
    #[cfg(not(ngx_feature = "http_v2"))]
    {
        let _ = r;
        0
    }
}
