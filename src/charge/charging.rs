//! How this worker reacts to the events that the layer below reports.

#[cfg(ngx_feature = "http_v2")]
use nginx_sys::ngx_atomic_uint_t;
use nginx_sys::ngx_cycle_t;

#[cfg(ngx_feature = "http_v2")]
use accounting::account::Usage;

use crate::charge::context::{RequestId, find};
use crate::charge::phases;
use crate::charge::worker::{self, Owner, Worker};
use crate::measure::attribution::Attribute;
use crate::measure::charge::Charge;
use crate::measure::event_loop::EventLoop;
#[cfg(ngx_feature = "http_v2")]
use crate::measure::http2::frames::{self, FrameHook, Frames};
#[cfg(ngx_feature = "http_v2")]
use crate::measure::http2::sending::{Sending, Sent};
use crate::measure::laps::Laps;
use crate::measure::listeners::Clients;
use crate::measure::quic::Datagrams;
use crate::measure::received::{Late, Received, Receivers};
#[cfg(ngx_feature = "threads")]
use crate::measure::threads::PoolThreads;
use crate::measure::tls::Handshakes;
use crate::nginx::connection::Connection;
use crate::nginx::event::Event;
#[cfg(ngx_feature = "http_v2")]
use crate::nginx::http2::Http2;
use crate::nginx::places::Places;
use crate::nginx::request::Request;
use crate::nginx::thread::keep_library;

impl Charge for Worker {
    type Request = RequestId;

    #[inline]
    fn with<T>(f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        worker::with(f)
    }

    #[inline]
    fn laps(&mut self) -> &mut Laps<RequestId> {
        &mut self.laps
    }

    #[inline]
    fn lap(&mut self, owner: Owner, lap_ns: u64) {
        match owner {
            Owner::Loop | Owner::Listener => self.laps.totals.loop_ns += lap_ns,
            Owner::Nobody => self.laps.totals.other_ns += lap_ns,
            Owner::NoRequest => self.laps.totals.no_request_ns += lap_ns,
            Owner::Connection(at) => self.connections.charge(at, lap_ns, &mut self.laps.totals),
            Owner::Header(at) => self.connections.charge_header(at, lap_ns, &mut self.laps.totals),
            #[cfg(ngx_feature = "http_v2")]
            Owner::Apart => {
                self.laps.totals.charged_ns += lap_ns;
                self.laps.keep_apart(lap_ns);
            }
            Owner::Sending(at) => {
                self.laps.totals.charged_ns += lap_ns;
                self.charge_sending(at, lap_ns);
            }
            Owner::Request(context) => {
                self.laps.totals.charged_ns += lap_ns;
                #[cfg(feature = "audit")]
                if !self.context(context).stopped {
                    let audited = self.laps.audited;
                    self.context(context).audited.add(audited);
                }
                self.charge_request(context, lap_ns);
            }
            Owner::Accounts => {
                self.laps.totals.charged_ns += lap_ns;
                self.zones.charge(self.laps.meter.recent_ns(), &self.last, lap_ns);
            }
        }
    }

    #[cfg(ngx_feature = "http_v2")]
    #[inline]
    fn share(&mut self, owner: Owner, ns: u64) {
        match owner {
            Owner::Request(context) => {
                self.touch(context);
                self.charge_request(context, ns);
            }
            Owner::Header(at) => self.connections.keep_header(at, ns),
            Owner::Connection(at) => self.connections.keep(at, ns),
            // other owners get no share of frames
            _ => {}
        }
    }
}

impl Attribute for Worker {
    #[inline]
    fn places(&self) -> &Places {
        self.connections.places()
    }

    #[inline]
    fn find_request(main: Request<'_>) -> Option<RequestId> {
        find(main)
    }

    #[inline]
    fn attribute(&mut self, request: RequestId) {
        self.attribute_to(request);
    }

    #[inline]
    fn is_client(&self, at: usize) -> bool {
        self.connections.is_client(at)
    }

    #[inline]
    fn open_client(&self, at: usize) -> Option<Connection<'_>> {
        self.connections.open_client(at)
    }

    #[inline]
    fn owner_of_client(&mut self, at: usize, event: &Event<'_>) -> Option<Owner> {
        let owner = self.connections.client_owner(at)?;
        Some(match self.connections.multiplex(at) {
            Some(_) => self.owner_of_stream(at, event),
            None => owner,
        })
    }

    fn is_quic(&self, at: usize) -> bool {
        self.is_quic_connection(at)
    }

    fn set_upstream(&mut self, at: usize, request: RequestId) {
        self.connections.set_upstream(at, &self.contexts.get(request).accounts);
    }

    fn owner_of_upstream(&mut self, at: usize) -> Option<Owner> {
        let accounts = self.connections.upstream_accounts(at)?;
        self.set_last(&accounts);
        Some(Owner::Accounts)
    }
}

impl Handshakes for Worker {
    #[inline]
    fn fresh(&self, at: usize) -> Option<Connection<'_>> {
        self.connections.fresh(at)
    }

    fn end_handshake(&mut self, at: usize) {
        self.end_tls_handshake(at);
    }
}

impl Datagrams for Worker {
    #[cfg(ngx_feature = "http_v3")]
    fn begin_datagram(&mut self, at: usize) {
        self.divide_before_datagram(at);
    }

