//! Events, and their timers. nginx-sys has some of these functions too, but with its own accessors of bit fields.

use core::mem::offset_of;
use core::ptr::null_mut;

use nginx_sys::{
    NGX_TIMER_LAZY_DELAY, ngx_current_msec, ngx_cycle, ngx_event_t, ngx_event_timer_rbtree, ngx_msec_t,
    ngx_queue_insert_before, ngx_queue_remove, ngx_queue_t, ngx_rbtree_delete, ngx_rbtree_insert,
    ngx_rbtree_min,
};

use super::bits;
use super::hook::{Hook, Hooks};
use super::live::{Live, get, member};

/// The type of an event's handler.
pub type EventHandler = unsafe extern "C" fn(*mut ngx_event_t);

/// An event of NGINX that is in use.
#[derive(PartialEq, Eq)]
pub struct Event<'a>(Live<'a, ngx_event_t>);

impl<'a> Event<'a> {
    /// # Safety
    /// The event must be in use for `'a`.
    #[inline]
    pub unsafe fn new(event: *mut ngx_event_t) -> Event<'a> {
        // SAFETY: as the caller says.
        Event(unsafe { Live::at(event) })
    }

    /// An event that is in use.
    #[inline]
    pub(super) fn of(event: Live<'a, ngx_event_t>) -> Event<'a> {
        Event(event)
    }

    /// The event, for functions of NGINX.
    #[inline]
    pub fn as_ptr(&self) -> *mut ngx_event_t {
        self.0.as_ptr()
    }

    #[inline]
    pub(super) fn live(&self) -> Live<'_, ngx_event_t> {
        self.0
    }

    /// Whether the timer of the event has expired.
    #[inline]
    pub fn is_timed_out(&self) -> bool {
        bits::event::TIMEDOUT.is_on(self.0)
    }

    /// Whether there is something to read or room to write, as far as NGINX knows.
    pub fn is_ready(&self) -> bool {
        bits::event::READY.is_on(self.0)
    }

    /// There is nothing to read or no room to write, until the event method reports it again.
    pub fn set_not_ready(&self) {
        bits::event::READY.put(self.0, 0);
    }

    /// Whether the timer is set.
    #[cfg(ngx_feature = "http_v3")]
    pub fn has_timer(&self) -> bool {
        bits::event::TIMER_SET.is_on(self.0)
    }

    /// Whether the other end has closed, and the event method has said so.
    pub fn is_eof_pending(&self) -> bool {
        bits::event::PENDING_EOF.is_on(self.0)
    }

    /// The event's flag that tells events of listening sockets from others.
    pub fn set_accept(&self, accept: bool) {
        bits::event::ACCEPT.put(self.0, accept.into());
    }

    /// Whether OpenResty runs the event in the next turn of its loop only.
    pub(super) fn is_delayed(&self) -> bool {
        bits::event::DELAYED.is_on(self.0)
    }

    /// The place of the event's handler.
    #[inline]
    pub fn handler(&self) -> Live<'_, Option<EventHandler>> {
        member!(self.0, handler)
    }

    /// Calls the event's handler, after which the event may be in use no longer.
    #[inline]
    pub fn call(self) {
        let handler = get!(self.0, handler);
        self.pass_to(handler);
    }

    #[inline]
    fn pass_to(self, handler: Option<EventHandler>) {
        if let Some(handler) = handler {
            // SAFETY: NGINX would call it just like this. Nothing is left here that refers to the event: it is not
            // copied.
            unsafe { handler(self.0.as_ptr()) };
        }
    }

    /// Writes to a debug log as NGINX would have.
    #[inline]
    pub(super) fn debug(&self, what: &str) {
        if cfg!(ngx_feature = "debug") {
            // SAFETY: as `ngx_event_process_posted`, which writes to the cycle's log.
            let log = unsafe { (*ngx_cycle).log };
            ngx::ngx_log_debug_mask!(DebugMask::Event, log, "{what} {:p}", self.0.as_ptr());
        }
    }
}

