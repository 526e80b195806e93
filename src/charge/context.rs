//! The context of a main request.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr::{NonNull, null};

use accounting::account::{CacheStatus, Handshake, Usage};
use accounting::measures::Span;
use accounting::request::RequestMeter;
use nginx_sys::{ngx_cached_time, ngx_http_request_t, ngx_palloc, ngx_pool_cleanup_t};

use crate::charge::stream::Stream;
use crate::charge::verdict::{Dropped, Limited, Verdict};
use crate::config::location::LocConf;
use crate::config::zone_use::ZoneUse;
use crate::measure::received::Received;
use crate::nginx::bits;
use crate::nginx::hook::Hook;
use crate::nginx::module::context_index;
use crate::nginx::pool::memory_of;
use crate::nginx::time::now_ms;
use accounting::account_set::AccountSet;

/// What we know of a main request; in its pool.
pub struct Context {
    pub(super) request: *mut ngx_http_request_t,
    pub meter: RequestMeter,
    /// place of the client's connection
    pub(super) connection: Option<usize>,
    pub received: Received,
    /// of the connection, if this is its first request
    pub(super) handshake: Option<Handshake>,
    /// the log phase has begun: the total is final
    pub stopped: bool,
    /// what came after that and before the accounts were known, in nanoseconds
    pub late_ns: u64,
    /// the request is settled: its accounts pay from here
    pub logged: bool,
    /// the accounts that it is in flight in, then those that it was settled into
    pub accounts: AccountSet,
    /// The location that the request is counted by, in the configuration that it is served by; null: the one that it is in.
    pub(super) counted_by: *const LocConf,
    /// what was answered, if `post_action` came after that
    pub(super) answered: Option<Answered>,
    /// `request_cpu` that `accounts` were chosen by, while it is in flight
    pub(super) zones: *const ZoneUse,
    pub(super) in_flight: bool,
    pub verdict: Verdict,
    /// what else limits have to know of it; in its pool
    pub limited: Option<NonNull<Limited>>,
    /// neighbours among the requests in flight
    pub(super) previous_flying: Option<NonNull<Context>>,
    pub(super) next_flying: Option<NonNull<Context>>,
    /// In nanoseconds of the shared clock: when it began; while it is in flight, when it was last settled or its memory looked at;
    /// afterwards, when it landed.
    pub(super) since_ns: u64,
    /// its memory in bytes, while it is in flight
    pub(super) bytes: u64,
    /// it has been an owner since the last beat; in the list of those in flight, such are in front
    pub(super) stirred: bool,
    /// a subrequest whose log line is being written: all its variables show the same values
    pub(super) logging: *const ngx_http_request_t,
    pub touched: bool,
    pub next_touched: Option<NonNull<Context>>,
    /// its place among the requests of a connection that carries several
    pub stream: Stream<Context>,
    #[cfg(feature = "audit")]
    pub audited: crate::measure::audit::Audited,
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
    pub(super) fn traffic(&self) -> (u64, u64) {
        // SAFETY: the context is there, so its request and that one's connection are.
        unsafe {
            let sent = (*(*self.request).connection).sent;
            (sent.max(0) as u64, self.received.bytes(self.request))
        }
    }

    /// The time that its accounts have not got yet, up to now.
    #[inline]
    pub(super) fn span(&self, now_ns: u64) -> Span {
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
    pub(super) fn unsettled(&mut self) -> Usage {
        let (sent, received) = self.traffic();
        if self.accounts.is_empty() {
            self.meter.settle_own(sent, received)
        } else {
            self.meter.settle(sent, received)
        }
    }
}

/// How a request was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    pub(super) status: u64,
    pub(super) cache: CacheStatus,
}

/// A context, and the cleanup by which it is found and taken back.
#[repr(C)]
struct Tracked {
    cleanup: ngx_pool_cleanup_t,
    context: Context,
}

type Cleanup = unsafe extern "C" fn(*mut c_void);

/// The cleanup by which a context is found.
static FREED: Hook<Cleanup> = Hook::new();

/// The context of a main request, if it has one.
///
/// # Safety
/// `main` must be a main request that has not been freed.
#[inline]
pub unsafe fn find(main: *mut ngx_http_request_t) -> Option<NonNull<Context>> {
    // SAFETY: a request has room for each module's context. Ours is what [`Context::create`] has put there.
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
            if this.handler.is_some_and(|handler| FREED.is(handler)) {
                *place = this.data;
                return NonNull::new(this.data.cast());
            }
            cleanup = this.next;
        }
        None
    }
}

impl Context {
    /// Makes a context for a main request, which `freed` is called for when the request is freed. `None` if there is no memory.
    ///
    /// # Safety
    /// `main` must be a main request that has not been freed and has no context.
    pub(super) unsafe fn create(
        main: *mut ngx_http_request_t,
        connection: Option<usize>,
        received: Received,
        verdict: Verdict,
        freed: Cleanup,
    ) -> Option<NonNull<Context>> {
        FREED.remember(Some(freed));
        // SAFETY: the pool is the request's own, and destroyed with it; pool memory is aligned to NGX_ALIGNMENT, which is enough
        // for pointers and 64-bit integers.
        unsafe {
            let pool = (*main).pool;
            let tracked = ngx_palloc(pool, size_of::<Tracked>()).cast::<Tracked>();
            let context = NonNull::new(tracked)?.cast::<Context>().byte_add(offset_of!(Tracked, context));
            context.write(Context {
                request: main,
                meter: RequestMeter::default(),
                connection,
                received,
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
            Some(context)
        }
    }
}

/// How long before the running wakeup a request began, in nanoseconds: where its header came in parts, that was another one.
///
/// # Safety
/// `r` must be a request that has not been freed.
#[inline]
pub(super) unsafe fn age_ns(r: *const ngx_http_request_t) -> u64 {
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

/// What is left of a refused request's body, if it was dropped.
///
/// # Safety
/// `main` must be a main request that has not been freed, and nothing else may use the result meanwhile.
pub unsafe fn dropped_body<'a>(main: *mut ngx_http_request_t) -> Option<&'a mut Dropped> {
    // SAFETY: as the caller says.
    unsafe { find(main)?.as_mut().limited()?.dropped.as_mut() }
}
