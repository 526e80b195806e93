//! Work of connections beside their requests.

use accounting::account::Handshake;

use crate::charge::connections::{Entry, Number, State, VACANT};
use crate::charge::share::share_beyond_all;
use crate::charge::worker::{Owner, Worker};
use crate::measure::charge::Charge;
use crate::measure::tls::watch;
use accounting::account_set::AccountSet;

impl Worker {
    /// Opens the entry of a connection that was accepted, or was handed to another listening socket. In the second
    /// case the entry keeps its pending CPU.
    pub(super) fn open(&mut self, at: usize) {
        let number = Number::of(self.connections.places().number(at));
        let entry = &self.connections.entries[at];
        let is_same = entry.number == number && entry.state != State::Upstream;
        if !is_same {
            self.close(at);
        }
        let entry = &mut self.connections.entries[at];
        let pending_ns = if is_same && entry.state == State::Fresh { entry.pending_ns } else { 0 };
        *entry = Entry {
            number,
            pending_ns,
            header_ns: 0,
            request: None,
            multiplex: None,
            state: State::Fresh,
            handshake_due: true,
            listed: entry.listed,
            accounts: AccountSet::EMPTY,
            handshake_ns: 0,
        };
    }

    /// A new request takes over the CPU that its connection has used for it so far, in nanoseconds: the CPU for its
    /// header. With `all`, it also takes over the CPU that no request is known to have caused. It takes over the count
    /// of the handshake if no other request has it yet.
    #[inline]
    pub fn take_over(&mut self, at: usize, all: bool) -> (u64, Option<Handshake>) {
        let entry = &mut self.connections.entries[at];
        let mut ns = core::mem::take(&mut entry.header_ns);
        if all {
            ns += core::mem::take(&mut entry.pending_ns);
        }
        if entry.state == State::Fresh {
            entry.state = State::Served;
            self.laps.totals.pending_to_charged(ns);
        }
        let entry = &mut self.connections.entries[at];
        if !core::mem::take(&mut entry.handshake_due) {
            return (ns, None);
        }
        // With early data, requests begin before the handshake is over.
        let cpu_ns = if entry.handshake_ns != 0 { entry.handshake_ns } else { ns };
        #[cfg(ngx_feature = "ssl")]
        let resumed = self.connections.open_client(at).and_then(|c| c.is_resumed());
        #[cfg(not(ngx_feature = "ssl"))]
        let resumed = None;
        (ns, resumed.map(|resumed| Handshake { resumed, cpu_ns }))
    }

    /// A request that is not counted returns the CPU and the handshake that it has taken over. The next request gets
    /// them, if none was counted before.
    pub fn return_to_connection(&mut self, at: usize, ns: u64, handshake: Option<Handshake>) {
        let entry = &mut self.connections.entries[at];
        entry.handshake_due |= handshake.is_some();
        self.connections.keep(at, ns);
    }

    /// Whether a request has been counted on the connection.
    pub fn has_counted(&self, at: usize) -> bool {
        !self.connections.accounts(at).is_empty()
    }

    /// Charges CPU that a connection has used beside its requests to the accounts of its last counted request. No
    /// limit could refuse this CPU.
    pub fn charge_connection(&mut self, at: usize, ns: u64) {
        if ns == 0 {
            return;
        }
        let mut accounts = self.connections.accounts(at).clone();
        let now_ns = self.laps.meter.recent_ns();
        if self.first_verdict.sets_apart() {
            self.zones.mark_unchecked(now_ns / 1_000_000, &mut accounts, ns, share_beyond_all);
        }
        self.zones.charge(now_ns, &accounts, ns);
    }

    /// Ends a handler call of a connection that was not attributed to a request.
    #[inline]
    pub fn end_connection_call(&mut self, at: usize) {
        if self.connections.reads_header(at) {
            self.take(Owner::Header(at));
        }
        watch(self, at);
    }

    /// Charges uncharged CPU to accounts, for all connections in the list.
    pub fn charge_connections(&mut self) {
        while let Some(at) = self.connections.next_uncharged() {
            self.divide(at, true);
        }
    }

    /// The TLS handshake of a connection is over: all CPU that the connection has used so far was for the handshake.
    pub fn end_tls_handshake(&mut self, at: usize) {
        if self.connections.entries[at].state != State::Fresh
            || self.connections.entries[at].handshake_ns != 0
        {
            return;
        }
        if self.owner() == Owner::Connection(at) {
            self.read_clock();
        }
        let entry = &mut self.connections.entries[at];
        entry.handshake_ns = entry.pending_ns;
    }

    /// Marks a connection that is not HTTP: it has no requests.
    pub(super) fn set_other(&mut self, at: usize) {
        let entry = &mut self.connections.entries[at];
        entry.state = State::Other;
        let ns = core::mem::take(&mut entry.pending_ns);
        self.laps.totals.pending_to_no_request(ns);
    }

    /// Closes all connections: the process is about to exit.
    pub fn close_connections(&mut self) {
        for at in 0..self.connections.entries.len() {
            self.close(at);
        }
    }

    /// Closes a connection. CPU that no request has taken over goes to the accounts of the connection's last counted
    /// request. If the connection never had a request, the CPU is counted for connections without a request.
    pub(super) fn close(&mut self, at: usize) {
        let entry = &mut self.connections.entries[at];
        if entry.number == VACANT {
            return;
        }
        let state = entry.state;
        if state == State::Served {
            self.divide(at, true);
        }
        let entry = &mut self.connections.entries[at];
        let pending_ns = core::mem::take(&mut entry.pending_ns) + core::mem::take(&mut entry.header_ns);
        (entry.number, entry.multiplex) = (VACANT, None);
        match state {
            State::Served => self.charge_connection(at, pending_ns),
            State::Fresh | State::Other => self.laps.totals.pending_to_no_request(pending_ns),
            State::Upstream => {}
        }
        if matches!(self.owner(), Owner::Connection(of) | Owner::Header(of) | Owner::Sending(of) if of == at)
        {
            if state == State::Served {
                let accounts = self.connections.entries[at].accounts.clone();
                self.set_last(&accounts);
                self.take(Owner::Accounts);
            } else {
                self.take(Owner::NoRequest);
            }
        }
    }
}
