//! Turns of answers in the event loop, see [`accounting::render::turns`].
//!
//! While answers are being sent, an event of the module runs at the beginning of each turn of the event loop. It
//! begins the turn, and posts the event of the first answer. Each answer that has run posts the event of the next
//! answer in the same turn, as long as there is time. So an answer always runs in an event of its own connection, and
//! is charged to its own request. If an answer does not run, the next turn begins without it.

use core::cell::Cell;
use std::time::Duration;

use accounting::render::turns::Turns;

use crate::nginx::content::Request;
use crate::nginx::next_turn::NextTurn;

/// The state of this process, from its first answer on. Only the thread of the event loop uses it.
struct Inner {
    next_turn: NextTurn,
    /// the answers, by their requests, which have not been freed
    turns: Cell<Turns<Request>>,
}

thread_local! {
    /// Never freed: the destructor of a thread-local value would keep this library in memory, see
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

/// Runs `f` on the turns. No caller calls this function again from `f`.
fn with<R>(f: impl FnOnce(&mut Turns<Request>) -> R) -> R {
    let mut turns = inner().turns.take();
    let result = f(&mut turns);
    inner().turns.set(turns);
    result
}

/// Begins a turn.
fn begin() {
    if with(Turns::begin) {
        next_turn();
        next_answer();
    }
}

/// Posts our event for the next turn of the event loop.
fn next_turn() {
    inner().next_turn.post();
}

/// Lets the next answer run in this turn, if there is an answer and time for it.
fn next_answer() {
    if let Some(request) = with(Turns::choose) {
        // the answer has not left, so its request exists
        request.post();
    }
}

/// The time for which an answer may run now. `None`: it has to wait.
pub fn slice(request: Request) -> Option<Duration> {
    with(|turns| turns.slice(request))
}

/// Notes that an answer has run for the time `took`.
pub fn ran(request: Request, took: Duration) {
    with(|turns| turns.ran(request, took));
    next_turn();
    next_answer();
}

/// Lets an answer wait for a turn. The answer must leave before its request is freed.
///
/// # Errors
/// There is no memory.
pub fn wait(request: Request) -> Result<(), ()> {
    with(|turns| turns.wait(request)).map_err(drop)?;
    next_turn();
    Ok(())
}

/// Whether an answer waits for its turn, not for its client.
pub fn is_waiting(request: Request) -> bool {
    with(|turns| turns.is_waiting(request))
}

/// Removes an answer that has ended.
pub fn leave(request: Request) {
    with(|turns| turns.leave(request));
    next_answer();
}
