//! The state of one worker process: the running lap, requests, connections and zones.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use accounting::process::ProcessId;
use accounting::workers::{WorkerSlot, Workers};
use nginx_sys::ngx_http_variable_value_t;

use crate::charge::accounts::Zones;
use crate::charge::connections::Connections;
use crate::charge::context::{Context, Contexts, RequestId};
use crate::charge::verdict::Verdict;
use crate::measure::charge::Charge;
#[cfg(ngx_feature = "http_v2")]
use crate::measure::http2::frames::FrameHook;
use crate::measure::laps::Laps;
use crate::nginx::event::Event;
use crate::nginx::own_timer::OwnTimer;
use crate::nginx::process::Watch;
use crate::nginx::served::ServedCycle;
use accounting::account_set::AccountSet;

/// The owner of a lap.
pub type Owner = crate::measure::owner::Owner<RequestId>;

/// Ends the work of the module in this process. `true`: the process has served the cycle of its start until now.
pub type Exit = fn(bool);

/// The state of this worker process. Its members belong to the files of this folder. Other code uses the state only
/// through [`with`].
pub struct Worker {
    pub(super) cycle: ServedCycle,
    pub(super) contexts: Contexts,
    pub(super) laps: Laps<RequestId>,
    /// the accounts that own the laps of [`Owner::Accounts`]
    pub(super) last: AccountSet,
    /// requests that were an owner in this handler call, linked through their contexts
    pub(super) touched: Option<RequestId>,
    /// requests in flight, linked through their contexts
    pub(super) first_in_flight: Option<RequestId>,
    pub(super) connections: Connections,
    #[cfg(ngx_feature = "http_v2")]
    pub(super) frame_hook: FrameHook,
    pub(super) zones: Zones,
    /// buffer for a request's variables, so that keeping them does not allocate each time
    pub(super) scratch: Vec<ngx_http_variable_value_t>,
    /// buffer for events that were posted before the call of the event method; empty except during that call
    pub(super) waiting: Vec<Event<'static>>,
    /// called with `false` when another cycle begins in this process
    pub(super) exit: Exit,
    /// the verdict of a request before its limits are checked
    pub(super) first_verdict: Verdict,
    /// whether the CPU of a connection is cut off exactly where its request begins
    pub(super) exact_connection: bool,
    pub(super) process: Option<ProcessId>,
    pub(super) shown: Option<(Workers, WorkerSlot)>,
    pub(super) watch: Watch,
    pub(super) next_tick_ms: u64,
    /// none once the process has stopped measuring
    pub(super) flush_timer: Option<OwnTimer<FlushTimer>>,
    /// CPU of other threads of the process when the hooks were installed
    pub(super) other_threads_ns: u64,
}

/// The worker of this process. Null if nothing is measured, and while [`with`] lends it.
static WORKER: AtomicPtr<Worker> = AtomicPtr::new(null_mut());

/// The former worker, once this process has stopped measuring: contexts of requests still exist.
static STOPPED: AtomicPtr<Worker> = AtomicPtr::new(null_mut());

/// Whether this process measures.
#[inline]
pub fn is_measuring() -> bool {
    !WORKER.load(Relaxed).is_null()
}

/// Runs `f` on the worker of this process, if the process measures. `f` must not call NGINX functions that could call
/// this module again: no variable, no handler, no filter. Such a call would find no worker here.
#[inline]
pub fn with<R>(f: impl FnOnce(&mut Worker) -> R) -> Option<R> {
    with_worker_at(&WORKER, f)
}

/// Runs `f` on the context of a request, even if this process has stopped measuring. As in [`with`], `f` must not call
/// NGINX. This function cannot be used while the worker is in use.
#[inline]
pub fn with_context<R>(id: RequestId, f: impl FnOnce(&mut Context) -> R) -> Option<R> {
    with_worker_at(if is_measuring() { &WORKER } else { &STOPPED }, |worker| f(worker.context(id)))
}

