//! The door that every wakeup passes.
//!
//! NGINX has no hook around an event's handler. But its loop calls `ngx_event_actions.process_events` through a pointer,
//! and with `NGX_POST_EVENTS` that function only queues what is ready. So we stand in its place, add that flag, and run the
//! queues ourselves, one event at a time, with a lap around each handler. What `ngx_process_events_and_timers` does
//! afterwards finds its queues empty.
//!
//! NGINX's order of things is kept. Without `NGX_POST_EVENTS` from the caller, what is ready runs in the order in which the
//! method reports it, before timers, and before what was posted already (an answer must not lose against its own timeout).
//! With it (accept mutex held): accepts, then the mutex is released, then timers, then the rest.

use core::mem::{MaybeUninit, offset_of};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use nginx_sys::{
    NGX_POST_EVENTS, ngx_accept_mutex, ngx_accept_mutex_held, ngx_current_msec, ngx_cycle_t,
    ngx_event_actions, ngx_event_t, ngx_event_timer_rbtree, ngx_exiting, ngx_int_t, ngx_msec_t,
    ngx_posted_accept_events, ngx_posted_events, ngx_queue_t, ngx_rbtree_min, ngx_shmtx_unlock, ngx_uint_t,
    ngx_use_accept_mutex,
};

use crate::measure::attribution::{self, Attribute};
use crate::measure::listeners;
use crate::measure::owner::Owner;
use crate::nginx::hook::Hook;
use crate::nginx::{bits, event};

type ProcessEvents = unsafe extern "C" fn(*mut ngx_cycle_t, ngx_msec_t, ngx_uint_t) -> ngx_int_t;

/// The event method's own `process_events`.
static PROCESS_EVENTS: Hook<ProcessEvents> = Hook::new();

/// What is told to the layer above.
pub trait EventLoop: Attribute {
    /// The event loop of a cycle goes on. Returns whether this process measures it.
    fn enter_loop(cycle: *const ngx_cycle_t) -> bool;

    /// The event method has returned: one turn of the event loop begins.
    fn begin_turn(&mut self);

    /// One turn of the event loop is over.
    fn end_turn(&mut self);

    /// An event's handler is about to be called; the running lap is its owner's.
    fn begin_handler_call(&mut self, owner: Owner<Self::Request>);

    /// The handler has returned.
    fn end_handler_call(&mut self);

    /// Called after each handler call, and not within [`Charge::with`](crate::measure::charge::Charge::with).
    fn after_handler_call();

    /// Room for events that were posted before the event method is asked. It is empty, but for that time.
    fn waiting(&mut self) -> &mut Vec<*mut ngx_event_t>;
}

/// Puts us between the event loop and its method. Called in `init_process`, after `ngx_event_process_init` has chosen one.
pub fn hook<W: EventLoop>() {
    // SAFETY: this process has one thread that uses `ngx_event_actions`, and it is here.
    unsafe {
        find_delayed();
        listeners::accept_first(ngx_use_accept_mutex != 0);
        PROCESS_EVENTS.replace(&raw mut ngx_event_actions.process_events, process_events::<W>);
    }
}

/// OpenResty's `ngx_posted_delayed_events`, a queue that its `ngx_process_events_and_timers` runs after that of posted events; null
/// in any other NGINX.
static DELAYED: AtomicPtr<ngx_queue_t> = AtomicPtr::new(ptr::null_mut());

fn find_delayed() {
    // SAFETY: a name that ends with a null; the result is an address or null.
    let queue = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"ngx_posted_delayed_events".as_ptr()) };
    DELAYED.store(queue.cast(), Relaxed);
}

