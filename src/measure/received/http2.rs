//! Received bytes of HTTP/2. Each DATA frame reduces the windows of its stream and of its connection by its length
//! (`ngx_http_v2_state_data`).
//!
//! Most bodies that nobody reads arrive after the end of their stream, because the server answers as soon as it has the
//! header. Such frames reduce the connection's window only. These bytes are attributed to the last request of the
//! connection. If that request has no account, they are in no account either.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;

use nginx_sys::ngx_http_v2_connection_t;

use super::counted::Counted;
use super::late::Late;
use crate::nginx::http2::{Http2, Stream};
use crate::nginx::pool::Pooled;
use crate::nginx::request::Request;

/// `NGX_HTTP_V2_MAX_WINDOW`
const MAX_WINDOW: usize = (1 << 31) - 1;

/// The data by which a stream's received bytes are known.
#[derive(Debug, Clone, Copy)]
pub struct StreamBytes {
    /// the stream's window before the first DATA frame
    window: usize,
    /// bytes of the header
    header: u64,
    /// counters of the connection; none if there was no memory
    counters: Option<NonNull<Counters>>,
}

impl StreamBytes {
    /// The bytes of a request, which has this stream. Must not be called within `Charge::with`.
    pub fn of<W: Late>(r: Request<'_>, stream: Stream<'_>) -> StreamBytes {
        let preread = if r.is_body_untouched() { stream.preread_bytes() } else { 0 };
        let h2c = stream.connection();
        let frames = h2c.and_then(Frames::<W>::of);
        // This stream is the only open one, and has received nothing.
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
            // The window is enlarged when the body is read.
            None => self.window.saturating_sub(stream.window()),
            // `ngx_http_v2_read_request_body` has set the window to its maximum.
            Some(body_bytes) if stream.skips_body() => {
                MAX_WINDOW.saturating_sub(stream.window()).saturating_sub(body_bytes)
            }
            Some(_) => 0,
        };
        skipped as u64
    }

    /// The stream's request is being freed.
    pub fn end(&self, r: Request<'_>, counted: Counted) {
        if counted != Counted::NotYet
            && let Some(counters) = self.counters
        {
            // SAFETY: The counters are in the connection's memory. The connection outlives its streams.
            let counters = unsafe { counters.as_ref() };
            counters.known.set(counters.known.get() + self.bytes(r).saturating_sub(self.header));
            counters.has_account.set(counted == Counted::InAccounts);
        }
    }
}

/// Data about the DATA frames of a connection, in the connection's pool.
struct Frames<W> {
    h2c: NonNull<ngx_http_v2_connection_t>,
    counters: Counters,
    of: PhantomData<fn() -> W>,
}

struct Counters {
    /// the connection's window at the last look
    window: Cell<usize>,
    /// bytes that had arrived by then
    came: Cell<u64>,
    /// bytes that were known when their requests ended
    known: Cell<u64>,
    /// the last request has an account
    has_account: Cell<bool>,
}

impl<W: Late> Frames<W> {
    /// The data of a connection. It is made at the connection's first request.
    fn of(h2c: Http2<'_>) -> Option<&Frames<W>> {
        let pointer = NonNull::new(h2c.as_ptr())?;
        h2c.connection()?.pool()?.get_or_put(|| Frames {
            h2c: pointer,
            counters: Counters {
                window: Cell::new(h2c.window()),
                came: Cell::new(0),
                known: Cell::new(0),
                has_account: Cell::new(false),
            },
            of: PhantomData,
        })
    }

    /// No open stream has received anything. Bytes that have arrived but are not known belong to the last request.
    fn give_rest(&self) {
        // SAFETY: The connection is in the same pool. The cleanups of a pool run before its memory is freed
        // (`ngx_destroy_pool`).
        let h2c = unsafe { Http2::new(self.h2c.as_ptr()) };
        let Counters { window, came, known, has_account } = &self.counters;
        let before = window.replace(h2c.window());
        let more = match before.checked_sub(window.get()) {
            Some(more) => more,
            // NGINX has enlarged the window again, when less than a quarter was left.
            None => (before + MAX_WINDOW - window.get()).saturating_sub(MAX_WINDOW / 4),
        };
        let all = came.get() + more as u64;
        let late = all.saturating_sub(known.get());
        // If the window was enlarged more than once, it shows fewer bytes than are known.
        came.set(all.max(known.get()));
        known.set(came.get());
        if late > 0
            && has_account.get()
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
