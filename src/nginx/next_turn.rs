//! A function of ours that is called at the beginning of the next turn of the event loop.

use core::cell::UnsafeCell;
use core::mem::{offset_of, zeroed};

use nginx_sys::{ngx_connection_t, ngx_cycle, ngx_event_t, ngx_posted_next_events};

use crate::nginx::event;

/// An event of ours. It stays where it is, since NGINX's queues lead there.
pub struct NextTurn(&'static UnsafeCell<Inner>);

#[repr(C)]
struct Inner {
    /// not one: `ngx_event_ident` reads its descriptor for a debug log, where the event's data leads
    connection: ngx_connection_t,
    event: ngx_event_t,
    f: fn(),
}

impl NextTurn {
    /// For a function. It stays in memory for good.
    pub fn new(f: fn()) -> NextTurn {
        const { assert!(offset_of!(Inner, connection) == 0) }
        // SAFETY: all zero is how NGINX makes connections and events.
        let (mut connection, mut event): (ngx_connection_t, ngx_event_t) = unsafe { (zeroed(), zeroed()) };
        connection.fd = -1;
        event.handler = Some(run);
        NextTurn(Box::leak(Box::new(UnsafeCell::new(Inner { connection, event, f }))))
    }

    /// The next turn of the event loop is to begin with it.
    pub fn post(&self) {
        let inner = self.0.get();
        // SAFETY: never freed. `ngx_process_events_and_timers` runs this queue in the next turn. The log is the
        // running cycle's: that of an earlier one may be gone. Only the event loop's thread uses all this: the
        // type is not `Sync`.
        unsafe {
            let event = &raw mut (*inner).event;
            (*event).data = inner.cast();
            (*event).log = (*ngx_cycle).log;
            event::post(event, &raw mut ngx_posted_next_events);
        }
    }
}

unsafe extern "C" fn run(event: *mut ngx_event_t) {
    // SAFETY: `post` has set it, and it is never freed.
    let f = unsafe { (*(*event).data.cast::<Inner>()).f };
    f();
}
