//! The streams of a connection that carries several requests at a time: HTTP/2 and HTTP/3.

use core::ptr::NonNull;

use crate::nginx::request::Request;
use accounting::account_set::AccountSet;

#[cfg(ngx_feature = "http_v2")]
pub type Http2 = nginx_sys::ngx_http_v2_connection_t;
#[cfg(not(ngx_feature = "http_v2"))]
pub type Http2 = core::ffi::c_void;

/// Receiving one byte costs as much as handling the acknowledgement of this many bytes.
const RECEIVING: u64 = 8;
/// The least packet size that each path must carry: RFC 9000, section 14.
const BYTES_OF_PACKET: u64 = 1200;

/// The state of a connection that carries several requests. It lives until the connection is closed.
pub struct Multiplex<R> {
    /// the HTTP/2 connection; none for QUIC
    pub h2c: Option<NonNull<Http2>>,
    /// the first open request
    pub streams: Option<R>,
    /// the request of the last frame
    pub recent: Option<R>,
    /// CPU for sending that is not divided yet, in nanoseconds
    pub sending_ns: u64,
    /// HTTP/2 frames wait for room in the socket
    #[cfg(ngx_feature = "http_v2")]
    pub has_waiting: bool,
    pub tail: Tail,
}

/// A freed request whose answer is not fully acknowledged: QUIC keeps the answer, and sends the rest of it.
pub struct Tail {
    pub bytes: u64,
    /// the most that the rest may still cost, in nanoseconds
    pub ns: u64,
    pub accounts: AccountSet,
    pub until_ms: u64,
}

/// A request's links and progress among the requests of its connection.
pub struct Stream<R> {
    #[cfg_attr(not(ngx_feature = "http_v2"), allow(dead_code))]
    /// the HTTP/2 stream identifier
    pub id: usize,
    pub previous: Option<R>,
    pub next: Option<R>,
    /// its progress when the connection's work was last divided
    pub seen: Progress,
    /// further QUIC packets that it has caused
    pub packets: Progress,
    pub joined: bool,
}

/// The progress of a stream as weights: bytes received and acknowledged, and bytes sent.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    pub receiving: u64,
    pub sending: u64,
}

#[cfg(ngx_feature = "http_v2")]
impl<R> Multiplex<R> {
    /// The connection, if it is one of HTTP/2.
    pub fn http2(&self) -> Option<crate::nginx::http2::Http2<'_>> {
        // SAFETY: `ngx_http_v2_init` has made it in the pool of the connection. The connection's entry has this value
        // only until the pool is destroyed.
        self.h2c.map(|h2c| unsafe { crate::nginx::http2::Http2::new(h2c.as_ptr()) })
    }
}

impl Progress {
    /// No progress.
    pub const NONE: Progress = Progress { receiving: 0, sending: 0 };

    /// A received datagram costs more if it brings data than if it brings only acknowledgements, and acknowledgements
    /// cover several sent datagrams. Received data must be acknowledged. Only bytes that have arrived count
    /// (`ngx_quic_write_buffer`), not gaps before them (`recv_last`): a client could leave gaps of any size.
    pub fn of(r: Request<'_>, is_quic: bool) -> Progress {
        let c = r.connection();
        if !is_quic {
            // `ngx_http_v2_handle_frame` adds the frames that are sent
            return Progress { receiving: 0, sending: c.sent_bytes() };
        }
        c.quic_stream().map_or_else(Progress::default, |stream| Progress {
            receiving: RECEIVING * stream.received_bytes + stream.acknowledged_bytes,
            sending: stream.framed_bytes + stream.received_bytes,
        })
    }
}

/// The weight of a new QUIC stream: its header is short, but is mostly sent in a packet of its own, as is its answer.
pub const NEW_QUIC_STREAM: Progress =
    Progress { receiving: RECEIVING * BYTES_OF_PACKET, sending: BYTES_OF_PACKET };

impl<R> Stream<R> {
    /// The progress since the last division.
    pub fn advance(&self, progress: Progress) -> Progress {
        let since = |now: u64, seen: u64, packets: u64| now.saturating_sub(seen).saturating_add(packets);
        Progress {
            receiving: since(progress.receiving, self.seen.receiving, self.packets.receiving),
            sending: since(progress.sending, self.seen.sending, self.packets.sending),
        }
    }
}

/// Bytes that an HTTP/3 request has sent and that are not acknowledged.
pub fn outstanding_bytes(r: Request<'_>) -> u64 {
    let stream = r.connection().quic_stream();
    stream.map_or(0, |stream| stream.sent_bytes.saturating_sub(stream.acknowledged_bytes))
}

impl<R> Stream<R> {
    /// The value for a request that has its connection for itself.
    pub const NEW: Stream<R> = Stream {
        id: 0,
        previous: None,
        next: None,
        seen: Progress::NONE,
        packets: Progress::NONE,
        joined: false,
    };
}

/// The HTTP/2 connection of a request. `None` if the request does not use HTTP/2.
pub fn http2_of(r: Request<'_>) -> Option<NonNull<Http2>> {
    #[cfg(ngx_feature = "http_v2")]
    return NonNull::new(r.stream()?.connection()?.as_ptr());
    #[cfg(not(ngx_feature = "http_v2"))]
    {
        let _ = r;
        None
    }
}

/// The HTTP/2 stream identifier of a request; 0 if the request does not use HTTP/2.
pub fn id_of(r: Request<'_>) -> usize {
    #[cfg(ngx_feature = "http_v2")]
    return r.stream().map_or(0, |stream| stream.id());
    #[cfg(not(ngx_feature = "http_v2"))]
    {
        let _ = r;
        0
    }
}
