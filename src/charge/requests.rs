//! The steps of a request: attributed, taken over, added to its accounts, finished.

use accounting::account::Outcome;
use accounting::pending_charges::Ended;

use crate::charge::context::RequestId;
use crate::charge::counted_by::location;
use crate::charge::share::Beyond;
use crate::charge::verdict::Charge;
use crate::charge::worker::{Owner, Worker};
use crate::config::location::LocConf;
use crate::measure::charge::Charge as _;
use accounting::account_set::AccountSet;

impl Worker {
    /// Attributes the running lap to a request. If the handler call has no owner yet, this covers the call from its
    /// start.
    #[inline]
    pub fn attribute_to(&mut self, id: RequestId) {
        if self.owner() != Owner::Request(id) {
            self.attribute_now(id);
        }
    }

    #[inline(never)]
    fn attribute_now(&mut self, id: RequestId) {
        let request = Owner::Request(id);
        match self.owner() {
            // the handler call was not attributed: all of it was for this request
            Owner::Nobody | Owner::Listener => self.take(request),
            // a QUIC handler call serves all streams, and calls handlers of some of them (`ngx_quic_close_streams`)
            Owner::Connection(at)
                if self.context(id).connection == Some(at) && !self.is_quic_connection(at) =>
            {
                self.take(request);
            }
            _ => self.switch(request),
        }
        self.touch(id);
    }

    /// Attributes a request for the first time. It takes over the CPU that its connection has used.
    pub(super) fn attribute_first(&mut self, id: RequestId, connection: Option<usize>) {
        if let (Some(at), Owner::Connection(of) | Owner::Header(of)) = (connection, self.owner())
            && of == at
        {
            // the request's header was read in this handler call
            if self.is_exact_connection() {
                self.take(Owner::Header(at));
                self.read_clock();
            }
            self.take(Owner::Request(id));
            self.touch(id);
        } else {
            self.attribute_to(id);
        }
        let now_ns = self.laps.meter.now_ns();
        let context = self.context(id);
        context.since_ns = now_ns.saturating_sub(context.request().age_ns());
        let Some(at) = connection else { return };
        if let Some(ns) = self.connections.take_plain(at) {
            self.context(id).meter.take_over(ns);
        } else {
            self.take_over_connection(id, at);
        }
    }

    /// Takes over the CPU that the connection of a new request has used.
    #[inline(never)]
    fn take_over_connection(&mut self, id: RequestId, at: usize) {
        let (is_quic, is_alone) = (self.is_quic_connection(at), self.is_alone(id));
        // CPU from before this request belongs to requests that were open or counted before. The first counted request
        // takes over the rest, unless other requests are open: these are charged for the connection already.
        let is_first = !self.has_counted(at);
        let divides = if is_first { !is_alone } else { !is_quic };
        if divides && self.connections.pending_ns(at) != 0 {
            self.divide(at, true);
        }
        let (ns, handshake) = self.take_over(at, is_alone && (is_first || is_quic));
        let context = self.context(id);
        context.meter.take_over(ns);
        context.handshake = handshake;
    }

    /// Makes the total of a main request final. A request that is not counted returns the earlier CPU of its
    /// connection to later requests.
    #[inline]
    pub(super) fn stop(&mut self, id: RequestId, counts: bool) {
        self.divide_for(id);
        self.context(id).stopped = true;
        if !counts {
            self.leave_connection(id);
        }
    }

    /// A request that is not counted returns the CPU of its connection. The first counted request gets it.
    #[cold]
    fn leave_connection(&mut self, id: RequestId) {
        let context = self.context(id);
        let has_handshake = context.handshake.is_some();
        if let Some(at) = context.connection
            && (has_handshake || !self.has_counted(at))
            && !self.zones.is_empty()
        {
            let context = self.context(id);
            let (ns, handshake) = (context.meter.give_back(), context.handshake.take());
            self.return_to_connection(at, ns, handshake);
        }
    }

