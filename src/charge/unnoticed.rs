//! Variables that are looked up while the request does not notice.

use crate::charge::worker::{Worker, with};
use crate::nginx::request::Request;

/// Runs `f` so that the request does not notice: variables and captures are then what they were before. A variable
/// that is looked up before its time (a `map` of something that the upstream has not said yet) would keep that value
/// for the rest of the request, and a `map` with patterns would leave its captures behind.
pub fn unnoticed<R>(r: Request<'_>, f: impl FnOnce() -> R) -> R {
    let kept = r.keep_variables(with(Worker::take_scratch).unwrap_or_default());
    let result = f();
    let scratch = kept.restore();
    with(|worker| worker.put_scratch(scratch));
    result
}
