//! Clients' connections: CPU that no request has paid for yet, and the accounts that pay for the rest.

use accounting::worker_totals::WorkerTotals;
use memmap2::MmapOptions;
use nginx_sys::ngx_atomic_uint_t;

use crate::charge::context::RequestId;
use crate::charge::stream::Multiplex;
use crate::measure::owner::Owner;
use crate::nginx::connection::Connection;
use crate::nginx::http_log;
use crate::nginx::places::Places;
use crate::nginx::served::ServedCycle;
use accounting::account_set::AccountSet;

/// `connection.number`, or [`VACANT`], which is all zero: so a place that was never used takes no memory. A
/// connection that nobody has numbered has the number 0, and is not that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Number {
    complement: ngx_atomic_uint_t,
}

impl Number {
    pub(super) const fn of(number: ngx_atomic_uint_t) -> Number {
        Number { complement: !number }
    }
}

impl PartialEq<ngx_atomic_uint_t> for Number {
    #[inline]
    fn eq(&self, number: &ngx_atomic_uint_t) -> bool {
        self.complement == !*number
    }
}

/// No connection has this number: `ngx_connection_counter` counts up from 1.
pub(super) const VACANT: Number = Number::of(ngx_atomic_uint_t::MAX);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// no request yet
    Fresh = 0,
    /// has had a request
    Served,
    /// not HTTP
    Other,
    /// not a client's: an upstream connection that was used for a request
    Upstream,
}

/// What a client's connection has used that no request has paid for yet, and whom an upstream connection was used for.
/// What is looked at with every request is in the first line of the cache.
#[repr(C, align(64))]
pub(super) struct Entry {
    /// since places are used again
    pub(super) number: Number,
    /// what no request has caused, or all before the first one
    pub(super) pending_ns: u64,
    /// what was used to read the header of a request that is not there yet
    pub(super) header_ns: u64,
    /// the request that has the connection for itself, as it is in HTTP/1
    pub(super) request: Option<RequestId>,
    /// only a connection that carries several requests at a time has one
    pub(super) multiplex: Option<Box<[Multiplex<RequestId>; 1]>>,
    pub(super) state: State,
    /// no request has taken the handshake over
    pub(super) handshake_due: bool,
    pub(super) listed: Listed,
    /// the accounts that pay for what no request has caused: those of its last request that was counted, and not
    /// refused
    pub(super) accounts: AccountSet,
    /// what of it came before the end of the TLS handshake; 0 before that, and where there is none
    pub(super) handshake_ns: u64,
}

const _: () = assert!(size_of::<Entry>() == 128);

/// Whether an entry is in the list of those with CPU that has to be given to accounts, and the place of the next one
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Listed(u32);

impl Listed {
    /// All zero, as [`Entry::vacant`] needs.
    const NO: Listed = Listed(0);
    const LAST: Listed = Listed(1);

    fn before(next: Option<usize>) -> Listed {
        next.and_then(|at| u32::try_from(at).ok()?.checked_add(2)).map_or(Listed::LAST, Listed)
    }

    fn next(self) -> Option<usize> {
        self.0.checked_sub(2).map(|at| at as usize)
    }
}

impl Entry {
    /// As many vacant ones; none if there is no memory. Pages of the system's are not there before they are written,
    /// while the allocator zeroes what has to be aligned. They go with the process, as the worker does.
    fn vacant(count: usize) -> &'static mut [Entry] {
        const { assert!(align_of::<Entry>() <= 4096) }
        let bytes = count.checked_mul(size_of::<Entry>());
        let Some(Ok(map)) = bytes.map(|bytes| MmapOptions::new().len(bytes.max(1)).map_anon()) else {
            return &mut [];
        };
        let map = Box::leak(Box::new(map));
        // SAFETY: as many bytes, at the start of a page, which stay mapped and are nobody else's. All zero is
        // `VACANT`, `State::Fresh`, no request, no multiplex, and an empty set of accounts.
        unsafe { core::slice::from_raw_parts_mut(map.as_mut_ptr().cast::<Entry>(), count) }
    }
}

/// The connections, by their place in `cycle->connections`.
pub struct Connections {
    places: Places,
    pub(super) entries: &'static mut [Entry],
    /// the first one of those with CPU that has to be given to accounts
    uncharged: Option<usize>,
}

