//! Events and their timers. nginx-sys has some of these functions too, but they use its own accessors of bit fields.

use core::mem::offset_of;
use core::ptr::null_mut;

use nginx_sys::{
    NGX_TIMER_LAZY_DELAY, ngx_event_t, ngx_msec_t, ngx_queue_t, ngx_rbtree_delete, ngx_rbtree_insert,
};

use super::bits;
use super::callback::{argument, callback};
use super::cycle;
use super::error_log;
use super::hook::Hook;
use super::live::{Live, get, member, of_static, set};

/// The type of an event's handler.
pub type EventHandler = unsafe extern "C" fn(*mut ngx_event_t);

/// An event of NGINX that is in use. NGINX makes sure that an event that is no longer in use is in no queue, and that
/// its timer is not set.
#[derive(PartialEq, Eq)]
pub struct Event<'a>(Live<'a, ngx_event_t>);

argument!(Event: ngx_event_t);

impl<'a> Event<'a> {
    /// An event that is in use.
    #[inline]
    pub(super) fn of(event: Live<'a, ngx_event_t>) -> Event<'a> {
        Event(event)
    }

    /// The pointer, for functions of NGINX.
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

    #[cfg(ngx_feature = "http_v2")]
    /// Whether there are bytes to read or room to write, as far as NGINX knows.
    pub fn is_ready(&self) -> bool {
        bits::event::READY.is_on(self.0)
    }

    /// Marks the event as not ready: there are no bytes to read or no room to write until the event method reports it
    /// again.
    pub fn set_not_ready(&self) {
        bits::event::READY.put(self.0, 0);
    }

    /// Whether the timer is set.
    pub fn has_timer(&self) -> bool {
        bits::event::TIMER_SET.is_on(self.0)
    }

    /// Whether the other end has closed the connection, and the event method has reported that.
    pub fn is_eof_pending(&self) -> bool {
        bits::event::PENDING_EOF.is_on(self.0)
    }

    /// Sets the event's flag `accept`, which marks events of listening sockets.
    pub fn set_accept(&self, accept: bool) {
        bits::event::ACCEPT.put(self.0, accept.into());
    }

    /// Whether OpenResty runs the event only in the next turn of its loop.
    pub(super) fn is_delayed(&self) -> bool {
        bits::event::DELAYED.is_on(self.0)
    }

    /// The pointer to the event's handler.
    #[inline]
    pub fn handler(&self) -> Live<'_, Option<EventHandler>> {
        member!(self.0, handler)
    }

    /// Calls the event's handler. Afterwards the event may no longer be in use.
    #[inline]
    pub fn call(self) {
        let handler = get!(self.0, handler);
        self.pass_to(handler);
    }

    #[inline]
    fn pass_to(self, handler: Option<EventHandler>) {
        if let Some(handler) = handler {
            // SAFETY: NGINX would call it in the same way. No reference to the event is left here, because an event is
            // not copied.
            unsafe { handler(self.0.as_ptr()) };
        }
    }

    /// Writes the debug message that NGINX would have written.
    #[inline]
    pub(super) fn debug(&self, what: &str) {
        if cfg!(ngx_feature = "debug") {
            // `ngx_event_process_posted` writes to the cycle's log too.
            let log = cycle::running_log();
            // SAFETY: This is the log of the running cycle.
            unsafe { error_log::debug_event(log, format_args!("{what} {:p}", self.0.as_ptr())) };
        }
    }
}

