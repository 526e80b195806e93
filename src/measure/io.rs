//! What a wakeup does tells whose it is.
//!
//! Several requests can wait for one event that is not theirs: the answer of a name server, or the completions of thread pools,
//! which `ngx_thread_pool_handler` goes through in one wakeup. Once it is their turn, they open a connection or read from an
//! upstream, and NGINX does both through pointers that it keeps for its event method and system: `ngx_event_actions`, `ngx_io`.
//! So we stand in the place of these two functions, and let the connection's log tell whose turn it is.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nginx_sys::{ngx_chain_t, ngx_connection_t, ngx_event_actions, ngx_int_t, ngx_io, off_t};

use crate::measure::attribution;

type AddConnection = unsafe extern "C" fn(*mut ngx_connection_t) -> ngx_int_t;
type ReceiveChain = unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_chain_t, off_t) -> isize;

static ADD_CONNECTION: AtomicUsize = AtomicUsize::new(0);
static RECEIVE_CHAIN: AtomicUsize = AtomicUsize::new(0);

/// Called in `init_process`: connections get their functions from `ngx_io` when they are made, which is later.
pub fn hook() {
    // SAFETY: this process has one thread that uses them, and it is here. Not every event method has `add_conn`.
    unsafe {
        let add_connection_slot = &raw mut ngx_event_actions.add_conn;
        if let Some(real) = add_connection_slot.read() {
            ADD_CONNECTION.store(real as usize, Relaxed);
            add_connection_slot.write(Some(add_connection));
        }
        let receive_chain_slot = &raw mut ngx_io.recv_chain;
        if let Some(real) = receive_chain_slot.read() {
            RECEIVE_CHAIN.store(real as usize, Relaxed);
            receive_chain_slot.write(Some(receive_chain));
        }
    }
}

/// `ngx_event_connect_peer` has opened a connection, whose log it has set: `ngx_http_upstream_resolve_handler` gets there.
unsafe extern "C" fn add_connection(c: *mut ngx_connection_t) -> ngx_int_t {
    // SAFETY: as NGINX called us; `hook` has stored a function of this type.
    unsafe {
        attribution::claim_by_connection(c);
        core::mem::transmute::<usize, AddConnection>(ADD_CONNECTION.load(Relaxed))(c)
    }
}

/// `ngx_event_pipe_read_upstream` goes on with an upstream's answer, of which a part was written to a file.
unsafe extern "C" fn receive_chain(c: *mut ngx_connection_t, chain: *mut ngx_chain_t, limit: off_t) -> isize {
    // SAFETY: as NGINX called us; `hook` has stored a function of this type.
    unsafe {
        attribution::claim_by_connection(c);
        core::mem::transmute::<usize, ReceiveChain>(RECEIVE_CHAIN.load(Relaxed))(c, chain, limit)
    }
}
