//! Connections that carry several requests at a time: HTTP/2 and HTTP/3.
//!
//! An event of such a connection does not name a stream. Its CPU is charged to the streams that caused the work:
//!
//! - HTTP/2, receiving: `ngx_http_v2_read_handler` calls `h2c->state.handler` for each frame. Our function takes the
//!   place of that handler and reads the frame's header. So the CPU of a frame is charged to the frame's stream. The
//!   CPU that the system and TLS have used to receive a buffer is divided by the bytes of the frames in it.
//! - HTTP/2, sending: `ngx_http_v2_write_handler` sends for all streams. Its CPU is divided by the bytes that each
//!   stream has sent.
//! - HTTP/3: datagrams are encrypted, and one packet may carry data of all streams that have something to send. CPU
//!   for receiving (`ngx_quic_input_handler`) and sending (`ngx_quic_push_handler`) is kept. It is divided by the bytes
//!   that each stream has advanced, when a stream ends and once in each second.
//!
//! CPU that no stream has caused goes in equal parts to the open requests that are counted. If there is none, it goes
//! to the accounts of the last request that was counted and not refused.

use accounting::pool::Pool;

use crate::charge::context::{Context, RequestId};
use crate::charge::stream::{
    Multiplex, NEW_QUIC_STREAM, Progress, Stream, Tail, http2_of, id_of, outstanding_bytes,
};
use crate::charge::worker::{Owner, Worker};
#[cfg(ngx_feature = "http_v2")]
use crate::measure::charge::Charge;
#[cfg(ngx_feature = "http_v2")]
use crate::measure::http2::{frames, sending};
use crate::nginx::connection::Connection;
use crate::nginx::event::Event;
use crate::nginx::request::Request;
use crate::nginx::time::now_ms;
use accounting::account_set::AccountSet;

/// CPU that QUIC has used for streams is divided at the end of a stream if it is at least this much, in nanoseconds.
/// Less is left to the next division, which is due within a second.
const DIVIDE_NS: u64 = 10_000;
/// The client acknowledges sent data within this time, in milliseconds, or is assumed to be gone.
const TAIL_MS: u64 = 2000;
/// The most that sending the rest of an answer and handling its acknowledgements may cost, in nanoseconds: in all
/// (`TAIL_NS`), and for each byte (`TAIL_NS_PER_BYTE`). Measured values are 2 to 4 ns for a byte.
const TAIL_NS: u64 = 20_000;
const TAIL_NS_PER_BYTE: u64 = 10;

impl Worker {
    /// The state of a connection that carries several requests.
    #[inline]
    pub(super) fn multiplex(&self, at: usize) -> Option<&Multiplex<RequestId>> {
        self.connections.multiplex(at)
    }

    #[inline]
    pub(super) fn multiplex_mut(&mut self, at: usize) -> Option<&mut Multiplex<RequestId>> {
        self.connections.multiplex_mut(at)
    }

    /// Calls `f` with each open request of a connection and its progress.
    fn each_stream(&mut self, at: usize, mut f: impl FnMut(&mut Worker, RequestId, Progress)) {
        let Some(&Multiplex { h2c, streams: mut next, .. }) = self.multiplex(at) else { return };
        while let Some(id) = next {
            let context = self.context(id);
            next = context.stream.next;
            let progress = Progress::of(context.request(), h2c.is_none());
            f(self, id, progress);
        }
    }

    /// Whether the connection is a QUIC connection that carries requests.
    pub fn is_quic_connection(&self, at: usize) -> bool {
        self.multiplex(at).is_some_and(|multiplex| multiplex.h2c.is_none())
    }

    /// Adds a new request to a connection that carries several. `r` is the request of the context, and `c` is the
    /// connection at index `at`.
    pub fn join(&mut self, id: RequestId, at: usize, r: Request<'_>, c: Connection<'_>) {
        if self.connections.multiplex(at).is_none() {
            self.begin_multiplex(at, r, c);
        }
        let Some(multiplex) = self.multiplex_mut(at) else { return };
        let is_quic = multiplex.h2c.is_none();
        let next = multiplex.streams.replace(id);
        if let Some(next) = next {
            self.context(next).stream.previous = Some(id);
        }
        let (stream, seen) = (id_of(r), Progress::of(r, is_quic));
        let packets = if is_quic { NEW_QUIC_STREAM } else { Progress::default() };
        self.context(id).stream = Stream { id: stream, previous: None, next, seen, packets, joined: true };
    }

