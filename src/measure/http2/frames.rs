//! The frames of HTTP/2, one after the other.

use core::ptr::null_mut;

use accounting::pool::Pool;
use nginx_sys::{ngx_atomic_uint_t, ngx_event_t, ngx_http_empty_handler, ngx_http_v2_connection_t, u_char};

use crate::measure::charge::Charge;
use crate::measure::owner::Owner;
use crate::nginx::bits;
use crate::nginx::hook::{FnPointer, Hook};

/// `NGX_HTTP_V2_FRAME_HEADER_SIZE`
const FRAME_HEADER: usize = 9;
/// Types of frames, RFC 9113, section 6.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Whose a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// the header of a stream that it opens
    Header,
    Stream(usize),
    /// the connection's
    Common,
}

/// `ngx_http_v2_state_head`, a static function of ngx_http_v2.c, once it is known.
static HEAD: Hook<StateHandler> = Hook::new();
/// The handler of the state of the connection that is being read, where [`frames`] stands in its place.
static STATE: Hook<StateHandler> = Hook::new();

/// What frames need from the layer above.
pub trait Frames: Charge {
    /// The connection whose frames are looked at.
    fn door(&mut self) -> &mut FrameDoor;

    /// The request of a stream of the connection at this place.
    fn stream(&mut self, at: usize, id: usize) -> Option<Self::Request>;

    /// No request has come of a header.
    fn drop_header(&mut self, at: usize);

    /// Whether the place is still that of the connection with this number.
    fn has_number(&self, at: usize, number: ngx_atomic_uint_t) -> bool;

    /// `ns` nanoseconds of a connection that was closed meanwhile are left.
    fn charge_closed(&mut self, at: usize, ns: u64);
}

/// The connection of HTTP/2 whose frames are looked at in this wakeup.
pub struct FrameDoor {
    is_open: bool,
    /// the rest is of the last one that was open
    at: usize,
    number: ngx_atomic_uint_t,
    h2c: *mut ngx_http_v2_connection_t,
    /// what was used to receive the buffer, and is not given to a frame yet
    received: Pool,
}

impl Default for FrameDoor {
    fn default() -> FrameDoor {
        FrameDoor { is_open: false, at: 0, number: 0, h2c: null_mut(), received: Pool { ns: 0, weight: 0 } }
    }
}

impl FrameDoor {
    #[inline]
    pub fn is_open(&self) -> bool {
        self.is_open
    }
}

type StateHandler =
    unsafe extern "C" fn(*mut ngx_http_v2_connection_t, *mut u_char, *mut u_char) -> *mut u_char;

/// Whether NGINX has given a connection up (`ngx_http_v2_finalize_connection`), and waits for its streams or reads what still comes.
///
/// # Safety
/// The connection must be open.
unsafe fn is_given_up(h2c: *const ngx_http_v2_connection_t) -> bool {
    // SAFETY: as the caller says; a connection has its events.
    let (lingering, handler) = unsafe { ((*h2c).lingering_time != 0, (*(*(*h2c).connection).read).handler) };
    let empty = ngx_http_empty_handler as unsafe extern "C" fn(*mut ngx_event_t);
    lingering || handler.is_none_or(|handler| core::ptr::fn_addr_eq(handler, empty))
}

/// Puts [`frames`] in the place of the handler of a connection's state.
///
/// # Safety
/// The connection must be open.
pub unsafe fn open_door<W: Frames>(worker: &mut W, at: usize, h2c: *mut ngx_http_v2_connection_t) {
    // SAFETY: as the caller says; `ngx_http_v2_init` has made `h2c` in the connection's pool.
    unsafe {
        let state = &raw mut (*h2c).state;
        let Some(handler) = (*state).handler else { return };
        if !HEAD.is_known() {
            // Between frames, and in no block of header fields (`ngx_http_v2_state_complete`). A connection that was given up in the
            // middle of a frame seems to be so too.
            if bits::v2_state::INCOMPLETE.is_set(state) || !(*state).pool.is_null() || is_given_up(h2c) {
                return;
            }
            HEAD.remember(Some(handler));
        }
        STATE.replace(&raw mut (*state).handler, frames::<W>);
        let number = (*(*h2c).connection).number;
        *worker.door() = FrameDoor { is_open: true, at, number, h2c, received: Pool { ns: 0, weight: 0 } };
    }
}

/// The wakeup is over.
#[inline]
pub fn close_door<W: Frames>(worker: &mut W) {
    if worker.door().is_open {
        close(worker);
    }
}