/// In the place of `ngx_epoll_process_events` and its like.
unsafe extern "C" fn process_events<W: EventLoop>(
    cycle: *mut ngx_cycle_t,
    timer: ngx_msec_t,
    flags: ngx_uint_t,
) -> ngx_int_t {
    let Some(real) = PROCESS_EVENTS.real() else { return nginx_sys::NGX_ERROR as ngx_int_t };
    if !W::enter_loop(cycle) {
        // SAFETY: as NGINX called us.
        return unsafe { real(cycle, timer, flags) };
    }
    let post = NGX_POST_EVENTS as ngx_uint_t;
    let mut waiting = W::with(|worker| core::mem::take(worker.waiting())).unwrap_or_default();
    // SAFETY: queues are NGINX's own, and only this thread uses them; `ready` stays where it is while events are linked to
    // it. The method only queues events, so those that wait are there when it returns.
    unsafe {
        let posted = &raw mut ngx_posted_events;
        let mut ready = MaybeUninit::uninit();
        let ready = ready.as_mut_ptr();
        let direct = flags & post == 0;
        if ngx_exiting != 0 {
            // `ngx_shutdown_timer_handler` tells by the flag what it must leave alone
            listeners::accept_first(true);
        }
        if direct {
            // not as a queue: one of them may become ready too, and then its turn is before the timers
            while let Some(event) = first(posted) {
                event::delete_posted(event);
                waiting.push(event);
            }
        }
        let rc = real(cycle, timer, flags | post);
        W::with(W::begin_turn);
        if direct {
            move_queue(posted, ready);
            waiting.drain(..).for_each(|event| event::post(event, posted));
        }
        W::with(|worker| *worker.waiting() = waiting);
        run::<W>(&raw mut ngx_posted_accept_events);
        if direct {
            run::<W>(ready);
        } else if ngx_accept_mutex_held != 0 {
            // the caller unlocks it again, which does nothing then: it compares the holder's pid
            ngx_shmtx_unlock(&raw mut ngx_accept_mutex);
        }
        expire_timers::<W>();
        run::<W>(posted);
        run_delayed::<W>();
        W::with(W::end_turn);
        rc
    }
}

/// Moves all events of a queue to another one, whose head may be uninitialised.
unsafe fn move_queue(from: *mut ngx_queue_t, to: *mut ngx_queue_t) {
    // SAFETY: the caller hands over an initialised queue, whose neighbours are linked to it.
    unsafe {
        if (*from).next == from {
            (*to).prev = to;
            (*to).next = to;
        } else {
            *to = *from;
            (*(*to).next).prev = to;
            (*(*to).prev).next = to;
            (*from).prev = from;
            (*from).next = from;
        }
    }
}

/// `ngx_event_process_posted`, with laps.
unsafe fn run<W: EventLoop>(queue: *mut ngx_queue_t) {
    // SAFETY: a queue of NGINX's events, or of ours, with the same links. `ngx_close_connection` and its like take an event
    // out of whatever queue it is in, so the head is read anew each time.
    unsafe {
        while let Some(event) = first(queue) {
            debug_event(event, "posted event");
            event::delete_posted(event);
            call_handler::<W>(event);
        }
    }
}

/// What OpenResty's loop does with `ngx_posted_delayed_events` (`ngx.sleep(0)`, a timer at 0), with laps: events that were there before
/// this turn are run. Those that are added meanwhile are marked as `delayed`, for the next one; the loop itself takes the mark
/// away afterwards, and finds no other event there.
unsafe fn run_delayed<W: EventLoop>() {
    let queue = DELAYED.load(Relaxed);
    if queue.is_null() {
        return;
    }
    // SAFETY: as in `run`; OpenResty has made it a queue before a worker runs its loop (`ngx_event_process_init`).
    unsafe {
        while let Some(event) = first(queue) {
            if bits::event::DELAYED.is_set(event) {
                break;
            }
            debug_event(event, "posted delayed event");
            event::delete_posted(event);
            call_handler::<W>(event);
        }
    }
}

