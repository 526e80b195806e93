//! Functions that NGINX calls through pointers of the event method and of the system.
//!
//! Only one thread of a worker uses them. A connection gets its functions when it is made.

use nginx_sys::{
    NGX_USE_CLEAR_EVENT, ngx_chain_t, ngx_connection_t, ngx_cycle_t, ngx_int_t, ngx_msec_t, ngx_uint_t, off_t,
};

use super::connection::Receive;
use super::functions;
use super::live::{Live, member, of_static};

/// The type of `ngx_event_actions.process_events`.
pub type ProcessEvents = unsafe extern "C" fn(*mut ngx_cycle_t, ngx_msec_t, ngx_uint_t) -> ngx_int_t;
/// The type of `ngx_event_actions.add_conn`.
pub type AddConnection = unsafe extern "C" fn(*mut ngx_connection_t) -> ngx_int_t;
/// The type of `ngx_io.recv_chain`.
pub type ReceiveChain = unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_chain_t, off_t) -> isize;

/// NGINX's pointer to the function that waits for events.
pub fn process_events() -> Live<'static, Option<ProcessEvents>> {
    member!(of_static!(ngx_event_actions), process_events)
}

/// NGINX's pointer to the function that registers a connection with the event method. Not every event method has such a
/// function.
pub fn add_connection() -> Live<'static, Option<AddConnection>> {
    member!(of_static!(ngx_event_actions), add_conn)
}

/// NGINX's pointer to the function that reads into a chain of buffers.
pub fn receive_chain() -> Live<'static, Option<ReceiveChain>> {
    member!(of_static!(ngx_io), recv_chain)
}

/// NGINX's pointer to the function that reads.
pub fn receive() -> Live<'static, Option<Receive>> {
    member!(of_static!(ngx_io), recv)
}

#[cfg(ngx_feature = "threads")]
/// NGINX's pointer to the function that sends a chain of buffers.
pub fn send_chain() -> Live<'static, Option<super::connection::SendChain>> {
    member!(of_static!(ngx_io), send_chain)
}

/// Whether workers accept connections by turns.
pub fn uses_accept_mutex() -> bool {
    of_static!(ngx_use_accept_mutex).read() != 0
}

/// Unlocks the accept mutex, so that another worker can accept. The event loop unlocks the mutex again. That has no
/// effect, because it compares the holder's pid.
pub fn release_accept_mutex() {
    if of_static!(ngx_accept_mutex_held).read() != 0 {
        functions::shmtx_unlock(of_static!(ngx_accept_mutex));
    }
}

/// Whether the worker was told to finish.
#[inline]
pub fn is_exiting() -> bool {
    of_static!(ngx_exiting).read() != 0
}

/// Whether the event method reports readable data only once, and not again and again.
pub fn reports_once() -> bool {
    of_static!(ngx_event_flags).read() & NGX_USE_CLEAR_EVENT as ngx_uint_t != 0
}

/// The number of this worker: 0, 1, and so on.
pub fn worker_number() -> u32 {
    // NGINX sets it before the worker starts.
    global!(ngx_worker) as u32
}
