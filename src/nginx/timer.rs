//! Timers of ours, which belong to no connection.
//!
//! They are cancelable: a worker that was told to finish does not wait for them (`ngx_event_no_timers_left`).

use core::mem::offset_of;
use core::ptr::NonNull;

use nginx_sys::{ngx_connection_t, ngx_event_t, ngx_log_t, ngx_msec_t};

use crate::nginx::{bits, event};

/// What is done when a timer expires.
pub trait Task {
    /// Does it; after how many milliseconds it is to be done again, if it is.
    fn run(&mut self) -> Option<u64>;
}

/// A timer and its task.
#[repr(C)]
struct Inner<T> {
    /// not one: `ngx_event_ident` reads its descriptor for a debug log, where the event's data leads
    connection: ngx_connection_t,
    event: ngx_event_t,
    task: T,
}

/// A timer that stays where it is until it is stopped, since NGINX's tree of timers leads there.
pub struct Timer<T>(NonNull<Inner<T>>);

impl<T> Clone for Timer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Timer<T> {}

impl<T: Task> Timer<T> {
    /// A timer that does not run yet.
    pub fn new(task: T, log: *mut ngx_log_t) -> Timer<T> {
        const { assert!(offset_of!(Inner<T>, connection) == 0) }
        // SAFETY: all zero is how NGINX makes connections and events.
        let (connection, event) = unsafe { (core::mem::zeroed(), core::mem::zeroed()) };
        let mut inner: Box<Inner<T>> = Box::new(Inner { connection, event, task });
        inner.connection.fd = -1;
        inner.event.handler = Some(expired::<T>);
        inner.event.log = log;
        let timer = Timer(NonNull::from(Box::leak(inner)));
        // SAFETY: just made.
        unsafe {
            let event = &raw mut (*timer.0.as_ptr()).event;
            (*event).data = timer.0.as_ptr().cast();
            bits::event::CANCELABLE.set(event, 1);
        }
        timer
    }

    /// Lets it expire after so many milliseconds, instead of when it would have.
    pub fn set(self, wait_ms: u64) {
        // SAFETY: it was not stopped; only the event loop's thread uses NGINX's timers.
        unsafe { event::add_timer(&raw mut (*self.0.as_ptr()).event, wait_ms as ngx_msec_t) };
    }

    /// Whether it is going to expire.
    pub fn is_set(self) -> bool {
        // SAFETY: it was not stopped.
        unsafe { bits::event::TIMER_SET.is_set(&raw const (*self.0.as_ptr()).event) }
    }

    /// Ends it.
    ///
    /// # Safety
    /// No copy of it may be used after that.
    pub unsafe fn stop(self) -> T {
        let is_set = self.is_set();
        // SAFETY: made by `new`, and given up here.
        let mut inner = unsafe { Box::from_raw(self.0.as_ptr()) };
        if is_set {
            // SAFETY: the timer is set.
            unsafe { event::delete_timer(&raw mut inner.event) };
        }
        inner.task
    }
}

unsafe extern "C" fn expired<T: Task>(event: *mut ngx_event_t) {
    // SAFETY: `new` has put it there; `stop` deletes the timer before it frees it.
    unsafe {
        let inner = (*event).data.cast::<Inner<T>>();
        if let Some(wait_ms) = (*inner).task.run() {
            event::add_timer(event, wait_ms as ngx_msec_t);
        }
    }
}
