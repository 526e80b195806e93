//! Bytes that a request has received from its client.
//!
//! NGINX counts the header, and the part of a body that it reads to use it (`$request_length`). It does not count bodies that it reads
//! and drops (`ngx_http_discard_request_body`, `ngx_http_lingering_close_handler`), nor what comes after a 101 answer
//! (`ngx_http_upstream_process_upgraded`).
//!
//! With HTTP/1, all of that comes out of the connection's `recv`. We stand in its place while a request with a body or an
//! upgraded connection is served, and only then. HTTP/2 and HTTP/3 know by their flow control what a stream has received.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nginx_sys::{
    NGX_ERROR, NGX_HTTP_SWITCHING_PROTOCOLS, ngx_connection_t, ngx_http_request_t, ngx_io, ngx_uint_t, u_char,
};

#[cfg(ngx_feature = "http_v2")]
use crate::measure::received::http2::Stream;
use crate::nginx::bits;
use crate::nginx::hook::{FnPointer, Hook, Hooks, position};

#[cfg(ngx_feature = "http_v2")]
mod http2;
mod late;

pub use late::Late;

/// What is told to the layer above.
pub trait Receivers: Late {
    /// The request that has a client's connection for itself, with its received bytes.
    fn receiver(&mut self, c: *mut ngx_connection_t) -> Option<(Self::Request, &mut Received)>;
}

/// How the bytes of a request are known.
#[derive(Debug, Clone, Copy)]
pub enum Received {
    /// by NGINX's `request_length`
    Length,
    /// HTTP/1 with a body, or upgraded: by what is read from the connection
    Reads(Reads),
    #[cfg(ngx_feature = "http_v2")]
    Stream(Stream),
    /// HTTP/3
    #[cfg(ngx_feature = "http_v3")]
    Quic,
}

#[derive(Debug, Clone, Copy)]
pub struct Reads {
    /// what was read before, for this request or for the next one
    before: u64,
    /// what was read since
    since: u64,
    /// no other request follows: what nobody uses is this one's
    is_last: bool,
    /// a read is going on: another module may stand between two of ours
    is_reading: bool,
}

impl Received {
    /// # Safety
    /// `r` must be a request that has not been freed. [`Charge::with`] must not be running.
    #[inline]
    pub unsafe fn of<W: Receivers>(r: *const ngx_http_request_t) -> Received {
        #[cfg(ngx_feature = "http_v2")]
        // SAFETY: as the caller says. A stream has what it needs while its request is there.
        unsafe {
            if let Some(stream) = (*r).stream.as_ref() {
                return Received::Stream(Stream::of::<W>(r, stream));
            }
        }
        #[cfg(ngx_feature = "http_v3")]
        // SAFETY: as the caller says.
        unsafe {
            if !(*(*r).connection).quic.is_null() {
                return Received::Quic;
            }
        }
        let _ = r;
        Received::Length
    }

    #[inline]
    pub fn is_by_reads(&self) -> bool {
        matches!(self, Received::Reads(_))
    }

    /// The request is being freed. `is_counted`: its bytes are in its accounts.
    ///
    /// # Safety
    /// As for [`Received::bytes`].
    #[inline]
    pub unsafe fn end<W: Receivers>(&self, r: *const ngx_http_request_t, is_counted: bool) {
        match self {
            // SAFETY: as the caller says; the connection outlives the request.
            Received::Reads(_) => unsafe {
                COUNTED.fetch_sub(1, Relaxed);
                leave::<W>((*r).connection);
            },
            #[cfg(ngx_feature = "http_v2")]
            // SAFETY: as the caller says.
            Received::Stream(stream) if is_counted => unsafe { stream.end(r) },
            _ => {
                let _ = is_counted;
            }
        }
    }

    /// Bytes that a request has received so far.
    ///
    /// # Safety
    /// `r` must be the request that this is of, not freed.
    #[inline]
    pub unsafe fn bytes(&self, r: *const ngx_http_request_t) -> u64 {
        // SAFETY: as the caller says.
        let length = unsafe { (*r).request_length }.max(0) as u64;
        match self {
            Received::Length => length,
            Received::Reads(reads) => {
                // SAFETY: as the caller says.
                let unused = if reads.is_last { 0 } else { unsafe { unused(r) } };
                length.max((reads.before + reads.since).saturating_sub(unused))
            }
            #[cfg(ngx_feature = "http_v2")]
            // SAFETY: as the caller says: `of` has seen that the request has a stream.
            Received::Stream(stream) => unsafe { stream.bytes(r) },
            #[cfg(ngx_feature = "http_v3")]
            // SAFETY: as above. `request_length` has what was read of the stream, and the buffer what has arrived.
            Received::Quic => unsafe {
                let stream = (*(*r).connection).quic.as_ref();
                length.max(stream.map_or(0, |stream| stream.recv.size))
            },
        }
    }
}

/// What was read from the connection and has not been used: the start of a body, or the next request.
///
/// # Safety
/// `r` must be a request that has not been freed.
unsafe fn unused(r: *const ngx_http_request_t) -> u64 {
    // SAFETY: as the caller says. The buffer of a request's header is of its connection.
    unsafe { (*r).header_in.as_ref() }
        .map_or(0, |buffer| buffer.last.addr().saturating_sub(buffer.pos.addr()) as u64)
}

