//! The phases and filters by which a request makes itself known.
//!
//! A request makes itself known in the post-read phase, in the header and body filters, and in the log phase (some never
//! reach another phase: a 400, for instance). Its total is final when the log phase starts; what runs after that is charged
//! to its accounts.

use core::ffi::c_void;
use core::ptr::{NonNull, null};

use accounting::account::{CacheStatus, Outcome};
use nginx_sys::{
    NGX_DECLINED, NGX_ERROR, NGX_HTTP_SWITCHING_PROTOCOLS, NGX_OK, ngx_array_push, ngx_chain_t,
    ngx_http_core_main_conf_t, ngx_http_handler_pt, ngx_http_phases_NGX_HTTP_LOG_PHASE,
    ngx_http_phases_NGX_HTTP_POST_READ_PHASE, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, ngx_http_request_t,
    ngx_http_top_body_filter, ngx_http_top_header_filter, ngx_http_top_request_body_filter, ngx_int_t,
    ngx_uint_t,
};

use crate::charge::context::{Answered, Context, dropped_body, find};
use crate::charge::limit::body;
use crate::charge::lookup::{counted_by, with_accounts};
use crate::charge::unnoticed::unnoticed;
use crate::charge::verdict::Verdict;
use crate::charge::worker::{Owner, Worker, is_measuring, with};
use crate::config::location::loc_conf;
use crate::measure::attribution;
use crate::measure::charge::Charge;
use crate::measure::received::{self, Received};
use crate::nginx::bits;
use crate::nginx::hook::Hook;
use crate::nginx::location::has_post_action;

/// A running request is settled when so much time has passed since the last time, in nanoseconds.
const SETTLE_NS: u64 = 1_000_000_000;

static NEXT_HEADER_FILTER: Hook<HeaderFilter> = Hook::new();
static NEXT_BODY_FILTER: Hook<BodyFilter> = Hook::new();
static NEXT_REQUEST_BODY_FILTER: Hook<BodyFilter> = Hook::new();

type HeaderFilter = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;
type BodyFilter = unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_chain_t) -> ngx_int_t;

/// Adds the phase handlers and the filters. `ways_differ`: it makes a difference which locations a request goes through.
pub fn register(core: &mut ngx_http_core_main_conf_t, ways_differ: bool) -> Result<(), ()> {
    // SAFETY: arrays of handlers that `ngx_http_init_phases` has made; filters are chained by each module like this.
    unsafe {
        let phases = &mut core.phases;
        for (phase, handler) in [
            (ngx_http_phases_NGX_HTTP_POST_READ_PHASE, post_read as HeaderFilter),
            (ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, preaccess as HeaderFilter),
            (ngx_http_phases_NGX_HTTP_LOG_PHASE, settle as HeaderFilter),
            (ngx_http_phases_NGX_HTTP_LOG_PHASE, stop as HeaderFilter),
        ] {
            if phase == ngx_http_phases_NGX_HTTP_PREACCESS_PHASE && !ways_differ {
                continue;
            }
            let handlers = &mut phases[phase as usize].handlers;
            if ngx_array_push(handlers).is_null() {
                return Err(());
            }
            let handlers = handlers.as_slice_mut::<ngx_http_handler_pt>();
            if let Some(last) = handlers.last_mut() {
                *last = Some(handler);
            }
        }
        // The last one to the front, where `ngx_http_log_request` begins: a request's total is final before the access log is
        // written, and so the same in all its lines. Accounts are looked up after it, so that a key with patterns changes no
        // capture that the access log shows.
        let log = &mut phases[ngx_http_phases_NGX_HTTP_LOG_PHASE as usize].handlers;
        log.as_slice_mut::<ngx_http_handler_pt>().rotate_right(1);
        // `ngx_http_header_filter_module` and its like have put theirs there before
        NEXT_HEADER_FILTER.replace(&raw mut ngx_http_top_header_filter, header_filter);
        NEXT_REQUEST_BODY_FILTER.replace(&raw mut ngx_http_top_request_body_filter, request_body_filter);
        NEXT_BODY_FILTER.replace(&raw mut ngx_http_top_body_filter, body_filter);
    }
    Ok(())
}

