//! Handlers of phases, and filters of answers and of bodies.

use core::ptr::null_mut;

use nginx_sys::{
    NGX_ERROR, ngx_array_push, ngx_chain_t, ngx_http_handler_pt, ngx_http_phases_NGX_HTTP_LOG_PHASE,
    ngx_http_phases_NGX_HTTP_POST_READ_PHASE, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, ngx_http_request_t,
    ngx_int_t,
};

use super::callback::callback;
use super::conf::Core;
use super::hook::Hook;
use super::live::{Live, member, of_static};
use super::request::Request;

/// A phase of a request.
#[derive(Debug, Clone, Copy)]
pub enum Phase {
    PostRead,
    Preaccess,
    Log,
}

impl Phase {
    fn index(self) -> usize {
        let phase = match self {
            Phase::PostRead => ngx_http_phases_NGX_HTTP_POST_READ_PHASE,
            Phase::Preaccess => ngx_http_phases_NGX_HTTP_PREACCESS_PHASE,
            Phase::Log => ngx_http_phases_NGX_HTTP_LOG_PHASE,
        };
        phase as usize
    }
}

/// The work for a request in a phase.
pub trait PhaseHandler {
    /// Does the work. Returns the status for NGINX: `NGX_DECLINED` and so on.
    fn handle(r: Request<'_>) -> ngx_int_t;
}

callback! {
    fn handle<H: PhaseHandler>(r: Request<'_>) -> ngx_int_t {
        H::handle(r)
    }
}

/// Adds a handler to a phase. `None` if there is no memory.
///
/// In all phases except the log phase, NGINX calls the last handler first (`ngx_http_init_phase_handlers`).
pub fn add_handler<H: PhaseHandler>(core: Core<'_>, phase: Phase) -> Option<()> {
    let phase = member!(core, phases).element(phase.index())?;
    // SAFETY: `ngx_http_init_phases` has made this array of handlers. The pointer leads to memory for one more handler,
    // or is null.
    let place = unsafe { Live::new(ngx_array_push(member!(phase, handlers).as_ptr()).cast()) };
    let place: Live<'_, ngx_http_handler_pt> = place?;
    place.write(Some(handle::<H>));
    Some(())
}

/// Moves the last handler of the log phase to the front, where `ngx_http_log_request` begins.
pub fn move_last_log_handler_to_front(core: Core<'_>) {
    let Some(phase) = member!(core, phases).element(Phase::Log.index()) else { return };
    let mut handlers: Vec<_> = phase.handlers().map(Live::read).collect();
    handlers.rotate_right(1);
    phase.handlers().zip(handlers).for_each(|(place, handler)| place.write(handler));
}

type HeaderFilter = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;
type BodyFilter = unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_chain_t) -> ngx_int_t;

static NEXT_HEADER_FILTER: Hook<HeaderFilter> = Hook::new();
static NEXT_BODY_FILTER: Hook<BodyFilter> = Hook::new();
static NEXT_REQUEST_BODY_FILTER: Hook<BodyFilter> = Hook::new();

/// The work before other filters see an answer or a body.
pub trait Filters {
    /// The header of an answer is being sent.
    fn header(r: Request<'_>);

    /// A part of an answer's body is being sent.
    fn body(r: Request<'_>);

    /// A part of a request's body has arrived. With HTTP/2, this may be in an event of the HTTP/2 connection.
    fn request_body(r: Request<'_>);
}

/// Adds filters. The module calls this once for each configuration.
pub fn add_filters<F: Filters>() {
    // `ngx_http_header_filter_module` and its like have stored their functions before. Each module chains its filters
    // in this way.
    let header = of_static!(ngx_http_top_header_filter);
    NEXT_HEADER_FILTER.replace(header, header_filter::<F>);
    let request_body = of_static!(ngx_http_top_request_body_filter);
    NEXT_REQUEST_BODY_FILTER.replace(request_body, request_body_filter::<F>);
    let body = of_static!(ngx_http_top_body_filter);
    NEXT_BODY_FILTER.replace(body, body_filter::<F>);
}

impl Hook<HeaderFilter> {
    #[inline(always)]
    fn next(&self, r: Request<'_>) -> ngx_int_t {
        // SAFETY: This filter was at the top before ours. NGINX would have called it with the request.
        self.real().map_or(NGX_ERROR as ngx_int_t, |next| unsafe { next(r.as_ptr()) })
    }
}

impl Hook<BodyFilter> {
    #[inline(always)]
    fn next(&self, r: Request<'_>, chain: Option<Live<'_, ngx_chain_t>>) -> ngx_int_t {
        let chain = chain.map_or(null_mut(), Live::as_ptr);
        // SAFETY: as above.
        self.real().map_or(NGX_ERROR as ngx_int_t, |next| unsafe { next(r.as_ptr(), chain) })
    }
}

callback! {
    fn header_filter<F: Filters>(r: Request<'_>) -> ngx_int_t {
        F::header(r);
        NEXT_HEADER_FILTER.next(r)
    }
}

callback! {
    fn body_filter<F: Filters>(r: Request<'_>, chain: Option<Live<'_, ngx_chain_t>>) -> ngx_int_t {
        F::body(r);
        NEXT_BODY_FILTER.next(r, chain)
    }
}

callback! {
    fn request_body_filter<F: Filters>(r: Request<'_>, chain: Option<Live<'_, ngx_chain_t>>) -> ngx_int_t {
        F::request_body(r);
        NEXT_REQUEST_BODY_FILTER.next(r, chain)
    }
}
