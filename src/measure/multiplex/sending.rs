//! What a stream of HTTP/2 sends for others.
//!
//! `ngx_http_v2_send_output_queue` sends all frames that are queued. Most often these are the caller's own. But where the socket
//! had no room before, frames of other streams wait there too, and whoever comes first when there is room sends them: that may be a
//! small answer. So we stand in the place of the connection's `send_chain`. Where frames have waited, what it uses is kept, and divided
//! by the bytes that each stream has got out.

use core::ptr::NonNull;

use nginx_sys::{ngx_chain_t, ngx_connection_t, off_t};

use super::Multiplex;
use crate::charge::worker::{Owner, Worker, with};
use crate::nginx::hook::Hooks;

type SendChain = unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_chain_t, off_t) -> *mut ngx_chain_t;

/// `ngx_io.send_chain`, `ngx_ssl_send_chain`, and functions of other modules.
static REAL: Hooks<SendChain, 4> = Hooks::new();
const SEND: [SendChain; 4] = [send::<0>, send::<1>, send::<2>, send::<3>];

/// Puts us in the place of a connection's `send_chain`.
///
/// # Safety
/// The connection must be open.
pub unsafe fn watch(c: *mut ngx_connection_t) {
    // SAFETY: as the caller says.
    unsafe { REAL.replace(&raw mut (*c).send_chain, &SEND) };
}

unsafe extern "C" fn send<const AT: usize>(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> *mut ngx_chain_t {
    let Some(real) = REAL.real(AT) else { return chain };
    let sending = with(|worker| worker.begin_sending(c)).flatten();
    // SAFETY: as NGINX called us.
    let rest = unsafe { real(c, chain, limit) };
    if let Some(Sending { multiplex, waited }) = sending {
        // SAFETY: in the pool of the connection, which is not closed while it sends; `with` is not running.
        unsafe { (*multiplex.as_ptr()).has_waiting = !rest.is_null() };
        if let Some((at, owner)) = waited {
            with(|worker| worker.end_sending(at, owner));
        }
    }
    rest
}

struct Sending {
    multiplex: NonNull<Multiplex>,
    /// if frames have waited, and there are several streams: the place of the connection, and the owner of the running lap
    waited: Option<(usize, Owner)>,
}

impl Worker {
    /// Frames are about to be sent.
    #[inline]
    fn begin_sending(&mut self, c: *mut ngx_connection_t) -> Option<Sending> {
        let at = self.connections.client(c)?;
        let multiplex = self.connections.multiplex(at)?;
        let waited = if self.multiplex(at)?.has_waiting { self.begin_sending_for_all(at) } else { None };
        Some(Sending { multiplex, waited })
    }

    #[cold]
    fn begin_sending_for_all(&mut self, at: usize) -> Option<(usize, Owner)> {
        if self.owner() == Owner::Sending(at) {
            return None;
        }
        let &Multiplex { streams, sending_ns, .. } = self.multiplex(at)?;
        // one that is alone sends for itself only
        self.context(streams?).stream.next?;
        if sending_ns == 0 {
            self.look_at_streams(at);
        }
        let owner = self.owner();
        self.read_clock();
        Some((at, owner))
    }

    #[cold]
    fn end_sending(&mut self, at: usize, owner: Owner) {
        let ns = self.set_lap_apart();
        self.take(owner);
        self.keep_sending(at, ns);
    }
}