    /// Finishes a request. Later CPU is charged to its accounts.
    pub(super) fn finish(&mut self, id: RequestId, accounts: &AccountSet, outcome: &Outcome) {
        self.leave_flight(id);
        let now_ns = self.laps.meter.now_ns();
        if accounts.is_empty() {
            self.leave_connection(id);
        }
        let context = self.context(id);
        let span = context.span(now_ns);
        let (sent, received) = context.traffic();
        let mut usage = context.meter.finish(sent, received);
        usage.cpu_ns += context.late_ns;
        let cpu_ns = context.meter.total_ns();
        #[cfg(feature = "audit")]
        let audited = context.audited;
        let classes = outcome.classes();
        context.logged = true;
        context.accounts.copy_from(accounts);
        let (connection, handshake) = (context.connection, context.handshake.take());
        if context.limited.is_some() {
            self.give_back(id, u64::MAX);
        }
        self.zones.finish(now_ns, accounts, &Ended { usage, classes, cpu_ns, span });
        if let Some(handshake) = handshake {
            self.zones.count_handshake(accounts, &handshake);
        }
        #[cfg(feature = "audit")]
        self.laps.audit.end_request(&audited);
        if let Some(at) = connection {
            self.connections.set_accounts(at, accounts);
        }
        if self.owner() == Owner::Request(id) {
            self.set_last(accounts);
            self.take(Owner::Accounts);
        }
    }

    /// As [`Worker::finish`], for a request whose usage is not counted in the same way by all limits.
    #[cold]
    #[inline(never)]
    pub(super) fn finish_apart(
        &mut self,
        id: RequestId,
        accounts: &AccountSet,
        outcome: &Outcome,
        conf: &LocConf,
    ) {
        let mut marked = accounts.clone();
        let context = self.context(id);
        if context.verdict.is_unchecked() {
            let ns = context.meter.total_ns() + context.late_ns;
            let beyond = Beyond::of(conf);
            let now_ms = self.laps.meter.recent_ns() / 1_000_000;
            self.zones.mark_unchecked(now_ms, &mut marked, ns, |zone| beyond.share(zone));
        } else {
            context.verdict.mark(context.limited.as_deref(), &mut marked);
        }
        self.finish(id, &marked, outcome);
    }

    /// Takes `ns` off the advance charges: this CPU is charged as usage now. All of it is taken off when the request
    /// is over.
    #[cold]
    #[inline(never)]
    pub(super) fn give_back(&mut self, id: RequestId, ns: u64) {
        let now_ns = self.laps.meter.recent_ns();
        let Some(limited) = self.context(id).limited else { return };
        for place in &limited.charges {
            let Some(charge) = place.get() else { continue };
            let ns = ns.min(charge.ns);
            if ns != 0 {
                place.set(Some(Charge { ns: charge.ns - ns, ..charge }));
                self.zones.give_back(now_ns, charge.id, charge.bucket, ns);
            }
        }
    }

    /// Adds the usage of a running request since the last call to its accounts.
    pub(super) fn add_use(&mut self, id: RequestId) {
        let now_ns = self.laps.meter.recent_ns();
        let context = self.context(id);
        let is_in_flight = context.in_flight;
        let (mut accounts, usage) = (context.accounts.clone(), context.new_use());
        let is_limited = context.limited.is_some();
        if context.verdict.is_unchecked() {
            // The request may have been answered, while its body is still being discarded.
            let beyond = Beyond::of(location(context.request()));
            self.zones
                .mark_unchecked(now_ns / 1_000_000, &mut accounts, usage.cpu_ns, |zone| beyond.share(zone));
        }
        self.zones.add(now_ns, &accounts, &usage);
        if is_limited {
            self.give_back(id, usage.cpu_ns);
        }
        if is_in_flight {
            self.look(id, now_ns);
            self.context(id).since_ns = now_ns;
        }
    }

    /// Called when the request is freed: nothing may point to its context any more.
    pub(super) fn free(&mut self, id: RequestId) {
        self.forget(id);
        let is_stream = self.part(id);
        if let Some(at) = self.context(id).connection {
            self.connections.end_request(at, id);
        }
        if !self.context(id).logged {
            // The request was never logged: the accounts that it was in flight in pay for the pending charges.
            let context = self.contexts.get(id);
            let pending_ns = context.meter.take_usage(0, 0).cpu_ns + context.late_ns;
            self.zones.charge(self.laps.meter.recent_ns(), &context.accounts, pending_ns);
            if let Some(handshake) = context.handshake.take() {
                self.zones.count_handshake(&context.accounts, &handshake);
            }
            self.give_back(id, u64::MAX);
            self.leave_flight(id);
        }
        if self.owner() == Owner::Request(id) {
            self.last.copy_from(&self.contexts.get(id).accounts);
            self.take(Owner::Accounts);
        }
        if is_stream && let Some(at) = self.context(id).connection {
            self.free_stream(at);
        }
    }
}