    /// Prepares a connection for its first request, if it carries several. If there is no memory, the connection is
    /// handled as an ordinary one.
    #[cold]
    fn begin_multiplex(&mut self, at: usize, r: Request<'_>, c: Connection<'_>) {
        let multiplex = Multiplex {
            h2c: http2_of(r),
            streams: None,
            recent: None,
            sending_ns: 0,
            #[cfg(ngx_feature = "http_v2")]
            has_waiting: false,
            tail: Tail { bytes: 0, ns: 0, accounts: AccountSet::EMPTY, until_ms: 0 },
        };
        self.connections.set_multiplex(at, multiplex);
        #[cfg(ngx_feature = "http_v2")]
        if http2_of(r).is_some() && self.multiplex(at).is_some() {
            sending::watch::<Worker>(c);
        }
    }

    /// Removes a request that is no longer open. Returns whether its connection carries several requests.
    #[inline]
    pub fn part(&mut self, id: RequestId) -> bool {
        let was_joined = core::mem::take(&mut self.context(id).stream.joined);
        if was_joined {
            self.unlink(id);
        }
        was_joined
    }

    fn unlink(&mut self, id: RequestId) {
        let context = self.context(id);
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
        if multiplex.streams == Some(id) {
            multiplex.streams = next;
        }
        if multiplex.recent == Some(id) {
            multiplex.recent = None;
        }
        if multiplex.h2c.is_none() {
            self.keep_tail(at, id);
        }
    }

    /// Keeps the state of a request that is gone: QUIC still sends the rest of its answer.
    fn keep_tail(&mut self, at: usize, id: RequestId) {
        let context = self.context(id);
        let bytes = outstanding_bytes(context.request());
        let accounts = context.accounts.clone();
        let now_ms = now_ms();
        let Some(Multiplex { tail, .. }) = self.multiplex_mut(at) else { return };
        if bytes > 0 && (bytes >= tail.bytes || now_ms >= tail.until_ms) {
            let ns = TAIL_NS.saturating_add(bytes.saturating_mul(TAIL_NS_PER_BYTE));
            *tail = Tail { bytes, ns, accounts, until_ms: now_ms + TAIL_MS };
        }
    }

    /// Whether no other request is open on the connection.
    pub fn is_alone(&mut self, id: RequestId) -> bool {
        let stream = &self.context(id).stream;
        stream.previous.is_none() && stream.next.is_none()
    }

    /// Called when a stream is about to end: charges its part of the CPU of its connection to it.
    #[inline]
    pub fn divide_for(&mut self, id: RequestId) {
        let context = self.context(id);
        if !context.stream.joined {
            return;
        }
        let Some(at) = context.connection() else { return };
        let is_due = if self.is_quic_connection(at) {
            self.undivided_ns(at) >= DIVIDE_NS
        } else {
            self.undivided_sending_ns(at) != 0
        };
        if is_due {
            self.divide(at, false);
        }
    }

    /// Called when a datagram of a QUIC connection has arrived.
    #[cfg(ngx_feature = "http_v3")]
    pub(super) fn divide_before_datagram(&mut self, at: usize) {
        let Some(multiplex) = self.multiplex(at) else { return };
        if multiplex.streams.is_none() && self.undivided_ns(at) > 0 {
            // A request that this datagram opens must not pay for earlier CPU.
            self.divide(at, true);
        }
    }

    fn undivided_ns(&self, at: usize) -> u64 {
        self.connections.pending_ns(at) + self.undivided_sending_ns(at)
    }

    pub(super) fn undivided_sending_ns(&self, at: usize) -> u64 {
        self.multiplex(at).map_or(0, |multiplex| multiplex.sending_ns)
    }

    /// Sets the point from which the progress of each stream is counted.
    pub(super) fn look_at_streams(&mut self, at: usize) {
        self.each_stream(at, |worker, id, progress| worker.context(id).stream.seen = progress);
    }

    /// Keeps CPU that was used to send for several requests. It is divided later.
    pub(super) fn keep_sending(&mut self, at: usize, ns: u64) {
        match self.multiplex_mut(at) {
            Some(multiplex) => {
                multiplex.sending_ns += ns;
                self.connections.list_uncharged(at);
            }
            None => {
                // The connection was closed in the meantime.
                self.charge_connection(at, ns);
            }
        }
    }

