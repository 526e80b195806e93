//! Whose wakeup it is.
//!
//! NGINX itself knows on whose behalf it runs: that is what it prints in the error log. An event of a connection has that
//! connection's log, and an upstream connection, a subrequest, or a timer of another module carries the client's log:
//! event, log, `ngx_http_log_ctx_t`, request, main request.
//!
//! A connection that has no request collects its CPU here; the next request on it takes that over. Where an event does not tell
//! whose it is, what is done in its wakeup may: see [`io`](crate::io).

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use accounting::account::Handshake;
use accounting::worker_totals::WorkerTotals;
use memmap2::MmapOptions;
use nginx_sys::{
    ngx_atomic_uint_t, ngx_connection_handler_pt, ngx_connection_t, ngx_cycle_t, ngx_event_t,
    ngx_http_init_connection, ngx_http_log_ctx_t, ngx_http_request_t, ngx_listening_t, ngx_log_t,
    ngx_pool_cleanup_add,
};

use crate::accounts::AccountSet;
use crate::limit;
use crate::multiplex::{self, Multiplex};
use crate::nginx::bits;
use crate::request::{self, Context};
use crate::worker::{Owner, Worker, with};

#[allow(non_camel_case_types)]
type ngx_connection_handler = unsafe extern "C" fn(*mut ngx_connection_t);

/// Address of `ngx_http_log_error`, a static function of ngx_http_request.c; 0 until the first connection was set up.
static HTTP_LOG_ERROR: AtomicUsize = AtomicUsize::new(0);

/// `connection.number`, or [`VACANT`], which is all zero: so a place that was never used takes no memory. A connection that nobody has
/// numbered has the number 0, and is not that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
struct Number {
    complement: ngx_atomic_uint_t,
}

impl Number {
    const fn of(number: ngx_atomic_uint_t) -> Number {
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
const VACANT: Number = Number::of(ngx_atomic_uint_t::MAX);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
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
struct Entry {
    /// since places are used again
    number: Number,
    /// what no request has caused, or all before the first one
    pending_ns: u64,
    /// what was used to read the header of a request that is not there yet
    header_ns: u64,
    /// the request that has the connection for itself, as it is in HTTP/1
    request: Option<NonNull<Context>>,
    /// in the connection's pool; only a connection that carries several requests at a time has one
    multiplex: Option<NonNull<Multiplex>>,
    state: State,
    /// no request has taken the handshake over
    handshake_due: bool,
    listed: Listed,
    /// the accounts that pay for what no request has caused: those of its last request that was counted, and not refused
    accounts: AccountSet,
    /// what of it came before the end of the TLS handshake; 0 before that, and where there is none
    handshake_ns: u64,
}

const _: () = assert!(size_of::<Entry>() == 128);

/// Whether an entry is in the list of those with CPU that has to be given to accounts, and the place of the next one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
struct Listed(u32);

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
    /// As many vacant ones; none if there is no memory. Pages of the system's are not there before they are written, while the
    /// allocator zeroes what has to be aligned. They go with the process, as the worker does.
    fn vacant(count: usize) -> &'static mut [Entry] {
        const { assert!(align_of::<Entry>() <= 4096) }
        let bytes = count.checked_mul(size_of::<Entry>());
        let Some(Ok(map)) = bytes.map(|bytes| MmapOptions::new().len(bytes.max(1)).map_anon()) else {
            return &mut [];
        };
        let map = Box::leak(Box::new(map));
        // SAFETY: as many bytes, at the start of a page, which stay mapped and are nobody else's. All zero is `VACANT`,
        // `State::Fresh`, no request, and an empty set of accounts.
        unsafe { core::slice::from_raw_parts_mut(map.as_mut_ptr().cast::<Entry>(), count) }
    }
}

/// Handlers of logs that are told apart: those of stream and mail, and to spare.
const FOREIGN: usize = 4;

/// The connections, by their place in `cycle->connections`.
pub struct Connections {
    first: *mut ngx_connection_t,
    read_events: *mut ngx_event_t,
    write_events: *mut ngx_event_t,
    entries: &'static mut [Entry],
    /// addresses of `ngx_stream_log_error` and its like, static functions too; 0 where none is known
    foreign: [usize; FOREIGN],
    /// the first one of those with CPU that has to be given to accounts
    unsettled: Option<usize>,
}

