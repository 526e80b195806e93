//! A request: its context, its claims, its settlement.
//!
//! A request makes itself known in the post-read phase, in the header and body filters, and in the log phase (some never
//! reach another phase: a 400, for instance). Its total is final when the log phase starts; what runs after that is charged
//! to its accounts.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr::{NonNull, null};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use accounting::account::{CacheStatus, Handshake, Outcome, Usage};
use accounting::billing::Span;
use accounting::key::OVERFLOW_KEY;
use accounting::pending_charges::Ended;
use accounting::request::RequestMeter;
use nginx_sys::{
    NGX_DECLINED, NGX_HTTP_SWITCHING_PROTOCOLS, NGX_LOG_WARN, NGX_OK, ngx_array_push, ngx_cached_time,
    ngx_chain_t, ngx_connection_t, ngx_http_complex_value, ngx_http_core_loc_conf_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_get_flushed_variable, ngx_http_handler_pt,
    ngx_http_phases_NGX_HTTP_LOG_PHASE, ngx_http_phases_NGX_HTTP_POST_READ_PHASE,
    ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, ngx_http_request_t, ngx_http_top_body_filter,
    ngx_http_top_header_filter, ngx_http_top_request_body_filter, ngx_int_t, ngx_palloc, ngx_pool_cleanup_t,
    ngx_pool_large_t, ngx_str_t, ngx_uint_t,
};
use ngx::ngx_log_error;

use crate::accounts::{AccountId, AccountSet};
use crate::conf::{Key, LocConf, Zone, ZoneUse, loc_conf};
use crate::limit::{self, Limited, Verdict, body};
use crate::multiplex::Stream;
use crate::nginx::bits;
use crate::received::{self, Received};
use crate::variables::len_of;
use crate::worker::{Owner, Worker, is_measuring, now_ms, with};
use crate::{allocator, attribution, context_index};

/// A running request is settled when so much time has passed since the last time, in nanoseconds.
const SETTLE_NS: u64 = 1_000_000_000;

/// What we know of a main request; in its pool.
pub struct Context {
    request: *mut ngx_http_request_t,
    pub meter: RequestMeter,
    /// place of the client's connection
    connection: Option<usize>,
    pub received: Received,
    /// of the connection, if this is its first request
    handshake: Option<Handshake>,
    /// the log phase has begun: the total is final
    pub stopped: bool,
    /// what came after that and before the accounts were known, in nanoseconds
    pub late_ns: u64,
    /// the request is settled: its accounts pay from here
    pub logged: bool,
    /// the accounts that it is in flight in, then those that it was settled into
    pub accounts: AccountSet,
    /// The location that the request is counted by, in the configuration that it is served by; null: the one that it is in.
    counted_by: *const LocConf,
    /// what was answered, if `post_action` came after that
    answered: Option<Answered>,
    /// `request_cpu` that `accounts` were chosen by, while it is in flight
    zones: *const ZoneUse,
    in_flight: bool,
    pub verdict: Verdict,
    /// what else limits have to know of it; in its pool
    pub limited: Option<NonNull<Limited>>,
    /// neighbours among the requests in flight
    previous_flying: Option<NonNull<Context>>,
    next_flying: Option<NonNull<Context>>,
    /// In nanoseconds of the shared clock: when it began; while it is in flight, when it was last settled or its memory looked at;
    /// afterwards, when it landed.
    since_ns: u64,
    /// its memory in bytes, while it is in flight
    bytes: u64,
    /// it has been an owner since the last beat; in the list of those in flight, such are in front
    stirred: bool,
    /// a subrequest whose log line is being written: all its variables show the same values
    logging: *const ngx_http_request_t,
    pub touched: bool,
    pub next_touched: Option<NonNull<Context>>,
    /// its place among the requests of a connection that carries several
    pub stream: Stream,
    #[cfg(feature = "audit")]
    pub audited: crate::audit::Audited,
}

impl Context {
    pub fn request(&self) -> *mut ngx_http_request_t {
        self.request
    }

    /// The place of the client's connection.
    pub fn connection(&self) -> Option<usize> {
        self.connection
    }

    /// Whether what its connection does besides is for it too: it is in an account, and not refused.
    pub fn is_counted(&self) -> bool {
        !self.logged && self.accounts.is_used()
    }

    /// Bytes sent and received.
    #[inline]
    fn traffic(&self) -> (u64, u64) {
        // SAFETY: the context is there, so its request and that one's connection are.
        unsafe {
            let sent = (*(*self.request).connection).sent;
            (sent.max(0) as u64, self.received.bytes(self.request))
        }
    }

    /// The time that its accounts have not got yet, up to now.
    #[inline]
    fn span(&self, now_ns: u64) -> Span {
        // SAFETY: the context is there, so its request is.
        let bytes = if self.since_ns < now_ns { unsafe { memory_of(self.request) } } else { None };
        Span { from_ns: self.since_ns, to_ns: now_ns, bytes: bytes.unwrap_or(0) }
    }

    /// Says what it uses while it is in flight to the limits of its accounts.
    pub fn mark_in_flight(&mut self) {
        // SAFETY: as in `limited`.
        let limited = self.limited.map(|limited| unsafe { limited.as_ref() });
        self.verdict.mark(limited, &mut self.accounts);
    }

    /// What else limits have to know of it.
    #[inline]
    pub fn limited(&mut self) -> Option<&mut Limited> {
        // SAFETY: `limit::check` has made it in the pool that this is in, and keeps no other reference.
        self.limited.map(|mut limited| unsafe { limited.as_mut() })
    }

