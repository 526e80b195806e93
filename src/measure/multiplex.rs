//! Connections that carry several requests at a time: HTTP/2 and HTTP/3.
//!
//! An event of such a connection does not tell whose it is. Work in it belongs to the streams that it was done for:
//!
//! - HTTP/2, receiving: `ngx_http_v2_read_handler` calls `h2c->state.handler` for each frame. We stand in its place, and look at the
//!   frame's header: so each frame is its stream's, and what the system and TLS have used to receive a buffer is divided by the bytes
//!   of the frames in it.
//! - HTTP/2, sending: `ngx_http_v2_write_handler` sends for all streams. It is divided by the bytes that each has got out.
//! - HTTP/3: datagrams are encrypted, and a packet is made for all streams that have something to send. What was received
//!   (`ngx_quic_input_handler`) and sent (`ngx_quic_push_handler`) is kept, and divided by the bytes of each stream that got further.
//!   That is done when a stream ends, and each second.
//!
//! What no stream has caused goes to the counted requests that are open, in equal parts, or, if there is none, to the accounts of the
//! last one that was counted and not refused.

use core::ptr::NonNull;

use accounting::account_set::AccountSet;
use accounting::pool::Pool;
use nginx_sys::{ngx_connection_t, ngx_event_t, ngx_http_request_t, ngx_palloc};

use crate::charge::request::Context;
use crate::charge::worker::{Owner, Worker, now_ms};

#[cfg(ngx_feature = "http_v2")]
mod frames;
#[cfg(ngx_feature = "http_v2")]
mod sending;
#[cfg(ngx_feature = "http_v2")]
pub use frames::{FrameDoor, close_door};

/// Without HTTP/2 there are no frames.
#[cfg(not(ngx_feature = "http_v2"))]
#[derive(Default)]
pub struct FrameDoor;

#[cfg(not(ngx_feature = "http_v2"))]
impl FrameDoor {
    #[inline]
    pub fn is_open(&self) -> bool {
        false
    }
}

#[cfg(not(ngx_feature = "http_v2"))]
#[inline]
pub fn close_door(_worker: &mut Worker) {}

#[cfg(ngx_feature = "http_v2")]
type Http2 = nginx_sys::ngx_http_v2_connection_t;
#[cfg(not(ngx_feature = "http_v2"))]
type Http2 = core::ffi::c_void;

/// What QUIC has used for streams is divided when one of them ends, if it is as much, in nanoseconds. Less is left to the next
/// division, which is due within a second.
const DIVIDE_NS: u64 = 10_000;
/// The client acknowledges what was sent within so many milliseconds, or it is gone.
const TAIL_MS: u64 = 2000;
/// What sending the rest of an answer may cost, and handling its acknowledgements, in nanoseconds: in all, and for each byte.
/// Measured are 2 to 4 for a byte.
const TAIL_NS: u64 = 20_000;
const TAIL_NS_PER_BYTE: u64 = 10;
/// Receiving a byte costs as much as handling the acknowledgement of so many.
const RECEIVING: u64 = 8;
/// The least size that each path must carry, RFC 9000, section 14.
const BYTES_OF_PACKET: u64 = 1200;

/// What a connection that carries several requests has. In its pool.
pub struct Multiplex {
    /// of HTTP/2; null for QUIC
    h2c: *mut Http2,
    /// the first one of the requests that are open
    streams: Option<NonNull<Context>>,
    /// the one that the last frame was for
    recent: Option<NonNull<Context>>,
    /// what was used to send, and is not divided yet, in nanoseconds
    sending_ns: u64,
    /// frames of HTTP/2 wait for room in the socket
    #[cfg(ngx_feature = "http_v2")]
    has_waiting: bool,
    tail: Tail,
}

/// A request that is gone, whose answer is not all acknowledged: QUIC keeps it, and sends the rest of it.
struct Tail {
    bytes: u64,
    /// what it may cost at most, in nanoseconds
    ns: u64,
    accounts: AccountSet,
    until_ms: u64,
}

/// A request's place among those of its connection.
#[derive(Default)]
pub struct Stream {
    /// of HTTP/2
    id: usize,
    previous: Option<NonNull<Context>>,
    next: Option<NonNull<Context>>,
    /// how far it was when the connection's work was last divided
    seen: Progress,
    /// packets of QUIC that it has caused besides
    packets: Progress,
    joined: bool,
}

/// How far a stream is, as weights: bytes received and acknowledged, and bytes sent.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    receiving: u64,
    sending: u64,
}