impl Connections {
    /// # Safety
    /// `ngx_event_process_init` must have run for the cycle.
    pub unsafe fn of(cycle: &ngx_cycle_t) -> Self {
        Self {
            first: cycle.connections,
            read_events: cycle.read_events,
            write_events: cycle.write_events,
            entries: Entry::vacant(cycle.connection_n),
            foreign: [0; FOREIGN],
            unsettled: None,
        }
    }

    fn place<T>(&self, first: *mut T, pointer: *mut T) -> Option<usize> {
        let offset = pointer.addr().wrapping_sub(first.addr());
        let at = offset / size_of::<T>();
        (at < self.entries.len()).then_some(at)
    }

    /// The place of a connection; none for the fake ones of HTTP/2.
    pub fn index(&self, connection: *mut ngx_connection_t) -> Option<usize> {
        self.place(self.first, connection)
    }

    /// The place of the connection that an event belongs to: `ngx_event_process_init` pairs them for good.
    #[inline]
    pub fn index_of_event(&self, event: *mut ngx_event_t) -> Option<usize> {
        self.place(self.read_events, event).or_else(|| self.place(self.write_events, event))
    }

    /// Whether a connection's event is that of writing.
    pub fn is_write_event(&self, event: *mut ngx_event_t) -> bool {
        self.place(self.write_events, event).is_some()
    }

    fn connection(&self, at: usize) -> *mut ngx_connection_t {
        self.first.wrapping_add(at)
    }

    fn number(&self, at: usize) -> ngx_atomic_uint_t {
        // SAFETY: `place` has found `at` to be within the array.
        unsafe { (*self.connection(at)).number }
    }

    /// Whether there is a client's connection at this place.
    #[inline]
    fn is_client(&self, at: usize) -> bool {
        self.entries[at].state != State::Upstream && self.entries[at].number == self.number(at)
    }

    /// A request begins that has the connection for itself.
    pub fn set_request(&mut self, at: usize, request: NonNull<Context>) {
        self.entries[at].request = Some(request);
    }

    /// A request is being freed.
    pub fn end_request(&mut self, at: usize, request: NonNull<Context>) {
        let current = &mut self.entries[at].request;
        if *current == Some(request) {
            *current = None;
        }
    }

    /// Whose the connection at this place is, if it is a client's of HTTP.
    #[inline]
    fn client_owner(&self, at: usize) -> Option<Owner> {
        let entry = &self.entries[at];
        let is_http = matches!(entry.state, State::Fresh | State::Served);
        (is_http && entry.number == self.number(at))
            .then(|| entry.request.map_or(Owner::Connection(at), Owner::Request))
    }

    /// The request that has a client's connection for itself.
    pub fn request_of(&self, connection: *mut ngx_connection_t) -> Option<NonNull<Context>> {
        self.client(connection).and_then(|at| self.entries[at].request)
    }

    /// The accounts of the request that the upstream connection at this place was used for last.
    fn upstream_accounts(&self, at: usize) -> Option<AccountSet> {
        let entry = &self.entries[at];
        (entry.state == State::Upstream && entry.number == self.number(at)).then(|| entry.accounts.clone())
    }

    /// The upstream connection at this place is used for a request of these accounts.
    fn set_upstream(&mut self, at: usize, accounts: &AccountSet) {
        // 0: whoever made it did not number it, and it could not be told from the next one at this place
        let number = Some(self.number(at)).filter(|&number| number != 0).map_or(VACANT, Number::of);
        let entry = &mut self.entries[at];
        entry.number = number;
        entry.state = State::Upstream;
        entry.accounts.copy_from(accounts);
    }

    /// A log with this handler is not HTTP's.
    fn learn_foreign(&mut self, handler: usize) {
        if let Some(place) = self.foreign.iter_mut().find(|known| **known == handler || **known == 0) {
            *place = handler;
        }
    }