    /// What has come up since the last call.
    fn unsettled(&mut self) -> Usage {
        let (sent, received) = self.traffic();
        if self.accounts.is_empty() {
            self.meter.take_own_usage(sent, received)
        } else {
            self.meter.take_usage(sent, received)
        }
    }
}

/// How a request was answered.
#[derive(Debug, Clone, Copy)]
struct Answered {
    status: u64,
    cache: CacheStatus,
}

/// A context, and the cleanup by which it is found and taken back.
#[repr(C)]
struct Tracked {
    cleanup: ngx_pool_cleanup_t,
    context: Context,
}

static NEXT_HEADER_FILTER: AtomicUsize = AtomicUsize::new(0);
static NEXT_BODY_FILTER: AtomicUsize = AtomicUsize::new(0);
static NEXT_REQUEST_BODY_FILTER: AtomicUsize = AtomicUsize::new(0);

type HeaderFilter = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;
type BodyFilter = unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_chain_t) -> ngx_int_t;

/// Adds the phase handlers and the filters. `ways_differ`: it makes a difference which locations a request goes through.
pub fn register(core: &mut ngx_http_core_main_conf_t, ways_differ: bool) -> Result<(), ()> {
    // SAFETY: arrays of handlers that `ngx_http_init_phases` has made; filters are chained by each module like this.
    unsafe {
        let phases = &mut core.phases;
        for (phase, handler) in [
            (ngx_http_phases_NGX_HTTP_POST_READ_PHASE, post_read as HeaderFilter),
            (ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, preaccess as HeaderFilter),
            (ngx_http_phases_NGX_HTTP_LOG_PHASE, settle as HeaderFilter),
            (ngx_http_phases_NGX_HTTP_LOG_PHASE, stop as HeaderFilter),
        ] {
            if phase == ngx_http_phases_NGX_HTTP_PREACCESS_PHASE && !ways_differ {
                continue;
            }
            let handlers = &mut phases[phase as usize].handlers;
            if ngx_array_push(handlers).is_null() {
                return Err(());
            }
            let handlers = handlers.as_slice_mut::<ngx_http_handler_pt>();
            if let Some(last) = handlers.last_mut() {
                *last = Some(handler);
            }
        }
        // The last one to the front, where `ngx_http_log_request` begins: a request's total is final before the access log is
        // written, and so the same in all its lines. Accounts are looked up after it, so that a key with patterns changes no
        // capture that the access log shows.
        let log = &mut phases[ngx_http_phases_NGX_HTTP_LOG_PHASE as usize].handlers;
        log.as_slice_mut::<ngx_http_handler_pt>().rotate_right(1);
        let header = &raw mut ngx_http_top_header_filter;
        NEXT_HEADER_FILTER.store(header.read().map_or(0, |next| next as usize), Relaxed);
        header.write(Some(header_filter));
        let request_body = &raw mut ngx_http_top_request_body_filter;
        NEXT_REQUEST_BODY_FILTER.store(request_body.read().map_or(0, |next| next as usize), Relaxed);
        request_body.write(Some(request_body_filter));
        let body = &raw mut ngx_http_top_body_filter;
        NEXT_BODY_FILTER.store(body.read().map_or(0, |next| next as usize), Relaxed);
        body.write(Some(body_filter));
    }
    Ok(())
}

/// The context of a main request, if it has one.
///
/// # Safety
/// `main` must be a main request that has not been freed.
#[inline]
pub unsafe fn find(main: *mut ngx_http_request_t) -> Option<NonNull<Context>> {
    // SAFETY: a request has room for each module's context. Ours is what `create` has put there.
    unsafe {
        let place = (*main).ctx.add(context_index());
        if let Some(context) = NonNull::new((*place).cast()) {
            return Some(context);
        }
        if !bits::request::INTERNAL.is_set(main) && !bits::request::FILTER_FINALIZE.is_set(main) {
            return None;
        }
        // `ngx_http_internal_redirect` and others clear all contexts; the cleanup is still there
        let mut cleanup = (*(*main).pool).cleanup;
        while let Some(this) = cleanup.as_ref() {
            if this.handler.is_some_and(|handler| handler as usize == freed as *const () as usize) {
                *place = this.data;
                return NonNull::new(this.data.cast());
            }
            cleanup = this.next;
        }
        None
    }
}

/// Makes a context for a main request; none if there is no memory.
unsafe fn create(main: *mut ngx_http_request_t) -> Option<NonNull<Context>> {
    // SAFETY: the pool is the request's own, and destroyed with it; pool memory is aligned to NGX_ALIGNMENT, which is enough
    // for pointers and 64-bit integers.
    unsafe {
        let pool = (*main).pool;
        let tracked = ngx_palloc(pool, size_of::<Tracked>()).cast::<Tracked>();
        let context = NonNull::new(tracked)?.cast::<Context>().byte_add(offset_of!(Tracked, context));
        attribution::learn((*(*main).connection).log);
        let connection = attribution::connection_of(main);
        let (client, verdict) = with(|worker| (worker.connections.client(connection), worker.first_verdict))
            .unwrap_or((None, Verdict::NONE));
        context.write(Context {
            request: main,
            meter: RequestMeter::default(),
            connection: client,
            received: Received::of(main),
            stopped: false,
            handshake: None,
            late_ns: 0,
            logged: false,
            accounts: AccountSet::EMPTY,
            counted_by: null(),
            answered: None,
            zones: null(),
            in_flight: false,
            verdict,
            limited: None,
            previous_flying: None,
            next_flying: None,
            since_ns: 0,
            bytes: 0,
            stirred: false,
            logging: null(),
            touched: false,
            next_touched: None,
            stream: Stream::default(),
            #[cfg(feature = "audit")]
            audited: Default::default(),
        });
        // as `ngx_pool_cleanup_add`, which would take memory twice
        let cleanup = &raw mut (*tracked).cleanup;
        cleanup.write(ngx_pool_cleanup_t {
            handler: Some(freed),
            data: context.as_ptr().cast(),
            next: (*pool).cleanup,
        });
        (*pool).cleanup = cleanup;
        *(*main).ctx.add(context_index()) = context.as_ptr().cast();
        with(|worker| {
            if connection == (*main).connection {
                worker.set_request(context);
            } else if let Some(at) = worker.context(context).connection {
                worker.join(context, at, main, connection);
            }
        });
        Some(context)
    }
}

