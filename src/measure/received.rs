//! Bytes that a request has received from its client.
//!
//! NGINX counts the header, and the part of a body that it reads to use it (`$request_length`). It does not count
//! bodies that it reads and drops (`ngx_http_discard_request_body`, `ngx_http_lingering_close_handler`), nor bytes
//! after a 101 answer (`ngx_http_upstream_process_upgraded`).
//!
//! With HTTP/1, NGINX reads all of these bytes with the connection's `recv`. Our function stands in for `recv` only
//! while a request with a body or an upgraded connection is served. With HTTP/2 and HTTP/3, flow control shows how many
//! bytes a stream has received.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nginx_sys::NGX_ERROR;

#[cfg(ngx_feature = "http_v2")]
use crate::measure::received::http2::StreamBytes;
use crate::nginx::connection::{Connection, Receive};
use crate::nginx::hook::{FnPointer, Hook, Hooks};
use crate::nginx::io;
use crate::nginx::request::Request;
use crate::nginx::stand_in::{Call, Callable, StandIn};

mod counted;
#[cfg(ngx_feature = "http_v2")]
mod http2;
mod late;

pub use counted::Counted;
pub use late::Late;

/// Reports to the layer above.
pub trait Receivers: Late {
    /// The request that is alone on a client's connection, with its received bytes.
    fn receiver(&mut self, c: Connection<'_>) -> Option<(Self::Request, &mut Received)>;
}

/// The source of a request's received bytes.
#[derive(Debug, Clone, Copy)]
pub enum Received {
    /// by NGINX's `request_length`
    Length,
    /// HTTP/1 with a body, or upgraded: by the reads from the connection
    Reads(Reads),
    #[cfg(ngx_feature = "http_v2")]
    Stream(StreamBytes),
    /// HTTP/3: by the bytes that have arrived in the stream
    Quic,
}

#[derive(Debug, Clone, Copy)]
pub struct Reads {
    /// bytes that were read before the reads were counted, for this request or for the next one
    before: u64,
    /// bytes that were read since then
    since: u64,
    /// no other request follows, so unused bytes belong to this request
    is_last: bool,
    /// a read is in progress; it may reach our functions twice, because another module's function may stand between
    /// them
    is_reading: bool,
}

impl Received {
    /// The source for a new request. Must not be called within [`Charge::with`](crate::measure::charge::Charge::with).
    #[inline]
    pub fn of<W: Receivers>(r: Request<'_>) -> Received {
        #[cfg(ngx_feature = "http_v2")]
        if let Some(stream) = r.stream() {
            return Received::Stream(StreamBytes::of::<W>(r, stream));
        }
        if r.connection().quic_stream().is_some() { Received::Quic } else { Received::Length }
    }

    #[inline]
    pub fn is_by_reads(&self) -> bool {
        matches!(self, Received::Reads(_))
    }

    /// Whether [`Received::end`] has nothing to do.
    #[inline]
    pub fn ends_simply(&self) -> bool {
        matches!(self, Received::Length | Received::Quic)
    }

    /// The request of these bytes is being freed. `counted` tells where its bytes were added.
    #[inline]
    pub fn end<W: Receivers>(&self, r: Request<'_>, counted: Counted) {
        match self {
            Received::Reads(_) => {
                COUNTED.fetch_sub(1, Relaxed);
                leave::<W>(r.connection());
            }
            #[cfg(ngx_feature = "http_v2")]
            Received::Stream(stream) => stream.end(r, counted),
            Received::Length | Received::Quic => {
                let _ = counted;
            }
        }
    }

