//! Evaluation of variables without side effects on the request.

use crate::charge::worker::{Worker, with};
use crate::nginx::request::Request;

/// Runs `f` without side effects on the request: variables and captures have the same values afterwards as before.
/// Otherwise a variable that is evaluated too early would keep its value for the rest of the request, for example a
/// `map` of an upstream's value that is not known yet. A `map` with patterns would change the captures.
pub fn unnoticed<R>(r: Request<'_>, f: impl FnOnce() -> R) -> R {
    let kept = r.keep_variables(with(Worker::take_scratch).unwrap_or_default());
    let result = f();
    let scratch = kept.restore();
    with(|worker| worker.put_scratch(scratch));
    result
}