/// How long before the running wakeup a request began, in nanoseconds: where its header came in parts, that was another one.
///
/// # Safety
/// `r` must be a request that has not been freed.
#[inline]
unsafe fn age_ns(r: *const ngx_http_request_t) -> u64 {
    // SAFETY: as the caller says; NGINX's cached time, which `ngx_time_update` replaces as a whole.
    unsafe {
        let time = &*(&raw const ngx_cached_time).read_volatile();
        let is_now = time.sec == (*r).start_sec && time.msec as u64 == (*r).start_msec as u64;
        // a request that a module has made up may have no start
        if is_now || (*r).start_sec == 0 {
            return 0;
        }
        // as `ngx_http_variable_request_time`
        let ms = (time.sec - (*r).start_sec) * 1000 + (time.msec as i64 - (*r).start_msec as i64);
        if ms <= 0 {
            return 0;
        }
        // that is the clock of the wall, which can be set
        let connected_ms = now_ms().saturating_sub((*(*r).connection).start_time as u64);
        ms.unsigned_abs().min(connected_ms) * 1_000_000
    }
}

/// As many large pieces of memory are looked at in a request.
const MAX_LARGE: usize = 1000;

/// Memory that a request holds, in bytes: all of its pool, and the buffer that its header was read into. Large pieces of the pool
/// are missing where the allocator does not tell their sizes. None if it is being freed (`ngx_http_free_request`).
///
/// # Safety
/// `r` must be a request that has not been freed.
#[inline]
unsafe fn memory_of(r: *const ngx_http_request_t) -> Option<u64> {
    // SAFETY: as the caller says. A pool is a chain of blocks, each with its end (`ngx_create_pool`, `ngx_palloc_block`), and a
    // list of large pieces, which may be freed (`ngx_pfree`).
    unsafe {
        let pool = (*r).pool.as_ref()?;
        let mut bytes = 0;
        let mut block = core::ptr::from_ref(pool);
        while let Some(this) = block.as_ref() {
            bytes += this.d.end.addr() - block.addr();
            block = this.d.next;
        }
        if !pool.large.is_null() {
            bytes += large_bytes(pool.large);
        }
        // a stream of HTTP/2 has it in its pool (`ngx_http_v2_create_stream`)
        if let Some(header) = (*r).header_in.as_ref()
            && (*r).stream.is_null()
        {
            bytes += header.end.addr() - header.start.addr();
        }
        Some(bytes as u64)
    }
}

unsafe fn large_bytes(first: *const ngx_pool_large_t) -> usize {
    let mut bytes = 0;
    let mut large = first;
    for _ in 0..MAX_LARGE {
        // SAFETY: a list of a pool's, of what `ngx_alloc` and `ngx_memalign` have got from the system's allocator.
        unsafe {
            let Some(this) = large.as_ref() else { break };
            if !this.alloc.is_null() {
                bytes += allocator::size_of_piece(this.alloc);
            }
            large = this.next;
        }
    }
    bytes
}

/// The running lap is this request's.
#[inline]
unsafe fn claim(r: *mut ngx_http_request_t) -> Option<NonNull<Context>> {
    if !is_measuring() {
        return None;
    }
    // SAFETY: `r` is the request that NGINX has called us for; its main request lives at least as long.
    unsafe {
        let main = (*r).main;
        if let Some(context) = find(main) {
            with(|worker| worker.claim(context));
            return Some(context);
        }
        let context = create(main)?;
        with(|worker| worker.claim_first(context));
        Some(context)
    }
}

/// A thread of a pool is done with what it did for a request, whose turn it is now.
///
/// # Safety
/// `r` must be a request that has not been freed.
#[cfg(ngx_feature = "threads")]
pub unsafe fn charge_pool_thread(r: *mut ngx_http_request_t, ns: u64) {
    // SAFETY: as the caller says.
    if let Some(context) = unsafe { claim(r) } {
        with(|worker| worker.charge_pool_thread(context, ns));
    }
}

impl Worker {
    /// The request is running, from the start of the wakeup if nobody was known to.
    #[inline]
    pub fn claim(&mut self, pointer: NonNull<Context>) {
        let request = Owner::Request(pointer);
        if self.owner() == request {
            return;
        }
        match self.owner() {
            // nobody was known when the wakeup began: all of it was for this request
            Owner::Nobody | Owner::Listener => self.take(request),
            // QUIC's wakeup is for all its streams, some of which are called in it (`ngx_quic_close_streams`)
            Owner::Connection(at) if self.context(pointer).connection == Some(at) && !self.is_quic(at) => {
                self.take(request);
            }
            _ => self.switch(request),
        }
        self.touch(pointer);
    }

