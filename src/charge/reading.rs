//! The values of a request's variables.

use nginx_sys::ngx_http_request_t;

use crate::charge::context::find;
use crate::charge::worker::{Owner, is_measuring, with};
use crate::measure::charge::Charge;

/// What the variables of a request show.
pub struct Reading {
    pub total_ns: u64,
    pub connection_ns: u64,
    pub wakeups: u64,
}

/// What a request has cost so far, the running lap included; none if it is not measured.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn read(r: *mut ngx_http_request_t) -> Option<Reading> {
    if !is_measuring() {
        return None;
    }
    // SAFETY: as the caller says.
    let pointer = unsafe { find((*r).main) }?;
    with(|worker| {
        let context = worker.context(pointer);
        let fixed = context.stopped || context.logging == r.cast_const();
        if !fixed && worker.owner() == Owner::Request(pointer) {
            worker.read_clock();
        }
        let meter = &worker.context(pointer).meter;
        Reading { total_ns: meter.total_ns(), connection_ns: meter.connection_ns(), wakeups: meter.wakeups() }
    })
}
