//! Bytes of HTTP/2: each DATA frame takes its length off the windows of its stream and of its connection
//! (`ngx_http_v2_state_data`).
//!
//! Most bodies that nobody reads come when their stream has ended: the server answers as soon as it has the header. Such frames are in the
//! window of the connection only. What that one has and no stream is received by the last request of the connection.

use core::ffi::c_void;
use core::ptr::NonNull;

use nginx_sys::{ngx_http_request_t, ngx_http_v2_connection_t, ngx_http_v2_stream_t, ngx_pool_cleanup_add};

use super::late::Late;
use crate::nginx::bits;

/// `NGX_HTTP_V2_MAX_WINDOW`
const MAX_WINDOW: usize = (1 << 31) - 1;

/// A stream.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// its window before the first DATA frame
    window: usize,
    /// bytes of the header
    header: u64,
    /// of the connection; none if there is no memory
    frames: Option<NonNull<Frames>>,
}

impl Stream {
    /// # Safety
    /// `r` must be a request that has not been freed, of the stream. `Charge::with` must not be running.
    pub unsafe fn of<W: Late>(r: *const ngx_http_request_t, stream: &ngx_http_v2_stream_t) -> Stream {
        // SAFETY: as the caller says. `stream->preread` is there until the body is read from it
        // (`ngx_http_v2_read_request_body`); it has what came by now (`ngx_http_v2_state_read_data`).
        unsafe {
            let preread = match stream.preread.as_ref() {
                Some(buffer) if (*r).request_body.is_null() => {
                    buffer.last.addr().saturating_sub(buffer.pos.addr())
                }
                _ => 0,
            };
            let mut frames = Frames::of::<W>(stream.connection);
            // this stream is the only one that is open, and has received nothing
            if preread == 0
                && (*stream.connection).processing <= 1
                && let Some(frames) = &mut frames
            {
                frames.as_mut().settle::<W>();
            }
            let header = (*r).request_length.max(0) as u64;
            Stream { window: stream.recv_window + preread, header, frames }
        }
    }

    /// Bytes that the stream's request has received so far.
    ///
    /// # Safety
    /// `r` must be the request of the stream, not freed.
    pub unsafe fn bytes(&self, r: *const ngx_http_request_t) -> u64 {
        // SAFETY: as the caller says.
        unsafe { (*r).request_length.max(0) as u64 + self.skipped(r) }
    }

    /// Bytes of DATA frames that are not in `request_length`.
    ///
    /// # Safety
    /// As for [`Stream::bytes`].
    unsafe fn skipped(&self, r: *const ngx_http_request_t) -> u64 {
        // SAFETY: as the caller says.
        unsafe {
            let Some(stream) = (*r).stream.as_ref() else { return 0 };
            let skipped = match (*r).request_body.as_ref() {
                // the window is opened further when the body is read
                None => self.window.saturating_sub(stream.recv_window),
                // `ngx_http_v2_read_request_body` has opened it wholly
                Some(body)
                    if bits::v2_stream::SKIP_DATA.is_set(stream)
                        && bits::v2_stream::NO_FLOW_CONTROL.is_set(stream) =>
                {
                    let opened = MAX_WINDOW.saturating_sub(stream.recv_window);
                    opened.saturating_sub(body.received.max(0) as usize)
                }
                Some(_) => 0,
            };
            skipped as u64
        }
    }

    /// The request is counted, and is being freed.
    ///
    /// # Safety
    /// As for [`Stream::bytes`].
    pub unsafe fn end(&self, r: *const ngx_http_request_t) {
        // SAFETY: as the caller says. The memory is the connection's, which outlives its streams, and nobody else refers to it.
        unsafe {
            if let Some(mut frames) = self.frames {
                frames.as_mut().counted += self.bytes(r).saturating_sub(self.header);
            }
        }
    }
}

/// DATA frames of a connection; in its pool.
struct Frames {
    connection: *const ngx_http_v2_connection_t,
    /// the connection's window when it was looked at last
    window: usize,
    /// bytes that came by then
    came: u64,
    /// bytes that are counted
    counted: u64,
}

impl Frames {
    /// Those of a connection, from its first request on.
    ///
    /// # Safety
    /// The connection must be open.
    unsafe fn of<W: Late>(connection: *mut ngx_http_v2_connection_t) -> Option<NonNull<Frames>> {
        // SAFETY: as the caller says; memory of a pool is aligned for pointers and 64-bit integers. `h2c` is in the same pool, whose
        // cleanups run before its memory goes (`ngx_destroy_pool`).
        unsafe {
            let pool = (*(*connection).connection).pool;
            let mut cleanup = (*pool).cleanup;
            while let Some(this) = cleanup.as_ref() {
                if this.handler.is_some_and(|handler| handler as usize == closed::<W> as *const () as usize) {
                    return NonNull::new(this.data.cast());
                }
                cleanup = this.next;
            }
            let cleanup = ngx_pool_cleanup_add(pool, size_of::<Frames>()).as_mut()?;
            let frames = NonNull::new(cleanup.data.cast::<Frames>())?;
            frames.write(Frames { connection, window: (*connection).recv_window, came: 0, counted: 0 });
            cleanup.handler = Some(closed::<W>);
            Some(frames)
        }
    }

    /// No stream is open that has received something: what came and is not counted is the last request's.
    ///
    /// # Safety
    /// The connection must be open. `Charge::with` must not be running.
    unsafe fn settle<W: Late>(&mut self) {
        // SAFETY: as the caller says.
        let (window, c) = unsafe { ((*self.connection).recv_window, (*self.connection).connection) };
        let more = match self.window.checked_sub(window) {
            Some(more) => more,
            // opened again, when less than a quarter was left
            None => (self.window + MAX_WINDOW - window).saturating_sub(MAX_WINDOW / 4),
        };
        self.window = window;
        self.came += more as u64;
        let late = self.came.saturating_sub(self.counted);
        // if it was opened more than once, less has come by the window than is counted
        self.came = self.came.max(self.counted);
        self.counted = self.came;
        if late > 0 {
            W::with(|worker| worker.add_received(c, late));
        }
    }
}

/// The pool of a connection is being destroyed.
unsafe extern "C" fn closed<W: Late>(data: *mut c_void) {
    // SAFETY: `of` has put it there, and nobody else refers to it now. The connection's own memory is there still.
    unsafe {
        if let Some(frames) = data.cast::<Frames>().as_mut() {
            frames.settle::<W>();
        }
    }
}