    /// The first claim of a request: it takes over what its connection has used.
    fn claim_first(&mut self, pointer: NonNull<Context>) {
        let connection = self.context(pointer).connection;
        if let (Some(at), Owner::Connection(of) | Owner::Header(of)) = (connection, self.owner())
            && of == at
        {
            // its header was read in this wakeup
            if self.is_exact_connection() {
                self.take(Owner::Header(at));
                self.read_clock();
            }
            self.take(Owner::Request(pointer));
            self.touch(pointer);
        } else {
            self.claim(pointer);
        }
        let now_ns = self.meter.now_ns();
        let context = self.context(pointer);
        // SAFETY: the context is there, so its request is.
        context.since_ns = now_ns.saturating_sub(unsafe { age_ns(context.request) });
        if let Some(at) = connection {
            let (is_quic, is_alone) = (self.is_quic(at), self.is_alone(pointer));
            // What came before this request is for those that were open, or were counted before. The first one that is counted
            // takes over the rest, unless others are open: they have the connection already.
            let is_first = !self.has_counted(at);
            let divides = if is_first { !is_alone } else { !is_quic };
            if divides && self.connections.pending_ns(at) != 0 {
                self.divide(at, true);
            }
            let (ns, handshake) = self.take_over(at, is_alone && (is_first || is_quic));
            let context = self.context(pointer);
            context.meter.take_over(ns);
            context.handshake = handshake;
        }
    }

    /// The request has its connection for itself, until it is freed.
    fn set_request(&mut self, pointer: NonNull<Context>) {
        if let Some(at) = self.context(pointer).connection {
            self.connections.set_request(at, pointer);
        }
    }

    /// The total is final, for a main request. If it is not counted, it leaves to others what its connection has used before.
    #[inline]
    fn stop(&mut self, pointer: NonNull<Context>, is_main: bool, counts: bool) {
        self.context(pointer).stopped |= is_main;
        if is_main && !counts {
            self.leave_connection(pointer);
        }
    }

    /// A request that is not counted leaves what it has taken over from its connection to the first one that is.
    #[cold]
    fn leave_connection(&mut self, pointer: NonNull<Context>) {
        let context = self.context(pointer);
        let has_handshake = context.handshake.is_some();
        if let Some(at) = context.connection
            && (has_handshake || !self.has_counted(at))
            && !self.zones.is_empty()
        {
            let context = self.context(pointer);
            let (ns, handshake) = (context.meter.give_back(), context.handshake.take());
            self.return_to_connection(at, ns, handshake);
        }
    }