impl Progress {
    /// # Safety
    /// `r` must be a request that has not been freed, of this kind of connection.
    unsafe fn of(r: *const ngx_http_request_t, is_quic: bool) -> Progress {
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
const NEW_QUIC_STREAM: Progress =
    Progress { receiving: RECEIVING * BYTES_OF_PACKET, sending: BYTES_OF_PACKET };

impl Stream {
    /// What it has got further since the last division.
    fn advance(&self, progress: Progress) -> Progress {
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
unsafe fn outstanding(r: *const ngx_http_request_t) -> u64 {
    // SAFETY: as the caller says.
    unsafe { (*(*r).connection).quic.as_ref().map_or(0, |stream| stream.sent.saturating_sub(stream.acked)) }
}

#[cfg(not(ngx_feature = "http_v3"))]
unsafe fn outstanding(_r: *const ngx_http_request_t) -> u64 {
    0
}

/// Whose a wakeup of a connection is that carries several requests.
///
/// # Safety
/// NGINX is about to call the event's handler; the connection is open.
pub unsafe fn owner_of(worker: &mut Worker, at: usize, event: *mut ngx_event_t) -> Owner {
    let Some(&Multiplex { h2c, streams, .. }) = worker.multiplex(at) else { return Owner::Connection(at) };
    if h2c.is_null() {
        return Owner::Connection(at);
    }
    if worker.connections.is_write_event(event) {
        return match streams {
            None => Owner::Connection(at),
            Some(only) if worker.context(only).stream.next.is_none() => Owner::Request(only),
            Some(_) => {
                if worker.undivided_sending_ns(at) != 0 {
                    worker.divide(at, false);
                }
                worker.look_at_streams(at);
                Owner::Sending(at)
            }
        };
    }
    #[cfg(ngx_feature = "http_v2")]
    // SAFETY: as the caller says.
    unsafe {
        frames::open_door(worker, at, h2c);
    }
    Owner::Connection(at)
}

impl Worker {
    /// What a connection has that carries several requests.
    #[inline]
    fn multiplex(&self, at: usize) -> Option<&Multiplex> {
        // SAFETY: in the pool of an open connection, whose entry forgets it when that is closed. Each reference borrows the worker, of
        // which `with` gives out only one.
        self.connections.multiplex(at).map(|multiplex| unsafe { multiplex.as_ref() })
    }

    #[inline]
    fn multiplex_mut(&mut self, at: usize) -> Option<&mut Multiplex> {
        // SAFETY: as in `multiplex`.
        self.connections.multiplex(at).map(|mut multiplex| unsafe { multiplex.as_mut() })
    }

    /// Calls `f` with each open request of a connection, and with how far it is.
    fn each_stream(&mut self, at: usize, mut f: impl FnMut(&mut Worker, NonNull<Context>, Progress)) {
        let Some(&Multiplex { h2c, streams: mut next, .. }) = self.multiplex(at) else { return };
        while let Some(pointer) = next {
            let context = self.context(pointer);
            next = context.stream.next;
            // SAFETY: the context is there, so its request is.
            let progress = unsafe { Progress::of(context.request(), h2c.is_null()) };
            f(self, pointer, progress);
        }
    }

    /// Whether the connection is QUIC's, and carries requests.
    pub fn is_quic(&self, at: usize) -> bool {
        self.multiplex(at).is_some_and(|multiplex| multiplex.h2c.is_null())
    }

    /// A request of a connection that carries several is there.
    ///
    /// # Safety
    /// `r` must be the request of the context, and `c` the connection at the place.
    pub unsafe fn join(
        &mut self,
        pointer: NonNull<Context>,
        at: usize,
        r: *mut ngx_http_request_t,
        c: *mut ngx_connection_t,
    ) {
        if self.connections.multiplex(at).is_none() {
            // SAFETY: as the caller says.
            unsafe { self.begin_multiplex(at, r, c) };
        }
        let Some(multiplex) = self.multiplex_mut(at) else { return };
        let is_quic = multiplex.h2c.is_null();
        let next = multiplex.streams.replace(pointer);
        if let Some(next) = next {
            self.context(next).stream.previous = Some(pointer);
        }
        // SAFETY: as the caller says.
        let (id, seen) = unsafe { (id_of(r), Progress::of(r, is_quic)) };
        let packets = if is_quic { NEW_QUIC_STREAM } else { Progress::default() };
        self.context(pointer).stream = Stream { id, previous: None, next, seen, packets, joined: true };
    }

    /// The first request of a connection that carries several. If there is no memory, the connection goes on as one that does not.
    ///
    /// # Safety
    /// As for [`Worker::join`].
    #[cold]
    unsafe fn begin_multiplex(&mut self, at: usize, r: *mut ngx_http_request_t, c: *mut ngx_connection_t) {
        // SAFETY: as the caller says; the connection has its pool, with memory that is aligned for pointers.
        unsafe {
            let memory = ngx_palloc((*c).pool, size_of::<Multiplex>());
            let Some(multiplex) = NonNull::new(memory.cast::<Multiplex>()) else { return };
            let h2c = connection_of_http2(r);
            multiplex.write(Multiplex {
                h2c,
                streams: None,
                recent: None,
                sending_ns: 0,
                #[cfg(ngx_feature = "http_v2")]
                has_waiting: false,
                tail: Tail { bytes: 0, ns: 0, accounts: AccountSet::EMPTY, until_ms: 0 },
            });
            self.connections.set_multiplex(at, multiplex);
            #[cfg(ngx_feature = "http_v2")]
            if !h2c.is_null() {
                sending::watch(c);
            }
        }
    }

    /// A request is not open any more; whether it was one of several.
    #[inline]
    pub fn part(&mut self, pointer: NonNull<Context>) -> bool {
        let was_joined = core::mem::take(&mut self.context(pointer).stream.joined);
        if was_joined {
            self.unlink(pointer);
        }
        was_joined
    }

    fn unlink(&mut self, pointer: NonNull<Context>) {
        let context = self.context(pointer);
        let at = context.connection();
        let (previous, next) = (context.stream.previous.take(), context.stream.next.take());
        if let Some(next) = next {
            self.context(next).stream.previous = previous;
        }
        if let Some(previous) = previous {
            self.context(previous).stream.next = next;
        }
        let Some(at) = at else { return };
        let Some(multiplex) = self.multiplex_mut(at) else { return };
        if multiplex.streams == Some(pointer) {
            multiplex.streams = next;
        }
        if multiplex.recent == Some(pointer) {
            multiplex.recent = None;
        }
        if multiplex.h2c.is_null() {
            self.keep_tail(at, pointer);
        }
    }

    /// QUIC sends the rest of a request's answer when the request is gone.
    fn keep_tail(&mut self, at: usize, pointer: NonNull<Context>) {
        let context = self.context(pointer);
        // SAFETY: the context is there, so its request is.
        let bytes = unsafe { outstanding(context.request()) };
        let accounts = context.accounts.clone();
        let now_ms = now_ms();
        let Some(Multiplex { tail, .. }) = self.multiplex_mut(at) else { return };
        if bytes > 0 && (bytes >= tail.bytes || now_ms >= tail.until_ms) {
            let ns = TAIL_NS.saturating_add(bytes.saturating_mul(TAIL_NS_PER_BYTE));
            *tail = Tail { bytes, ns, accounts, until_ms: now_ms + TAIL_MS };
        }
    }

    /// Whether no other request is open on a connection.
    pub fn is_alone(&mut self, pointer: NonNull<Context>) -> bool {
        let stream = &self.context(pointer).stream;
        stream.previous.is_none() && stream.next.is_none()
    }

    /// A stream is about to end: it gets its part of what its connection has used.
    #[inline]
    pub fn divide_for(&mut self, pointer: NonNull<Context>) {
        let context = self.context(pointer);
        if !context.stream.joined {
            return;
        }
        let Some(at) = context.connection() else { return };
        let is_due = if self.is_quic(at) {
            self.undivided_ns(at) >= DIVIDE_NS
        } else {
            self.undivided_sending_ns(at) != 0
        };
        if is_due {
            self.divide(at, false);
        }
    }

    /// A datagram of a connection of QUIC has arrived.
    #[cfg(ngx_feature = "http_v3")]
    pub fn begin_datagram(&mut self, at: usize) {
        let Some(multiplex) = self.multiplex(at) else { return };
        if multiplex.streams.is_none() && self.undivided_ns(at) > 0 {
            // a request that it opens is not to pay for what was before
            self.divide(at, true);
        }
    }

    fn undivided_ns(&self, at: usize) -> u64 {
        self.connections.pending_ns(at) + self.undivided_sending_ns(at)
    }

    fn undivided_sending_ns(&self, at: usize) -> u64 {
        self.multiplex(at).map_or(0, |multiplex| multiplex.sending_ns)
    }

    /// From here on it counts how far each stream gets.
    fn look_at_streams(&mut self, at: usize) {
        self.each_stream(at, |worker, pointer, progress| worker.context(pointer).stream.seen = progress);
    }

    /// What was used to send for several requests is divided later.
    fn keep_sending(&mut self, at: usize, ns: u64) {
        match self.multiplex_mut(at) {
            Some(multiplex) => {
                multiplex.sending_ns += ns;
                self.connections.list_unsettled(at);
            }
            None => {
                // closed meanwhile
                self.charge_connection(at, ns);
            }
        }
    }

    /// What was used to send for several requests.
    pub fn charge_sending(&mut self, at: usize, ns: u64) {
        if self.multiplex(at).is_none_or(|multiplex| multiplex.h2c.is_null()) {
            self.keep_sending(at, ns);
            return;
        }
        let mut pool = Pool { ns, weight: 0 };
        self.each_stream(at, |worker, pointer, progress| {
            pool.weight += worker.context(pointer).stream.advance(progress).sending;
        });
        self.each_share(at, |context, progress| pool.share(context.stream.advance(progress).sending));
        self.connections.keep(at, pool.ns);
    }

    /// Charges each open request of a connection with what `f` says.
    fn each_share(&mut self, at: usize, mut f: impl FnMut(&mut Context, Progress) -> u64) {
        self.each_stream(at, |worker, pointer, progress| {
            let context = worker.context(pointer);
            let ns = f(context, progress);
            (context.stream.seen, context.stream.packets) = (progress, Progress::default());
            if ns != 0 {
                worker.charge_request(pointer, ns);
                worker.stir_flying(pointer);
            }
        });
    }

    /// Divides what a connection has used among those that it was for. `all`: also what no request has caused.
    pub fn divide(&mut self, at: usize, all: bool) {
        let mut receiving = Pool { ns: self.connections.take_pending(at), weight: 0 };
        let Some(multiplex) = self.multiplex_mut(at) else {
            self.charge_last(at, receiving.ns);
            return;
        };
        if now_ms() >= multiplex.tail.until_ms || multiplex.tail.ns == 0 {
            multiplex.tail.bytes = 0;
        }
        let tail_bytes = multiplex.tail.bytes;
        let mut sending = Pool { ns: core::mem::take(&mut multiplex.sending_ns), weight: 0 };
        let mut counted = 0;
        self.each_stream(at, |worker, pointer, progress| {
            let context = worker.context(pointer);
            let progress = context.stream.advance(progress);
            receiving.weight += progress.receiving;
            sending.weight += progress.sending;
            counted += u64::from(context.is_counted());
        });
        // nobody got further
        let is_common = |pool: &Pool| pool.weight == 0 && all && counted > 0;
        let (evenly_received, evenly_sent) = (is_common(&receiving), is_common(&sending));
        receiving.weight =
            if evenly_received { counted } else { receiving.weight.saturating_add(tail_bytes) };
        sending.weight = if evenly_sent { counted } else { sending.weight.saturating_add(tail_bytes) };
        self.each_share(at, |context, progress| {
            let progress = context.stream.advance(progress);
            let one = u64::from(context.is_counted());
            receiving.share(if evenly_received { one } else { progress.receiving })
                + sending.share(if evenly_sent { one } else { progress.sending })
        });
        let mut rest_ns = receiving.ns + sending.ns;
        if rest_ns != 0
            && tail_bytes != 0
            && let Some(Multiplex { tail, .. }) = self.multiplex_mut(at)
        {
            let tail_ns = rest_ns.min(tail.ns);
            tail.ns -= tail_ns;
            rest_ns -= tail_ns;
            let accounts = tail.accounts.clone();
            self.zones.charge(self.meter.recent_ns(), &accounts, tail_ns);
        }
        if all {
            self.charge_last(at, rest_ns);
        } else {
            self.connections.keep(at, rest_ns);
        }
    }

    /// What no request that is open has caused goes to the accounts of the last one, if one was counted.
    fn charge_last(&mut self, at: usize, ns: u64) {
        if self.has_counted(at) {
            self.charge_connection(at, ns);
        } else {
            self.connections.put_back(at, ns);
        }
    }
}

/// Null where the request is not one of HTTP/2.
///
/// # Safety
/// `r` must be a request that has not been freed.
unsafe fn connection_of_http2(r: *const ngx_http_request_t) -> *mut Http2 {
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
unsafe fn id_of(r: *const ngx_http_request_t) -> usize {
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