    /// Charges CPU that was used to send for several requests.
    pub fn charge_sending(&mut self, at: usize, ns: u64) {
        if self.multiplex(at).is_none_or(|multiplex| multiplex.h2c.is_none()) {
            self.keep_sending(at, ns);
            return;
        }
        let mut pool = Pool { ns, weight: 0 };
        self.each_stream(at, |worker, id, progress| {
            pool.weight += worker.context(id).stream.advance(progress).sending;
        });
        self.each_share(at, |context, progress| pool.share(context.stream.advance(progress).sending));
        self.connections.keep(at, pool.ns);
    }

    /// Charges each open request of a connection with the nanoseconds that `f` returns.
    fn each_share(&mut self, at: usize, mut f: impl FnMut(&mut Context, Progress) -> u64) {
        self.each_stream(at, |worker, id, progress| {
            let context = worker.context(id);
            let ns = f(context, progress);
            (context.stream.seen, context.stream.packets) = (progress, Progress::default());
            if ns != 0 {
                worker.charge_request(id, ns);
                worker.note_active(id);
            }
        });
    }

    /// Divides the CPU of a connection among the requests that caused it. With `all`, CPU that no request has caused
    /// is divided too.
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
        self.each_stream(at, |worker, id, progress| {
            let context = worker.context(id);
            let progress = context.stream.advance(progress);
            receiving.weight += progress.receiving;
            sending.weight += progress.sending;
            counted += u64::from(context.is_counted());
        });
        // no stream has advanced
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
            self.zones.charge(self.laps.meter.recent_ns(), &accounts, tail_ns);
        }
        if all {
            self.charge_last(at, rest_ns);
        } else {
            self.connections.keep(at, rest_ns);
        }
    }

    /// Charges CPU that no open request has caused to the accounts of the last request, if one was counted.
    fn charge_last(&mut self, at: usize, ns: u64) {
        if self.has_counted(at) {
            self.charge_connection(at, ns);
        } else {
            self.connections.put_back(at, ns);
        }
    }

    /// The owner of an event on a connection that carries several requests.
    pub(super) fn owner_of_stream(&mut self, at: usize, event: &Event<'_>) -> Owner {
        let Some(&Multiplex { h2c: Some(_), streams, .. }) = self.multiplex(at) else {
            return Owner::Connection(at);
        };
        if self.connections.places().is_write_event(event) {
            return match streams {
                None => Owner::Connection(at),
                Some(only) if self.context(only).stream.next.is_none() => Owner::Request(only),
                Some(_) => {
                    if self.undivided_sending_ns(at) != 0 {
                        self.divide(at, false);
                    }
                    self.look_at_streams(at);
                    Owner::Sending(at)
                }
            };
        }
        #[cfg(ngx_feature = "http_v2")]
        frames::set(self, at);
        Owner::Connection(at)
    }

    /// The open request of an HTTP/2 stream.
    #[cfg(ngx_feature = "http_v2")]
    pub(super) fn find_stream(&mut self, at: usize, stream_id: usize) -> Option<RequestId> {
        let &Multiplex { recent, streams: mut next, .. } = self.multiplex(at)?;
        if let Some(recent) = recent
            && self.context(recent).stream.id == stream_id
        {
            return Some(recent);
        }
        while let Some(id) = next {
            let stream = &self.context(id).stream;
            if stream.id == stream_id {
                self.multiplex_mut(at)?.recent = Some(id);
                return Some(id);
            }
            next = stream.next;
        }
        None
    }

    /// Called before frames of several streams are sent. Returns the owner of the running lap.
    #[cfg(ngx_feature = "http_v2")]
    #[cold]
    pub(super) fn begin_sending_for_all(&mut self, at: usize) -> Option<Owner> {
        if self.owner() == Owner::Sending(at) {
            return None;
        }
        let &Multiplex { streams, sending_ns, .. } = self.multiplex(at)?;
        // a stream that is alone sends only for itself
        self.context(streams?).stream.next?;
        if sending_ns == 0 {
            self.look_at_streams(at);
        }
        let owner = self.owner();
        self.read_clock();
        Some(owner)
    }

    /// Called after the frames were sent.
    #[cfg(ngx_feature = "http_v2")]
    #[cold]
    pub(super) fn end_sending_for_all(&mut self, at: usize, owner: Owner) {
        let ns = self.set_lap_apart();
        self.take(owner);
        self.keep_sending(at, ns);
    }
}
