//! Timers that one owner has, and can stop.

use core::cell::Cell;
use std::rc::Rc;

use nginx_sys::ngx_log_t;

use super::timer::{Task, Timer};

/// A timer of which there is no copy.
pub struct OwnTimer<T: 'static> {
    timer: Timer<Watched<T>>,
    is_running: Rc<Cell<bool>>,
}

/// A task that tells whether it runs.
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

    /// Lets it expire after so many milliseconds, instead of when it would have.
    pub fn set(&self, wait_ms: u64) {
        self.timer.set(wait_ms);
    }

    /// Whether it is going to expire.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.timer.is_set()
    }

    /// Ends it. `None` if its own task calls this: then it goes on.
    pub fn stop(self) -> Option<T> {
        if self.is_running.get() {
            return None;
        }
        // SAFETY: there is no other copy, and its task does not run.
        Some(unsafe { self.timer.stop() }.task)
    }
}
