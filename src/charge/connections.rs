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

/// `connection.number`, or [`VACANT`]. `VACANT` is all zero, so an entry that was never used takes no memory. A
/// connection that has not been numbered has the number 0, which is not `VACANT`.
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
    /// not a client's connection, but an upstream connection that was used for a request
    Upstream,
}

/// The CPU that a client's connection has used and no request has paid for yet; for an upstream connection, the
/// accounts that it was used for. Members that every request needs are in the first cache line.
#[repr(C, align(64))]
pub(super) struct Entry {
    /// tells apart connections that use the same index one after another
    pub(super) number: Number,
    /// CPU that no request has caused; before the first request, all CPU of the connection
    pub(super) pending_ns: u64,
    /// CPU that was used to read the header of a request that has no context yet
    pub(super) header_ns: u64,
    /// the request that has the connection for itself, as in HTTP/1
    pub(super) request: Option<RequestId>,
    /// only set for a connection that carries several requests at a time
    pub(super) multiplex: Option<Box<[Multiplex<RequestId>; 1]>>,
    pub(super) state: State,
    /// no request has taken over the handshake yet
    pub(super) handshake_due: bool,
    pub(super) listed: Listed,
    /// the accounts that pay for CPU that no request has caused: those of the last request that was counted and not
    /// refused
    pub(super) accounts: AccountSet,
    /// the part of `pending_ns` before the end of the TLS handshake; 0 before that end, and without TLS
    pub(super) handshake_ns: u64,
}

const _: () = assert!(size_of::<Entry>() == 128);

/// Whether an entry is in the list of connections with uncharged CPU, and the index of the next entry in that list.
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
    /// Creates `count` vacant entries; none if there is no memory. An anonymous mapping takes no memory until its
    /// pages are written, whereas the allocator would zero an aligned block. The mapping lives until the process ends,
    /// as the worker does.
    fn vacant(count: usize) -> &'static mut [Entry] {
        const { assert!(align_of::<Entry>() <= 4096) }
        let bytes = count.checked_mul(size_of::<Entry>());
        let Some(Ok(map)) = bytes.map(|bytes| MmapOptions::new().len(bytes.max(1)).map_anon()) else {
            return &mut [];
        };
        let map = Box::leak(Box::new(map));
        // SAFETY: the mapping has that many bytes, starts at a page, stays mapped, and has no other user. All zero is
        // `VACANT`, `State::Fresh`, no request, no multiplex, and an empty set of accounts.
        unsafe { core::slice::from_raw_parts_mut(map.as_mut_ptr().cast::<Entry>(), count) }
    }
}

/// The connections, by their index in `cycle->connections`.
pub struct Connections {
    places: Places,
    pub(super) entries: &'static mut [Entry],
    /// the first connection with uncharged CPU
    uncharged: Option<usize>,
}

impl Connections {
    /// The connections of a cycle.
    pub fn of(cycle: ServedCycle) -> Self {
        let entries = Entry::vacant(cycle.connections());
        Self { places: Places::of(cycle, entries.len()), entries, uncharged: None }
    }

    /// Whether a client's connection is at this index.
    #[inline]
    pub(super) fn is_client(&self, at: usize) -> bool {
        self.entries[at].state != State::Upstream && self.entries[at].number == self.places.number(at)
    }

    /// Sets the request that has the connection for itself.
    pub fn set_request(&mut self, at: usize, request: RequestId) {
        self.entries[at].request = Some(request);
    }

    /// Takes the CPU of the connection for a new request. `None` if the connection is not of the usual kind: an HTTP/1
    /// connection that has had a request, and with no CPU that another account has to pay for.
    #[inline]
    pub(super) fn take_plain(&mut self, at: usize) -> Option<u64> {
        let entry = self.entries.get_mut(at)?;
        let is_plain = entry.state == State::Served
            && !entry.handshake_due
            && entry.multiplex.is_none()
            && (entry.pending_ns == 0 || entry.accounts.is_empty());
        is_plain.then(|| core::mem::take(&mut entry.header_ns) + core::mem::take(&mut entry.pending_ns))
    }

    /// Removes a request that is being freed.
    pub fn end_request(&mut self, at: usize, request: RequestId) {
        let current = &mut self.entries[at].request;
        if *current == Some(request) {
            *current = None;
        }
    }

    /// The owner of the connection at this index, if it is a client's HTTP connection.
    #[inline]
    pub(super) fn client_owner(&self, at: usize) -> Option<Owner<RequestId>> {
        let entry = &self.entries[at];
        let is_http = matches!(entry.state, State::Fresh | State::Served);
        (is_http && entry.number == self.places.number(at))
            .then(|| entry.request.map_or(Owner::Connection(at), Owner::Request))
    }

    /// The request that has this client's connection for itself.
    pub fn request_of(&self, connection: Connection<'_>) -> Option<RequestId> {
        self.client(connection).and_then(|at| self.entries[at].request)
    }

    /// The accounts of the request that used the upstream connection at this index last.
    pub(super) fn upstream_accounts(&self, at: usize) -> Option<AccountSet> {
        let entry = &self.entries[at];
        (entry.state == State::Upstream && entry.number == self.places.number(at))
            .then(|| entry.accounts.clone())
    }

    /// Notes that a request of these accounts uses the upstream connection at this index.
    pub(super) fn set_upstream(&mut self, at: usize, accounts: &AccountSet) {
        // 0: the connection was not numbered, and could not be told from the next one at this index
        let number = Some(self.places.number(at)).filter(|&number| number != 0).map_or(VACANT, Number::of);
        let entry = &mut self.entries[at];
        entry.number = number;
        entry.state = State::Upstream;
        entry.accounts.copy_from(accounts);
    }

