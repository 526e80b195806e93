//! A function of ours that is called at the beginning of the next turn of the event loop.

use core::ptr::null_mut;

use super::cycle;
use super::live::{of_static, set};
use super::timer::{Task, Timer};

/// An event of ours. Its timer is never set. It stays in memory for good.
pub struct NextTurn(Timer<Call>);

/// The function to call.
struct Call(fn());

impl Task for Call {
    fn run(&mut self) -> Option<u64> {
        (self.0)();
        None
    }
}

impl NextTurn {
    /// An event that calls this function.
    pub fn new(f: fn()) -> NextTurn {
        NextTurn(Timer::new(Call(f), null_mut()))
    }

    /// Makes the next turn of the event loop begin with this event (`ngx_process_events_and_timers`).
    pub fn post(&self) {
        let event = self.0.event();
        // The log of the running cycle is used, because the log of an earlier cycle may be gone.
        set!(event.live(), log, cycle::running_log());
        event.post(of_static!(ngx_posted_next_events));
    }
}
