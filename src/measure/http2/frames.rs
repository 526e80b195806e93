//! The owners of HTTP/2 frames that a client sends.

use core::marker::PhantomData;
use core::ptr::null_mut;

use accounting::pool::Pool;
use nginx_sys::{ngx_atomic_uint_t, u_char};

use crate::measure::charge::Charge;
use crate::measure::owner::Owner;
use crate::nginx::hook::{FnPointer, Hook};
use crate::nginx::http2::{Http2, StateHandler};
use crate::nginx::stand_in::{Call, Callable, StandIn};

/// `NGX_HTTP_V2_FRAME_HEADER_SIZE`
const FRAME_HEADER: usize = 9;
/// Types of frames, RFC 9113, section 6.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The owner of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameOwner {
    /// the header of a stream that the frame opens
    Header,
    Stream(usize),
    /// the frame is the connection's
    Common,
}

/// `ngx_http_v2_state_head`, a static function of ngx_http_v2.c, once it is known.
static HEAD: Hook<StateHandler> = Hook::new();
/// The state handler of the connection that is being read, for which [`Reader`] stands in.
static STATE: Hook<StateHandler> = Hook::new();

/// The part of the layer above that frames need.
pub trait Frames: Charge {
    /// The hook for the connection whose frames are tracked.
    fn frame_hook(&mut self) -> &mut FrameHook;

    /// The HTTP/2 connection with this index, if it has had a request. Then it is open.
    fn http2(&self, at: usize) -> Option<Http2<'_>>;

    /// The request of a stream of the connection with this index.
    fn stream(&mut self, at: usize, id: usize) -> Option<Self::Request>;

    /// A header has led to no request.
    fn drop_header(&mut self, at: usize);

    /// Whether the connection with this index still has this number.
    fn has_number(&self, at: usize, number: ngx_atomic_uint_t) -> bool;

    /// `ns` nanoseconds are left of a connection that was closed meanwhile.
    fn charge_closed(&mut self, at: usize, ns: u64);
}

/// The HTTP/2 connection whose frames are tracked in this handler call.
pub struct FrameHook {
    is_set: bool,
    /// index of the connection that was tracked last; the members below belong to it too
    at: usize,
    number: ngx_atomic_uint_t,
    /// CPU time that was used to receive the buffer, as far as no frame has it yet
    received: Pool,
}

impl Default for FrameHook {
    fn default() -> FrameHook {
        FrameHook { is_set: false, at: 0, number: 0, received: Pool { ns: 0, weight: 0 } }
    }
}

impl FrameHook {
    /// Whether frames are tracked.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.is_set
    }
}

/// Makes [`Reader`] stand in for the state handler of the connection with this index, if that is an HTTP/2 connection.
pub fn set<W: Frames>(worker: &mut W, at: usize) {
    let Some(h2c) = worker.http2(at) else { return };
    let (Some(handler), Some(c)) = (h2c.state_handler().function(), h2c.connection()) else { return };
    if !HEAD.is_known() {
        if !h2c.is_between_frames() {
            return;
        }
        HEAD.remember(Some(handler));
    }
    STATE.replace(h2c.state_handler(), StateHandler::ours::<Reader<W>>());
    let number = c.number();
    *worker.frame_hook() = FrameHook { is_set: true, at, number, received: Pool { ns: 0, weight: 0 } };
}

/// The handler call is over.
#[inline]
pub fn unset<W: Frames>(worker: &mut W) {
    if worker.frame_hook().is_set {
        unset_now(worker);
    }
}

/// Stands in for a state handler of HTTP/2. Goes through the frames of a buffer, as `ngx_http_v2_read_handler` does.
struct Reader<W>(PhantomData<W>);

