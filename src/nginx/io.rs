//! Functions that NGINX calls through pointers of the event method and of the system.
//!
//! A worker has one thread that uses them. Connections get theirs when they are made.

use nginx_sys::{
    NGX_USE_CLEAR_EVENT, ngx_accept_mutex, ngx_accept_mutex_held, ngx_chain_t, ngx_connection_t, ngx_cycle_t,
    ngx_event_actions, ngx_event_flags, ngx_exiting, ngx_int_t, ngx_io, ngx_msec_t, ngx_shmtx_unlock,
    ngx_uint_t, ngx_use_accept_mutex, off_t,
};

use super::connection::{Receive, SendChain};
use super::live::Live;

/// The type of `ngx_event_actions.process_events`.
pub type ProcessEvents = unsafe extern "C" fn(*mut ngx_cycle_t, ngx_msec_t, ngx_uint_t) -> ngx_int_t;
/// The type of `ngx_event_actions.add_conn`.
pub type AddConnection = unsafe extern "C" fn(*mut ngx_connection_t) -> ngx_int_t;
/// The type of `ngx_io.recv_chain`.
pub type ReceiveChain = unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_chain_t, off_t) -> isize;

/// Where NGINX keeps the function that waits for events.
pub fn process_events() -> Live<'static, Option<ProcessEvents>> {
    // SAFETY: a static of NGINX's, which `ngx_event_process_init` has set.
    unsafe { Live::at(&raw mut ngx_event_actions.process_events) }
}

/// Where NGINX keeps the function that tells the event method of a connection. Not every event method has one.
pub fn add_connection() -> Live<'static, Option<AddConnection>> {
    // SAFETY: as in `process_events`.
    unsafe { Live::at(&raw mut ngx_event_actions.add_conn) }
}

/// Where NGINX keeps the function that reads into a chain of buffers.
pub fn receive_chain() -> Live<'static, Option<ReceiveChain>> {
    // SAFETY: a static of NGINX's, which `ngx_os_init` has set.
    unsafe { Live::at(&raw mut ngx_io.recv_chain) }
}

/// Where NGINX keeps the function that reads.
pub fn receive() -> Live<'static, Option<Receive>> {
    // SAFETY: as in `receive_chain`.
    unsafe { Live::at(&raw mut ngx_io.recv) }
}

/// Where NGINX keeps the function that sends a chain of buffers.
pub fn send_chain() -> Live<'static, Option<SendChain>> {
    // SAFETY: as in `receive_chain`.
    unsafe { Live::at(&raw mut ngx_io.send_chain) }
}

/// Whether workers accept by turns.
pub fn uses_accept_mutex() -> bool {
    // SAFETY: `ngx_event_process_init` sets it.
    unsafe { ngx_use_accept_mutex != 0 }
}

/// It is another worker's turn to accept. The event loop unlocks the mutex again, which does nothing then: it compares the holder's pid.
pub fn release_accept_mutex() {
    // SAFETY: this worker's, in shared memory.
    unsafe {
        if ngx_accept_mutex_held != 0 {
            ngx_shmtx_unlock(&raw mut ngx_accept_mutex);
        }
    }
}

/// Whether the worker was told to finish.
#[inline]
pub fn is_exiting() -> bool {
    // SAFETY: a flag that a signal's handler does not set by itself (`ngx_worker_process_cycle`).
    unsafe { ngx_exiting != 0 }
}

/// Whether the event method reports once what is there to be read, and not again and again.
pub fn reports_once() -> bool {
    // SAFETY: the event method sets it when the worker starts.
    unsafe { (&raw const ngx_event_flags).read() & NGX_USE_CLEAR_EVENT as ngx_uint_t != 0 }
}
