//! The event-loop hook. Every handler call passes it.
//!
//! NGINX has no hook around an event's handler. But the event loop calls `ngx_event_actions.process_events` through a
//! pointer, and with `NGX_POST_EVENTS` that function only queues the ready events. So our function stands in for it,
//! adds that flag, and runs the queues itself: one event at a time, with a lap around each handler. When
//! `ngx_process_events_and_timers` goes on, its queues are empty.
//!
//! NGINX's order is kept. If the caller did not set `NGX_POST_EVENTS`, ready events run in the order in which the event
//! method reports them. They run before timers, because an answer must not lose against its own timeout, and before
//! events that were posted earlier. If the caller set the flag (it holds the accept mutex), accepts run first. Then the
//! mutex is released, then timers run, then the rest.

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

/// Events that are reported to the layer above.
pub trait EventLoop: Attribute {
    /// The event loop of a cycle runs its next turn. Returns whether this process measures that cycle.
    fn enter_loop(cycle: *const ngx_cycle_t) -> bool;

    /// The event method has returned, and a turn of the event loop begins.
    fn begin_turn(&mut self);

    /// The turn of the event loop is over.
    fn end_turn(&mut self);

    /// An event's handler is about to be called. The running lap belongs to `owner`.
    fn begin_handler_call(&mut self, owner: Owner<Self::Request>);

    /// The handler has returned.
    fn end_handler_call(&mut self);

    /// Called after each handler call, outside of [`Charge::with`](crate::measure::charge::Charge::with).
    fn after_handler_call();

    /// A buffer for events that were posted before the event method is called. It is empty at all other times.
    fn waiting(&mut self) -> &mut Vec<Event<'static>>;
}

/// Makes our function stand in for `process_events`. Called in `init_process`: by then `ngx_event_process_init` has
/// chosen the event method.
pub fn hook<W: EventLoop>() {
    queue::find_queues();
    listening::accept_first(io::uses_accept_mutex());
    PROCESS_EVENTS.replace(io::process_events(), ProcessEvents::ours::<Turn<W>>());
}

/// Stands in for `ngx_epoll_process_events` and its like.
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

/// One turn of the event loop. `process_events` only queues events, so the events that were set aside are still valid
/// when it returns.
#[inline]
fn take_turn<W: EventLoop>(
    flags: ngx_uint_t,
    process_events: impl FnOnce(ngx_uint_t) -> ngx_int_t,
) -> ngx_int_t {
    let post = NGX_POST_EVENTS as ngx_uint_t;
    let posted = queue::posted();
    if io::is_exiting() {
        // `ngx_shutdown_timer_handler` recognises listening sockets by this flag, and skips them.
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

/// Takes all events out of a queue, into a vector. They do not stay in a queue, because one of them may become ready
/// too. Then it runs before the timers.
#[inline(never)]
fn set_aside<W: EventLoop>(posted: Queue<'static>) {
    W::with(|worker| {
        let waiting = worker.waiting();
        while let Some(event) = posted.take_first() {
            waiting.push(event);
        }
    });
}

/// Puts the events that were set aside back into the queue.
#[inline(never)]
fn put_back<W: EventLoop>(posted: Queue<'static>) {
    W::with(|worker| worker.waiting().drain(..).for_each(|event| posted.push(&event)));
}

/// Runs expired timers, then posted events.
#[inline]
fn end_turn<W: EventLoop>() {
    while let Some(event) = next_expired() {
        call_handler::<W>(event);
    }
    run::<W>(queue::posted());
    // OpenResty's loop runs events here that were queued before this turn (`ngx.sleep(0)`, a timer at 0).
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

/// Makes one handler call.
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

/// If an unattributed handler call posted exactly one event, the call is attributed to the owner of that event. In this
/// way, lua hands on a certificate that it has waited for. If a call posted several events, it is part of the event
/// method: `ngx_epoll_eventfd_handler` goes through all that kernel AIO has completed. Timers are not attributed in
/// this way: work that a server does by itself belongs to no request, even if requests wait for it.
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
