//! The values of a request's variables.

use crate::charge::context::find;
use crate::charge::worker::{Owner, is_measuring, with};
use crate::measure::charge::Charge;
use crate::nginx::request::Request;

/// The values that the variables of a request show.
pub struct Reading {
    pub total_ns: u64,
    pub connection_ns: u64,
    pub wakeups: u64,
}

/// The cost of a request so far, including the running lap. `None` if the request is not measured.
pub fn read(r: Request<'_>) -> Option<Reading> {
    if !is_measuring() {
        return None;
    }
    let id = find(r.main())?;
    with(|worker| {
        let context = worker.context(id);
        let fixed = context.stopped || core::ptr::eq(context.logging, r.as_ptr());
        if !fixed && worker.owner() == Owner::Request(id) {
            worker.read_clock();
        }
        let meter = &worker.context(id).meter;
        Reading { total_ns: meter.total_ns(), connection_ns: meter.connection_ns(), wakeups: meter.wakeups() }
    })
}