/// In the place of the handler of a state of HTTP/2: goes through the frames of a buffer, as `ngx_http_v2_read_handler` does.
unsafe extern "C" fn frames<W: Frames>(
    h2c: *mut ngx_http_v2_connection_t,
    mut pos: *mut u_char,
    end: *mut u_char,
) -> *mut u_char {
    let Some(mut handler) = STATE.real() else { return null_mut() };
    let mut is_first = true;
    let mut is_inside = false;
    let mut is_header = false;
    loop {
        let left = end.addr() - pos.addr();
        if !is_inside {
            // SAFETY: NGINX has called us with an open connection and with its buffer.
            let (whose, bytes) = unsafe { next_frame(h2c, handler, pos, left) };
            W::with(|worker| begin_frame(worker, whose, bytes, left, is_first));
            is_first = false;
            is_header = whose == Whose::Header;
        }
        // SAFETY: the handler that NGINX would have called.
        let next = unsafe { handler(h2c, pos, end) };
        if next.is_null() {
            // the connection is being closed, and may be gone already
            return next;
        }
        pos = next;
        // SAFETY: a handler that does not return null has left the connection open, with the handler that comes next.
        unsafe {
            let state = (*h2c).state.handler;
            is_inside = !state.is_some_and(|state| HEAD.is(state));
            if is_header && !is_inside {
                W::with(end_header);
            }
            let ended = pos.addr() >= end.addr();
            if let (Some(next), false) = (state, ended) {
                handler = next;
            } else {
                // one wakeup may read several buffers
                STATE.remember(state);
                (*h2c).state.handler = Some(frames::<W>);
                if bits::event::READY.is_set((*(*h2c).connection).read) {
                    // `ngx_http_v2_read_handler` goes on: what this buffer's frames have cost is not divided by those of the next one
                    W::with(W::read_clock);
                }
                return pos;
            }
        }
    }
}

/// Whose the frame is that goes on at `pos`, and how many of its bytes are there.
///
/// # Safety
/// The connection must be open, with `left` bytes at `pos`.
unsafe fn next_frame(
    h2c: *mut ngx_http_v2_connection_t,
    state: StateHandler,
    pos: *const u_char,
    left: usize,
) -> (Whose, usize) {
    // SAFETY: as the caller says.
    unsafe {
        if !HEAD.is(state) {
            // a frame that has begun in another buffer
            let state = &raw const (*h2c).state;
            let bytes = (*state).length.saturating_add((*state).padding).min(left);
            let whose = if !(*state).pool.is_null() { Whose::Header } else { Whose::of((*state).sid) };
            return (whose, bytes);
        }
        if left < FRAME_HEADER {
            return (Whose::Common, left);
        }
        // RFC 9113, section 4.1
        let head = pos.cast::<[u8; FRAME_HEADER]>().read();
        let [high, middle, low, kind, _flags, id @ ..] = head;
        let bytes = FRAME_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
        let id = (u32::from_be_bytes(id) & 0x7fff_ffff) as usize;
        let whose = if kind == HEADERS || kind == CONTINUATION { Whose::Header } else { Whose::of(id) };
        (whose, bytes.min(left))
    }
}

impl Whose {
    fn of(id: usize) -> Whose {
        if id == 0 { Whose::Common } else { Whose::Stream(id) }
    }
}

/// A frame follows, or the rest of one; `left`: the bytes of the buffer from there on.
fn begin_frame<W: Frames>(worker: &mut W, whose: Whose, bytes: usize, left: usize, is_first: bool) {
    let at = worker.door().at;
    if is_first && bytes >= left && whose == Whose::Header && worker.owner() == Owner::Connection(at) {
        // the most frequent one: all that was received is the header of a request
        worker.take(Owner::Header(at));
        return;
    }
    let owner = match whose {
        Whose::Header => Owner::Header(at),
        Whose::Common => Owner::Connection(at),
        Whose::Stream(id) => worker.stream(at, id).map_or(Owner::Connection(at), Owner::Request),
    };
    if !is_first {
        if worker.owner() != owner {
            worker.switch(owner);
        }
    } else if bytes >= left && worker.owner() == Owner::Connection(at) {
        // all that was received is this frame
        worker.take(owner);
    } else {
        // since the buffer before, if there was one, too
        let ns = worker.set_lap_apart();
        worker.take(owner);
        let received = &mut worker.door().received;
        *received = Pool { ns: ns + received.ns, weight: left as u64 };
    }
    let share_ns = worker.door().received.share(bytes as u64);
    worker.share(owner, share_ns);
}

/// A block of header fields has ended. If no request has come of it (`ngx_http_v2_state_headers` refuses some streams, and reads
/// their fields all the same), its cost is not the next request's.
fn end_header<W: Frames>(worker: &mut W) {
    let at = worker.door().at;
    if worker.owner() == Owner::Header(at) {
        worker.switch(Owner::Connection(at));
        worker.drop_header(at);
    }
}

fn close<W: Frames>(worker: &mut W) {
    let door = worker.door();
    door.is_open = false;
    let &mut FrameDoor { at, number, h2c, received, .. } = door;
    if worker.has_number(at, number) {
        // SAFETY: the connection is open still, so `h2c` is there.
        unsafe {
            let handler = &raw mut (*h2c).state.handler;
            if (*handler).is_some_and(|handler| handler.address() == (frames::<W> as StateHandler).address())
            {
                *handler = STATE.real();
            }
        }
        worker.share(Owner::Connection(at), received.ns);
    } else {
        worker.charge_closed(at, received.ns);
    }
}