    /// The place of a client's connection.
    pub fn client(&self, connection: *mut ngx_connection_t) -> Option<usize> {
        self.index(connection).filter(|&at| self.is_client(at))
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

    /// Time that is in the worker totals already, for the header of a request that is not there yet.
    pub fn keep_header(&mut self, at: usize, ns: u64) {
        self.entries[at].header_ns += ns;
    }

    /// No request has come of the header.
    #[cold]
    pub fn drop_header(&mut self, at: usize) {
        let ns = core::mem::take(&mut self.entries[at].header_ns);
        self.keep(at, ns);
    }

    #[cold]
    fn list(&mut self, at: usize) {
        self.entries[at].listed = Listed::before(self.unsettled);
        self.unsettled = Some(at);
    }

    /// Takes one connection off the list of those with CPU that has to be given to accounts.
    fn next_unsettled(&mut self) -> Option<usize> {
        let at = self.unsettled?;
        self.unsettled = core::mem::replace(&mut self.entries[at].listed, Listed::NO).next();
        Some(at)
    }

    /// There is CPU that has to be given to accounts.
    pub fn list_unsettled(&mut self, at: usize) {
        if self.entries[at].listed == Listed::NO {
            self.list(at);
        }
    }

    #[inline]
    pub fn has_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    pub fn multiplex(&self, at: usize) -> Option<NonNull<Multiplex>> {
        self.entries[at].multiplex
    }

    pub fn set_multiplex(&mut self, at: usize, multiplex: NonNull<Multiplex>) {
        self.entries[at].multiplex = Some(multiplex);
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

    /// A request of a connection was counted: what no request causes is for its accounts from now on, unless it was refused.
    pub fn set_accounts(&mut self, at: usize, accounts: &AccountSet) {
        let kept = &mut self.entries[at].accounts;
        if !accounts.is_empty() && (accounts.is_used() || !kept.is_used()) {
            kept.copy_from(accounts);
        }
    }

    /// Whether the place is still that of this connection.
    pub fn has_number(&self, at: usize, number: ngx_atomic_uint_t) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.number == number)
    }

    /// Whether NGINX reads a header on this connection of HTTP/1: then its log has a request, which is not known to us yet.
    fn reads_header(&self, at: usize) -> bool {
        let entry = &self.entries[at];
        if entry.state != State::Served || entry.multiplex.is_some() || entry.number != self.number(at) {
            return false;
        }
        // SAFETY: the connection is open, and so its log is valid; with this handler it has a context.
        unsafe {
            let log = (*self.connection(at)).log.as_ref();
            let log = log.filter(|log| {
                log.handler.is_some_and(|handler| handler as usize == HTTP_LOG_ERROR.load(Relaxed))
            });
            log.and_then(|log| log.data.cast::<ngx_http_log_ctx_t>().as_ref())
                .is_some_and(|context| !context.request.is_null())
        }
    }
}

/// The handlers of listening sockets that we stand before, by their place in `cycle->listening`.
struct Listeners {
    first: *mut ngx_listening_t,
    handlers: Vec<ngx_connection_handler_pt>,
}

/// Set once; stays when the process stops measuring, since we still stand before the handlers.
static LISTENERS: AtomicPtr<Listeners> = AtomicPtr::new(null_mut());

/// Puts us before every listening socket's handler, in this process only.
///
/// # Safety
/// The cycle must be the one that the process is about to serve.
pub unsafe fn wrap_listeners(cycle: &mut ngx_cycle_t) {
    // SAFETY: an array of `ngx_listening_t`, complete since the configuration was read.
    let sockets = unsafe { cycle.listening.as_slice_mut::<ngx_listening_t>() };
    let handlers = sockets.iter_mut().map(|socket| socket.handler.replace(accept)).collect();
    let listeners = Listeners { first: cycle.listening.elts.cast(), handlers };
    LISTENERS.store(Box::into_raw(Box::new(listeners)), Relaxed);
}

/// Whether the event method queues listening sockets apart from all others, as `ngx_event_process_init` has told it.
///
/// With the accept mutex, accepting has the right of way. Without, NGINX does it in the order in which the method reports,
/// and so it has to be queued in that order too.
pub fn accept_first(first: bool) {
    // SAFETY: null, or leaked by `wrap_listeners`, and never changed. The array stays as long as the cycle; a socket that this
    // process serves has a connection, with its events. `ngx_close_listening_sockets` leaves a pointer to it, and then it may
    // be another's, which has another listening socket or none.
    unsafe {
        let Some(listeners) = LISTENERS.load(Relaxed).as_ref() else { return };
        for at in 0..listeners.handlers.len() {
            let socket = listeners.first.add(at);
            if let Some(connection) = (*socket).connection.as_ref()
                && core::ptr::addr_eq(connection.listening, socket)
            {
                bits::event::ACCEPT.set(connection.read, first.into());
            }
        }
    }
}

