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
use crate::measure::received::{Counted, Received};
use crate::nginx::hook::Hook;
use crate::nginx::module::context_index;
use crate::nginx::pool::Cleanup;
use crate::nginx::request::Request;
use accounting::account_set::AccountSet;

/// A main request that has a context. No value of this type is kept for longer than the request lives: see [`Freed`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId(NonNull<Context>);

impl RequestId {
    /// Calls `f` with the request. The worker must not be in use.
    #[inline]
    pub(super) fn with_request<R>(self, f: impl FnOnce(Request<'_>) -> R) -> R {
        // SAFETY: a context is in the pool of its request, which still exists. This member does not change.
        f(unsafe { Request::new((*self.0.as_ptr()).request) })
    }
}

/// All contexts. A process has one value of this type, and its worker holds it. A reference to a context borrows this
/// value.
pub struct Contexts(());

impl Contexts {
    /// Takes the only value; `None` if it has been taken already.
    pub(super) fn take() -> Option<Contexts> {
        static IS_TAKEN: AtomicBool = AtomicBool::new(false);
        (!IS_TAKEN.swap(true, Relaxed)).then_some(Contexts(()))
    }

    /// The context of a request.
    #[inline]
    pub(super) fn get(&mut self, id: RequestId) -> &mut Context {
        // SAFETY: contexts live in the pool of their request, and `Freed` removes them from the worker before the pool
        // is destroyed. No other reference exists: each one borrows this value, and there is only one such value.
        unsafe { &mut *id.0.as_ptr() }
    }
}

/// The state that the module keeps for a main request, in the request's pool.
pub struct Context {
    request: *mut ngx_http_request_t,
    pub(super) meter: RequestMeter,
    /// index of the client's connection
    pub(super) connection: Option<usize>,
    pub(super) received: Received,
    /// the handshake of the connection, if this is its first request
    pub(super) handshake: Option<Handshake>,
    /// the log phase has begun: the total is final
    pub(super) stopped: bool,
    /// CPU between the begin of the log phase and the lookup of the accounts, in nanoseconds
    pub late_ns: u64,
    /// the request is finished: its accounts pay from here on
    pub logged: bool,
    /// the accounts in which the request is in flight; later, those that its usage was added to
    pub accounts: AccountSet,
    /// the location that the request is counted by
    pub(super) counted_by: CountedBy,
    /// the answer, if `post_action` follows it
    pub(super) answered: Option<Answered>,
    /// the value of `request_cpu` that selected `accounts`, while the request is in flight
    pub(super) zones: *const ZoneUse,
    pub(super) in_flight: bool,
    pub(super) verdict: Verdict,
    /// further data for limits, in the request's pool
    pub(super) limited: Option<LimitedRef>,
    /// neighbours in the list of requests in flight
    pub(super) previous_in_flight: Option<RequestId>,
    pub(super) next_in_flight: Option<RequestId>,
    /// In nanoseconds of the shared clock. At first, when the request began; in flight, when it was last flushed or
    /// its memory was last read; afterwards, when it left flight.
    pub(super) since_ns: u64,
    /// memory of the request in bytes, while it is in flight
    pub(super) bytes: u64,
    /// It has been an owner since the last flush. Such requests are at the front of the list of requests in flight.
    pub(super) active_since_flush: bool,
    /// the subrequest whose log line is being written: all variables in the line show the same values
    pub(super) logging: *const ngx_http_request_t,
    pub(super) touched: bool,
    pub(super) next_touched: Option<RequestId>,
    /// its links to the other requests of a connection that carries several
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

    /// The index of the client's connection.
    pub fn connection(&self) -> Option<usize> {
        self.connection
    }

    /// Whether a share of its connection's other work may be charged to it: it is in an account, and was not refused.
    pub fn is_counted(&self) -> bool {
        !self.logged && self.accounts.is_used()
    }

    /// Where its received bytes were added.
    pub(super) fn counted(&self) -> Counted {
        match self.logged {
            false => Counted::NotYet,
            true if self.accounts.is_empty() => Counted::InNone,
            true => Counted::InAccounts,
        }
    }

    /// Bytes sent and received.
    #[inline]
    pub(super) fn traffic(&self) -> (u64, u64) {
        let r = self.request();
        (r.connection().sent_bytes(), self.received.bytes(r))
    }

    /// The time span that has not been added to its accounts yet, up to now.
    #[inline]
    pub(super) fn span(&self, now_ns: u64) -> Span {
        let bytes = if self.since_ns < now_ns { self.request().held_bytes() } else { None };
        Span { from_ns: self.since_ns, to_ns: now_ns, bytes: bytes.unwrap_or(0) }
    }

    /// Tells the limits of its accounts how to count its usage while it is in flight.
    pub fn mark_in_flight(&mut self) {
        self.verdict.mark(self.limited.as_deref(), &mut self.accounts);
    }

    /// Its usage since the last call.
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

/// A context, and the pool cleanup that finds and removes it.
#[repr(C)]
struct Tracked {
    /// the first member: see [`Context::create`]
    cleanup: ngx_pool_cleanup_t,
    context: Context,
}

impl Tracked {
    /// The initial value, which is copied as a whole.
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

/// The pool cleanup that identifies a context.
static FREED: Hook<Cleanup> = Hook::new();

/// A type with a function that runs when a main request is freed.
pub(super) trait Freed {
    /// Called while a main request is freed. Nothing may keep the request afterwards.
    fn freed(id: RequestId);
}

/// NGINX calls this when the pool of a main request is destroyed.
unsafe extern "C" fn freed<F: Freed>(data: *mut c_void) {
    if let Some(context) = NonNull::new(data.cast()) {
        F::freed(RequestId(context));
    }
}

/// Sets `F`: from now on, contexts are found by the cleanup that calls `F`. Called while a configuration is read,
/// before the first request.
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

/// Finds the context of a request that has lost its pointers to contexts: the cleanup still exists.
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
        // SAFETY: nothing else refers to it yet.
        let context = unsafe { &mut tracked.as_mut().context };
        context.request = main.as_ptr();
        context.connection = connection;
        context.received = received;
        context.verdict = verdict;
        // SAFETY: the pointer is to a part of the value that was just made in the pool.
        let context = unsafe {
            let context = tracked.cast::<Context>().byte_add(offset_of!(Tracked, context));
            // like `ngx_pool_cleanup_add`, which would need a second allocation
            pool.link(tracked.cast().as_ptr(), freed::<F>, context.as_ptr().cast());
            context
        };
        main.set_context(context_index(), context.as_ptr().cast());
        Some(RequestId(context))
    }
}
