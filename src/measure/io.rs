//! The work in a handler call shows its owner.
//!
//! Several requests can wait for one event that does not belong to them: the answer of a name server, or the
//! completions of thread pools, which `ngx_thread_pool_handler` goes through in one handler call. When NGINX goes on
//! with such a request, the request opens a connection or reads from an upstream. NGINX does both through pointers that
//! it keeps for its event method and system: `ngx_event_actions`, `ngx_io`. So our functions stand in for these two,
//! and the connection's log shows which request is running.

use core::marker::PhantomData;

use nginx_sys::{NGX_ERROR, ngx_int_t};

use crate::measure::attribution::{Attribute, attribute_by_connection};
use crate::nginx::hook::Hook;
use crate::nginx::io::{self, AddConnection, ReceiveChain};
use crate::nginx::stand_in::{Call, Callable, StandIn};

static ADD_CONNECTION: Hook<AddConnection> = Hook::new();
static RECEIVE_CHAIN: Hook<ReceiveChain> = Hook::new();

/// Called in `init_process`. Connections get their functions from `ngx_io` later, when they are made.
pub fn hook<W: Attribute>() {
    ADD_CONNECTION.replace(io::add_connection(), AddConnection::ours::<Opened<W>>());
    RECEIVE_CHAIN.replace(io::receive_chain(), ReceiveChain::ours::<Received<W>>());
}

/// `ngx_event_connect_peer` has opened a connection, and has set its log. `ngx_http_upstream_resolve_handler` calls
/// that function.
struct Opened<W>(PhantomData<W>);

impl<W: Attribute> StandIn<AddConnection> for Opened<W> {
    #[inline]
    fn call(call: Call<'_, AddConnection>) -> ngx_int_t {
        attribute_by_connection::<W>(call.connection());
        ADD_CONNECTION.pass(call).unwrap_or(NGX_ERROR as ngx_int_t)
    }
}

/// `ngx_event_pipe_read_upstream` goes on with an upstream's answer. A part of that answer was written to a file.
struct Received<W>(PhantomData<W>);

impl<W: Attribute> StandIn<ReceiveChain> for Received<W> {
    #[inline]
    fn call(call: Call<'_, ReceiveChain>) -> isize {
        attribute_by_connection::<W>(call.connection());
        RECEIVE_CHAIN.pass(call).unwrap_or(NGX_ERROR as isize)
    }
}