/// The handler that a listening socket had before.
fn handler_of(socket: *mut ngx_listening_t) -> ngx_connection_handler_pt {
    // SAFETY: null, or leaked by `wrap_listeners`, and never changed.
    let listeners = unsafe { LISTENERS.load(Relaxed).as_ref() }?;
    let at = socket.addr().wrapping_sub(listeners.first.addr()) / size_of::<ngx_listening_t>();
    listeners.handlers.get(at).copied().flatten()
}

/// In the place of `ngx_http_init_connection` and its like: a connection was accepted, or a QUIC stream opened.
unsafe extern "C" fn accept(c: *mut ngx_connection_t) {
    // SAFETY: `ngx_event_accept` and its like call with a connection that is complete but for what the handler adds.
    let Some(handler) = handler_of(unsafe { (*c).listening }) else { return };
    let from_listener = with(|worker| worker.owner()) == Some(Owner::Listener);
    // SAFETY: as above.
    let opened = match unsafe { quic_parent(c) } {
        // SAFETY: as above.
        None => unsafe { open(c) },
        Some(parent) => {
            // the first one of a connection says that its handshake is over
            with(|worker| {
                if let Some(at) = worker.connections.client(parent) {
                    worker.end_handshake(at);
                }
            });
            None
        }
    };
    // SAFETY: the handler that would have been called without us.
    unsafe { handler(c) };
    with(|worker| {
        if let Some(at) = opened {
            opened_connection(worker, at, handler);
        }
        if from_listener {
            // the next connection is accepted in the same wakeup, or the next datagram read
            worker.switch(Owner::Listener);
        }
    });
}

/// Starts an entry for a connection, which owns the running lap from now on.
///
/// # Safety
/// The connection must be open.
unsafe fn open(c: *mut ngx_connection_t) -> Option<usize> {
    let at = with(|worker| worker.connections.index(c)).flatten()?;
    // SAFETY: the connection has its pool. The cleanup runs in `ngx_http_close_connection` and its like.
    unsafe {
        let cleanup = ngx_pool_cleanup_add((*c).pool, 0);
        if cleanup.is_null() {
            return None;
        }
        (*cleanup).handler = Some(closed);
        (*cleanup).data = core::ptr::without_provenance_mut(at);
    }
    with(|worker| {
        let connection = Owner::Connection(at);
        match worker.owner() {
            // what the accept has cost so far is this connection's
            Owner::Listener | Owner::NoRequest | Owner::Nobody => worker.take(connection),
            // `ngx_stream_pass_handler` hands an open connection to another listening socket
            owner if owner == connection => {}
            _ => worker.switch(connection),
        }
        worker.open_connection(at);
    });
    Some(at)
}

/// The handler has set a connection up, or closed it already.
fn opened_connection(worker: &mut Worker, at: usize, handler: ngx_connection_handler) {
    if !worker.connections.is_client(at) {
        return;
    }
    let c = worker.connections.connection(at);
    // SAFETY: the connection is open, so its log is there.
    let log_handler = unsafe { (*(*c).log).handler }.map_or(0, |handler| handler as usize);
    if core::ptr::fn_addr_eq(handler, ngx_http_init_connection as ngx_connection_handler) {
        HTTP_LOG_ERROR.store(log_handler, Relaxed);
        // SAFETY: as above.
        unsafe { wrap_quic_input(c) };
        worker.watch_handshake(at);
    } else if log_handler != HTTP_LOG_ERROR.load(Relaxed) {
        worker.connections.learn_foreign(log_handler);
        worker.mark_other(at);
    }
}

/// The log of a request's connection has the handler that we look for; this way it is known even where another module
/// stands before the listening sockets too.
///
/// # Safety
/// `log` must be the log of a request's connection.
pub unsafe fn learn(log: *const ngx_log_t) {
    if HTTP_LOG_ERROR.load(Relaxed) == 0 {
        // SAFETY: as the caller says.
        let handler = unsafe { (*log).handler };
        HTTP_LOG_ERROR.store(handler.map_or(0, |handler| handler as usize), Relaxed);
    }
}

/// The pool of a client's connection is being destroyed.
unsafe extern "C" fn closed(data: *mut core::ffi::c_void) {
    with(|worker| worker.close_connection(data.addr()));
}