    /// Bytes that the request has received so far.
    #[inline]
    pub fn bytes(&self, r: Request<'_>) -> u64 {
        let length = r.length_bytes();
        match self {
            Received::Length => length,
            Received::Reads(reads) => {
                let unused = if reads.is_last { 0 } else { r.unused_bytes() };
                length.max((reads.before + reads.since).saturating_sub(unused))
            }
            #[cfg(ngx_feature = "http_v2")]
            Received::Stream(stream) => stream.bytes(r),
            // `request_length` counts bytes that were read from the stream. The stream counts bytes that have arrived
            // in its buffer.
            Received::Quic => {
                length.max(r.connection().quic_stream().map_or(0, |stream| stream.received_bytes))
            }
        }
    }
}

/// The functions that ours stand in for: `ngx_ssl_recv`, and functions of other modules.
static REAL: Hooks<Receive, 4> = Hooks::new();

fn ours<W: Receivers>() -> [Receive; 4] {
    [
        Receive::ours::<Read<W, 0>>(),
        Receive::ours::<Read<W, 1>>(),
        Receive::ours::<Read<W, 2>>(),
        Receive::ours::<Read<W, 3>>(),
    ]
}

/// From now on, each read from a main request's connection is counted.
#[cold]
pub fn count_reads<W: Receivers>(r: Request<'_>) {
    let c = r.connection();
    let before = r.length_bytes() + r.unused_bytes();
    let started = W::with(|worker| {
        let (_, received) = worker.receiver(c)?;
        matches!(received, Received::Length).then(|| {
            *received = Received::Reads(Reads { before, since: 0, is_last: false, is_reading: false })
        })
    });
    if started.flatten().is_none() {
        return;
    }
    COUNTED.fetch_add(1, Relaxed);
    // `recv` of a connection may change between two calls, as in the caller of `ngx_ssl_create_connection`.
    let plain = Receive::ours::<ReadPlain<W>>();
    if c.recv().function().is_some_and(|real| real.address() != plain.address()) {
        REAL.replace(c.recv(), &ours::<W>());
    }
}

/// A main request that has a body or is upgraded is about to be answered. Without keepalive, no other request follows.
/// `ngx_http_set_keepalive` clears that flag later.
#[cold]
pub fn answer<W: Receivers>(r: Request<'_>) {
    if r.is_upgraded() {
        count_reads::<W>(r);
    }
    if r.is_upgraded() || !r.is_keepalive() {
        W::with(|worker| {
            if let (_, Received::Reads(reads)) = worker.receiver(r.connection())? {
                reads.is_last = true;
            }
            Some(())
        });
    }
}

/// Reads from a connection are no longer counted. If another module's function has replaced ours by now, ours stays
/// where it is, and does nothing.
#[cold]
fn leave<W: Receivers>(c: Connection<'_>) {
    REAL.restore(c.recv(), &ours::<W>());
}

/// Stands in for `ngx_ssl_recv`, or for a function of another module.
struct Read<W, const AT: usize>(PhantomData<W>);

impl<W: Receivers, const AT: usize> StandIn<Receive> for Read<W, AT> {
    #[inline]
    fn call(call: Call<'_, Receive>) -> isize {
        count::<W>(call.connection(), || REAL.pass_kept(AT, &call).unwrap_or(NGX_ERROR as isize))
    }
}

/// The number of requests whose bytes are known by reads.
static COUNTED: AtomicUsize = AtomicUsize::new(0);
/// The original `ngx_io.recv`.
static PLAIN: Hook<Receive> = Hook::new();

/// Called in `init_process`. Connections get their functions from `ngx_io` later, when they are accepted. They get them
/// once more in `ngx_ssl_shutdown`, in the middle of a request whose body is dropped.
pub fn hook<W: Receivers>() {
    PLAIN.replace(io::receive(), Receive::ours::<ReadPlain<W>>());
}

/// Stands in for `ngx_unix_recv`.
struct ReadPlain<W>(PhantomData<W>);

impl<W: Receivers> StandIn<Receive> for ReadPlain<W> {
    #[inline]
    fn call(call: Call<'_, Receive>) -> isize {
        let read = || PLAIN.pass_kept(&call).unwrap_or(NGX_ERROR as isize);
        if COUNTED.load(Relaxed) == 0 { read() } else { count::<W>(call.connection(), read) }
    }
}

/// Reads, and adds the bytes to the request that is alone on the connection, if that request's reads are counted.
fn count<W: Receivers>(c: Connection<'_>, read: impl FnOnce() -> isize) -> isize {
    let reading = W::with(|worker| match worker.receiver(c)? {
        (request, Received::Reads(reads)) if !reads.is_reading => {
            reads.is_reading = true;
            Some(request)
        }
        _ => None,
    })
    .flatten();
    let bytes = read();
    if let Some(reading) = reading {
        W::with(|worker| {
            // Another module's function may have freed the request.
            if let Some((request, Received::Reads(reads))) = worker.receiver(c)
                && request == reading
            {
                reads.is_reading = false;
                reads.since += bytes.max(0) as u64;
            }
        });
    }
    bytes
}
