//! Frames that one stream of HTTP/2 sends for others.
//!
//! `ngx_http_v2_send_output_queue` sends all queued frames. Most often these belong to the caller. But if the socket
//! had no room before, frames of other streams wait in the queue too. The first stream that sends when there is room
//! sends all of them, and that stream may have a small answer. So our function stands in for the connection's
//! `send_chain`. If frames have waited, the CPU time of sending is kept, and is divided in proportion to the bytes that
//! each stream has sent.

use core::marker::PhantomData;

use nginx_sys::ngx_chain_t;

use crate::measure::charge::Charge;
use crate::measure::owner::Owner;
use crate::nginx::connection::{Connection, SendChain};
use crate::nginx::hook::Hooks;
use crate::nginx::stand_in::{Call, Callable, StandIn};

/// The functions that ours stand in for: `ngx_io.send_chain`, `ngx_ssl_send_chain`, and functions of other modules.
static REAL: Hooks<SendChain, 4> = Hooks::new();

/// Reports to the layer above.
pub trait Sending: Charge {
    /// A connection is about to send frames. Returns `None` if it is not an HTTP/2 connection with requests.
    fn begin_sending(&mut self, c: Connection<'_>) -> Option<Sent<Self::Request>>;

    /// The connection has sent. `is_waiting`: frames are left, because the socket has no room.
    fn end_sending(&mut self, sent: Sent<Self::Request>, is_waiting: bool);
}

/// A connection that sends.
pub struct Sent<R> {
    /// index of the connection
    pub at: usize,
    /// the owner of the running lap, if frames have waited and there are several streams
    pub waited: Option<Owner<R>>,
}

/// Makes our function stand in for a connection's `send_chain`.
pub fn watch<W: Sending>(c: Connection<'_>) {
    let ours = [
        SendChain::ours::<Send<W, 0>>(),
        SendChain::ours::<Send<W, 1>>(),
        SendChain::ours::<Send<W, 2>>(),
        SendChain::ours::<Send<W, 3>>(),
    ];
    REAL.replace(c.send_chain(), &ours);
}

struct Send<W, const AT: usize>(PhantomData<W>);

impl<W: Sending, const AT: usize> StandIn<SendChain> for Send<W, AT> {
    #[inline]
    fn call(call: Call<'_, SendChain>) -> *mut ngx_chain_t {
        let sending = W::with(|worker| worker.begin_sending(call.connection())).flatten();
        let unsent = call.unsent();
        let rest = REAL.pass(AT, call).unwrap_or(unsent);
        if let Some(sent) = sending {
            // A connection is not closed while it sends.
            W::with(|worker| worker.end_sending(sent, !rest.is_null()));
        }
        rest
    }
}
