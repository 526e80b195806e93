//! Turns of answers in the event loop, see [`accounting::render::turns`].
//!
//! An event of ours is run at the beginning of each turn while answers are under way. It begins the turn, and
//! posts the event of the first answer. Each answer that has run posts that of the next one into the same turn,
//! as long as there is time. So an answer always runs in an event of its own connection, and its request pays
//! for it. An answer that does not come is no harm: the next turn begins without it.

use core::cell::Cell;
use std::time::Duration;

use accounting::render::turns::Turns;

use crate::nginx::content::Request;
use crate::nginx::next_turn::NextTurn;

/// Of this process, from its first answer on. Only the event loop's thread uses it.
struct Inner {
    next_turn: NextTurn,
    /// answers by their requests, which have not been freed
    turns: Cell<Turns<Request>>,
}

thread_local! {
    /// Never freed: a destructor of a thread would keep this library in memory, see
    /// [`Work`](crate::nginx::thread::Work).
    static INNER: Cell<Option<&'static Inner>> = const { Cell::new(None) };
}

fn inner() -> &'static Inner {
    INNER.get().unwrap_or_else(|| {
        let inner = Inner { next_turn: NextTurn::new(begin), turns: Cell::default() };
        let inner: &'static Inner = Box::leak(Box::new(inner));
        INNER.set(Some(inner));
        inner
    })
}

/// The callers below do not call back here from `f`.
fn with<R>(f: impl FnOnce(&mut Turns<Request>) -> R) -> R {
    let mut turns = inner().turns.take();
    let result = f(&mut turns);
    inner().turns.set(turns);
    result
}

/// A turn begins.
fn begin() {
    if with(Turns::begin) {
        next_turn();
        next_answer();
    }
}

/// The next turn of the event loop is to be one of ours.
fn next_turn() {
    inner().next_turn.post();
}

/// Lets the next answer run in this turn, if there is one and time for it.
fn next_answer() {
    if let Some(request) = with(Turns::choose) {
        // it has not left, so it is there
        request.post();
    }
}

/// For how long an answer may run now; if it may not, it has to wait.
pub fn slice(request: Request) -> Option<Duration> {
    with(|turns| turns.slice(request))
}

/// An answer has run for so long.
pub fn ran(request: Request, took: Duration) {
    with(|turns| turns.ran(request, took));
    next_turn();
    next_answer();
}

/// An answer waits for a turn of its own. It must leave before its request is freed.
///
/// # Errors
/// There is no memory.
pub fn wait(request: Request) -> Result<(), ()> {
    with(|turns| turns.wait(request)).map_err(drop)?;
    next_turn();
    Ok(())
}

/// Whether an answer waits for its turn, and not for its client.
pub fn is_waiting(request: Request) -> bool {
    with(|turns| turns.is_waiting(request))
}

/// An answer has come to its end.
pub fn leave(request: Request) {
    with(|turns| turns.leave(request));
    next_answer();
}
