//! A function of ours that is called at the beginning of the next turn of the event loop.

use core::ptr::null_mut;

use super::cycle;
use super::live::{of_static, set};
use super::timer::{Task, Timer};

/// An event of ours, whose timer is never set. It stays in memory for good.
pub struct NextTurn(Timer<Call>);

/// What is called.
struct Call(fn());

impl Task for Call {
    fn run(&mut self) -> Option<u64> {
        (self.0)();
        None
    }
}

impl NextTurn {
    /// For a function.
    pub fn new(f: fn()) -> NextTurn {
        NextTurn(Timer::new(Call(f), null_mut()))
    }

    /// The next turn of the event loop is to begin with it (`ngx_process_events_and_timers`).
    pub fn post(&self) {
        let event = self.0.event();
        // the running cycle's: that of an earlier one may be gone
        set!(event.live(), log, cycle::running_log());
        event.post(of_static!(ngx_posted_next_events));
    }
}