    /// Final: what is charged from here on is for the accounts.
    fn finish(&mut self, pointer: NonNull<Context>, accounts: &AccountSet, outcome: &Outcome) {
        self.leave_flight(pointer);
        let now_ns = self.meter.now_ns();
        if accounts.is_empty() {
            self.leave_connection(pointer);
        }
        let context = self.context(pointer);
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
            self.give_back(pointer, u64::MAX);
        }
        self.zones.finish(now_ns, accounts, &Ended { usage, classes, cpu_ns, span });
        if let Some(handshake) = handshake {
            self.zones.count_handshake(accounts, &handshake);
        }
        #[cfg(feature = "audit")]
        self.audit.end_request(&audited);
        if let Some(at) = connection {
            self.connections.set_accounts(at, accounts);
        }
        if self.owner() == Owner::Request(pointer) {
            self.set_last(accounts);
            self.take(Owner::Accounts);
        }
    }

    /// As [`Worker::finish`], where what the request has used is not the same to all limits.
    #[cold]
    #[inline(never)]
    fn finish_apart(
        &mut self,
        pointer: NonNull<Context>,
        accounts: &AccountSet,
        outcome: &Outcome,
        conf: &LocConf,
    ) {
        let mut marked = accounts.clone();
        let context = self.context(pointer);
        if context.verdict.is_unchecked() {
            let ns = context.meter.total_ns() + context.late_ns;
            let beyond = |zone| limit::share_beyond(conf, zone);
            self.zones.mark_unchecked(self.meter.recent_ns() / 1_000_000, &mut marked, ns, beyond);
        } else {
            // SAFETY: as in `Context::limited`.
            let limited = context.limited.map(|limited| unsafe { limited.as_ref() });
            context.verdict.mark(limited, &mut marked);
        }
        self.finish(pointer, &marked, outcome);
    }

    fn enter_flight(&mut self, pointer: NonNull<Context>, accounts: &AccountSet, zones: *const ZoneUse) {
        self.leave_flight(pointer);
        let now_ns = self.meter.now_ns();
        let context = self.context(pointer);
        context.accounts.copy_from(accounts);
        context.mark_in_flight();
        context.zones = zones;
        context.in_flight = true;
        context.stirred = true;
        let so_far = context.span(now_ns);
        (context.since_ns, context.bytes) = (now_ns, so_far.bytes);
        self.put_in_front(pointer);
        self.zones.enter_flight(accounts, &so_far);
        self.start_beat();
    }

    /// The first one of the requests in flight, where it is not yet.
    fn put_in_front(&mut self, pointer: NonNull<Context>) {
        let next = self.flying.replace(pointer);
        self.context(pointer).next_flying = next;
        if let Some(next) = next {
            self.context(next).previous_flying = Some(pointer);
        }
    }

    /// No request in flight any more.
    fn take_out(&mut self, pointer: NonNull<Context>) {
        let context = self.context(pointer);
        let (previous, next) = (context.previous_flying.take(), context.next_flying.take());
        if let Some(next) = next {
            self.context(next).previous_flying = previous;
        }
        match previous {
            Some(previous) => self.context(previous).next_flying = next,
            None => self.flying = next,
        }
    }

    /// As [`stir`](Self::stir), for a request that may not be in flight, or have been an owner already.
    pub fn stir_flying(&mut self, pointer: NonNull<Context>) {
        let context = self.context(pointer);
        if context.in_flight && !context.stirred {
            self.stir(pointer);
        }
    }

    /// A request in flight was an owner.
    fn stir(&mut self, pointer: NonNull<Context>) {
        self.context(pointer).stirred = true;
        self.take_out(pointer);
        self.put_in_front(pointer);
    }

    /// Settles requests in flight that were owners since the last call.
    pub fn settle_flying(&mut self) {
        let mut next = self.flying;
        while let Some(pointer) = next {
            let context = self.context(pointer);
            if !core::mem::take(&mut context.stirred) {
                break;
            }
            next = context.next_flying;
            self.settle(pointer);
        }
    }

    #[inline]
    fn leave_flight(&mut self, pointer: NonNull<Context>) {
        if core::mem::take(&mut self.context(pointer).in_flight) {
            self.land(pointer);
        }
    }

    #[inline(never)]
    fn land(&mut self, pointer: NonNull<Context>) {
        self.take_out(pointer);
        let now_ns = self.meter.now_ns();
        self.look(pointer, now_ns);
        let context = self.context(pointer);
        context.since_ns = now_ns;
        let (accounts, bytes) = (context.accounts.clone(), context.bytes);
        self.zones.leave_flight(now_ns, &accounts, bytes);
    }

    /// Looks at the memory of a request in flight.
    fn look(&mut self, pointer: NonNull<Context>, now_ns: u64) {
        let context = self.context(pointer);
        // SAFETY: the context is there, so its request is.
        let Some(bytes) = (unsafe { memory_of(context.request) }) else { return };
        let (from_bytes, since_ns) = (context.bytes, context.since_ns);
        (context.bytes, context.since_ns) = (bytes, now_ns);
        if bytes != from_bytes {
            let accounts = context.accounts.clone();
            self.zones.resize(now_ns, &accounts, since_ns, from_bytes, bytes);
        }
    }

    /// The process is about to exit with requests open: their accounts get what they have used.
    pub fn land_all(&mut self) {
        while let Some(pointer) = self.flying {
            self.settle(pointer);
            self.give_back(pointer, u64::MAX);
            self.leave_flight(pointer);
        }
    }

    /// So much of what was charged before is charged as use now; all of it when the request is over.
    #[cold]
    #[inline(never)]
    fn give_back(&mut self, pointer: NonNull<Context>, ns: u64) {
        let now_ns = self.meter.recent_ns();
        let Some(mut limited) = self.context(pointer).limited else { return };
        // SAFETY: as in `Context::limited`; the worker has no part in it.
        for charge in unsafe { limited.as_mut() }.charges() {
            let ns = ns.min(charge.ns);
            if ns != 0 {
                charge.ns -= ns;
                self.zones.give_back(now_ns, charge.id, charge.bucket, ns);
            }
        }
    }

    /// Moves what a running request has used since the last time to its accounts.
    fn settle(&mut self, pointer: NonNull<Context>) {
        let now_ns = self.meter.recent_ns();
        let context = self.context(pointer);
        let is_in_flight = context.in_flight;
        let (mut accounts, usage) = (context.accounts.clone(), context.unsettled());
        let is_limited = context.limited.is_some();
        if context.verdict.is_unchecked() {
            // it may have been answered already, and its body is discarded still
            // SAFETY: the context is there, so its request is.
            let conf = unsafe { loc_conf(context.request) };
            let beyond = |zone| limit::share_beyond(conf, zone);
            self.zones.mark_unchecked(now_ns / 1_000_000, &mut accounts, usage.cpu_ns, beyond);
        }
        self.zones.add(now_ns, &accounts, &usage);
        if is_limited {
            self.give_back(pointer, usage.cpu_ns);
        }
        if is_in_flight {
            self.look(pointer, now_ns);
            self.context(pointer).since_ns = now_ns;
        }
    }

    /// The last request of a connection has received more bytes than were known when it ended.
    pub fn add_received(&mut self, connection: *mut ngx_connection_t, bytes: u64) {
        if let Some(at) = self.connections.client(connection) {
            let accounts = self.connections.accounts(at).clone();
            let usage = Usage { received_bytes: bytes, ..Usage::default() };
            self.zones.add(self.meter.recent_ns(), &accounts, &usage);
        }
    }

    /// The request is being freed: nothing may point to its context any more.
    fn free(&mut self, pointer: NonNull<Context>) {
        self.forget(pointer);
        let is_stream = self.part(pointer);
        if let Some(at) = self.context(pointer).connection {
            self.connections.end_request(at, pointer);
        }
        if !self.context(pointer).logged {
            // never logged: what was not settled is paid by the accounts that it was in flight in
            let context = self.context(pointer);
            let unsettled_ns = context.meter.take_usage(0, 0).cpu_ns + context.late_ns;
            let handshake = context.handshake.take();
            let accounts = context.accounts.clone();
            self.zones.charge(self.meter.recent_ns(), &accounts, unsettled_ns);
            self.give_back(pointer, u64::MAX);
            if let Some(handshake) = handshake {
                self.zones.count_handshake(&accounts, &handshake);
            }
            self.leave_flight(pointer);
        }
        if self.owner() == Owner::Request(pointer) {
            let accounts = self.context(pointer).accounts.clone();
            self.set_last(&accounts);
            self.take(Owner::Accounts);
        }
        if is_stream && let Some(at) = self.context(pointer).connection {
            self.free_stream(at);
        }
    }
}

