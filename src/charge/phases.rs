//! The phases and filters by which a request makes itself known.
//!
//! A request makes itself known in the post-read phase, in the header and body filters, and in the log phase (some
//! never reach another phase: a 400, for instance). Its total is final when the log phase starts; what runs after
//! that is charged to its accounts.

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

/// The use of a running request is added to its accounts when so much time has passed since the last time, in
/// nanoseconds.
const ADD_NS: u64 = 1_000_000_000;

/// Adds the phase handlers and the filters. `ways_differ`: it makes a difference which locations a request goes
/// through.
pub fn register(core: Core<'_>, ways_differ: bool) -> Option<()> {
    context::register::<Gone>();
    phase::add_handler::<PostRead>(core, Phase::PostRead)?;
    if ways_differ {
        phase::add_handler::<Preaccess>(core, Phase::Preaccess)?;
    }
    phase::add_handler::<Logged>(core, Phase::Log)?;
    phase::add_handler::<Stop>(core, Phase::Log)?;
    // A request's total is final before the access log is written, and so the same in all its lines. Accounts are
    // looked up after it, so that a key with patterns changes no capture that the access log shows.
    phase::move_last_log_handler_to_front(core);
    phase::add_filters::<Passing>();
    Some(())
}

/// Makes a context for a main request, to which the running lap is attributed; `None` if there is no memory.
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

/// The running lap is attributed to a request that NGINX has called us for.
#[inline]
fn attribute(r: Request<'_>) -> Option<RequestId> {
    if !is_measuring() {
        return None;
    }
    let main = r.main();
    let Some(id) = find(main) else { return attribute_first(main) };
    with(|worker| worker.attribute_to(id));
    Some(id)
}

/// A thread of a pool is done with its work for a request, whose turn it is now.
#[cfg(ngx_feature = "threads")]
pub fn charge_pool_thread(r: Request<'_>, ns: u64) {
    if let Some(context) = attribute(r) {
        with(|worker| worker.charge_pool_thread(context, ns));
    }
}

/// A main request is gone: its pool is being destroyed.
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

/// A request is gone that other connections or limits know.
#[inline(never)]
fn leave(id: RequestId) {
    let known = with_context(id, |context| (context.received, context.logged, context.limited));
    let Some((received, logged, limited)) = known else { return };
    id.with_request(|r| received.end::<Worker>(r, logged));
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

/// A location with `request_cpu` handles the request from here on: it is counted there, wherever it ends. Otherwise
/// an upstream's answer (`X-Accel-Redirect`) could lead all that was done before out of the accounts.
///
/// The work of `post_action` comes after the answer, and changes nothing (`ngx_http_post_action`).
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
                    // its location has an upstream and a status of its own, and NGINX keeps no other
                    context.answered.get_or_insert_with(|| answered(r));
                } else if !location(r).zones().is_empty() {
                    context.counted_by = CountedBy::this(r);
                }
            });
        }
        NGX_DECLINED as ngx_int_t
    }
}

/// Answers and bodies that pass.
struct Passing;

impl Filters for Passing {
    #[inline]
    fn header(r: Request<'_>) {
        let Some(id) = attribute(r).filter(|_| r.is_main()) else { return };
        let is_by_reads = with(|worker| {
            let context = worker.context(id);
            if context.counted_by.is_current() && r.has_post_action() {
                // what follows is in another location
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

/// First handler of the log phase: from here on the request's total stands still.
///
/// `ngx_http_free_request` calls it for a main request, `ngx_http_finalize_request` for a subrequest, if
/// `log_subrequest` is on: there, all variables of a line show the same values.
struct Stop;

impl PhaseHandler for Stop {
    #[inline]
    fn handle(r: Request<'_>) -> ngx_int_t {
        if is_measuring()
            && let Some(id) = find(r.main()).or_else(|| attribute_first(r.main()))
        {
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

/// After the access log: the request is finished.
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

/// A main request is finished whose accounts have to be looked up, or whose limits have to know of it.
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

/// How a request is answered.
fn answered(r: Request<'_>) -> Answered {
    Answered { status: r.status(), cache: CacheStatus::from_nginx(r.cache_status()) }
}

/// How a request ended, but for its CPU. `known`: how it was answered, if that is over.
fn outcome_of(r: Request<'_>, known: Option<Answered>) -> Outcome {
    let Answered { status, cache } = known.unwrap_or_else(|| answered(r));
    let c = r.connection();
    Outcome { status, cache, connection_order: c.requests(), response_bytes: c.sent_bytes(), cpu_ns: 0 }
}

/// A handler call in which a request was an owner is over. If the request is still there, it is in flight, and its
/// use is added to its accounts if that was not done for a second.
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
    // the context is there, so its request is; nothing here frees it
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
            // the request pays for this
            worker.take(Owner::Request(id));
            worker.switch(Owner::Loop);
        });
    });
}