    #[cfg(not(ngx_feature = "http_v3"))]
    fn begin_datagram(&mut self, _at: usize) {}
}

impl Clients for Worker {
    fn open_connection(&mut self, at: usize) {
        self.open(at);
    }

    fn mark_other(&mut self, at: usize) {
        self.set_other(at);
    }

    fn close_connection(&mut self, at: usize) {
        self.close(at);
    }
}

impl Late for Worker {
    #[cfg(ngx_feature = "http_v2")]
    fn add_received(&mut self, c: Connection<'_>, bytes: u64) {
        if let Some(at) = self.connections.client(c) {
            let accounts = self.connections.accounts(at).clone();
            let usage = Usage { received_bytes: bytes, ..Usage::default() };
            self.zones.add(self.laps.meter.recent_ns(), &accounts, &usage);
        }
    }
}

impl Receivers for Worker {
    fn receiver(&mut self, c: Connection<'_>) -> Option<(RequestId, &mut Received)> {
        let request = self.connections.request_of(c)?;
        Some((request, &mut self.context(request).received))
    }
}

#[cfg(ngx_feature = "threads")]
impl PoolThreads for Worker {
    #[inline]
    fn is_measuring() -> bool {
        worker::is_measuring()
    }

    fn charge_pool_thread(r: Request<'_>, ns: u64) {
        phases::charge_pool_thread(r, ns);
    }
}

#[cfg(ngx_feature = "http_v2")]
impl Sending for Worker {
    #[inline]
    fn begin_sending(&mut self, c: Connection<'_>) -> Option<Sent<RequestId>> {
        let at = self.connections.client(c)?;
        let waited = if self.multiplex(at)?.has_waiting { self.begin_sending_for_all(at) } else { None };
        Some(Sent { at, waited })
    }

    #[inline]
    fn end_sending(&mut self, sent: Sent<RequestId>, is_waiting: bool) {
        if let Some(multiplex) = self.multiplex_mut(sent.at) {
            multiplex.has_waiting = is_waiting;
        }
        if let Some(owner) = sent.waited {
            self.end_sending_for_all(sent.at, owner);
        }
    }
}

#[cfg(ngx_feature = "http_v2")]
impl Frames for Worker {
    #[inline]
    fn frame_hook(&mut self) -> &mut FrameHook {
        &mut self.frame_hook
    }

    fn http2(&self, at: usize) -> Option<Http2<'_>> {
        self.multiplex(at)?.http2()
    }

    fn stream(&mut self, at: usize, id: usize) -> Option<RequestId> {
        self.find_stream(at, id)
    }

    fn drop_header(&mut self, at: usize) {
        self.connections.drop_header(at);
    }

    fn has_number(&self, at: usize, number: ngx_atomic_uint_t) -> bool {
        self.connections.has_number(at, number)
    }

    fn charge_closed(&mut self, at: usize, ns: u64) {
        self.charge_connection(at, ns);
    }
}

impl EventLoop for Worker {
    /// A reload in single-process mode creates a new cycle without calling `init_process`
    /// (`ngx_single_process_cycle`). The hooks belong to the old cycle, so measuring stops.
    #[inline]
    fn enter_loop(cycle: *const ngx_cycle_t) -> bool {
        let entered = worker::with(|worker| {
            if !worker.cycle.is(cycle) {
                return Some(worker.exit);
            }
            // NGINX may have called handlers outside of the event-loop hook: `ngx_close_idle_connections` calls them
            // itself.
            if worker.owner() != Owner::Loop {
                worker.switch(Owner::Loop);
            }
            None
        });
        if let Some(Some(exit)) = entered {
            // When the old cycle is gone, `ngx_clean_old_cycles` may unload the module, but its hooks are still in
            // place.
            keep_library();
            exit(false);
        }
        entered == Some(None)
    }

    #[inline]
    fn begin_turn(&mut self) {
        self.laps.end_wait();
        // This comes before the first request: the thread may have slept for hours, and the clock may be inexact.
        self.tick_if_due();
    }

    #[inline]
    fn end_turn(&mut self) {
        self.zones.flush(self.laps.meter.now_ns());
        self.show();
    }

    #[inline]
    fn begin_handler_call(&mut self, owner: Owner) {
        self.laps.begin_handler_call(owner);
        if let Owner::Request(context) = owner {
            self.touch(context);
        }
    }

    /// Ends the lap of the handler. The same clock reading starts the next lap.
    #[inline]
    fn end_handler_call(&mut self) {
        match self.owner() {
            Owner::Connection(at) => self.end_connection_call(at),
            // see `free_stream`
            Owner::Header(at) if !self.looks_at_frames() => self.take(Owner::Connection(at)),
            _ => {}
        }
        self.switch(Owner::Loop);
        if self.connections.has_uncharged() {
            self.start_flush_timer();
        }
        #[cfg(feature = "audit")]
        self.laps.audit.end_wakeup();
        #[cfg(ngx_feature = "http_v2")]
        frames::unset(self);
    }

    #[inline]
    fn after_handler_call() {
        while let Some(context) = worker::with(Worker::next_touched).flatten() {
            phases::after_handler_call(context);
        }
    }

    #[inline]
    fn waiting(&mut self) -> &mut Vec<Event<'static>> {
        &mut self.waiting
    }
}