/// The pool of a main request is being destroyed.
unsafe extern "C" fn freed(data: *mut c_void) {
    let Some(mut context) = NonNull::new(data.cast::<Context>()) else { return };
    // SAFETY: `create` has put the context there, and its request is in the pool too.
    unsafe {
        let &Context { received, request, logged, .. } = context.as_ref();
        received.end(request, logged);
    }
    with(|worker| worker.free(context));
    // SAFETY: `create` has put the context into the request's pool, and it is there until that is destroyed. The worker does not know
    // it any more.
    unsafe {
        let (request, limited) = (context.as_ref().request, context.as_mut().limited());
        if let Some(dropped) = limited.and_then(|limited| limited.dropped.as_ref()) {
            body::leave(request, dropped);
        }
    }
}

/// What is left of a refused request's body, if it was dropped.
///
/// # Safety
/// `main` must be a main request that has not been freed, and nothing else may use the result meanwhile.
pub unsafe fn dropped_body<'a>(main: *mut ngx_http_request_t) -> Option<&'a mut body::Dropped> {
    // SAFETY: as the caller says.
    unsafe { find(main)?.as_mut().limited()?.dropped.as_mut() }
}

unsafe extern "C" fn post_read(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request.
    unsafe {
        if claim(r).is_some() && r == (*r).main && received::has_body(r) {
            received::count_reads(r);
        }
    }
    NGX_DECLINED as ngx_int_t
}

/// A location with `request_cpu` handles the request from here on: it is counted there, wherever it ends. Otherwise what an
/// upstream answers (`X-Accel-Redirect`) could lead all that was done before out of the accounts.
///
/// What `post_action` does comes after the answer, and changes nothing (`ngx_http_post_action`).
unsafe extern "C" fn preaccess(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request. The context is its, and nobody else refers to it now: `with` is not running.
    unsafe {
        if r == (*r).main
            && let Some(mut context) = find(r)
        {
            let conf = loc_conf(r);
            if bits::request::POST_ACTION.is_set(r) {
                // its location has an upstream and a status of its own, and NGINX keeps no other
                context.as_mut().answered.get_or_insert_with(|| answered(r));
            } else if !conf.zones().is_empty() {
                context.as_mut().counted_by = conf;
            }
        }
    }
    NGX_DECLINED as ngx_int_t
}

/// Whether something follows the answers of a location.
///
/// # Safety
/// It must be the configurations of all modules for a location, merged.
#[inline]
pub unsafe fn has_post_action(loc_conf: *mut *mut c_void) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        let core = (*loc_conf.add(ngx_http_core_module.ctx_index)).cast::<ngx_http_core_loc_conf_t>();
        !(*core).post_action.data.is_null()
    }
}

unsafe extern "C" fn header_filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request; the next filter is the one that was at the top before us.
    unsafe {
        if let Some(mut context) = claim(r)
            && r == (*r).main
        {
            if context.as_ref().received.is_by_reads()
                || (*r).headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS as ngx_uint_t
            {
                received::answer(r);
            }
            // nobody else refers to the context now: `with` is not running
            let context = context.as_mut();
            if context.counted_by.is_null() && has_post_action((*r).loc_conf) {
                // what follows is in another location
                context.counted_by = loc_conf(r);
            }
        }
        core::mem::transmute::<usize, HeaderFilter>(NEXT_HEADER_FILTER.load(Relaxed))(r)
    }
}

unsafe extern "C" fn body_filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: as in `header_filter`.
    unsafe {
        claim(r);
        core::mem::transmute::<usize, BodyFilter>(NEXT_BODY_FILTER.load(Relaxed))(r, chain)
    }
}

/// A part of a request's body has come in. With HTTP/2 that may be in an event of its connection.
unsafe extern "C" fn request_body_filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: as in `header_filter`.
    unsafe {
        claim(r);
        core::mem::transmute::<usize, BodyFilter>(NEXT_REQUEST_BODY_FILTER.load(Relaxed))(r, chain)
    }
}

/// First handler of the log phase: from here on the request's total stands still.
///
/// `ngx_http_free_request` calls it for a main request, `ngx_http_finalize_request` for a subrequest, if `log_subrequest` is
/// on: there, all variables of a line show the same values.
unsafe extern "C" fn stop(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request.
    unsafe {
        if let Some(pointer) = claim(r) {
            let is_main = r == (*r).main;
            with(|worker| {
                worker.read_clock();
                if is_main {
                    worker.divide_for(pointer);
                }
                let conf = counted_by(r, worker.context(pointer).counted_by);
                worker.stop(pointer, is_main, !conf.zones().is_empty());
                worker.context(pointer).logging = r;
            });
        }
    }
    NGX_OK as ngx_int_t
}

/// After the access log: the request settles.
unsafe extern "C" fn settle(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request.
    unsafe {
        if is_measuring()
            && r == (*r).main
            && let Some(pointer) = find(r)
        {
            // nobody else refers to the context now: `with` is not running
            let &Context { counted_by: conf, answered, .. } = pointer.as_ref();
            let outcome = outcome_of(r, answered);
            with_accounts(r, counted_by(r, conf), true, |accounts| {
                with(|worker| {
                    if !worker.context(pointer).verdict.sets_apart() {
                        worker.finish(pointer, accounts, &outcome);
                    } else {
                        worker.finish_apart(pointer, accounts, &outcome, loc_conf(r));
                    }
                });
            });
        }
    }
    NGX_OK as ngx_int_t
}

