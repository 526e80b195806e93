//! Timers of ours. They belong to no connection.
//!
//! They are cancelable: a worker that was told to finish does not wait for them (`ngx_event_no_timers_left`).

use core::mem::offset_of;

use nginx_sys::{ngx_connection_t, ngx_event_t, ngx_log_t, ngx_msec_t};

use super::bits;
use super::event::{Event, EventHandler};
use super::live::{Live, get, member, set};
use super::zero::zeroed;

/// The work at the expiry of a timer.
pub trait Task: 'static {
    /// Does the work. Returns the milliseconds until the next expiry, or `None` if the timer is not to run again.
    fn run(&mut self) -> Option<u64>;
}

/// A timer and its task.
#[repr(C)]
struct Inner<T> {
    /// no real connection: the event's data leads here, and `ngx_event_ident` reads the descriptor for a debug log
    connection: ngx_connection_t,
    event: ngx_event_t,
    task: T,
}

/// A timer that does not move until it is stopped, since NGINX's tree of timers has pointers to it.
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

    /// The event. NGINX uses it until the timer is stopped.
    pub(super) fn event(self) -> Event<'static> {
        Event::of(member!(self.0, event))
    }

    /// Makes the timer expire after this many milliseconds. An earlier setting is replaced.
    pub fn set(self, wait_ms: u64) {
        self.event().add_timer(wait_ms as ngx_msec_t);
    }

    /// Whether the timer is going to expire.
    pub fn is_set(self) -> bool {
        self.event().has_timer()
    }

    /// Stops the timer.
    ///
    /// # Safety
    /// No copy of the timer, and no value that was got from one, may be used afterwards.
    pub unsafe fn stop(self) -> T {
        self.event().delete_timer();
        // SAFETY: `new` has made the value, and it is given up here: NGINX no longer has a pointer to it.
        unsafe { Box::from_raw(self.0.as_ptr()) }.task
    }
}

unsafe extern "C" fn expired<T: Task>(event: *mut ngx_event_t) {
    // SAFETY: NGINX calls with the event that `new` has made, whose data is the timer. `stop` deletes the timer before
    // it frees that memory, and nothing else uses the task.
    let (event, task) = unsafe {
        let event = Live::at(event);
        (Event::of(event), &mut (*get!(event, data).cast::<Inner<T>>()).task)
    };
    if let Some(wait_ms) = task.run() {
        event.add_timer(wait_ms as ngx_msec_t);
    }
}
