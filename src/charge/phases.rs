//! The phases and filters in which requests are found.
//!
//! A request is found in the post-read phase, in the header and body filters, and in the log phase. Some requests
//! never reach a phase before the log phase, for example those answered with 400. The total of a request is final when
//! the log phase starts. Later CPU is charged to its accounts.

use core::ptr::null;

use accounting::account::{CacheStatus, Outcome};
use nginx_sys::{NGX_DECLINED, NGX_OK, ngx_int_t};

use crate::charge::context::{self, Answered, Context, Freed, RequestId, find};
use crate::charge::counted_by::{CountedBy, location};
use crate::charge::limit::body::{self, dropped_body};
use crate::charge::lookup::{known_accounts, with_accounts};
use crate::charge::unnoticed::unnoticed;
use crate::charge::worker::{Owner, Worker, is_measuring, with, with_context};
use crate::measure::charge::Charge;
use crate::measure::received::{self, Received};
use crate::nginx::conf::Core;
use crate::nginx::http_log;
use crate::nginx::phase::{self, Filters, Phase, PhaseHandler};
use crate::nginx::request::Request;

/// The usage of a running request is added to its accounts when this time has passed since the last addition, in
/// nanoseconds.
const ADD_NS: u64 = 1_000_000_000;

/// Adds the phase handlers and the filters. `ways_differ`: the result depends on the locations that a request goes
/// through.
pub fn register(core: Core<'_>, ways_differ: bool) -> Option<()> {
    context::register::<Gone>();
    phase::add_handler::<PostRead>(core, Phase::PostRead)?;
    if ways_differ {
        phase::add_handler::<Preaccess>(core, Phase::Preaccess)?;
    }
    phase::add_handler::<Logged>(core, Phase::Log)?;
    phase::add_handler::<Stop>(core, Phase::Log)?;
    // A request's total is final before the access log is written, so it is the same in all log lines. Accounts are
    // looked up after the access log, so a key with patterns changes no capture that the access log shows.
    phase::move_last_log_handler_to_front(core);
    phase::add_filters::<Passing>();
    Some(())
}

/// Makes a context for a main request, and attributes the running lap to it. `None` if there is no memory.
#[inline(never)]
fn attribute_first(main: Request<'_>) -> Option<RequestId> {
    http_log::learn_by_request(main);
    let connection = main.client_connection();
    let received = Received::of::<Worker>(main);
    with(|worker| {
        let at = worker.connections.client(connection);
        let id = Context::create::<Gone>(main, at, received, worker.first_verdict)?;
        if let Some(at) = at {
            if connection == main.connection() {
                worker.connections.set_request(at, id);
            } else {
                worker.join(id, at, main, connection);
            }
        }
        worker.attribute_first(id, at);
        Some(id)
    })?
}

/// The main request of a request for which NGINX has called the module. If it is new, the running lap is attributed to
/// it. `None` if the process does not measure, or if there is no memory.
#[inline]
fn main_of(r: Request<'_>) -> Option<RequestId> {
    if !is_measuring() {
        return None;
    }
    let main = r.main();
    find(main).or_else(|| attribute_first(main))
}

/// Attributes the running lap to a request for which NGINX has called the module.
#[inline]
fn attribute(r: Request<'_>) -> Option<RequestId> {
    let id = main_of(r)?;
    with(|worker| worker.attribute_to(id));
    Some(id)
}

/// Called when a thread of a pool has finished its work for a request. The request is attributed now.
#[cfg(ngx_feature = "threads")]
pub fn charge_pool_thread(r: Request<'_>, ns: u64) {
    if let Some(context) = attribute(r) {
        with(|worker| worker.charge_pool_thread(context, ns));
    }
}

/// Frees the context of a main request when the request's pool is destroyed.
struct Gone;

impl Freed for Gone {
    #[inline]
    fn freed(id: RequestId) {
        let is_simple = with(|worker| {
            let context = worker.context(id);
            let is_simple = context.received.ends_simply() && context.limited.is_none();
            if is_simple {
                worker.free(id);
            }
            is_simple
        });
        if is_simple != Some(true) {
            leave(id);
        }
    }
}

/// Frees a request that other connections or limits refer to.
#[inline(never)]
fn leave(id: RequestId) {
    let known = with_context(id, |context| (context.received, context.counted(), context.limited));
    let Some((received, counted, limited)) = known else { return };
    id.with_request(|r| received.end::<Worker>(r, counted));
    with(|worker| worker.free(id));
    if let Some(limited) = limited {
        id.with_request(|r| body::leave(r, &limited.dropped));
    }
}

struct PostRead;

impl PhaseHandler for PostRead {
    #[inline]
    fn handle(r: Request<'_>) -> ngx_int_t {
        if attribute(r).is_some() && r.is_main() && r.has_body() {
            received::count_reads::<Worker>(r);
        }
        NGX_DECLINED as ngx_int_t
    }
}

/// From here on, a location with `request_cpu` handles the request. The request is counted by this location, even if
/// it ends in another one. Otherwise an upstream's answer (`X-Accel-Redirect`) could move all earlier work out of the
/// accounts.
///
/// The work of `post_action` comes after the answer, and does not change the location (`ngx_http_post_action`).
struct Preaccess;

