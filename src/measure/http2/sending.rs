//! Frames that a stream of HTTP/2 sends for others.
//!
//! `ngx_http_v2_send_output_queue` sends all frames that are queued. Most often these are the caller's own. But where
//! the socket had no room before, frames of other streams wait there too, and whoever comes first when there is room
//! sends them: that may be a small answer. So we stand in the place of the connection's `send_chain`. Where frames
//! have waited, the CPU time of sending is kept, and divided by the bytes that each stream has got out.

use core::marker::PhantomData;

use nginx_sys::ngx_chain_t;

use crate::measure::charge::Charge;
use crate::measure::owner::Owner;
use crate::nginx::connection::{Connection, SendChain};
use crate::nginx::hook::Hooks;
use crate::nginx::stand_in::{Call, Callable, StandIn};

/// `ngx_io.send_chain`, `ngx_ssl_send_chain`, and functions of other modules.
static REAL: Hooks<SendChain, 4> = Hooks::new();

/// What is told to the layer above.
pub trait Sending: Charge {
    /// A connection is about to send frames. `None` if it is not one of HTTP/2 with requests.
    fn begin_sending(&mut self, c: Connection<'_>) -> Option<Sent<Self::Request>>;

    /// It has sent. `is_waiting`: frames are left, since the socket has no room.
    fn end_sending(&mut self, sent: Sent<Self::Request>, is_waiting: bool);
}

/// A connection that sends.
pub struct Sent<R> {
    /// its place
    pub at: usize,
    /// the owner of the running lap, if frames have waited and there are several streams
    pub waited: Option<Owner<R>>,
}

/// Puts us in the place of a connection's `send_chain`.
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
            // a connection is not closed while it sends
            W::with(|worker| worker.end_sending(sent, !rest.is_null()));
        }
        rest
    }
}
