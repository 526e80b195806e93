//! Turns of answers in the event loop, see [`accounting::render::turns`].
//!
//! An event of ours is run at the beginning of each turn while answers are under way. It begins the turn, and posts the event
//! of the first answer. Each answer that has run posts that of the next one into the same turn, as long as there is time. So
//! an answer always runs in an event of its own connection, and its request pays for it. An answer that does not come is no
//! harm: the next turn begins without it.

use core::mem::offset_of;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::time::Duration;

use accounting::render::turns::Turns;
use nginx_sys::{
    ngx_connection_t, ngx_event_t, ngx_http_request_t, ngx_posted_events, ngx_posted_next_events,
};

use crate::nginx::event;

type Request = *mut ngx_http_request_t;

/// Stays where it is, since NGINX's queues lead there.
#[repr(C)]
struct Inner {
    /// not one: `ngx_event_ident` reads its descriptor for a debug log, where the event's data leads
    connection: ngx_connection_t,
    event: ngx_event_t,
    /// answers by their requests, which have not been freed
    turns: Turns<Request>,
}

/// Of this process, from its first answer on. Only the event loop's thread uses it.
static TURNS: AtomicPtr<Inner> = AtomicPtr::new(null_mut());

fn inner() -> NonNull<Inner> {
    const { assert!(offset_of!(Inner, connection) == 0) }
    if let Some(inner) = NonNull::new(TURNS.load(Relaxed)) {
        return inner;
    }
    // SAFETY: all zero is how NGINX makes connections and events.
    let (connection, event) = unsafe { (core::mem::zeroed(), core::mem::zeroed()) };
    let inner = Box::leak(Box::new(Inner { connection, event, turns: Turns::default() }));
    inner.connection.fd = -1;
    inner.event.handler = Some(begin);
    let inner = NonNull::from(inner);
    // SAFETY: just made.
    unsafe { (*inner.as_ptr()).event.data = inner.as_ptr().cast() };
    TURNS.store(inner.as_ptr(), Relaxed);
    inner
}

fn with<R>(f: impl FnOnce(&mut Turns<Request>) -> R) -> R {
    // SAFETY: never freed; the callers below do not call back here from `f`.
    f(unsafe { &mut (*inner().as_ptr()).turns })
}

/// A turn begins.
unsafe extern "C" fn begin(_event: *mut ngx_event_t) {
    if with(Turns::begin) {
        next_turn();
        next_answer();
    }
}

/// The next turn of the event loop is to be one of ours.
fn next_turn() {
    let inner = inner().as_ptr();
    // SAFETY: never freed. `ngx_process_events_and_timers` runs this queue in the next turn. The log is the running cycle's:
    // that of an earlier one may be gone.
    unsafe {
        let event = &raw mut (*inner).event;
        (*event).log = (*nginx_sys::ngx_cycle).log;
        event::post(event, &raw mut ngx_posted_next_events);
    }
}

/// Lets the next answer run in this turn, if there is one and time for it.
fn next_answer() {
    if let Some(request) = with(Turns::choose) {
        // SAFETY: it has not left, so it is there. The handler of the event calls that of the connection's active request.
        unsafe { event::post((*(*request).connection).write, &raw mut ngx_posted_events) };
    }
}

/// For how long an answer may run now; if it may not, it has to wait.
pub fn slice(request: Request) -> Option<Duration> {
    with(|turns| turns.slice(request))
}

/// An answer has run for so long.
pub fn ran(request: Request, took: Duration) {
    with(|turns| turns.ran(request, took));
    next_turn();
    next_answer();
}

/// An answer waits for a turn of its own. It must leave before its request is freed.
///
/// # Errors
/// There is no memory.
pub fn wait(request: Request) -> Result<(), ()> {
    with(|turns| turns.wait(request)).map_err(drop)?;
    next_turn();
    Ok(())
}

/// Whether an answer waits for its turn, and not for its client.
pub fn is_waiting(request: Request) -> bool {
    with(|turns| turns.is_waiting(request))
}

/// An answer has come to its end.
pub fn leave(request: Request) {
    with(|turns| turns.leave(request));
    next_answer();
}
