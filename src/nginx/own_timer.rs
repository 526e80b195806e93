//! Timers with a single owner, who can stop them.

use core::cell::Cell;
use std::rc::Rc;

use nginx_sys::ngx_log_t;

use super::timer::{Task, Timer};

/// A timer that has no copies.
pub struct OwnTimer<T: 'static> {
    timer: Timer<Watched<T>>,
    is_running: Rc<Cell<bool>>,
}

/// A task that records whether it is running.
struct Watched<T: 'static> {
    task: T,
    is_running: Rc<Cell<bool>>,
}

impl<T: Task> Task for Watched<T> {
    fn run(&mut self) -> Option<u64> {
        self.is_running.set(true);
        let wait_ms = self.task.run();
        self.is_running.set(false);
        wait_ms
    }
}

impl<T: Task> OwnTimer<T> {
    /// A timer that does not run yet.
    pub fn new(task: T, log: *mut ngx_log_t) -> OwnTimer<T> {
        let is_running = Rc::<Cell<bool>>::default();
        let watched = Watched { task, is_running: is_running.clone() };
        OwnTimer { timer: Timer::new(watched, log), is_running }
    }

    /// Makes the timer expire after this many milliseconds. An earlier setting is replaced.
    pub fn set(&self, wait_ms: u64) {
        self.timer.set(wait_ms);
    }

    /// Whether the timer is going to expire.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.timer.is_set()
    }

    /// Stops the timer. Returns `None` if the timer's own task calls this; then the timer goes on.
    pub fn stop(self) -> Option<T> {
        if self.is_running.get() {
            return None;
        }
        // SAFETY: There is no other copy, and the timer's task is not running.
        Some(unsafe { self.timer.stop() }.task)
    }
}
