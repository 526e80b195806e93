//! Queues of events.

use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use nginx_sys::{ngx_event_t, ngx_queue_t};

use super::event::Event;
use super::hook::address_of;
use super::live::{Live, get, of_static, set};

/// A queue of events.
#[derive(Clone, Copy)]
pub struct Queue<'a>(Live<'a, ngx_queue_t>);

/// OpenResty's `ngx_posted_delayed_events`; null in any other NGINX. OpenResty's `ngx_process_events_and_timers` runs
/// this queue after the queue of posted events.
static DELAYED: AtomicPtr<ngx_queue_t> = AtomicPtr::new(ptr::null_mut());

/// Looks up queues that not every NGINX has.
pub fn find_queues() {
    DELAYED.store(address_of(c"ngx_posted_delayed_events").cast(), Relaxed);
}

/// `ngx_posted_events`
#[inline]
pub fn posted() -> Queue<'static> {
    Queue(of_static!(ngx_posted_events))
}

/// `ngx_posted_accept_events`
#[inline]
pub fn posted_accept() -> Queue<'static> {
    Queue(of_static!(ngx_posted_accept_events))
}

/// OpenResty's queue of events for the next turn of its loop.
#[inline]
pub fn delayed() -> Option<Queue<'static>> {
    // SAFETY: The pointer is null, or leads to a static of OpenResty's, which is like those above.
    unsafe { Live::new(DELAYED.load(Relaxed)) }.map(Queue)
}

/// The end of a queue at some time. It is only compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Last(*const ngx_queue_t);

/// The events that were added to a queue.
pub enum Added<'a> {
    /// no event, or the number is not known
    Nothing,
    One(Event<'a>),
    Several,
}

impl<'a> Queue<'a> {
    /// The event of a node. The node must not be the head.
    #[inline]
    fn event_of(self, node: Live<'a, ngx_queue_t>) -> Event<'a> {
        debug_assert!(node != self.0);
        // SAFETY: All nodes except the head are in events that are in use: NGINX removes an event from its queue when
        // it gives the event up.
        Event::of(unsafe { Live::at(node.as_ptr().byte_sub(offset_of!(ngx_event_t, queue)).cast()) })
    }

    /// Takes the first event out of the queue. `what` is the text for the debug log.
    ///
    /// `ngx_close_connection` and its like take an event out of any queue. So the head is read each time.
    #[inline]
    pub fn pop(self, what: &str) -> Option<Event<'a>> {
        self.pop_if(what, |_| true)
    }

    /// Takes the first event out of the queue, unless it is for the next turn of OpenResty's loop.
    ///
    /// OpenResty marks events that are added during a turn as `delayed`. The loop itself removes the mark afterwards.
    #[inline]
    pub fn pop_due(self, what: &str) -> Option<Event<'a>> {
        self.pop_if(what, |event| !event.is_delayed())
    }

    /// As [`Queue::pop`], for an event that is put back into a queue before its handler is called.
    #[inline]
    pub fn take_first(self) -> Option<Event<'a>> {
        self.pop_if("", |_| true)
    }

    #[inline]
    fn pop_if(self, what: &str, f: impl FnOnce(&Event<'_>) -> bool) -> Option<Event<'a>> {
        let node = self.0.next();
        if node == self.0 {
            return None;
        }
        let event = self.event_of(node);
        if !f(&event) {
            return None;
        }
        if !what.is_empty() {
            event.debug(what);
        }
        event.delete_posted();
        Some(event)
    }

    /// Adds an event, unless it is in a queue already.
    #[inline]
    pub fn push(self, event: &Event<'_>) {
        event.post(self.0);
    }

    /// Whether there is no event.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0.next() == self.0
    }

    /// The end of the queue.
    #[inline]
    pub fn last(self) -> Last {
        Last(get!(self.0, prev))
    }

    /// The events that were added after `last`, an earlier end of the queue.
    pub fn added_since(self, last: Last) -> Added<'a> {
        let mut queued = 0;
        let newest = self.0.previous();
        let mut node = newest;
        while Last(node.as_ptr()) != last {
            if node == self.0 {
                // `last` has left the queue meanwhile.
                return Added::Nothing;
            }
            queued += 1;
            node = node.previous();
        }
        match queued {
            0 => Added::Nothing,
            1 => Added::One(self.event_of(newest)),
            _ => Added::Several,
        }
    }

    /// Moves all events to a new queue, and calls `f` with that queue. This queue is empty when `f` begins. Events that
    /// `f` leaves in the new queue are moved back.
    #[inline]
    pub fn apart<R>(self, f: impl FnOnce(Queue<'_>) -> R) -> R {
        let mut room = ngx_queue_t { prev: ptr::null_mut(), next: ptr::null_mut() };
        let apart = Queue(Live::ours(&mut room));
        let (from, to) = (self.0.as_ptr(), apart.0.as_ptr());
        let (first, last) = (self.0.next(), self.0.previous());
        if first == self.0 {
            set!(apart.0, prev, to);
            set!(apart.0, next, to);
        } else {
            set!(apart.0, prev, last.as_ptr());
            set!(apart.0, next, first.as_ptr());
            set!(first, prev, to);
            set!(last, next, to);
        }
        set!(self.0, prev, from);
        set!(self.0, next, from);
        let result = f(apart);
        while let Some(event) = apart.take_first() {
            self.push(&event);
        }
        result
    }
}