impl Connections {
    /// Those of a cycle.
    pub fn of(cycle: ServedCycle) -> Self {
        let entries = Entry::vacant(cycle.connections());
        Self { places: Places::of(cycle, entries.len()), entries, uncharged: None }
    }

    /// Whether there is a client's connection at this place.
    #[inline]
    pub(super) fn is_client(&self, at: usize) -> bool {
        self.entries[at].state != State::Upstream && self.entries[at].number == self.places.number(at)
    }

    /// A request begins that has the connection for itself.
    pub fn set_request(&mut self, at: usize, request: RequestId) {
        self.entries[at].request = Some(request);
    }

    /// What the connection has used goes to a new request. `None` if it is not the usual case: a connection of HTTP/1
    /// that has had a request, and where no other account has to pay.
    #[inline]
    pub(super) fn take_plain(&mut self, at: usize) -> Option<u64> {
        let entry = self.entries.get_mut(at)?;
        let is_plain = entry.state == State::Served
            && !entry.handshake_due
            && entry.multiplex.is_none()
            && (entry.pending_ns == 0 || entry.accounts.is_empty());
        is_plain.then(|| core::mem::take(&mut entry.header_ns) + core::mem::take(&mut entry.pending_ns))
    }

    /// A request is being freed.
    pub fn end_request(&mut self, at: usize, request: RequestId) {
        let current = &mut self.entries[at].request;
        if *current == Some(request) {
            *current = None;
        }
    }

    /// Whose the connection at this place is, if it is a client's of HTTP.
    #[inline]
    pub(super) fn client_owner(&self, at: usize) -> Option<Owner<RequestId>> {
        let entry = &self.entries[at];
        let is_http = matches!(entry.state, State::Fresh | State::Served);
        (is_http && entry.number == self.places.number(at))
            .then(|| entry.request.map_or(Owner::Connection(at), Owner::Request))
    }

    /// The request that has a client's connection for itself.
    pub fn request_of(&self, connection: Connection<'_>) -> Option<RequestId> {
        self.client(connection).and_then(|at| self.entries[at].request)
    }

    /// The accounts of the request that the upstream connection at this place was used for last.
    pub(super) fn upstream_accounts(&self, at: usize) -> Option<AccountSet> {
        let entry = &self.entries[at];
        (entry.state == State::Upstream && entry.number == self.places.number(at))
            .then(|| entry.accounts.clone())
    }

    /// The upstream connection at this place is used for a request of these accounts.
    pub(super) fn set_upstream(&mut self, at: usize, accounts: &AccountSet) {
        // 0: whoever made it did not number it, and it could not be told from the next one at this place
        let number = Some(self.places.number(at)).filter(|&number| number != 0).map_or(VACANT, Number::of);
        let entry = &mut self.entries[at];
        entry.number = number;
        entry.state = State::Upstream;
        entry.accounts.copy_from(accounts);
    }

    /// The place of a client's connection.
    pub fn client(&self, connection: Connection<'_>) -> Option<usize> {
        self.places.index(connection).filter(|&at| self.is_client(at))
    }

    /// What no request is known to have caused.
    #[inline]
    pub fn charge(&mut self, at: usize, ns: u64, totals: &mut WorkerTotals) {
        let entry = &mut self.entries[at];
        match entry.state {
            State::Fresh => totals.pending_ns += ns,
            State::Served => totals.charged_ns += ns,
            State::Other => {
                totals.no_request_ns += ns;
                return;
            }
            // never an owner
            State::Upstream => return,
        }
        self.keep(at, ns);
    }

    /// The header of a request that is not there yet.
    pub fn charge_header(&mut self, at: usize, ns: u64, totals: &mut WorkerTotals) {
        let entry = &mut self.entries[at];
        if entry.state == State::Served {
            totals.charged_ns += ns;
            entry.header_ns += ns;
        } else {
            self.charge(at, ns, totals);
        }
    }

    /// Time that is in the worker totals already.
    #[inline]
    pub fn keep(&mut self, at: usize, ns: u64) {
        let entry = &mut self.entries[at];
        entry.pending_ns += ns;
        if entry.state == State::Served && ns != 0 && entry.listed == Listed::NO {
            self.list(at);
        }
    }

    #[cfg(ngx_feature = "http_v2")]
    /// Time that is in the worker totals already, for the header of a request that is not there yet.
    pub fn keep_header(&mut self, at: usize, ns: u64) {
        self.entries[at].header_ns += ns;
    }