/// How a request is answered.
///
/// # Safety
/// `r` must be a request that has not been freed.
unsafe fn answered(r: *const ngx_http_request_t) -> Answered {
    // SAFETY: as the caller says.
    unsafe {
        let r = &*r;
        // as `ngx_http_variable_status`
        let status = if r.err_status != 0 { r.err_status } else { r.headers_out.status };
        #[cfg(ngx_feature = "http_cache")]
        let cache =
            if r.upstream.is_null() { 0 } else { bits::upstream::CACHE_STATUS.get(r.upstream).into() };
        #[cfg(not(ngx_feature = "http_cache"))]
        let cache = 0;
        Answered { status: status as u64, cache: CacheStatus::from_nginx(cache) }
    }
}

/// How a request ended, but for its CPU. `known`: how it was answered, if that is over.
unsafe fn outcome_of(r: *mut ngx_http_request_t, known: Option<Answered>) -> Outcome {
    // SAFETY: a request in its log phase is complete.
    unsafe {
        let Answered { status, cache } = known.unwrap_or_else(|| answered(r));
        let r = &*r;
        Outcome {
            status,
            cache,
            connection_order: (*r.connection).requests as u64,
            response_bytes: (*r.connection).sent.max(0) as u64,
            cpu_ns: 0,
        }
    }
}

/// The location that a request is counted by: [`Context::counted_by`], or the one that it is in.
///
/// # Safety
/// `known` must be the context's, or null.
#[inline]
unsafe fn counted_by<'a>(r: *mut ngx_http_request_t, known: *const LocConf) -> &'a LocConf {
    // SAFETY: locations live as long as the configuration, and that as long as its requests.
    unsafe { known.as_ref().unwrap_or_else(|| loc_conf(r)) }
}

/// Calls `f` with the accounts of a request, by the zones of a location. `counts`: once per request.
#[inline]
unsafe fn with_accounts<R>(
    r: *mut ngx_http_request_t,
    conf: &LocConf,
    counts: bool,
    f: impl FnOnce(&AccountSet) -> R,
) -> R {
    // SAFETY: a request of NGINX's.
    unsafe {
        match conf.known.get() {
            Some((server, accounts)) if *server == (*r).srv_conf => f(accounts),
            _ => f(&find_accounts(r, conf, counts)),
        }
    }
}

#[inline(never)]
unsafe fn find_accounts(r: *mut ngx_http_request_t, conf: &LocConf, counts: bool) -> AccountSet {
    let mut accounts = AccountSet::EMPTY;
    // SAFETY: a request of NGINX's; zones live as long as the configuration.
    unsafe {
        let mut lasting = true;
        for used in conf.zones() {
            lasting &= find_account(r, used, counts, |id| accounts.push(id));
        }
        if lasting {
            // a location belongs to one server; if it did not, the first one would be served faster
            let _ = conf.known.set(((*r).srv_conf, accounts.clone()));
        }
    }
    accounts
}

/// Calls `f` with the account of a request in a zone, if it has a key there; whether that is the same for all requests of its
/// server.
///
/// # Safety
/// `r` must be a request of the configuration that names the zone.
pub unsafe fn find_account(
    r: *mut ngx_http_request_t,
    used: &ZoneUse,
    counts: bool,
    f: impl FnOnce(AccountId),
) -> bool {
    let Some(zone) = used.zone() else { return false };
    // SAFETY: as the caller says; zones live as long as the configuration.
    unsafe {
        let lasting = matches!(zone.key, Key::ServerName(_));
        let key = key_of(r, zone);
        if key.is_empty() {
            return lasting;
        }
        let found = with(|worker| worker.zones.find(used.index(), key.as_bytes(), counts)).flatten();
        let Some(found) = found else { return lasting };
        f(found.id);
        if found.warn {
            warn_full(r, zone);
        }
        lasting && found.lasting
    }
}

/// As [`OVERFLOW_KEY`].
const OVERFLOW: ngx_str_t = ngx_str_t { len: OVERFLOW_KEY.len(), data: OVERFLOW_KEY.as_ptr().cast_mut() };

/// The key of a request in a zone; empty if it has none.
///
/// # Safety
/// `r` must be a request of the configuration that has the zone.
pub unsafe fn key_of(r: *mut ngx_http_request_t, zone: &Zone) -> ngx_str_t {
    let mut value = ngx_str_t::empty();
    // SAFETY: a request of NGINX's; the key was made for the configuration that it is served by.
    unsafe {
        match &zone.key {
            Key::ServerName(index) | Key::Variable(index) | Key::Host(index) => {
                if let Some(variable) = ngx_http_get_flushed_variable(r, *index).as_ref()
                    && !bits::variable_value::NOT_FOUND.is_set(variable)
                {
                    value = ngx_str_t { len: len_of(variable), data: variable.data };
                }
                // no `Host` (`ngx_http_variable_host`): counted and limited all the same
                if value.is_empty() && matches!(zone.key, Key::Host(_)) {
                    value = OVERFLOW;
                }
            }
            Key::Complex(complex) => {
                let key = (&raw const *complex).cast_mut();
                if ngx_http_complex_value(r, key, &mut value) != NGX_OK as ngx_int_t {
                    value.len = 0;
                }
            }
        }
    }
    value
}