type Receive = unsafe extern "C" fn(*mut ngx_connection_t, *mut u_char, usize) -> isize;

/// `ngx_ssl_recv`, and functions of other modules.
static REAL: Hooks<Receive, 4> = Hooks::new();

const fn ours<W: Receivers>() -> [Receive; 4] {
    [receive::<W, 0>, receive::<W, 1>, receive::<W, 2>, receive::<W, 3>]
}

/// From here on each read of a request's connection is counted.
///
/// # Safety
/// `r` must be a main request that has not been freed.
#[cold]
pub unsafe fn count_reads<W: Receivers>(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller says.
    let (c, before) = unsafe { ((*r).connection, (*r).request_length.max(0) as u64 + unused(r)) };
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
    // SAFETY: as the caller says; the function of a connection may be exchanged between two calls, as `ngx_ssl_create_connection`'s
    // caller does.
    unsafe {
        if (*c).recv.is_some_and(|real| real.address() != (receive_plain::<W> as Receive).address()) {
            REAL.replace(&raw mut (*c).recv, &ours::<W>());
        }
    }
}

/// A request with a body is about to be answered, or one that is upgraded. Without keepalive, no other one follows;
/// `ngx_http_set_keepalive` takes that flag away later.
///
/// # Safety
/// `r` must be a main request that has not been freed.
#[cold]
pub unsafe fn answer<W: Receivers>(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller says.
    unsafe {
        let is_upgraded = (*r).headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS as ngx_uint_t;
        if is_upgraded {
            count_reads::<W>(r);
        }
        if is_upgraded || !bits::request::KEEPALIVE.is_set(r) {
            W::with(|worker| {
                if let (_, Received::Reads(reads)) = worker.receiver((*r).connection)? {
                    reads.is_last = true;
                }
                Some(())
            });
        }
    }
}

/// Reads of a connection are not counted any more. If another module stands before us by now, we stay where we are, and do nothing.
///
/// # Safety
/// The connection must be open.
#[cold]
unsafe fn leave<W: Receivers>(c: *mut ngx_connection_t) {
    // SAFETY: as the caller says.
    unsafe {
        if let Some(at) = (*c).recv.and_then(|ours| position(&self::ours::<W>(), ours)) {
            (*c).recv = REAL.real(at);
        }
    }
}

/// In the place of `ngx_ssl_recv`, or of a function of another module.
unsafe extern "C" fn receive<W: Receivers, const AT: usize>(
    c: *mut ngx_connection_t,
    buffer: *mut u_char,
    size: usize,
) -> isize {
    let Some(real) = REAL.real(AT) else { return NGX_ERROR as isize };
    // SAFETY: as NGINX called us.
    unsafe { count::<W>(c, buffer, size, real) }
}

/// Requests whose bytes are known by what is read.
static COUNTED: AtomicUsize = AtomicUsize::new(0);
/// `ngx_io.recv` as the system has it.
static PLAIN: Hook<Receive> = Hook::new();

/// Called in `init_process`: connections get their functions from `ngx_io` when they are accepted, which is later, and once more
/// in `ngx_ssl_shutdown`, in the middle of a request whose body is dropped.
pub fn hook<W: Receivers>() {
    // SAFETY: this process has one thread that uses it, and it is here.
    unsafe {
        PLAIN.replace(&raw mut ngx_io.recv, receive_plain::<W>);
    }
}

/// In the place of `ngx_unix_recv`.
unsafe extern "C" fn receive_plain<W: Receivers>(
    c: *mut ngx_connection_t,
    buffer: *mut u_char,
    size: usize,
) -> isize {
    let Some(real) = PLAIN.real() else { return NGX_ERROR as isize };
    // SAFETY: as NGINX called us.
    unsafe {
        if COUNTED.load(Relaxed) == 0 { real(c, buffer, size) } else { count::<W>(c, buffer, size, real) }
    }
}

/// Reads, and adds it to the request that has the connection for itself, if that counts what is read.
///
/// # Safety
/// As for `real`.
unsafe fn count<W: Receivers>(
    c: *mut ngx_connection_t,
    buffer: *mut u_char,
    size: usize,
    real: Receive,
) -> isize {
    let reading = W::with(|worker| match worker.receiver(c)? {
        (request, Received::Reads(reads)) if !reads.is_reading => {
            reads.is_reading = true;
            Some(request)
        }
        _ => None,
    })
    .flatten();
    // SAFETY: as the caller says.
    let read = unsafe { real(c, buffer, size) };
    if let Some(reading) = reading {
        W::with(|worker| {
            // another module's function may have freed it
            if let Some((request, Received::Reads(reads))) = worker.receiver(c)
                && request == reading
            {
                reads.is_reading = false;
                reads.since += read.max(0) as u64;
            }
        });
    }
    read
}

/// Whether a request has a body by its header.
///
/// # Safety
/// `r` must be a request whose header was read.
#[inline]
pub unsafe fn has_body(r: *const ngx_http_request_t) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        (*r).headers_in.content_length_n > 0 || bits::headers_in::CHUNKED.is_set(&raw const (*r).headers_in)
    }
}
