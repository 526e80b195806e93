//! The event-loop hook, which every handler call passes.
//!
//! NGINX has no hook around an event's handler. But its loop calls `ngx_event_actions.process_events` through a
//! pointer, and with `NGX_POST_EVENTS` that function only queues what is ready. So we stand in its place, add that
//! flag, and run the queues ourselves, one event at a time, with a lap around each handler. What
//! `ngx_process_events_and_timers` does afterwards finds its queues empty.
//!
//! NGINX's order of things is kept. Without `NGX_POST_EVENTS` from the caller, what is ready runs in the order in
//! which the method reports it, before timers, and before what was posted already (an answer must not lose against
//! its own timeout). With it (accept mutex held): accepts, then the mutex is released, then timers, then the rest.

use core::marker::PhantomData;

use nginx_sys::{NGX_ERROR, NGX_POST_EVENTS, ngx_cycle_t, ngx_int_t, ngx_uint_t};

use crate::measure::attribution::{self, Attribute};
use crate::measure::owner::Owner;
use crate::nginx::event::{Event, next_expired};
use crate::nginx::hook::Hook;
use crate::nginx::io::{self, ProcessEvents};
use crate::nginx::listening;
use crate::nginx::queue::{self, Added, Last, Queue};
use crate::nginx::stand_in::{Call, Callable, StandIn};

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
    fn waiting(&mut self) -> &mut Vec<Event<'static>>;
}

/// Puts us between the event loop and its method. Called in `init_process`, after `ngx_event_process_init` has chosen
/// one.
pub fn hook<W: EventLoop>() {
    queue::find_queues();
    listening::accept_first(io::uses_accept_mutex());
    PROCESS_EVENTS.replace(io::process_events(), ProcessEvents::ours::<Turn<W>>());
}

/// In the place of `ngx_epoll_process_events` and its like.
struct Turn<W>(PhantomData<W>);

impl<W: EventLoop> StandIn<ProcessEvents> for Turn<W> {
    #[inline]
    fn call(call: Call<'_, ProcessEvents>) -> ngx_int_t {
        let (cycle, flags) = (call.cycle(), call.flags());
        let process_events =
            |flags| PROCESS_EVENTS.pass(call.with_flags(flags)).unwrap_or(NGX_ERROR as ngx_int_t);
        if W::enter_loop(cycle) { take_turn::<W>(flags, process_events) } else { process_events(flags) }
    }
}

/// One turn of the event loop. `process_events` only queues events, so those that wait are there when it returns.
#[inline]
fn take_turn<W: EventLoop>(
    flags: ngx_uint_t,
    process_events: impl FnOnce(ngx_uint_t) -> ngx_int_t,
) -> ngx_int_t {
    let post = NGX_POST_EVENTS as ngx_uint_t;
    let posted = queue::posted();
    if io::is_exiting() {
        // `ngx_shutdown_timer_handler` tells by the flag what it must leave alone
        listening::accept_first(true);
    }
    if flags & post != 0 {
        let rc = process_events(flags);
        W::with(W::begin_turn);
        run::<W>(queue::posted_accept());
        io::release_accept_mutex();
        end_turn::<W>();
        return rc;
    }
    if !posted.is_empty() {
        set_aside::<W>(posted);
    }
    let rc = process_events(flags | post);
    let has_waiting = W::with(|worker| {
        worker.begin_turn();
        !worker.waiting().is_empty()
    });
    posted.apart(|ready| {
        if has_waiting == Some(true) {
            put_back::<W>(posted);
        }
        run::<W>(queue::posted_accept());
        run::<W>(ready);
    });
    end_turn::<W>();
    rc
}

/// Takes the events out of a queue. They are not kept as a queue: one of them may become ready too, and then its turn
/// is before the timers.
#[inline(never)]
fn set_aside<W: EventLoop>(posted: Queue<'static>) {
    W::with(|worker| {
        let waiting = worker.waiting();
        while let Some(event) = posted.take_first() {
            waiting.push(event);
        }
    });
}

/// Puts the events back that were set aside.
#[inline(never)]
fn put_back<W: EventLoop>(posted: Queue<'static>) {
    W::with(|worker| worker.waiting().drain(..).for_each(|event| posted.push(&event)));
}

/// Timers, and what was posted.
#[inline]
fn end_turn<W: EventLoop>() {
    while let Some(event) = next_expired() {
        call_handler::<W>(event);
    }
    run::<W>(queue::posted());
    // what OpenResty's loop does with events that were there before this turn (`ngx.sleep(0)`, a timer at 0)
    if let Some(delayed) = queue::delayed() {
        while let Some(event) = delayed.pop_due("posted delayed event") {
            call_handler::<W>(event);
        }
    }
    W::with(W::end_turn);
}

/// `ngx_event_process_posted`, with laps.
#[inline]
fn run<W: EventLoop>(queue: Queue<'_>) {
    while let Some(event) = queue.pop("posted event") {
        call_handler::<W>(event);
    }
}

/// One handler call.
#[inline]
fn call_handler<W: EventLoop>(event: Event<'_>) {
    W::with(|worker| {
        let owner = attribution::owner_of(worker, &event);
        worker.begin_handler_call(owner);
    });
    let is_ready = !event.is_timed_out();
    let last = queue::posted().last();
    event.call();
    W::with(|worker| {
        if is_ready && worker.owner() == Owner::Nobody {
            follow(worker, last);
        }
        worker.end_handler_call();
    });
    W::after_handler_call();
}

/// If a handler call that is not attributed has posted exactly one event, the call is attributed to the owner of that
/// event: so lua hands on a certificate that it has waited for. A call that has posted several is a part of the event
/// method: `ngx_epoll_eventfd_handler` goes through all that kernel AIO has completed. Timers do not count: what a
/// server does by itself is no request's, even if requests wait for it.
fn follow<W: EventLoop>(worker: &mut W, last: Last) {
    match queue::posted().added_since(last) {
        Added::Nothing => {}
        Added::One(event) => match attribution::owner_of(worker, &event) {
            Owner::Request(request) => worker.attribute(request),
            owner => worker.take(owner),
        },
        Added::Several => worker.take(Owner::Loop),
    }
}