/// What is done in the place of an event's handler.
pub trait HandleEvent {
    /// Does it, and calls the handler that it stands in for.
    fn handle(event: Event<'_>);
}

/// A handler for NGINX.
///
/// # Safety
/// To be called as an event's handler.
pub unsafe extern "C" fn handle<H: HandleEvent>(event: *mut ngx_event_t) {
    // SAFETY: as the caller says.
    H::handle(unsafe { Event::new(event) });
}

impl Hook<EventHandler> {
    /// Calls the handler that ours stands in for, after which the event may be in use no longer.
    #[inline]
    pub fn call(&self, event: Event<'_>) {
        event.pass_to(self.real());
    }
}

impl<const N: usize> Hooks<EventHandler, N> {
    /// As [`Hook::call`], for the handler with this number.
    #[inline]
    pub fn call(&self, number: usize, event: Event<'_>) {
        event.pass_to(self.real(number));
    }
}

/// Takes the event whose timer comes first out of the timers, if its time has come, as `ngx_event_expire_timers` does.
#[inline]
pub fn next_expired() -> Option<Event<'static>> {
    // SAFETY: NGINX's own tree, which only the event loop's thread uses; its nodes are timers of events that are in
    // use. A handler may change it, so its least node is looked up anew each time.
    let event = unsafe {
        let tree = &raw mut ngx_event_timer_rbtree;
        if (*tree).root == (*tree).sentinel {
            return None;
        }
        let node = ngx_rbtree_min((*tree).root, (*tree).sentinel);
        let now = (&raw const ngx_current_msec).read_volatile();
        let due = (*node).key.wrapping_sub(now).cast_signed() <= 0;
        if !due {
            return None;
        }
        let event = Event::new(node.byte_sub(offset_of!(ngx_event_t, timer)).cast());
        event.debug("event timer del");
        delete_timer(event.as_ptr());
        event
    };
    bits::event::TIMEDOUT.put(event.0, 1);
    Some(event)
}

/// `ngx_event_add_timer`.
///
/// # Safety
/// `event` must be one of NGINX's or made like those, and stay where it is until the timer has expired or was deleted.
#[inline]
pub unsafe fn add_timer(event: *mut ngx_event_t, wait_ms: ngx_msec_t) {
    // SAFETY: as the caller says; only the event loop's thread uses the tree.
    unsafe {
        let key = (&raw const ngx_current_msec).read_volatile().wrapping_add(wait_ms);
        if bits::event::TIMER_SET.is_set(event) {
            // a timer that would hardly move stays, which saves operations on the tree
            if key.abs_diff((*event).timer.key) < NGX_TIMER_LAZY_DELAY as ngx_msec_t {
                return;
            }
            delete_timer(event);
        }
        (*event).timer.key = key;
        ngx_rbtree_insert(&raw mut ngx_event_timer_rbtree, &raw mut (*event).timer);
        bits::event::TIMER_SET.set(event, 1);
    }
}

/// `ngx_event_del_timer`.
///
/// # Safety
/// The event's timer must be set.
#[inline]
pub unsafe fn delete_timer(event: *mut ngx_event_t) {
    // SAFETY: as the caller says.
    unsafe {
        ngx_rbtree_delete(&raw mut ngx_event_timer_rbtree, &raw mut (*event).timer);
        if cfg!(ngx_feature = "debug") {
            (*event).timer.left = null_mut();
            (*event).timer.right = null_mut();
            (*event).timer.parent = null_mut();
        }
        bits::event::TIMER_SET.set(event, 0);
    }
}

/// `ngx_post_event`.
///
/// # Safety
/// `event` and `queue` must be NGINX's, or made like those.
#[inline]
pub unsafe fn post(event: *mut ngx_event_t, queue: *mut ngx_queue_t) {
    // SAFETY: as the caller says.
    unsafe {
        if !bits::event::POSTED.is_set(event) {
            bits::event::POSTED.set(event, 1);
            ngx_queue_insert_before(queue, &raw mut (*event).queue);
        }
    }
}

/// `ngx_delete_posted_event`.
///
/// # Safety
/// The event must be in a queue.
#[inline]
pub unsafe fn delete_posted(event: *mut ngx_event_t) {
    // SAFETY: as the caller says.
    unsafe {
        bits::event::POSTED.set(event, 0);
        ngx_queue_remove(&raw mut (*event).queue);
    }
}
