//! Timers of ours, which belong to no connection.
//!
//! They are cancelable: a worker that was told to finish does not wait for them (`ngx_event_no_timers_left`).

use core::mem::offset_of;

use nginx_sys::{ngx_connection_t, ngx_event_t, ngx_log_t, ngx_msec_t};

use super::bits;
use super::event::{Event, EventHandler};
use super::live::{Live, get, member, set};
use super::zero::zeroed;

/// What is done when a timer expires.
pub trait Task: 'static {
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
pub struct Timer<T: 'static>(Live<'static, Inner<T>>);

impl<T: 'static> Clone for Timer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: 'static> Copy for Timer<T> {}

impl<T: Task> Timer<T> {
    /// A timer that does not run yet.
    pub fn new(task: T, log: *mut ngx_log_t) -> Timer<T> {
        const { assert!(offset_of!(Inner<T>, connection) == 0) }
        let mut connection: ngx_connection_t = zeroed();
        connection.fd = -1;
        let timer = Timer(Live::ours(Box::leak(Box::new(Inner { connection, event: zeroed(), task }))));
        let event = timer.event();
        set!(event.live(), handler, Some(expired::<T> as EventHandler));
        set!(event.live(), data, timer.0.as_ptr().cast());
        set!(event.live(), log, log);
        bits::event::CANCELABLE.put(event.live(), 1);
        timer
    }

    /// The event, which is NGINX's to use until the timer is stopped.
    pub(super) fn event(self) -> Event<'static> {
        Event::of(member!(self.0, event))
    }

    /// Lets it expire after so many milliseconds, instead of when it would have.
    pub fn set(self, wait_ms: u64) {
        self.event().add_timer(wait_ms as ngx_msec_t);
    }

    /// Whether it is going to expire.
    pub fn is_set(self) -> bool {
        self.event().has_timer()
    }

    /// Ends it.
    ///
    /// # Safety
    /// No copy of it, and nothing that was got from one, may be used after that.
    pub unsafe fn stop(self) -> T {
        self.event().delete_timer();
        // SAFETY: made by `new`, and given up here: NGINX no longer knows of it.
        unsafe { Box::from_raw(self.0.as_ptr()) }.task
    }
}

unsafe extern "C" fn expired<T: Task>(event: *mut ngx_event_t) {
    // SAFETY: NGINX calls with the event that `new` has made, with the timer as its data. `stop` deletes the timer
    // before it frees that, and nothing else uses the task.
    let (event, task) = unsafe {
        let event = Live::at(event);
        (Event::of(event), &mut (*get!(event, data).cast::<Inner<T>>()).task)
    };
    if let Some(wait_ms) = task.run() {
        event.add_timer(wait_ms as ngx_msec_t);
    }
}