/// Makes a context for a main request; none if there is no memory.
unsafe fn create(main: *mut ngx_http_request_t) -> Option<NonNull<Context>> {
    // SAFETY: `claim` has a main request that has not been freed, and has no context yet.
    unsafe {
        attribution::learn((*(*main).connection).log);
        let connection = attribution::connection_of(main);
        let (client, verdict) = with(|worker| (worker.connections.client(connection), worker.first_verdict))
            .unwrap_or((None, Verdict::NONE));
        let context = Context::create(main, client, Received::of::<Worker>(main), verdict, freed)?;
        with(|worker| {
            if connection == (*main).connection {
                worker.set_request(context);
            } else if let Some(at) = worker.context(context).connection {
                worker.join(context, at, main, connection);
            }
        });
        Some(context)
    }
}

/// The running lap is this request's.
#[inline]
unsafe fn claim(r: *mut ngx_http_request_t) -> Option<NonNull<Context>> {
    if !is_measuring() {
        return None;
    }
    // SAFETY: `r` is the request that NGINX has called us for; its main request lives at least as long.
    unsafe {
        let main = (*r).main;
        if let Some(context) = find(main) {
            with(|worker| worker.claim(context));
            return Some(context);
        }
        let context = create(main)?;
        with(|worker| worker.claim_first(context));
        Some(context)
    }
}

/// A thread of a pool is done with what it did for a request, whose turn it is now.
///
/// # Safety
/// `r` must be a request that has not been freed.
#[cfg(ngx_feature = "threads")]
pub unsafe fn charge_pool_thread(r: *mut ngx_http_request_t, ns: u64) {
    // SAFETY: as the caller says.
    if let Some(context) = unsafe { claim(r) } {
        with(|worker| worker.charge_pool_thread(context, ns));
    }
}

/// The pool of a main request is being destroyed.
unsafe extern "C" fn freed(data: *mut c_void) {
    let Some(mut context) = NonNull::new(data.cast::<Context>()) else { return };
    // SAFETY: `create` has put the context there, and its request is in the pool too.
    unsafe {
        let &Context { received, request, logged, .. } = context.as_ref();
        received.end::<Worker>(request, logged);
    }
    with(|worker| worker.free(context));
    // SAFETY: `create` has put the context into the request's pool, and it is there until that is destroyed. The worker does not know
    // it any more.
    unsafe {
        let (request, limited) = (context.as_ref().request, context.as_mut().limited());
        if let Some(dropped) = limited.and_then(|limited| limited.dropped.as_ref()) {
            body::leave(request, dropped);
        }
    }
}

unsafe extern "C" fn post_read(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request.
    unsafe {
        if claim(r).is_some() && r == (*r).main && received::has_body(r) {
            received::count_reads::<Worker>(r);
        }
    }
    NGX_DECLINED as ngx_int_t
}

/// A location with `request_cpu` handles the request from here on: it is counted there, wherever it ends. Otherwise what an
/// upstream answers (`X-Accel-Redirect`) could lead all that was done before out of the accounts.
///
/// What `post_action` does comes after the answer, and changes nothing (`ngx_http_post_action`).
unsafe extern "C" fn preaccess(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request. The context is its, and nobody else refers to it now: `with` is not running.
    unsafe {
        if r == (*r).main
            && let Some(mut context) = find(r)
        {
            let conf = loc_conf(r);
            if bits::request::POST_ACTION.is_set(r) {
                // its location has an upstream and a status of its own, and NGINX keeps no other
                context.as_mut().answered.get_or_insert_with(|| answered(r));
            } else if !conf.zones().is_empty() {
                context.as_mut().counted_by = conf;
            }
        }
    }
    NGX_DECLINED as ngx_int_t
}

unsafe extern "C" fn header_filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request; the next filter is the one that was at the top before us.
    unsafe {
        if let Some(mut context) = claim(r)
            && r == (*r).main
        {
            if context.as_ref().received.is_by_reads()
                || (*r).headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS as ngx_uint_t
            {
                received::answer::<Worker>(r);
            }
            // nobody else refers to the context now: `with` is not running
            let context = context.as_mut();
            if context.counted_by.is_null() && has_post_action((*r).loc_conf) {
                // what follows is in another location
                context.counted_by = loc_conf(r);
            }
        }
        NEXT_HEADER_FILTER.real().map_or(NGX_ERROR as ngx_int_t, |next| next(r))
    }
}

unsafe extern "C" fn body_filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: as in `header_filter`.
    unsafe {
        claim(r);
        NEXT_BODY_FILTER.real().map_or(NGX_ERROR as ngx_int_t, |next| next(r, chain))
    }
}

/// A part of a request's body has come in. With HTTP/2 that may be in an event of its connection.
unsafe extern "C" fn request_body_filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: as in `header_filter`.
    unsafe {
        claim(r);
        NEXT_REQUEST_BODY_FILTER.real().map_or(NGX_ERROR as ngx_int_t, |next| next(r, chain))
    }
}