    /// The index of a client's connection.
    pub fn client(&self, connection: Connection<'_>) -> Option<usize> {
        self.places.index(connection).filter(|&at| self.is_client(at))
    }

    /// Charges CPU that no request is known to have caused.
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

    /// Charges CPU for the header of a request that has no context yet.
    pub fn charge_header(&mut self, at: usize, ns: u64, totals: &mut WorkerTotals) {
        let entry = &mut self.entries[at];
        if entry.state == State::Served {
            totals.charged_ns += ns;
            entry.header_ns += ns;
        } else {
            self.charge(at, ns, totals);
        }
    }

    /// Keeps CPU that is in the worker totals already.
    #[inline]
    pub fn keep(&mut self, at: usize, ns: u64) {
        let entry = &mut self.entries[at];
        entry.pending_ns += ns;
        if entry.state == State::Served && ns != 0 && entry.listed == Listed::NO {
            self.list(at);
        }
    }

    #[cfg(ngx_feature = "http_v2")]
    /// Keeps CPU for the header of a request that has no context yet. It is in the worker totals already.
    pub fn keep_header(&mut self, at: usize, ns: u64) {
        self.entries[at].header_ns += ns;
    }

    #[cfg(ngx_feature = "http_v2")]
    /// The header did not lead to a request: its CPU belongs to the connection.
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

    /// Takes one connection off the list of those with uncharged CPU.
    pub(super) fn next_uncharged(&mut self) -> Option<usize> {
        let at = self.uncharged?;
        self.uncharged = core::mem::replace(&mut self.entries[at].listed, Listed::NO).next();
        Some(at)
    }

    /// Puts a connection on the list of those with uncharged CPU.
    pub fn list_uncharged(&mut self, at: usize) {
        if self.entries[at].listed == Listed::NO {
            self.list(at);
        }
    }

    #[inline]
    pub fn has_uncharged(&self) -> bool {
        self.uncharged.is_some()
    }

    /// The state of a connection that carries several requests at a time.
    #[inline]
    pub fn multiplex(&self, at: usize) -> Option<&Multiplex<RequestId>> {
        self.entries[at].multiplex.as_deref().map(|[multiplex]| multiplex)
    }

    #[inline]
    pub fn multiplex_mut(&mut self, at: usize) -> Option<&mut Multiplex<RequestId>> {
        self.entries[at].multiplex.as_deref_mut().map(|[multiplex]| multiplex)
    }

    /// Marks a connection that carries several requests at a time. If there is no memory, the connection is handled as
    /// an ordinary one.
    pub fn set_multiplex(&mut self, at: usize, multiplex: Multiplex<RequestId>) {
        // not `Box::new`, which ends the process if there is no memory
        let mut room = Vec::new();
        if room.try_reserve_exact(1).is_ok() {
            room.push(multiplex);
            self.entries[at].multiplex = room.into_boxed_slice().try_into().ok();
        }
    }

    /// CPU that no request has caused so far, in nanoseconds.
    pub fn pending_ns(&self, at: usize) -> u64 {
        self.entries[at].pending_ns
    }

    /// Puts back CPU for which no account was found.
    pub fn put_back(&mut self, at: usize, ns: u64) {
        self.entries[at].pending_ns += ns;
    }

    /// Takes the CPU that no request has caused so far.
    pub fn take_pending(&mut self, at: usize) -> u64 {
        core::mem::take(&mut self.entries[at].pending_ns)
    }

    /// The accounts that pay for CPU that no request has caused; empty if no request was counted.
    pub fn accounts(&self, at: usize) -> &AccountSet {
        &self.entries[at].accounts
    }

    /// A request of a connection was counted: its accounts pay from now on for CPU that no request causes, unless the
    /// request was refused.
    pub fn set_accounts(&mut self, at: usize, accounts: &AccountSet) {
        let kept = &mut self.entries[at].accounts;
        if !accounts.is_empty() && (accounts.is_used() || !kept.is_used()) {
            kept.copy_from(accounts);
        }
    }

    #[cfg(ngx_feature = "http_v2")]
    /// Whether the entry still belongs to the connection with this number.
    pub fn has_number(&self, at: usize, number: ngx_atomic_uint_t) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.number == number)
    }

    /// Whether NGINX reads a header on this HTTP/1 connection: then the connection's log has a request that has no
    /// context yet.
    pub(super) fn reads_header(&self, at: usize) -> bool {
        let entry = &self.entries[at];
        entry.state == State::Served
            && entry.multiplex.is_none()
            && self.open_client(at).is_some_and(http_log::has_request)
    }

    /// The client's connection at this index, if there is one. It is open.
    #[inline]
    pub fn open_client(&self, at: usize) -> Option<Connection<'_>> {
        // SAFETY: numbers are given once. The entry of a client's connection has the connection's number only while
        // the connection is open: `close` is called when its pool is destroyed, and clears the number.
        self.is_client(at).then(|| unsafe { self.places.connection(at) })
    }

    /// The connection at this index, if it has had no request yet.
    #[inline]
    pub fn fresh(&self, at: usize) -> Option<Connection<'_>> {
        if self.entries.get(at)?.state == State::Fresh { self.open_client(at) } else { None }
    }

    /// The arrays in which connections have their indexes.
    #[inline]
    pub fn places(&self) -> &Places {
        &self.places
    }
}