impl PhaseHandler for Preaccess {
    #[inline]
    fn handle(r: Request<'_>) -> ngx_int_t {
        if r.is_main()
            && let Some(id) = find(r)
        {
            with(|worker| {
                let context = worker.context(id);
                if r.is_post_action() {
                    // the location of `post_action` has its own upstream and status, and NGINX does not keep the first
                    // ones
                    context.answered.get_or_insert_with(|| answered(r));
                } else if !location(r).zones().is_empty() {
                    context.counted_by = CountedBy::this(r);
                }
            });
        }
        NGX_DECLINED as ngx_int_t
    }
}

/// The filters for answers and bodies.
struct Passing;

impl Filters for Passing {
    #[inline]
    fn header(r: Request<'_>) {
        let Some(id) = attribute(r).filter(|_| r.is_main()) else { return };
        let is_by_reads = with(|worker| {
            let context = worker.context(id);
            if context.counted_by.is_current() && r.has_post_action() {
                // `post_action` is handled in another location
                context.counted_by = CountedBy::this(r);
            }
            context.received.is_by_reads()
        });
        if is_by_reads == Some(true) || r.is_upgraded() {
            received::answer::<Worker>(r);
        }
    }

    #[inline]
    fn body(r: Request<'_>) {
        attribute(r);
    }

    #[inline]
    fn request_body(r: Request<'_>) {
        attribute(r);
    }
}

/// The first handler of the log phase: from here on, the request's total does not change.
///
/// `ngx_http_free_request` calls it for a main request. `ngx_http_finalize_request` calls it for a subrequest if
/// `log_subrequest` is on. In the line of a subrequest, all variables show the same values.
struct Stop;

impl PhaseHandler for Stop {
    #[inline]
    fn handle(r: Request<'_>) -> ngx_int_t {
        if let Some(id) = main_of(r) {
            with(|worker| {
                worker.attribute_to(id);
                worker.read_clock();
                let context = worker.context(id);
                context.logging = r.as_ptr();
                if r.is_main() {
                    let counts = !context.counted_by.of(r).zones().is_empty();
                    worker.stop(id, counts);
                }
            });
        }
        NGX_OK as ngx_int_t
    }
}

/// Runs after the access log: the request is finished.
struct Logged;

impl PhaseHandler for Logged {
    #[inline]
    fn handle(r: Request<'_>) -> ngx_int_t {
        if is_measuring()
            && r.is_main()
            && let Some(id) = find(r)
        {
            let is_finished = with(|worker| {
                let context = worker.context(id);
                let known = known_accounts(r, context.counted_by.of(r));
                let accounts = known.filter(|_| !context.verdict.sets_apart());
                if let Some(accounts) = accounts {
                    let outcome = outcome_of(r, context.answered);
                    worker.finish(id, accounts, &outcome);
                }
                accounts.is_some()
            });
            if is_finished == Some(false) {
                finish(r, id);
            }
        }
        NGX_OK as ngx_int_t
    }
}

/// Finishes a main request whose accounts must be looked up, or that is relevant to limits.
#[inline(never)]
fn finish(r: Request<'_>, id: RequestId) {
    let known = with(|worker| {
        let context = worker.context(id);
        (context.counted_by.of(r), context.answered)
    });
    let Some((conf, answered)) = known else { return };
    let outcome = outcome_of(r, answered);
    with_accounts(r, conf, true, |accounts| {
        with(|worker| {
            if !worker.context(id).verdict.sets_apart() {
                worker.finish(id, accounts, &outcome);
            } else {
                worker.finish_apart(id, accounts, &outcome, location(r));
            }
        });
    });
}

/// The status and the cache status with which a request is answered.
fn answered(r: Request<'_>) -> Answered {
    Answered { status: r.status(), cache: CacheStatus::from_nginx(r.cache_status()) }
}

/// The outcome of a request, without its CPU. `known` is the answer, if the request was answered before.
fn outcome_of(r: Request<'_>, known: Option<Answered>) -> Outcome {
    let Answered { status, cache } = known.unwrap_or_else(|| answered(r));
    let c = r.connection();
    Outcome { status, cache, connection_order: c.requests(), response_bytes: c.sent_bytes(), cpu_ns: 0 }
}

/// Called after a handler call in which a request was an owner. If the request still exists, it is in flight. Its
/// usage is added to its accounts if the last addition was at least a second ago.
pub fn after_handler_call(id: RequestId) {
    let Some((counted_by, chosen, is_due, limited)) = with(|worker| {
        let now_ns = worker.laps.meter.recent_ns();
        worker.note_active(id);
        let context = worker.context(id);
        if context.logged {
            return None;
        }
        let is_due = now_ns.saturating_sub(context.since_ns) >= ADD_NS;
        let zones = if context.in_flight { context.zones } else { null() };
        Some((context.counted_by, zones, is_due, context.limited.is_some()))
    })
    .flatten() else {
        return;
    };
    // The context exists, so its request exists. Nothing here frees the request.
    id.with_request(|r| {
        if limited && let Some(limited) = dropped_body(r) {
            body::watch(r, &limited.dropped);
        }
        let conf = counted_by.of(r);
        let zones = conf.zones();
        let wanted = if zones.is_empty() { null() } else { zones.as_ptr() };
        if wanted == chosen && !is_due {
            return;
        }
        if wanted != chosen {
            unnoticed(r, || {
                with_accounts(r, conf, false, |accounts| {
                    with(|worker| worker.enter_flight(id, accounts, wanted));
                });
            });
        }
        with(|worker| {
            if is_due {
                worker.add_use(id);
            }
            // the CPU of this addition is charged to the request
            worker.take(Owner::Request(id));
            worker.switch(Owner::Loop);
        });
    });
}