#[cold]
unsafe fn warn_full(r: *mut ngx_http_request_t, zone: &Zone) {
    // SAFETY: a request's connection has a log.
    let log = unsafe { (*(*r).connection).log };
    ngx_log_error!(
        NGX_LOG_WARN,
        log,
        "request_cpu_zone \"{}\" is full, requests of new keys are counted in the account \"*\"",
        zone.name
    );
}

/// A wakeup in which a request was an owner is over; if the request is still there, it is in flight, and settled if it has
/// not been for a second.
pub fn after_wakeup(pointer: NonNull<Context>) {
    let Some((r, conf, chosen, settle, watches)) = with(|worker| {
        let now_ns = worker.meter.recent_ns();
        let context = worker.context(pointer);
        let settle = now_ns.saturating_sub(context.since_ns) >= SETTLE_NS;
        let zones = if context.in_flight { context.zones } else { null() };
        let found = (!context.logged).then_some((context.request, context.counted_by, zones, settle));
        let watches = !context.logged && context.limited().is_some_and(|limited| limited.dropped.is_some());
        worker.stir_flying(pointer);
        found.map(|(r, conf, zones, settle)| (r, conf, zones, settle, watches))
    })
    .flatten() else {
        return;
    };
    // SAFETY: the context is there, so its request is.
    unsafe {
        if watches && let Some(dropped) = dropped_body(r) {
            body::watch(r, dropped);
        }
        let conf = counted_by(r, conf);
        let zones = conf.zones();
        let wanted = if zones.is_empty() { null() } else { zones.as_ptr() };
        if wanted == chosen && !settle {
            return;
        }
        if wanted != chosen {
            unnoticed(r, || {
                with_accounts(r, conf, false, |accounts| {
                    with(|worker| worker.enter_flight(pointer, accounts, wanted));
                });
            });
        }
        if settle {
            with(|worker| worker.settle(pointer));
        }
        // the request pays for this
        with(|worker| {
            worker.take(Owner::Request(pointer));
            worker.switch(Owner::Loop);
        });
    }
}

/// Runs `f` so that the request does not notice: variables and captures are then what they were before. A variable that is
/// looked up before its time (a `map` of something that the upstream has not said yet) would keep that value for the rest of
/// the request, and a `map` with patterns would leave its captures behind.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn unnoticed<R>(r: *mut ngx_http_request_t, f: impl FnOnce() -> R) -> R {
    let mut kept = with(Worker::take_scratch).unwrap_or_default();
    // SAFETY: `ngx_http_alloc_request` has made as many variables as the core module has indexed. `ngx_http_variables_init_vars` has
    // indexed all of them before the first request.
    unsafe {
        let core = (*(*r).main_conf.add(ngx_http_core_module.ctx_index)).cast::<ngx_http_core_main_conf_t>();
        let variables = core::slice::from_raw_parts((*r).variables, (*core).variables.nelts);
        kept.extend_from_slice(variables);
        #[cfg(ngx_feature = "pcre")]
        let captures = keep_captures(r);

        let result = f();

        #[cfg(ngx_feature = "pcre")]
        captures.restore(r);
        (*r).variables.copy_from_nonoverlapping(kept.as_ptr(), kept.len());
        with(|worker| worker.put_scratch(kept));
        result
    }
}

/// The captures of a request's last pattern; an NGINX without PCRE has none.
#[cfg(ngx_feature = "pcre")]
struct Captures {
    captures: *mut core::ffi::c_int,
    count: nginx_sys::ngx_uint_t,
    data: *mut nginx_sys::u_char,
    realloc: bool,
}

/// Takes a request's captures aside. With `realloc_captures`, `ngx_http_regex_exec` makes itself a new array of captures, as it
/// does for a subrequest.
///
/// # Safety
/// `r` must be a request that has not been freed.
#[cfg(ngx_feature = "pcre")]
unsafe fn keep_captures(r: *mut ngx_http_request_t) -> Captures {
    // SAFETY: as the caller says.
    unsafe {
        let realloc = bits::request::REALLOC_CAPTURES.is_set(r);
        bits::request::REALLOC_CAPTURES.set(r, 1);
        Captures { captures: (*r).captures, count: (*r).ncaptures, data: (*r).captures_data, realloc }
    }
}

#[cfg(ngx_feature = "pcre")]
impl Captures {
    /// # Safety
    /// `r` must be the request that they are of, and not freed meanwhile.
    unsafe fn restore(self, r: *mut ngx_http_request_t) {
        // SAFETY: as the caller says.
        unsafe {
            bits::request::REALLOC_CAPTURES.set(r, self.realloc.into());
            (*r).captures = self.captures;
            (*r).ncaptures = self.count;
            (*r).captures_data = self.data;
        }
    }
}

/// What the variables of a request show.
pub struct Reading {
    pub total_ns: u64,
    pub connection_ns: u64,
    pub wakeups: u64,
}

/// What a request has cost so far, the running lap included; none if it is not measured.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn read(r: *mut ngx_http_request_t) -> Option<Reading> {
    if !is_measuring() {
        return None;
    }
    // SAFETY: as the caller says.
    let pointer = unsafe { find((*r).main) }?;
    with(|worker| {
        let context = worker.context(pointer);
        let fixed = context.stopped || context.logging == r.cast_const();
        if !fixed && worker.owner() == Owner::Request(pointer) {
            worker.read_clock();
        }
        let meter = &worker.context(pointer).meter;
        Reading { total_ns: meter.total_ns(), connection_ns: meter.connection_ns(), wakeups: meter.wakeups() }
    })
}