/// The work of a function that stands in for an event's handler.
pub trait HandleEvent {
    /// Does the work, and calls the handler that it stands in for.
    fn handle(event: Event<'_>);
}

callback! {
    /// A handler for NGINX.
    pub fn handle<H: HandleEvent>(event: Event<'_>) {
        H::handle(event);
    }
}

impl Hook<EventHandler> {
    /// Calls the handler that ours stands in for. Afterwards the event may no longer be in use.
    #[inline]
    pub fn call(&self, event: Event<'_>) {
        event.pass_to(self.real());
    }
}

#[cfg(ngx_feature = "threads")]
impl<const N: usize> super::hook::Hooks<EventHandler, N> {
    /// As [`Hook::call`], for the handler with this number.
    #[inline]
    pub fn call(&self, number: usize, event: Event<'_>) {
        event.pass_to(self.real(number));
    }
}

/// If the first timer has expired, takes its event out of the timers, as `ngx_event_expire_timers` does.
#[inline]
pub fn next_expired() -> Option<Event<'static>> {
    let tree = of_static!(ngx_event_timer_rbtree);
    let sentinel = tree.sentinel();
    // A handler may change the tree, so its first node is looked up each time.
    let mut node = tree.root();
    if node == sentinel {
        return None;
    }
    while node.left() != sentinel {
        node = node.left();
    }
    let due = get!(node, key).wrapping_sub(global!(ngx_current_msec)).cast_signed() <= 0;
    if !due {
        return None;
    }
    // SAFETY: The nodes of this tree are timers of events that are in use.
    let event = Event(unsafe { Live::at(node.as_ptr().byte_sub(offset_of!(ngx_event_t, timer)).cast()) });
    event.debug("event timer del");
    event.remove_timer();
    bits::event::TIMEDOUT.put(event.0, 1);
    Some(event)
}

/// Timers and queues.
impl Event<'_> {
    /// `ngx_event_add_timer`.
    #[inline]
    pub(super) fn add_timer(&self, wait_ms: ngx_msec_t) {
        let timer = member!(self.0, timer);
        let key = global!(ngx_current_msec).wrapping_add(wait_ms);
        if bits::event::TIMER_SET.is_on(self.0) {
            // A timer that would hardly move stays, which saves operations on the tree.
            if key.abs_diff(get!(timer, key)) < NGX_TIMER_LAZY_DELAY as ngx_msec_t {
                return;
            }
            self.remove_timer();
        }
        set!(timer, key, key);
        // SAFETY: The timer is not in the tree, and does not move until it is taken out.
        unsafe { ngx_rbtree_insert(of_static!(ngx_event_timer_rbtree).as_ptr(), timer.as_ptr()) };
        bits::event::TIMER_SET.put(self.0, 1);
    }

    /// `ngx_event_del_timer`, if the timer is set.
    #[inline]
    pub(super) fn delete_timer(&self) {
        if bits::event::TIMER_SET.is_on(self.0) {
            self.remove_timer();
        }
    }

    /// Removes a timer that is set.
    #[inline]
    fn remove_timer(&self) {
        let timer = member!(self.0, timer);
        // SAFETY: A timer that is set is in the tree.
        unsafe { ngx_rbtree_delete(of_static!(ngx_event_timer_rbtree).as_ptr(), timer.as_ptr()) };
        if cfg!(ngx_feature = "debug") {
            set!(timer, left, null_mut());
            set!(timer, right, null_mut());
            set!(timer, parent, null_mut());
        }
        bits::event::TIMER_SET.put(self.0, 0);
    }

    /// `ngx_post_event`.
    #[inline]
    pub(super) fn post(&self, queue: Live<'_, ngx_queue_t>) {
        if bits::event::POSTED.is_on(self.0) {
            return;
        }
        bits::event::POSTED.put(self.0, 1);
        let node = member!(self.0, queue);
        let last = queue.previous();
        set!(node, prev, last.as_ptr());
        set!(last, next, node.as_ptr());
        set!(node, next, queue.as_ptr());
        set!(queue, prev, node.as_ptr());
    }

    /// `ngx_delete_posted_event`, for an event that is in a queue.
    #[inline]
    pub(super) fn delete_posted(&self) {
        bits::event::POSTED.put(self.0, 0);
        let node = member!(self.0, queue);
        let (next, previous) = (node.next(), node.previous());
        set!(next, prev, previous.as_ptr());
        set!(previous, next, next.as_ptr());
        set!(node, prev, null_mut());
        set!(node, next, null_mut());
    }
}
