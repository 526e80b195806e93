//! The context of a main request.

use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr::{NonNull, null, null_mut};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use accounting::account::{CacheStatus, Handshake, Usage};
use accounting::billing::Span;
use accounting::request::RequestMeter;
use nginx_sys::{ngx_http_request_t, ngx_pool_cleanup_t};

use crate::charge::counted_by::CountedBy;
use crate::charge::stream::Stream;
use crate::charge::verdict::{LimitedRef, Verdict};
use crate::config::zone_use::ZoneUse;
use crate::measure::received::Received;
use crate::nginx::hook::Hook;
use crate::nginx::module::context_index;
use crate::nginx::pool::Cleanup;
use crate::nginx::request::Request;
use accounting::account_set::AccountSet;

/// A main request that has a context. Nobody keeps it for longer than the request is there: see [`Freed`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId(NonNull<Context>);

impl RequestId {
    /// Calls `f` with the request. The worker must not be in use.
    #[inline]
    pub(super) fn with_request<R>(self, f: impl FnOnce(Request<'_>) -> R) -> R {
        // SAFETY: contexts are in the pool of their request, which is there. This member does not change.
        f(unsafe { Request::new((*self.0.as_ptr()).request) })
    }
}

/// All contexts. A process has one value of this type, which its worker has; who has a reference to a context borrows
/// it.
pub struct Contexts(());

impl Contexts {
    /// The only one; `None` if somebody has it.
    pub(super) fn take() -> Option<Contexts> {
        static IS_TAKEN: AtomicBool = AtomicBool::new(false);
        (!IS_TAKEN.swap(true, Relaxed)).then_some(Contexts(()))
    }

    /// The context of a request.
    #[inline]
    pub(super) fn get(&mut self, id: RequestId) -> &mut Context {
        // SAFETY: contexts live in the pool of their request, and `Freed` takes them out of the worker before the
        // pool is destroyed. There is no other reference: each borrows this value, of which there is only one.
        unsafe { &mut *id.0.as_ptr() }
    }
}

/// What we know of a main request; in its pool.
pub struct Context {
    request: *mut ngx_http_request_t,
    pub(super) meter: RequestMeter,
    /// place of the client's connection
    pub(super) connection: Option<usize>,
    pub(super) received: Received,
    /// of the connection, if this is its first request
    pub(super) handshake: Option<Handshake>,
    /// the log phase has begun: the total is final
    pub(super) stopped: bool,
    /// what came after that and before the accounts were known, in nanoseconds
    pub late_ns: u64,
    /// the request is finished: its accounts pay from here
    pub logged: bool,
    /// the accounts that it is in flight in, then those that its usage was added to
    pub accounts: AccountSet,
    /// the location that the request is counted by
    pub(super) counted_by: CountedBy,
    /// what was answered, if `post_action` came after that
    pub(super) answered: Option<Answered>,
    /// `request_cpu` that `accounts` were chosen by, while it is in flight
    pub(super) zones: *const ZoneUse,
    pub(super) in_flight: bool,
    pub(super) verdict: Verdict,
    /// what else limits have to know of it; in its pool
    pub(super) limited: Option<LimitedRef>,
    /// neighbours among the requests in flight
    pub(super) previous_in_flight: Option<RequestId>,
    pub(super) next_in_flight: Option<RequestId>,
    /// In nanoseconds of the shared clock: when it began; while it is in flight, when it was last flushed or its
    /// memory looked at; afterwards, when it left flight.
    pub(super) since_ns: u64,
    /// its memory in bytes, while it is in flight
    pub(super) bytes: u64,
    /// it has been an owner since the last flush; in the list of those in flight, such are in front
    pub(super) active_since_flush: bool,
    /// a subrequest whose log line is being written: all its variables show the same values
    pub(super) logging: *const ngx_http_request_t,
    pub(super) touched: bool,
    pub(super) next_touched: Option<RequestId>,
    /// its place among the requests of a connection that carries several
    pub(super) stream: Stream<RequestId>,
    #[cfg(feature = "audit")]
    pub audited: crate::measure::audit::Audited,
}

impl Context {
    #[inline]
    pub fn request(&self) -> Request<'_> {
        // SAFETY: the context is in the request's pool.
        unsafe { Request::new(self.request) }
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
        let r = self.request();
        (r.connection().sent_bytes(), self.received.bytes(r))
    }

