//! What a stream of HTTP/2 sends for others.
//!
//! `ngx_http_v2_send_output_queue` sends all frames that are queued. Most often these are the caller's own. But where the socket
//! had no room before, frames of other streams wait there too, and whoever comes first when there is room sends them: that may be a
//! small answer. So we stand in the place of the connection's `send_chain`. Where frames have waited, what it uses is kept, and divided
//! by the bytes that each stream has got out.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nginx_sys::{ngx_chain_t, ngx_connection_t, off_t};

use crate::worker::{Owner, Worker, with};

type SendChain = unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_chain_t, off_t) -> *mut ngx_chain_t;

/// What we stand in the place of, as it was found: `ngx_io.send_chain`, `ngx_ssl_send_chain`, or a function of another module. So each of
/// ours knows for good what it stands for.
static REAL: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
const SEND: [SendChain; 4] = [send::<0>, send::<1>, send::<2>, send::<3>];

/// Puts us in the place of a connection's `send_chain`.
///
/// # Safety
/// The connection must be open.
pub unsafe fn watch(c: *mut ngx_connection_t) {
    // SAFETY: as the caller says.
    unsafe {
        let Some(real) = (*c).send_chain else { return };
        if SEND.iter().any(|&ours| core::ptr::fn_addr_eq(ours, real)) {
            return;
        }
        let known = |place: &AtomicUsize| {
            let _ = place.compare_exchange(0, real as usize, Relaxed, Relaxed);
            place.load(Relaxed) == real as usize
        };
        if let Some(at) = REAL.iter().position(known) {
            (*c).send_chain = Some(SEND[at]);
        }
    }
}

unsafe extern "C" fn send<const AT: usize>(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> *mut ngx_chain_t {
    let waited = with(|worker| worker.begin_sending(c)).flatten();
    // SAFETY: as NGINX called us; `watch` has stored a function at this place before it put us there.
    let rest = unsafe { core::mem::transmute::<usize, SendChain>(REAL[AT].load(Relaxed))(c, chain, limit) };
    with(|worker| worker.end_sending(c, !rest.is_null(), waited));
    rest
}

impl Worker {
    /// Frames are about to be sent. If some have waited, and there are several streams: the owner of the running lap, and the place of the
    /// connection.
    fn begin_sending(&mut self, c: *mut ngx_connection_t) -> Option<(usize, Owner)> {
        let at = self.connections.client(c)?;
        let multiplex = self.connections.multiplex(at)?;
        // SAFETY: in the pool of an open connection; nobody has a reference while the worker is borrowed.
        let (has_waiting, streams, sending_ns) = unsafe {
            let multiplex = &*multiplex.as_ptr();
            (multiplex.has_waiting, multiplex.streams, multiplex.sending_ns)
        };
        if !has_waiting || self.owner() == Owner::Sending(at) {
            return None;
        }
        // one that is alone sends for itself only
        self.context(streams?).stream.next?;
        if sending_ns == 0 {
            self.look_at_streams(multiplex);
        }
        let owner = self.owner();
        self.read_clock();
        Some((at, owner))
    }

    fn end_sending(&mut self, c: *mut ngx_connection_t, has_rest: bool, waited: Option<(usize, Owner)>) {
        if let Some(multiplex) = self.connections.client(c).and_then(|at| self.connections.multiplex(at)) {
            // SAFETY: as in `begin_sending`.
            unsafe { (*multiplex.as_ptr()).has_waiting = has_rest };
        }
        if let Some((at, owner)) = waited {
            let ns = self.set_lap_apart();
            self.take(owner);
            self.keep_sending(at, ns);
        }
    }
}