    #[cfg(ngx_feature = "http_v2")]
    /// No request has come of the header.
    #[cold]
    pub fn drop_header(&mut self, at: usize) {
        let ns = core::mem::take(&mut self.entries[at].header_ns);
        self.keep(at, ns);
    }

    #[cold]
    fn list(&mut self, at: usize) {
        self.entries[at].listed = Listed::before(self.uncharged);
        self.uncharged = Some(at);
    }

    /// Takes one connection off the list of those with CPU that has to be given to accounts.
    pub(super) fn next_uncharged(&mut self) -> Option<usize> {
        let at = self.uncharged?;
        self.uncharged = core::mem::replace(&mut self.entries[at].listed, Listed::NO).next();
        Some(at)
    }

    /// There is CPU that has to be given to accounts.
    pub fn list_uncharged(&mut self, at: usize) {
        if self.entries[at].listed == Listed::NO {
            self.list(at);
        }
    }

    #[inline]
    pub fn has_uncharged(&self) -> bool {
        self.uncharged.is_some()
    }

    /// What the connection at this place has if it carries several requests at a time.
    #[inline]
    pub fn multiplex(&self, at: usize) -> Option<&Multiplex<RequestId>> {
        self.entries[at].multiplex.as_deref().map(|[multiplex]| multiplex)
    }

    #[inline]
    pub fn multiplex_mut(&mut self, at: usize) -> Option<&mut Multiplex<RequestId>> {
        self.entries[at].multiplex.as_deref_mut().map(|[multiplex]| multiplex)
    }

    /// The connection carries several requests at a time. If there is no memory, it goes on as one that does not.
    pub fn set_multiplex(&mut self, at: usize, multiplex: Multiplex<RequestId>) {
        // not `Box::new`, which ends the process if there is no memory
        let mut room = Vec::new();
        if room.try_reserve_exact(1).is_ok() {
            room.push(multiplex);
            self.entries[at].multiplex = room.into_boxed_slice().try_into().ok();
        }
    }

    /// What no request has caused so far, in nanoseconds.
    pub fn pending_ns(&self, at: usize) -> u64 {
        self.entries[at].pending_ns
    }

    /// There was nobody to give it to.
    pub fn put_back(&mut self, at: usize, ns: u64) {
        self.entries[at].pending_ns += ns;
    }

    /// What no request has caused so far is given away.
    pub fn take_pending(&mut self, at: usize) -> u64 {
        core::mem::take(&mut self.entries[at].pending_ns)
    }

    /// The accounts that pay for what no request has caused; empty if no request was counted.
    pub fn accounts(&self, at: usize) -> &AccountSet {
        &self.entries[at].accounts
    }

    /// A request of a connection was counted: what no request causes is for its accounts from now on, unless it was
    /// refused.
    pub fn set_accounts(&mut self, at: usize, accounts: &AccountSet) {
        let kept = &mut self.entries[at].accounts;
        if !accounts.is_empty() && (accounts.is_used() || !kept.is_used()) {
            kept.copy_from(accounts);
        }
    }

    #[cfg(ngx_feature = "http_v2")]
    /// Whether the place is still that of this connection.
    pub fn has_number(&self, at: usize, number: ngx_atomic_uint_t) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.number == number)
    }

    /// Whether NGINX reads a header on this connection of HTTP/1: then its log has a request, which is not known to
    /// us yet.
    pub(super) fn reads_header(&self, at: usize) -> bool {
        let entry = &self.entries[at];
        entry.state == State::Served
            && entry.multiplex.is_none()
            && self.open_client(at).is_some_and(http_log::has_request)
    }

    /// The client's connection at this place, if there is one: then it is open.
    #[inline]
    pub fn open_client(&self, at: usize) -> Option<Connection<'_>> {
        // SAFETY: numbers are given once. An entry of a client's connection has the connection's number only while
        // that is open: `close` is called when its pool is destroyed, and takes the number away.
        self.is_client(at).then(|| unsafe { self.places.connection(at) })
    }

    /// The connection at this place, if it has had no request yet.
    #[inline]
    pub fn fresh(&self, at: usize) -> Option<Connection<'_>> {
        if self.entries.get(at)?.state == State::Fresh { self.open_client(at) } else { None }
    }

    /// The arrays that connections have their places in.
    #[inline]
    pub fn places(&self) -> &Places {
        &self.places
    }
}
