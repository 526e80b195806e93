//! Bytes of HTTP/2: each DATA frame takes its length off the windows of its stream and of its connection
//! (`ngx_http_v2_state_data`).
//!
//! Most bodies that nobody reads come when their stream has ended: the server answers as soon as it has the header.
//! Such frames are in the window of the connection only. The last request of the connection is taken to have received
//! the bytes that are in no stream's window.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;

use nginx_sys::ngx_http_v2_connection_t;

use super::late::Late;
use crate::nginx::http2::{Http2, Stream};
use crate::nginx::pool::Pooled;
use crate::nginx::request::Request;

/// `NGX_HTTP_V2_MAX_WINDOW`
const MAX_WINDOW: usize = (1 << 31) - 1;

/// How the bytes of a stream are known.
#[derive(Debug, Clone, Copy)]
pub struct StreamBytes {
    /// its window before the first DATA frame
    window: usize,
    /// bytes of the header
    header: u64,
    /// of the connection; none if there is no memory
    counters: Option<NonNull<Counters>>,
}

impl StreamBytes {
    /// Those of a request, which has this stream. `Charge::with` must not be running.
    pub fn of<W: Late>(r: Request<'_>, stream: Stream<'_>) -> StreamBytes {
        let preread = if r.is_body_untouched() { stream.preread_bytes() } else { 0 };
        let h2c = stream.connection();
        let frames = h2c.and_then(Frames::<W>::of);
        // this stream is the only one that is open, and has received nothing
        if preread == 0
            && h2c.is_some_and(|h2c| h2c.streams() <= 1)
            && let Some(frames) = frames
        {
            frames.give_rest();
        }
        StreamBytes {
            window: stream.window() + preread,
            header: r.length_bytes(),
            counters: frames.map(|frames| NonNull::from(&frames.counters)),
        }
    }

    /// Bytes that the stream's request has received so far.
    pub fn bytes(&self, r: Request<'_>) -> u64 {
        r.length_bytes() + self.skipped(r)
    }

    /// Bytes of DATA frames that are not in `request_length`.
    fn skipped(&self, r: Request<'_>) -> u64 {
        let Some(stream) = r.stream() else { return 0 };
        let skipped = match r.body_bytes() {
            // the window is opened further when the body is read
            None => self.window.saturating_sub(stream.window()),
            // `ngx_http_v2_read_request_body` has opened it wholly
            Some(body_bytes) if stream.skips_body() => {
                MAX_WINDOW.saturating_sub(stream.window()).saturating_sub(body_bytes)
            }
            Some(_) => 0,
        };
        skipped as u64
    }

    /// The stream's request is counted, and is being freed.
    pub fn end(&self, r: Request<'_>) {
        if let Some(counters) = self.counters {
            // SAFETY: the memory is the connection's, which outlives its streams.
            let counted = unsafe { &counters.as_ref().counted };
            counted.set(counted.get() + self.bytes(r).saturating_sub(self.header));
        }
    }
}

/// DATA frames of a connection; in its pool.
struct Frames<W> {
    h2c: NonNull<ngx_http_v2_connection_t>,
    counters: Counters,
    of: PhantomData<fn() -> W>,
}

struct Counters {
    /// the connection's window when it was looked at last
    window: Cell<usize>,
    /// bytes that came by then
    came: Cell<u64>,
    /// bytes that are counted
    counted: Cell<u64>,
}

impl<W: Late> Frames<W> {
    /// Those of a connection, from its first request on.
    fn of(h2c: Http2<'_>) -> Option<&Frames<W>> {
        let pointer = NonNull::new(h2c.as_ptr())?;
        h2c.connection()?.pool()?.get_or_put(|| Frames {
            h2c: pointer,
            counters: Counters { window: Cell::new(h2c.window()), came: Cell::new(0), counted: Cell::new(0) },
            of: PhantomData,
        })
    }

    /// No stream is open that has received something. Bytes that came and are not counted are the last request's.
    fn give_rest(&self) {
        // SAFETY: it is in the same pool, whose cleanups run before its memory goes (`ngx_destroy_pool`).
        let h2c = unsafe { Http2::new(self.h2c.as_ptr()) };
        let Counters { window, came, counted } = &self.counters;
        let before = window.replace(h2c.window());
        let more = match before.checked_sub(window.get()) {
            Some(more) => more,
            // opened again, when less than a quarter was left
            None => (before + MAX_WINDOW - window.get()).saturating_sub(MAX_WINDOW / 4),
        };
        let all = came.get() + more as u64;
        let late = all.saturating_sub(counted.get());
        // if it was opened more than once, less has come by the window than is counted
        came.set(all.max(counted.get()));
        counted.set(came.get());
        if late > 0
            && let Some(c) = h2c.connection()
        {
            W::with(|worker| worker.add_received(c, late));
        }
    }
}

impl<W: Late> Pooled for Frames<W> {
    fn end(&self) {
        self.give_rest();
    }
}