impl<W: Frames> StandIn<StateHandler> for Reader<W> {
    fn call(mut call: Call<'_, StateHandler>) -> *mut u_char {
        let Some(mut handler) = STATE.real() else { return null_mut() };
        let mut is_first = true;
        let mut is_inside = false;
        let mut is_header = false;
        loop {
            if !is_inside {
                let left = call.left();
                let (frame, bytes) = next_frame(call.http2(), handler, left);
                W::with(|worker| begin_frame(worker, frame, bytes, left.len(), is_first));
                is_first = false;
                is_header = frame == FrameOwner::Header;
            }
            let Some(read) = call.read(&STATE) else { return null_mut() };
            call = read;
            let state = call.http2().state_handler().function();
            is_inside = !state.is_some_and(|state| HEAD.is(state));
            if is_header && !is_inside {
                W::with(end_header);
            }
            // One handler call may read several buffers.
            STATE.remember(state);
            match state {
                Some(next) if !call.is_over() => handler = next,
                _ => break,
            }
        }
        let h2c = call.http2();
        h2c.state_handler().set_function(Some(StateHandler::ours::<Reader<W>>()));
        if h2c.connection().is_some_and(|c| c.read_event().is_some_and(|event| event.is_ready())) {
            // `ngx_http_v2_read_handler` goes on with another buffer. The cost of this buffer must not be divided by
            // the frames of the next one.
            W::with(W::read_clock);
        }
        call.position()
    }
}

/// The owner of the frame at the start of `left`, and the number of its bytes in `left`.
fn next_frame(h2c: Http2<'_>, state: StateHandler, left: &[u8]) -> (FrameOwner, usize) {
    if !HEAD.is(state) {
        // The frame has begun in another buffer.
        let frame = if h2c.is_in_header() { FrameOwner::Header } else { FrameOwner::of(h2c.frame_stream()) };
        return (frame, h2c.frame_bytes().min(left.len()));
    }
    // RFC 9113, section 4.1
    let Some(&[high, middle, low, kind, _flags, ref id @ ..]) = left.first_chunk::<FRAME_HEADER>() else {
        return (FrameOwner::Common, left.len());
    };
    let bytes = FRAME_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
    let id = (u32::from_be_bytes(*id) & 0x7fff_ffff) as usize;
    let frame = if kind == HEADERS || kind == CONTINUATION { FrameOwner::Header } else { FrameOwner::of(id) };
    (frame, bytes.min(left.len()))
}

impl FrameOwner {
    fn of(id: usize) -> FrameOwner {
        if id == 0 { FrameOwner::Common } else { FrameOwner::Stream(id) }
    }
}

/// A frame follows, or the rest of a frame. `left`: the bytes of the buffer from there on.
fn begin_frame<W: Frames>(worker: &mut W, frame: FrameOwner, bytes: usize, left: usize, is_first: bool) {
    let at = worker.frame_hook().at;
    if is_first && bytes >= left && frame == FrameOwner::Header && worker.owner() == Owner::Connection(at) {
        // The most frequent case: all received bytes are the header of one request.
        worker.take(Owner::Header(at));
        return;
    }
    let owner = match frame {
        FrameOwner::Header => Owner::Header(at),
        FrameOwner::Common => Owner::Connection(at),
        FrameOwner::Stream(id) => worker.stream(at, id).map_or(Owner::Connection(at), Owner::Request),
    };
    if !is_first {
        if worker.owner() != owner {
            worker.switch(owner);
        }
    } else if bytes >= left && worker.owner() == Owner::Connection(at) {
        // All received bytes are this frame.
        worker.take(owner);
    } else {
        // This lap includes the time since the previous buffer, if there was one.
        let ns = worker.set_lap_apart();
        worker.take(owner);
        let received = &mut worker.frame_hook().received;
        *received = Pool { ns: ns + received.ns, weight: left as u64 };
    }
    let share_ns = worker.frame_hook().received.share(bytes as u64);
    worker.share(owner, share_ns);
}

/// A block of header fields has ended. If it has led to no request, its cost must not be charged to the next request.
/// (`ngx_http_v2_state_headers` refuses some streams, and reads their fields all the same.)
fn end_header<W: Frames>(worker: &mut W) {
    let at = worker.frame_hook().at;
    if worker.owner() == Owner::Header(at) {
        worker.switch(Owner::Connection(at));
        worker.drop_header(at);
    }
}

fn unset_now<W: Frames>(worker: &mut W) {
    let hook = worker.frame_hook();
    hook.is_set = false;
    let &mut FrameHook { at, number, received, .. } = hook;
    if !worker.has_number(at, number) {
        worker.charge_closed(at, received.ns);
        return;
    }
    if let Some(h2c) = worker.http2(at) {
        let handler = h2c.state_handler().function();
        let ours = StateHandler::ours::<Reader<W>>();
        if handler.is_some_and(|handler| handler.address() == ours.address()) {
            h2c.state_handler().set_function(STATE.real());
        }
    }
    worker.share(Owner::Connection(at), received.ns);
}
