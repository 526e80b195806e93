//! The work in a handler call tells its owner.
//!
//! Several requests can wait for one event that is not theirs: the answer of a name server, or the completions of
//! thread pools, which `ngx_thread_pool_handler` goes through in one handler call. Once it is their turn, they open a
//! connection or read from an upstream, and NGINX does both through pointers that it keeps for its event method and
//! system: `ngx_event_actions`, `ngx_io`. So we stand in the place of these two functions, and let the connection's
//! log tell whose turn it is.

use nginx_sys::{NGX_ERROR, ngx_chain_t, ngx_connection_t, ngx_int_t, off_t};

use crate::measure::attribution::{Attribute, attribute_by_connection};
use crate::nginx::connection::Connection;
use crate::nginx::hook::Hook;
use crate::nginx::io::{self, AddConnection, ReceiveChain};

static ADD_CONNECTION: Hook<AddConnection> = Hook::new();
static RECEIVE_CHAIN: Hook<ReceiveChain> = Hook::new();

/// Called in `init_process`: connections get their functions from `ngx_io` when they are made, which is later.
pub fn hook<W: Attribute>() {
    ADD_CONNECTION.replace(io::add_connection(), add_connection::<W>);
    RECEIVE_CHAIN.replace(io::receive_chain(), receive_chain::<W>);
}

/// `ngx_event_connect_peer` has opened a connection, whose log it has set: `ngx_http_upstream_resolve_handler` gets
/// there.
unsafe extern "C" fn add_connection<W: Attribute>(c: *mut ngx_connection_t) -> ngx_int_t {
    let Some(real) = ADD_CONNECTION.real() else { return NGX_ERROR as ngx_int_t };
    // SAFETY: as NGINX called us: with a connection that is open.
    unsafe {
        attribute_by_connection::<W>(Connection::new(c));
        real(c)
    }
}

/// `ngx_event_pipe_read_upstream` goes on with an upstream's answer, of which a part was written to a file.
unsafe extern "C" fn receive_chain<W: Attribute>(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> isize {
    let Some(real) = RECEIVE_CHAIN.real() else { return NGX_ERROR as isize };
    // SAFETY: as NGINX called us: with a connection that is open.
    unsafe {
        attribute_by_connection::<W>(Connection::new(c));
        real(c, chain, limit)
    }
}