    /// The time that its accounts have not got yet, up to now.
    #[inline]
    pub(super) fn span(&self, now_ns: u64) -> Span {
        let bytes = if self.since_ns < now_ns { self.request().held_bytes() } else { None };
        Span { from_ns: self.since_ns, to_ns: now_ns, bytes: bytes.unwrap_or(0) }
    }

    /// Says what it uses while it is in flight to the limits of its accounts.
    pub fn mark_in_flight(&mut self) {
        self.verdict.mark(self.limited.as_deref(), &mut self.accounts);
    }

    /// Its use since the last call.
    pub(super) fn new_use(&mut self) -> Usage {
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
pub struct Answered {
    pub(super) status: u64,
    pub(super) cache: CacheStatus,
}

/// A context, and the cleanup by which it is found and taken back.
#[repr(C)]
struct Tracked {
    /// at the front: see [`Context::create`]
    cleanup: ngx_pool_cleanup_t,
    context: Context,
}

impl Tracked {
    /// As it is at first: copied as a whole.
    const NEW: Tracked = Tracked {
        cleanup: ngx_pool_cleanup_t { handler: None, data: null_mut(), next: null_mut() },
        context: Context {
            request: null_mut(),
            meter: RequestMeter::NEW,
            connection: None,
            received: Received::Length,
            stopped: false,
            handshake: None,
            late_ns: 0,
            logged: false,
            accounts: AccountSet::EMPTY,
            counted_by: CountedBy::CURRENT,
            answered: None,
            zones: null(),
            in_flight: false,
            verdict: Verdict::NONE,
            limited: None,
            previous_in_flight: None,
            next_in_flight: None,
            since_ns: 0,
            bytes: 0,
            active_since_flush: false,
            logging: null(),
            touched: false,
            next_touched: None,
            stream: Stream::NEW,
            #[cfg(feature = "audit")]
            audited: crate::measure::audit::Audited::NONE,
        },
    };
}

/// The cleanup by which a context is found.
static FREED: Hook<Cleanup> = Hook::new();

/// What is done when a main request is freed.
pub(super) trait Freed {
    /// Does it. Nothing may keep the request afterwards.
    fn freed(id: RequestId);
}

/// The pool of a main request is being destroyed.
unsafe extern "C" fn freed<F: Freed>(data: *mut c_void) {
    if let Some(context) = NonNull::new(data.cast()) {
        F::freed(RequestId(context));
    }
}

/// Contexts are found by the cleanup that calls `F` from now on. Called while a configuration is read, before the first
/// request.
pub(super) fn register<F: Freed>() {
    FREED.remember(Some(freed::<F>));
}

/// The context of a main request, if it has one.
#[inline]
pub fn find(main: Request<'_>) -> Option<RequestId> {
    let index = context_index();
    if let Some(context) = NonNull::new(main.context(index).cast()) {
        return Some(RequestId(context));
    }
    if main.may_have_lost_contexts() { find_again(main) } else { None }
}

/// The context of a request that has lost its pointers to contexts: the cleanup is still there.
#[cold]
#[inline(never)]
fn find_again(main: Request<'_>) -> Option<RequestId> {
    let context = main.pool()?.find(|handler| FREED.is(handler))?;
    main.set_context(context_index(), context);
    NonNull::new(context.cast()).map(RequestId)
}

impl Context {
    /// Makes a context for a main request that has none. `F` is called when the request is freed. `None` if there is
    /// no memory.
    pub(super) fn create<F: Freed>(
        main: Request<'_>,
        connection: Option<usize>,
        received: Received,
        verdict: Verdict,
    ) -> Option<RequestId> {
        let pool = main.pool()?;
        let mut tracked = pool.put(|| Tracked::NEW)?;
        // SAFETY: nobody else knows it yet.
        let context = unsafe { &mut tracked.as_mut().context };
        context.request = main.as_ptr();
        context.connection = connection;
        context.received = received;
        context.verdict = verdict;
        // SAFETY: a part of what was made just now in the pool.
        let context = unsafe {
            let context = tracked.cast::<Context>().byte_add(offset_of!(Tracked, context));
            // as `ngx_pool_cleanup_add`, which would take memory twice
            pool.link(tracked.cast().as_ptr(), freed::<F>, context.as_ptr().cast());
            context
        };
        main.set_context(context_index(), context.as_ptr().cast());
        Some(RequestId(context))
    }
}