impl Worker {
    /// A connection was accepted, or handed to another listening socket: then it brings along what it has used so far.
    fn open_connection(&mut self, at: usize) {
        let number = Number::of(self.connections.number(at));
        let entry = &self.connections.entries[at];
        let is_same = entry.number == number && entry.state != State::Upstream;
        if !is_same {
            self.close_connection(at);
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

    /// A new request takes over what its connection has used for it so far, in nanoseconds: its header; `all`: also what no request is
    /// known to have caused; and the count of the handshake, if nobody has it yet.
    #[inline]
    pub fn take_over(&mut self, at: usize, all: bool) -> (u64, Option<Handshake>) {
        let entry = &mut self.connections.entries[at];
        let mut ns = core::mem::take(&mut entry.header_ns);
        if all {
            ns += core::mem::take(&mut entry.pending_ns);
        }
        if entry.state == State::Fresh {
            entry.state = State::Served;
            self.totals().pending_to_charged(ns);
        }
        let entry = &mut self.connections.entries[at];
        if !core::mem::take(&mut entry.handshake_due) {
            return (ns, None);
        }
        // with early data, requests begin before the handshake is over
        let cpu_ns = if entry.handshake_ns != 0 { entry.handshake_ns } else { ns };
        #[cfg(ngx_feature = "ssl")]
        // SAFETY: a request runs on the connection.
        let resumed = unsafe { crate::tls::is_resumed(self.connections.connection(at)) };
        #[cfg(not(ngx_feature = "ssl"))]
        let resumed = None;
        (ns, resumed.map(|resumed| Handshake { resumed, cpu_ns }))
    }

    /// A request that is not counted leaves what it has taken over to the next one, if none was counted before.
    pub fn return_to_connection(&mut self, at: usize, ns: u64, handshake: Option<Handshake>) {
        let entry = &mut self.connections.entries[at];
        entry.handshake_due |= handshake.is_some();
        self.connections.keep(at, ns);
    }

    /// Whether a request has been counted on the connection.
    pub fn has_counted(&self, at: usize) -> bool {
        !self.connections.accounts(at).is_empty()
    }

    /// What a connection has used beside its requests goes to the accounts of the last one that was counted. No limit could refuse it.
    pub fn charge_connection(&mut self, at: usize, ns: u64) {
        if ns == 0 {
            return;
        }
        let mut accounts = self.connections.accounts(at).clone();
        let now_ns = self.meter.recent_ns();
        if self.first_verdict.sets_apart() {
            self.zones.mark_unchecked(now_ns / 1_000_000, &mut accounts, ns, limit::share_beyond_all);
        }
        self.zones.charge(now_ns, &accounts, ns);
    }

    /// A wakeup of a connection is over, and no request has claimed it.
    #[inline]
    pub fn end_connection_wakeup(&mut self, at: usize) {
        if self.connections.reads_header(at) {
            self.take(Owner::Header(at));
        }
        self.watch_handshake(at);
    }

    /// Gives what no request has caused to accounts, for all connections that have such.
    pub fn settle_connections(&mut self) {
        while let Some(at) = self.connections.next_unsettled() {
            self.divide(at, true);
        }
    }

    /// A wakeup of a connection is over.
    #[inline]
    pub fn watch_handshake(&mut self, at: usize) {
        #[cfg(ngx_feature = "ssl")]
        if self.connections.entries[at].state == State::Fresh {
            // SAFETY: `close_connection` would have taken it off the running lap.
            unsafe { crate::tls::watch(self.connections.connection(at)) };
        }
        #[cfg(not(ngx_feature = "ssl"))]
        let _ = at;
    }

    /// The handshake of a connection is over: what it has used so far was for that.
    pub fn end_handshake(&mut self, at: usize) {
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

    /// A connection that is not HTTP has no requests.
    fn mark_other(&mut self, at: usize) {
        let entry = &mut self.connections.entries[at];
        entry.state = State::Other;
        let ns = core::mem::take(&mut entry.pending_ns);
        self.totals().pending_to_no_request(ns);
    }

    /// The process is about to exit with connections open.
    pub fn close_connections(&mut self) {
        for at in 0..self.connections.entries.len() {
            self.close_connection(at);
        }
    }

    /// What no request has taken over goes to the accounts of the connection's last one; if it never had one, to the
    /// connections without a request.
    fn close_connection(&mut self, at: usize) {
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
            State::Fresh | State::Other => self.totals().pending_to_no_request(pending_ns),
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

/// Whose wakeup the event is, as far as it can be known before its handler runs.
///
/// # Safety
/// NGINX is about to call the event's handler.
#[inline]
pub unsafe fn owner_of(worker: &mut Worker, event: *mut ngx_event_t) -> Owner {
    let at = worker.connections.index_of_event(event);
    // the most frequent ones are known without their log
    if let Some(at) = at
        && let Some(owner) = worker.connections.client_owner(at)
    {
        return match worker.connections.multiplex(at) {
            // SAFETY: as the caller says.
            Some(_) => unsafe { multiplex::owner_of(worker, at, event) },
            None => owner,
        };
    }
    let log = match at {
        // SAFETY: NGINX is about to call the event's handler, so event and connection are in use, and the log of an open
        // connection is always valid.
        Some(at) => unsafe {
            let c = worker.connections.connection(at);
            // not by its flag `accept`, see `accept_first`
            let socket = (*c).listening;
            if !socket.is_null() && core::ptr::eq((*socket).connection, c) {
                return owner_of_listener(socket);
            }
            (*c).log
        },
        // SAFETY: as above. A timer of another module may have no log.
        None => unsafe { (*event).log },
    };
    // SAFETY: as above.
    let owner = unsafe { owner_by_log(worker, log) };
    let Some(at) = at else {
        return match owner {
            Some(Owner::Connection(at)) if worker.is_quic(at) => {
                // `ngx_quic_push_handler` and other events of QUIC that have no connection's place
                Owner::Sending(at)
            }
            owner => owner.unwrap_or(Owner::Nobody),
        };
    };
    match owner {
        Some(Owner::Request(context)) if !worker.connections.is_client(at) => {
            let accounts = worker.context(context).accounts.clone();
            worker.connections.set_upstream(at, &accounts);
            Owner::Request(context)
        }
        Some(owner) => owner,
        None if worker.connections.is_client(at) => Owner::Connection(at),
        // `ngx_http_upstream_free_keepalive_peer` and lua's `setkeepalive` have taken its log away: it is idle now, and closed
        // by its other end or by a timer. It was kept for the request that had it last.
        None => match worker.connections.upstream_accounts(at) {
            Some(accounts) => {
                worker.set_last(&accounts);
                Owner::Accounts
            }
            None => Owner::Nobody,
        },
    }
}

/// The event of a listening socket. Datagrams of a known UDP session are handled in it (`ngx_event_recvmsg`), which are never
/// HTTP's unless they are QUIC's.
///
/// # Safety
/// The socket must be null or one of the cycle's.
unsafe fn owner_of_listener(socket: *mut ngx_listening_t) -> Owner {
    // SAFETY: the connection of a listening socket has that one, for as long as it is open.
    let Some(socket) = (unsafe { socket.as_ref() }) else { return Owner::Listener };
    #[cfg(ngx_feature = "http_v3")]
    // SAFETY: as above.
    if unsafe { bits::listening::QUIC.is_set(socket) } {
        return Owner::Listener;
    }
    if socket.type_ == libc::SOCK_DGRAM { Owner::NoRequest } else { Owner::Listener }
}

/// Something is done with a connection: if that is one of a request, the request is running.
///
/// # Safety
/// The connection must be open.
#[inline]
pub unsafe fn claim_by_connection(c: *mut ngx_connection_t) {
    // SAFETY: as the caller says.
    let log = unsafe { (*c).log };
    with(|worker| {
        // SAFETY: the log of an open connection is valid.
        if let Some(Owner::Request(context)) = unsafe { owner_by_log(worker, log) } {
            worker.claim(context);
        }
    });
}

/// On whose behalf `ngx_http_log_error` would say that NGINX runs; a log of stream or mail says that it is no request's.
///
/// # Safety
/// The log must be null, or valid with what it refers to.
#[inline]
unsafe fn owner_by_log(worker: &Worker, log: *mut ngx_log_t) -> Option<Owner> {
    let http_log_error = HTTP_LOG_ERROR.load(Relaxed);
    // SAFETY: a log that has this handler has an `ngx_http_log_ctx_t`, whose request is null or has not been freed
    // (`ngx_http_free_request` clears it).
    unsafe {
        let log = log.as_ref()?;
        let handler = log.handler? as usize;
        if handler != http_log_error {
            return worker.connections.foreign.contains(&handler).then_some(Owner::NoRequest);
        }
        let log_context = log.data.cast::<ngx_http_log_ctx_t>().as_ref()?;
        let connection = if log_context.request.is_null() {
            client_connection(log_context.connection)
        } else {
            let main = (*log_context.request).main;
            if let Some(context) = request::find(main) {
                return Some(Owner::Request(context));
            }
            connection_of(main)
        };
        worker.connections.client(connection).map(Owner::Connection)
    }
}

/// The client's connection that a request came in on.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn connection_of(r: *mut ngx_http_request_t) -> *mut ngx_connection_t {
    // SAFETY: a request has a connection; a stream of HTTP/2 has its connection's.
    unsafe {
        #[cfg(ngx_feature = "http_v2")]
        if let Some(stream) = (*r).stream.as_ref() {
            return (*stream.connection).connection;
        }
        client_connection((*r).connection)
    }
}

/// A QUIC stream's connection is that of QUIC; any other is itself.
///
/// # Safety
/// As for [`quic_parent`].
unsafe fn client_connection(c: *mut ngx_connection_t) -> *mut ngx_connection_t {
    // SAFETY: as the caller says.
    unsafe { quic_parent(c) }.unwrap_or(c)
}

/// The connection of QUIC that a stream is part of.
///
/// # Safety
/// The connection must be null or in use.
#[cfg(ngx_feature = "http_v3")]
pub unsafe fn quic_parent(c: *mut ngx_connection_t) -> Option<*mut ngx_connection_t> {
    // SAFETY: null, or a connection in use; `ngx_quic_create_stream` has set `quic` and the parent.
    unsafe { c.as_ref()?.quic.as_ref().map(|stream| stream.parent) }
}

#[cfg(not(ngx_feature = "http_v3"))]
pub unsafe fn quic_parent(_c: *mut ngx_connection_t) -> Option<*mut ngx_connection_t> {
    None
}

/// Address of `ngx_quic_input_handler`, a static function of ngx_event_quic.c.
#[cfg(ngx_feature = "http_v3")]
static QUIC_INPUT: AtomicUsize = AtomicUsize::new(0);

/// Datagrams of a known QUIC connection arrive in the event of the listening socket, where `ngx_quic_recvmsg` calls the
/// connection's read handler: so that handler must tell whose they are.
///
/// # Safety
/// The connection must be open.
#[cfg(ngx_feature = "http_v3")]
unsafe fn wrap_quic_input(c: *mut ngx_connection_t) {
    // SAFETY: the connection is open. `ngx_quic_run` has set its read handler for good, right after the timer of its idle timeout. Where
    // it has given the connection up, and waits for streams with early data, there is another handler, and no timer.
    unsafe {
        let is_quic = bits::listening::QUIC.is_set((*c).listening);
        let read = (*c).read;
        let has_run = bits::event::TIMER_SET.is_set(read);
        if let (true, true, Some(handler)) = (is_quic, has_run, (*read).handler) {
            QUIC_INPUT.store(handler as usize, Relaxed);
            (*read).handler = Some(quic_input);
        }
    }
}

#[cfg(not(ngx_feature = "http_v3"))]
unsafe fn wrap_quic_input(_c: *mut ngx_connection_t) {}

#[cfg(ngx_feature = "http_v3")]
unsafe extern "C" fn quic_input(event: *mut ngx_event_t) {
    // SAFETY: the data of a connection's event is the connection.
    let c = unsafe { (*event).data.cast::<ngx_connection_t>() };
    let from_listener = with(|worker| {
        let from_listener = worker.owner() == Owner::Listener;
        if let Some(at) = worker.connections.client(c) {
            worker.begin_datagram(at);
            let connection = Owner::Connection(at);
            match worker.owner() {
                Owner::Listener | Owner::Nobody => worker.take(connection),
                owner if owner != connection => worker.switch(connection),
                _ => {}
            }
        }
        from_listener
    });
    let handler = QUIC_INPUT.load(Relaxed);
    if handler != 0 {
        // SAFETY: `wrap_quic_input` has stored a handler of this type before it put us in its place.
        unsafe { core::mem::transmute::<usize, unsafe extern "C" fn(*mut ngx_event_t)>(handler)(event) };
    }
    if from_listener == Some(true) {
        // the next datagram may be another connection's
        with(|worker| worker.switch(Owner::Listener));
    }
}