#[inline]
fn with_worker_at<R>(place: &AtomicPtr<Worker>, f: impl FnOnce(&mut Worker) -> R) -> Option<R> {
    let pointer = place.load(Relaxed);
    #[cfg(debug_assertions)]
    assert!(!pointer.is_null() || !IS_TAKEN.load(Relaxed), "the worker is used within a use of it");
    // SAFETY: the pointer is null, or a `Box` that [`begin`] has leaked. Only the thread of the event loop gets here:
    // module callbacks run in no other thread. The reference is the only one: the pointer in `place` is null until the
    // reference ends, and the worker is in no other place.
    let worker = unsafe { pointer.as_mut() }?;
    place.store(null_mut(), Relaxed);
    #[cfg(debug_assertions)]
    IS_TAKEN.store(true, Relaxed);
    let result = f(worker);
    #[cfg(debug_assertions)]
    IS_TAKEN.store(false, Relaxed);
    place.store(pointer, Relaxed);
    Some(result)
}

/// Whether [`with`] is running.
#[cfg(debug_assertions)]
static IS_TAKEN: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

/// The task of the flush timer, for a worker that has requests in flight.
pub(super) struct FlushTimer;

/// Starts measuring in this process.
pub(super) fn begin(worker: Box<Worker>) {
    WORKER.store(Box::into_raw(worker), Relaxed);
}

/// Stops measuring in this process. The memory is freed when the process ends.
pub fn stop() {
    let worker = WORKER.swap(null_mut(), Relaxed);
    if !worker.is_null() {
        STOPPED.store(worker, Relaxed);
    }
}

impl Worker {
    #[inline]
    pub fn charge_request(&mut self, id: RequestId, ns: u64) {
        let context = self.contexts.get(id);
        if !context.stopped {
            context.meter.charge(ns);
        } else if !context.logged {
            context.late_ns += ns;
        } else {
            self.zones.charge(self.laps.meter.recent_ns(), &context.accounts, ns);
        }
    }

    /// Charges the work of a pool thread to a request. It is no lap of this thread, and in no sum of the worker
    /// totals.
    #[cfg(ngx_feature = "threads")]
    pub fn charge_pool_thread(&mut self, id: RequestId, ns: u64) {
        self.laps.totals.charge_pool_thread(ns);
        self.charge_request(id, ns);
    }

    /// A stream of a connection is gone. In the connection's first handler call, frames are not read yet
    /// (`ngx_http_v2_init`), and the next frame may open another stream.
    #[inline]
    pub fn free_stream(&mut self, at: usize) {
        if self.laps.woken() == Owner::Connection(at)
            && !self.looks_at_frames()
            && !self.is_quic_connection(at)
        {
            self.switch(Owner::Header(at));
        }
    }

    pub fn is_exact_connection(&self) -> bool {
        self.exact_connection
    }

    /// The context of a request.
    #[inline]
    pub fn context(&mut self, id: RequestId) -> &mut Context {
        self.contexts.get(id)
    }

    /// Whether HTTP/2 frames are read in this handler call.
    #[inline]
    pub(super) fn looks_at_frames(&self) -> bool {
        #[cfg(ngx_feature = "http_v2")]
        return self.frame_hook.is_set();
        #[cfg(not(ngx_feature = "http_v2"))]
        false
    }

    /// Takes the buffer for variables. It must be given back.
    pub fn take_scratch(&mut self) -> Vec<ngx_http_variable_value_t> {
        core::mem::take(&mut self.scratch)
    }

    pub fn put_scratch(&mut self, scratch: Vec<ngx_http_variable_value_t>) {
        self.scratch = scratch;
    }

    /// Sets the accounts that [`Owner::Accounts`] stands for from now on.
    pub fn set_last(&mut self, accounts: &AccountSet) {
        self.last.copy_from(accounts);
    }

    /// Counts a handler call for a request, at most once in each call.
    #[inline]
    pub fn touch(&mut self, id: RequestId) {
        let head = self.touched;
        let context = self.context(id);
        if !context.touched {
            context.touched = true;
            context.next_touched = head;
            context.meter.wake();
            self.touched = Some(id);
        }
    }

    /// Takes one request off the list of those that were an owner in this handler call.
    #[inline]
    pub fn next_touched(&mut self) -> Option<RequestId> {
        let id = self.touched?;
        let context = self.context(id);
        context.touched = false;
        let next = context.next_touched.take();
        self.touched = next;
        Some(id)
    }

    /// Removes a context from that list: it is about to be freed.
    pub fn forget(&mut self, gone: RequestId) {
        let next = self.context(gone).next_touched.take();
        if self.touched == Some(gone) {
            self.touched = next;
            return;
        }
        let mut at = self.touched;
        while let Some(id) = at {
            let context = self.context(id);
            if context.next_touched == Some(gone) {
                context.next_touched = next;
                return;
            }
            at = context.next_touched;
        }
    }
}