/// First handler of the log phase: from here on the request's total stands still.
///
/// `ngx_http_free_request` calls it for a main request, `ngx_http_finalize_request` for a subrequest, if `log_subrequest` is
/// on: there, all variables of a line show the same values.
unsafe extern "C" fn stop(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request.
    unsafe {
        if let Some(pointer) = claim(r) {
            let is_main = r == (*r).main;
            with(|worker| {
                worker.read_clock();
                if is_main {
                    worker.divide_for(pointer);
                }
                let conf = counted_by(r, worker.context(pointer).counted_by);
                worker.stop(pointer, is_main, !conf.zones().is_empty());
                worker.context(pointer).logging = r;
            });
        }
    }
    NGX_OK as ngx_int_t
}

/// After the access log: the request settles.
unsafe extern "C" fn settle(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request.
    unsafe {
        if is_measuring()
            && r == (*r).main
            && let Some(pointer) = find(r)
        {
            // nobody else refers to the context now: `with` is not running
            let &Context { counted_by: conf, answered, .. } = pointer.as_ref();
            let outcome = outcome_of(r, answered);
            with_accounts(r, counted_by(r, conf), true, |accounts| {
                with(|worker| {
                    if !worker.context(pointer).verdict.sets_apart() {
                        worker.finish(pointer, accounts, &outcome);
                    } else {
                        worker.finish_apart(pointer, accounts, &outcome, loc_conf(r));
                    }
                });
            });
        }
    }
    NGX_OK as ngx_int_t
}

/// How a request is answered.
///
/// # Safety
/// `r` must be a request that has not been freed.
unsafe fn answered(r: *const ngx_http_request_t) -> Answered {
    // SAFETY: as the caller says.
    unsafe {
        let r = &*r;
        // as `ngx_http_variable_status`
        let status = if r.err_status != 0 { r.err_status } else { r.headers_out.status };
        #[cfg(ngx_feature = "http_cache")]
        let cache =
            if r.upstream.is_null() { 0 } else { bits::upstream::CACHE_STATUS.get(r.upstream).into() };
        #[cfg(not(ngx_feature = "http_cache"))]
        let cache = 0;
        Answered { status: status as u64, cache: CacheStatus::from_nginx(cache) }
    }
}

/// How a request ended, but for its CPU. `known`: how it was answered, if that is over.
unsafe fn outcome_of(r: *mut ngx_http_request_t, known: Option<Answered>) -> Outcome {
    // SAFETY: a request in its log phase is complete.
    unsafe {
        let Answered { status, cache } = known.unwrap_or_else(|| answered(r));
        let r = &*r;
        Outcome {
            status,
            cache,
            connection_order: (*r.connection).requests as u64,
            response_bytes: (*r.connection).sent.max(0) as u64,
            cpu_ns: 0,
        }
    }
}

/// A wakeup in which a request was an owner is over; if the request is still there, it is in flight, and settled if it has
/// not been for a second.
pub fn after_wakeup(pointer: NonNull<Context>) {
    let Some((r, conf, chosen, settle, watches)) = with(|worker| {
        let now_ns = worker.laps.meter.recent_ns();
        let context = worker.context(pointer);
        let settle = now_ns.saturating_sub(context.since_ns) >= SETTLE_NS;
        let zones = if context.in_flight { context.zones } else { null() };
        let found = (!context.logged).then_some((context.request, context.counted_by, zones, settle));
        let watches = !context.logged && context.limited().is_some_and(|limited| limited.dropped.is_some());
        worker.stir_flying(pointer);
        found.map(|(r, conf, zones, settle)| (r, conf, zones, settle, watches))
    })
    .flatten() else {
        return;
    };
    // SAFETY: the context is there, so its request is.
    unsafe {
        if watches && let Some(dropped) = dropped_body(r) {
            body::watch(r, dropped);
        }
        let conf = counted_by(r, conf);
        let zones = conf.zones();
        let wanted = if zones.is_empty() { null() } else { zones.as_ptr() };
        if wanted == chosen && !settle {
            return;
        }
        if wanted != chosen {
            unnoticed(r, || {
                with_accounts(r, conf, false, |accounts| {
                    with(|worker| worker.enter_flight(pointer, accounts, wanted));
                });
            });
        }
        if settle {
            with(|worker| worker.settle(pointer));
        }
        // the request pays for this
        with(|worker| {
            worker.take(Owner::Request(pointer));
            worker.switch(Owner::Loop);
        });
    }
}
