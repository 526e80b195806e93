//! Handlers of phases, and filters of answers and of bodies.

use nginx_sys::{
    NGX_ERROR, ngx_array_push, ngx_chain_t, ngx_http_core_main_conf_t, ngx_http_handler_pt,
    ngx_http_phases_NGX_HTTP_LOG_PHASE, ngx_http_phases_NGX_HTTP_POST_READ_PHASE,
    ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, ngx_http_request_t, ngx_int_t,
};

use super::hook::Hook;
use super::live::of_static;
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

/// What is done about a request in a phase.
pub trait PhaseHandler {
    /// Does it. Returns what NGINX is told: `NGX_DECLINED`, a status, and so on.
    fn handle(r: Request<'_>) -> ngx_int_t;
}

unsafe extern "C" fn handle<H: PhaseHandler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request.
    H::handle(unsafe { Request::new(r) })
}

/// Adds a handler to a phase. `None` if there is no memory.
///
/// The last handler of a phase is called first (`ngx_http_init_phase_handlers`), but for the phase of logs.
pub fn add_handler<H: PhaseHandler>(core: &mut ngx_http_core_main_conf_t, phase: Phase) -> Option<()> {
    let phase = core.phases.get_mut(phase.index())?;
    // SAFETY: an array of handlers that `ngx_http_init_phases` has made.
    unsafe {
        let place = ngx_array_push(&mut phase.handlers).cast::<ngx_http_handler_pt>();
        if place.is_null() {
            return None;
        }
        place.write(Some(handle::<H>));
    }
    Some(())
}

/// Puts the last handler of the phase of logs to the front, where `ngx_http_log_request` begins.
pub fn move_last_log_handler_to_front(core: &mut ngx_http_core_main_conf_t) {
    if let Some(phase) = core.phases.get_mut(Phase::Log.index()) {
        // SAFETY: as in `add_handler`.
        unsafe { phase.handlers.as_slice_mut::<ngx_http_handler_pt>() }.rotate_right(1);
    }
}

type HeaderFilter = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;
type BodyFilter = unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_chain_t) -> ngx_int_t;

static NEXT_HEADER_FILTER: Hook<HeaderFilter> = Hook::new();
static NEXT_BODY_FILTER: Hook<BodyFilter> = Hook::new();
static NEXT_REQUEST_BODY_FILTER: Hook<BodyFilter> = Hook::new();

/// What is done before other filters see an answer or a body.
pub trait Filters {
    /// The header of an answer.
    fn header(r: Request<'_>);

    /// A part of an answer's body.
    fn body(r: Request<'_>);

    /// A part of a request's body has come in. With HTTP/2 that may be in an event of its connection.
    fn request_body(r: Request<'_>);
}

/// Adds filters. The module calls it once for each configuration.
pub fn add_filters<F: Filters>() {
    // `ngx_http_header_filter_module` and its like have put their functions there before; each module chains its
    // filters like this
    let header = of_static!(ngx_http_top_header_filter);
    NEXT_HEADER_FILTER.replace(header, header_filter::<F>);
    let request_body = of_static!(ngx_http_top_request_body_filter);
    NEXT_REQUEST_BODY_FILTER.replace(request_body, request_body_filter::<F>);
    let body = of_static!(ngx_http_top_body_filter);
    NEXT_BODY_FILTER.replace(body, body_filter::<F>);
}

unsafe extern "C" fn header_filter<F: Filters>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request; the next filter is the one that was at the top before ours.
    unsafe {
        F::header(Request::new(r));
        NEXT_HEADER_FILTER.real().map_or(NGX_ERROR as ngx_int_t, |next| next(r))
    }
}

unsafe extern "C" fn body_filter<F: Filters>(
    r: *mut ngx_http_request_t,
    chain: *mut ngx_chain_t,
) -> ngx_int_t {
    // SAFETY: as in `header_filter`.
    unsafe {
        F::body(Request::new(r));
        NEXT_BODY_FILTER.real().map_or(NGX_ERROR as ngx_int_t, |next| next(r, chain))
    }
}

unsafe extern "C" fn request_body_filter<F: Filters>(
    r: *mut ngx_http_request_t,
    chain: *mut ngx_chain_t,
) -> ngx_int_t {
    // SAFETY: as in `header_filter`.
    unsafe {
        F::request_body(Request::new(r));
        NEXT_REQUEST_BODY_FILTER.real().map_or(NGX_ERROR as ngx_int_t, |next| next(r, chain))
    }
}
