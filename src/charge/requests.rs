//! Requests: attributed, taken over, added to their accounts, finished.

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
    /// The running lap is attributed to a request, from the start of the handler call if it was not attributed.
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
            // a handler call of QUIC is for all its streams, some of which are called in it (`ngx_quic_close_streams`)
            Owner::Connection(at)
                if self.context(id).connection == Some(at) && !self.is_quic_connection(at) =>
            {
                self.take(request);
            }
            _ => self.switch(request),
        }
        self.touch(id);
    }

    /// The request is attributed for the first time: it takes over what its connection has used.
    pub(super) fn attribute_first(&mut self, id: RequestId, connection: Option<usize>) {
        if let (Some(at), Owner::Connection(of) | Owner::Header(of)) = (connection, self.owner())
            && of == at
        {
            // its header was read in this handler call
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

    /// A new request takes over what its connection has used.
    #[inline(never)]
    fn take_over_connection(&mut self, id: RequestId, at: usize) {
        let (is_quic, is_alone) = (self.is_quic_connection(at), self.is_alone(id));
        // What came before this request is for those that were open, or were counted before. The first one that
        // is counted takes over the rest, unless others are open: they have the connection already.
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

    /// The total of a main request is final. If it is not counted, it leaves to others what its connection has used
    /// before.
    #[inline]
    pub(super) fn stop(&mut self, id: RequestId, counts: bool) {
        self.divide_for(id);
        self.context(id).stopped = true;
        if !counts {
            self.leave_connection(id);
        }
    }

    /// A request that is not counted leaves what it has taken over from its connection to the first one that is.
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

    /// Final: what is charged from here on is for the accounts.
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

    /// As [`Worker::finish`], where what the request has used is not the same to all limits.
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

    /// So much of what was charged before is charged as use now; all of it when the request is over.
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

    /// Moves what a running request has used since the last time to its accounts.
    pub(super) fn add_use(&mut self, id: RequestId) {
        let now_ns = self.laps.meter.recent_ns();
        let context = self.context(id);
        let is_in_flight = context.in_flight;
        let (mut accounts, usage) = (context.accounts.clone(), context.new_use());
        let is_limited = context.limited.is_some();
        if context.verdict.is_unchecked() {
            // it may have been answered already, and its body is discarded still
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

    /// The request is being freed: nothing may point to its context any more.
    pub(super) fn free(&mut self, id: RequestId) {
        self.forget(id);
        let is_stream = self.part(id);
        if let Some(at) = self.context(id).connection {
            self.connections.end_request(at, id);
        }
        if !self.context(id).logged {
            // never logged: the accounts that it was in flight in pay for the pending charges
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