/// The first event of a queue.
unsafe fn first(queue: *const ngx_queue_t) -> Option<*mut ngx_event_t> {
    // SAFETY: links of a queue of events lead to events, or back to its head.
    unsafe {
        let node = (*queue).next;
        (!ptr::addr_eq(node, queue)).then(|| node.byte_sub(offset_of!(ngx_event_t, queue)).cast())
    }
}

/// `ngx_event_expire_timers`, with laps.
unsafe fn expire_timers<W: EventLoop>() {
    // SAFETY: NGINX's own tree, which only this thread uses; a handler may change it, so its least node is looked up anew
    // each time.
    unsafe {
        while let Some(event) = expired() {
            debug_event(event, "event timer del");
            event::delete_timer(event);
            bits::event::TIMEDOUT.set(event, 1);
            call_handler::<W>(event);
        }
    }
}

/// The event whose timer comes first, if its time has come.
unsafe fn expired() -> Option<*mut ngx_event_t> {
    // SAFETY: as in `expire_timers`; nodes of this tree are timers of events.
    unsafe {
        let tree = &raw mut ngx_event_timer_rbtree;
        if (*tree).root == (*tree).sentinel {
            return None;
        }
        let node = ngx_rbtree_min((*tree).root, (*tree).sentinel);
        let now = (&raw const ngx_current_msec).read_volatile();
        let due = (*node).key.wrapping_sub(now).cast_signed() <= 0;
        due.then(|| node.byte_sub(offset_of!(ngx_event_t, timer)).cast())
    }
}

/// One handler call.
#[inline]
unsafe fn call_handler<W: EventLoop>(event: *mut ngx_event_t) {
    W::with(|worker| {
        // SAFETY: its handler is called next.
        let owner = unsafe { attribution::owner_of(worker, event) };
        worker.begin_handler_call(owner);
    });
    // SAFETY: an event that is queued or timed has a handler; NGINX would call it just like this.
    unsafe {
        let is_ready = !bits::event::TIMEDOUT.is_set(event);
        let posted = &raw const ngx_posted_events;
        let last = (*posted).prev;
        if let Some(handler) = (*event).handler {
            handler(event);
        }
        W::with(|worker| {
            if is_ready && worker.owner() == Owner::Nobody {
                follow(worker, last);
            }
            worker.end_handler_call();
        });
    }
    W::after_handler_call();
}

/// A wakeup that nobody has claimed, but that has queued one event behind `last`, was for whom that one is: so lua hands on a
/// certificate that it has waited for. One that has queued several is a part of the event method: `ngx_epoll_eventfd_handler` goes
/// through all that kernel AIO has completed. Timers do not count: what a server does by itself is no request's, even if
/// requests wait for it.
unsafe fn follow<W: EventLoop>(worker: &mut W, last: *mut ngx_queue_t) {
    let posted = &raw mut ngx_posted_events;
    let mut queued = 0;
    // SAFETY: NGINX's own queue, which only this thread uses; all its links but the head are in events. `last` is compared, and
    // not read.
    unsafe {
        let mut node = (*posted).prev;
        while node != last {
            if node == posted {
                return; // it has left the queue meanwhile
            }
            queued += 1;
            node = (*node).prev;
        }
        let event = (*posted).prev.byte_sub(offset_of!(ngx_event_t, queue)).cast();
        match queued {
            0 => {}
            1 => match attribution::owner_of(worker, event) {
                Owner::Request(request) => worker.attribute(request),
                owner => worker.take(owner),
            },
            _ => worker.take(Owner::Loop),
        }
    }
}

/// What NGINX would have written to a debug log in our place.
unsafe fn debug_event(event: *mut ngx_event_t, what: &str) {
    if cfg!(ngx_feature = "debug") {
        // SAFETY: as `ngx_event_process_posted`, which writes to the cycle's log.
        let log = unsafe { (*nginx_sys::ngx_cycle).log };
        ngx::ngx_log_debug_mask!(DebugMask::Event, log, "{what} {event:p}");
    }
}
