//! Frames that a stream of HTTP/2 sends for others.
//!
//! `ngx_http_v2_send_output_queue` sends all frames that are queued. Most often these are the caller's own. But where
//! the socket had no room before, frames of other streams wait there too, and whoever comes first when there is room
//! sends them: that may be a small answer. So we stand in the place of the connection's `send_chain`. Where frames
//! have waited, the CPU time of sending is kept, and divided by the bytes that each stream has got out.

use nginx_sys::{ngx_chain_t, ngx_connection_t, off_t};

use crate::measure::charge::Charge;
use crate::measure::owner::Owner;
use crate::nginx::connection::{Connection, SendChain};
use crate::nginx::hook::Hooks;

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
    REAL.replace(c.send_chain(), &[send::<W, 0>, send::<W, 1>, send::<W, 2>, send::<W, 3>]);
}

unsafe extern "C" fn send<W: Sending, const AT: usize>(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> *mut ngx_chain_t {
    let Some(real) = REAL.real(AT) else { return chain };
    // SAFETY: as NGINX called us: with a connection that is open.
    let (sending, rest) = unsafe {
        let c = Connection::new(c);
        (W::with(|worker| worker.begin_sending(c)).flatten(), real(c.as_ptr(), chain, limit))
    };
    if let Some(sent) = sending {
        // a connection is not closed while it sends
        W::with(|worker| worker.end_sending(sent, !rest.is_null()));
    }
    rest
}
