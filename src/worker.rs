//! What one worker process knows: the running lap and its owner, its worker totals, its connections.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use accounting::limit::Limit;
use accounting::meter::{Meter, Mode};
use accounting::process::ProcessId;
use accounting::table::Checked;
use accounting::worker_totals::WorkerTotals;
use accounting::workers::{WorkerSlot, Workers};
use nginx_sys::{
    NGX_LOG_ALERT, NGX_LOG_NOTICE, NGX_LOG_WARN, NGX_OK, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER,
    ngx_current_msec, ngx_cycle_t, ngx_event_t, ngx_http_variable_value_t, ngx_int_t, ngx_log_t, ngx_process,
    ngx_uint_t, ngx_worker,
};
use ngx::ngx_log_error;

use crate::accounts::{AccountId, AccountSet, Zones};
use crate::attribution::Connections;
#[cfg(feature = "audit")]
use crate::audit::Audit;
use crate::clock::{self, Fault, ThreadClocks, process_cpu_ns, shared_ms, thread_cpu_ns};
use crate::conf::{Zone, main_conf};
use crate::limit::{self, Verdict};
use crate::multiplex::FrameDoor;
use crate::nginx::cycle::Cycle;
use crate::nginx::thread::keep_library;
use crate::process::{self, Watch};
use crate::request::Context;
use crate::timer::{Task, Timer};
use crate::{allocator, attribution, event_loop, io, received, state, traffic_log, zones};

/// How often what changes slowly is brought up to date, in milliseconds.
const TICK_MS: u64 = 1000;
/// Where in each second what requests in flight have used and held is added to their accounts, in milliseconds: near its end, so
/// that little of it gets into the next one.
const BEAT_MS: u64 = 980;

/// Whom the running lap belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The event loop itself.
    Loop,
    /// A listening socket: the loop's, until a connection comes out of it.
    Listener,
    /// A wakeup that nobody has claimed yet.
    Nobody,
    /// A client's connection between requests, by its place in `cycle->connections`.
    Connection(usize),
    /// A client's connection that receives the header of a request which is not known yet.
    Header(usize),
    /// A client's connection that sends for several requests at a time.
    Sending(usize),
    /// Several requests; how much is each one's comes out at once.
    Apart,
    /// A connection that was closed without a request, or one that is not HTTP.
    NoRequest,
    /// A request. Its context lives as long as it is the owner: `request::freed` sees to that.
    Request(NonNull<Context>),
    /// The accounts of a request that is gone, [`Worker::last`].
    Accounts,
}

pub struct Worker {
    cycle: *const ngx_cycle_t,
    pub meter: Meter<ThreadClocks>,
    #[cfg(feature = "audit")]
    pub audit: Audit,
    totals: WorkerTotals,
    owner: Owner,
    /// the one that the wakeup began with
    woken: Owner,
    /// a lap of [`Owner::Apart`]
    apart_ns: u64,
    /// whose laps [`Owner::Accounts`] are
    last: AccountSet,
    /// requests that were an owner in this wakeup, linked through their contexts
    touched: Option<NonNull<Context>>,
    /// requests in flight, linked through their contexts
    pub flying: Option<NonNull<Context>>,
    pub connections: Connections,
    pub door: FrameDoor,
    pub zones: Zones,
    /// room for a request's variables, so that keeping them takes no memory each time
    scratch: Vec<ngx_http_variable_value_t>,
    /// room for events that were posted before the event method is asked; empty but while it is
    waiting: Vec<*mut ngx_event_t>,
    /// what limits have said to a request that they have not seen yet
    pub first_verdict: Verdict,
    /// whether what a connection brings is cut off exactly where its request begins
    exact_connection: bool,
    process: Option<ProcessId>,
    shown: Option<(Workers, WorkerSlot)>,
    watch: Watch,
    next_tick_ms: u64,
    beat: Timer<Beat>,
    /// what the process had used in other threads when the hook went in
    other_threads_ns: u64,
}

/// The worker of this process; null where nothing is measured, and while [`with`] has given it out.
static WORKER: AtomicPtr<Worker> = AtomicPtr::new(core::ptr::null_mut());

/// Whether this process measures.
#[inline]
pub fn is_measuring() -> bool {
    !WORKER.load(Relaxed).is_null()
}

/// Runs `f` on the worker of this process, if it measures. `f` must not call NGINX where that could come back here: no
/// variable, no handler, no filter. If it came back nevertheless, it would find no worker here.
#[inline]
pub fn with<R>(f: impl FnOnce(&mut Worker) -> R) -> Option<R> {
    let pointer = WORKER.load(Relaxed);
    #[cfg(debug_assertions)]
    assert!(!pointer.is_null() || !IS_TAKEN.load(Relaxed), "the worker is used within a use of it");
    // SAFETY: null, or a `Box` that `init_process` has leaked. Only the thread of the event loop gets here: module
    // callbacks run nowhere else. The reference is the only one: until it is given up, `WORKER` is null.
    let worker = unsafe { pointer.as_mut() }?;
    WORKER.store(core::ptr::null_mut(), Relaxed);
    #[cfg(debug_assertions)]
    IS_TAKEN.store(true, Relaxed);
    let result = f(worker);
    #[cfg(debug_assertions)]
    IS_TAKEN.store(false, Relaxed);
    WORKER.store(pointer, Relaxed);
    Some(result)
}

/// Whether [`with`] is running.
#[cfg(debug_assertions)]
static IS_TAKEN: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

/// NGINX's cached monotonic time in milliseconds, the same for all workers.
#[inline]
pub fn now_ms() -> u64 {
    // SAFETY: written by `ngx_time_update`, in this thread or its signal handler, in one store.
    unsafe { (&raw const ngx_current_msec).read_volatile() as u64 }
}

pub unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: NGINX sets it before it calls.
    let process = unsafe { ngx_process };
    // SAFETY: NGINX calls with the cycle that this process serves, and that lives as long as the process.
    let Some(its) = (unsafe { Cycle::new(cycle) }) else { return NGX_OK as ngx_int_t };
    if process != NGX_PROCESS_SINGLE as ngx_uint_t {
        main_conf(its).map(zones::close_descriptors);
    }
    // cache manager and loader come here too
    let serves = process == NGX_PROCESS_WORKER as ngx_uint_t || process == NGX_PROCESS_SINGLE as ngx_uint_t;
    let Some(main) = main_conf(its).filter(|main| serves && main.measured) else {
        return NGX_OK as ngx_int_t;
    };
    // SAFETY: the cycle is NGINX's; `ngx_event_process_init` has run, since its module comes before dynamic ones.
    let (connections, log) = unsafe {
        attribution::wrap_listeners(&mut *cycle);
        (Connections::of(&*cycle), (*cycle).log)
    };
    // `init_zone` has run for each
    let tables = main.zones().map(Zone::table);
    let own = process::own();
    let Some(mut zones) = Zones::new(tables, own) else {
        ngx_log_error!(NGX_LOG_ALERT, log, "request_cpu: a zone has no table, nothing is measured");
        return NGX_OK as ngx_int_t;
    };
    let shown = begin_in_shared_memory(zones::workers(main), &mut zones, own, log);
    report_once(main.clock, log);
    let clocks = ThreadClocks::of_this_thread(main.clock == Mode::Thread);
    #[cfg(feature = "audit")]
    let audit = Audit::start(&clocks);
    let meter = Meter::start(clocks, main.clock);
    let other_threads_ns = process_cpu_ns().saturating_sub(meter.charged_ns());
    let worker = Box::new(Worker {
        cycle,
        meter,
        #[cfg(feature = "audit")]
        audit,
        totals: WorkerTotals::default(),
        owner: Owner::Loop,
        woken: Owner::Loop,
        apart_ns: 0,
        last: AccountSet::EMPTY,
        touched: None,
        flying: None,
        connections,
        door: FrameDoor::default(),
        zones,
        scratch: Vec::new(),
        waiting: Vec::new(),
        first_verdict: Verdict::first(main),
        exact_connection: main.connection_variable,
        process: own,
        shown,
        watch: Watch::new(own),
        next_tick_ms: 0,
        beat: Timer::new(Beat, log),
        other_threads_ns,
    });
    WORKER.store(Box::into_raw(worker), Relaxed);
    state::start(main, log);
    traffic_log::start(main, its);
    event_loop::hook();
    io::hook();
    received::hook();
    #[cfg(ngx_feature = "ssl")]
    crate::tls::find_functions();
    #[cfg(ngx_feature = "threads")]
    crate::threads::hook();
    NGX_OK as ngx_int_t
}

/// Logs what is not right with this machine; the first worker does, since it is the same for all.
fn report_once(mode: Mode, log: *mut ngx_log_t) {
    let sizes_known = allocator::look();
    let fault = clock::fault_of_thread_clock();
    // SAFETY: NGINX sets it before it calls.
    if unsafe { ngx_worker } != 0 {
        return;
    }
    if !sizes_known {
        ngx_log_error!(
            NGX_LOG_NOTICE,
            log,
            "request_cpu: malloc() is not of the library that has malloc_usable_size(), memory of requests is counted without large \
             pieces"
        );
    }
    let consequence = match mode {
        Mode::Thread => {
            "the CPU of a single request is 0 or some steps of it, only sums over many requests are right"
        }
        Mode::Hybrid { .. } => {
            "the CPU of a single request may be 0 or much too high, and sums over many requests may be some percent too low"
        }
    };
    match fault {
        None => {}
        Some(Fault::Fails(error)) => {
            let error = std::io::Error::from_raw_os_error(error);
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "request_cpu: clock_gettime(CLOCK_THREAD_CPUTIME_ID) failed: {error}; getrusage() is used instead, which advances in \
                 steps of some milliseconds: {consequence}"
            );
        }
        Some(Fault::Coarse(ns)) => {
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "request_cpu: the clock of CPU time advances in steps of {:.3} ms: {consequence}",
                ns as f64 / 1e6
            );
        }
        Some(Fault::Stands) => {
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "request_cpu: the clock of CPU time stands still: the CPU of requests is not known, and is shown as 0"
            );
        }
    }
}

/// Looks for workers that were killed: the master starts a new one for each, so they are found here. Then takes a place in each table,
/// and one in the shared worker totals.
fn begin_in_shared_memory(
    workers: Option<Workers>,
    zones: &mut Zones,
    own: Option<ProcessId>,
    log: *mut ngx_log_t,
) -> Option<(Workers, WorkerSlot)> {
    // a dead worker may have had the number that is ours now
    let is_alive = |process: ProcessId| {
        own.is_none_or(|own| own.pid() != process.pid()) && process::is_alive(process, own)
    };
    zones.reap(shared_ms(), is_alive);
    zones.follow(shared_ms() * 1_000_000);
    if zones.unregistered() > 0 {
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "request_cpu: too many workers, requests of this one are not shown in flight"
        );
    }
    let (workers, own) = (workers?, own?);
    workers.reap(own, is_alive);
    // SAFETY: NGINX sets it before it calls.
    let slot = workers.acquire(unsafe { ngx_worker } as u32, own);
    if slot.is_none() {
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "request_cpu: too many workers, the books of this one are not shown"
        );
    }
    slot.map(|slot| (workers, slot))
}

/// Whether there is a process of this number.
pub fn is_alive(pid: u32) -> bool {
    process::is_used(pid)
}

pub unsafe extern "C" fn exit_process(cycle: *mut ngx_cycle_t) {
    if with(Worker::leave).is_some() {
        // `ngx_worker_process_exit` tells by the flag what may be open still
        attribution::accept_first(true);
    }
    if let Some(beat) = with(|worker| worker.beat) {
        // SAFETY: requests that end from here on are not measured any more: see below.
        unsafe { beat.stop() };
    }
    state::stop();
    traffic_log::stop(!cycle.is_null());
    // what comes now is not measured any more; the memory goes with the process
    WORKER.store(core::ptr::null_mut(), Relaxed);
}

impl Worker {
    fn leave(&mut self) {
        self.read_clock();
        self.land_all();
        self.close_connections();
        self.zones.close_uncounted(&self.totals);
        #[cfg(feature = "audit")]
        // SAFETY: NGINX's cycle, which lives as long as the process.
        self.audit.publish(self.meter.readings(), unsafe { (*self.cycle).log });
        self.zones.settle(self.meter.recent_ns());
        self.show();
        self.zones.release();
        if let Some((workers, slot)) = self.shown.take() {
            workers.release(slot);
        }
    }

    /// Ends the running lap and charges it to its owner, who also owns the next one.
    #[inline]
    pub fn read_clock(&mut self) {
        #[cfg(not(feature = "audit"))]
        let lap_ns = self.meter.lap();
        #[cfg(feature = "audit")]
        let (lap_ns, audited) =
            self.audit.lap(|| self.meter.lap(), matches!(self.owner, Owner::Loop | Owner::Listener));
        match self.owner {
            Owner::Loop | Owner::Listener => self.totals.loop_ns += lap_ns,
            Owner::Nobody => self.totals.other_ns += lap_ns,
            Owner::NoRequest => self.totals.no_request_ns += lap_ns,
            Owner::Connection(at) => self.connections.charge(at, lap_ns, &mut self.totals),
            Owner::Header(at) => self.connections.charge_header(at, lap_ns, &mut self.totals),
            Owner::Apart => {
                self.totals.charged_ns += lap_ns;
                self.apart_ns += lap_ns;
            }
            Owner::Sending(at) => {
                self.totals.charged_ns += lap_ns;
                self.charge_sending(at, lap_ns);
            }
            Owner::Request(context) => {
                self.totals.charged_ns += lap_ns;
                #[cfg(feature = "audit")]
                if !self.context(context).stopped {
                    self.context(context).audited.add(audited);
                }
                self.charge_request(context, lap_ns);
            }
            Owner::Accounts => {
                self.totals.charged_ns += lap_ns;
                self.zones.charge(self.meter.recent_ns(), &self.last, lap_ns);
            }
        }
    }

    /// Ends the running lap, which was for requests; to whom its time goes is still to be said, in nanoseconds.
    pub fn set_lap_apart(&mut self) -> u64 {
        self.take(Owner::Apart);
        self.read_clock();
        core::mem::take(&mut self.apart_ns)
    }

    #[inline]
    pub fn charge_request(&mut self, context: NonNull<Context>, ns: u64) {
        let context = self.context(context);
        if !context.stopped {
            context.meter.charge(ns);
        } else if !context.logged {
            context.late_ns += ns;
        } else {
            let accounts = context.accounts.clone();
            self.zones.charge(self.meter.recent_ns(), &accounts, ns);
        }
    }

    /// A thread of a pool has worked for a request. It is no lap of this thread, and in no sum of the worker totals.
    #[cfg(ngx_feature = "threads")]
    pub fn charge_pool_thread(&mut self, context: NonNull<Context>, ns: u64) {
        self.totals.charge_pool_thread(ns);
        self.charge_request(context, ns);
    }

    /// Ends the running lap; the next one belongs to `owner`.
    #[inline]
    pub fn switch(&mut self, owner: Owner) {
        self.read_clock();
        self.owner = owner;
    }

    /// The running lap belongs to `owner` from its start.
    #[inline]
    pub fn take(&mut self, owner: Owner) {
        self.owner = owner;
    }

    #[inline]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// A stream of a connection is gone. In the connection's first wakeup frames are not seen yet (`ngx_http_v2_init`), and the
    /// next one may open another stream.
    #[inline]
    pub fn free_stream(&mut self, at: usize) {
        if self.woken == Owner::Connection(at) && !self.door.is_open() && !self.is_quic(at) {
            self.switch(Owner::Header(at));
        }
    }

    pub fn totals(&mut self) -> &mut WorkerTotals {
        &mut self.totals
    }

    pub fn is_exact_connection(&self) -> bool {
        self.exact_connection
    }

    /// The context of a request that has not been freed.
    #[inline]
    pub fn context(&mut self, mut context: NonNull<Context>) -> &mut Context {
        // SAFETY: contexts live in their request's pool, and `request::freed` takes them out of the worker before the pool is
        // destroyed. There is no other reference: each borrows the worker, of which `with` gives out only one.
        unsafe { context.as_mut() }
    }

    /// Empty room for variables, to be given back.
    pub fn take_scratch(&mut self) -> Vec<ngx_http_variable_value_t> {
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.clear();
        scratch
    }

    pub fn put_scratch(&mut self, scratch: Vec<ngx_http_variable_value_t>) {
        self.scratch = scratch;
    }

    pub fn take_waiting(&mut self) -> Vec<*mut ngx_event_t> {
        core::mem::take(&mut self.waiting)
    }

    pub fn put_waiting(&mut self, waiting: Vec<*mut ngx_event_t>) {
        self.waiting = waiting;
    }

    /// From here on [`Owner::Accounts`] stands for these accounts.
    pub fn set_last(&mut self, accounts: &AccountSet) {
        self.last.copy_from(accounts);
    }

    /// An event's handler is about to be called; the running lap is its.
    #[inline]
    pub fn begin_wakeup(&mut self, owner: Owner) {
        self.totals.wakeups += 1;
        self.owner = owner;
        self.woken = owner;
        if let Owner::Request(context) = owner {
            self.touch(context);
        }
    }

    /// The handler has returned. The end of its lap is the start of the next one.
    #[inline]
    pub fn end_wakeup(&mut self) {
        match self.owner {
            Owner::Connection(at) => self.end_connection_wakeup(at),
            // see `free_stream`
            Owner::Header(at) if !self.door.is_open() => self.take(Owner::Connection(at)),
            _ => {}
        }
        self.switch(Owner::Loop);
        if self.connections.has_unsettled() {
            self.start_beat();
        }
        #[cfg(feature = "audit")]
        self.audit.end_wakeup();
    }

    /// Counts a wakeup of a request, once in each wakeup.
    #[inline]
    pub fn touch(&mut self, pointer: NonNull<Context>) {
        let head = self.touched;
        let context = self.context(pointer);
        if !context.touched {
            context.touched = true;
            context.next_touched = head;
            context.meter.wake();
            self.touched = Some(pointer);
        }
    }

    /// Takes one request off the list of those that were an owner in this wakeup.
    #[inline]
    pub fn next_touched(&mut self) -> Option<NonNull<Context>> {
        let pointer = self.touched?;
        let context = self.context(pointer);
        context.touched = false;
        let next = context.next_touched.take();
        self.touched = next;
        Some(pointer)
    }

    /// The context is about to be freed.
    pub fn forget(&mut self, gone: NonNull<Context>) {
        let next = self.context(gone).next_touched.take();
        if self.touched == Some(gone) {
            self.touched = next;
            return;
        }
        let mut at = self.touched;
        while let Some(pointer) = at {
            let context = self.context(pointer);
            if context.next_touched == Some(gone) {
                context.next_touched = next;
                return;
            }
            at = context.next_touched;
        }
    }

    /// Checks a request of this account against a limit; a refusal is counted.
    pub fn check(&mut self, id: AccountId, limit: &Limit, dry_run: bool) -> Option<Checked> {
        let is_configured = |of| limit::is_configured(id.zone(), of);
        self.zones.check(self.meter.recent_ns() / 1_000_000, id, limit, is_configured, dry_run)
    }

    /// The event method has returned: one turn of the event loop begins.
    #[inline]
    pub fn begin_turn(&mut self) {
        self.switch(Owner::Loop);
        // before the first request: the thread may have slept for hours, with a clock that is not quite right
        if now_ms() >= self.next_tick_ms {
            self.tick();
            self.switch(Owner::Loop);
        }
    }

    /// One turn of the event loop is over.
    #[inline]
    pub fn end_turn(&mut self) {
        self.zones.settle(self.meter.now_ns());
        self.show();
    }

    #[cold]
    #[inline(never)]
    fn tick(&mut self) {
        self.next_tick_ms = now_ms() + TICK_MS;
        let raw_offset_ns = self.meter.clocks().calibrate();
        self.meter.set_raw_offset(raw_offset_ns);
        self.update_other_threads();
        self.look_for_dead();
        let now_ns = self.meter.now_ns();
        self.zones.follow(now_ns);
    }

    /// Looks for workers that were killed. The master starts a new one for most, which looks too, but for none that was told to
    /// finish. In each second one worker does so, for each piece of shared memory.
    fn look_for_dead(&mut self) {
        let now_ms = shared_ms();
        let (watch, second) = (&mut self.watch, now_ms / 1000);
        watch.begin();
        self.zones.watch(now_ms, |process| watch.is_alive(process, second));
        if let (Some((workers, _)), Some(own)) = (&self.shown, self.process)
            && workers.claim_look(now_ms)
        {
            workers.reap(own, |process| watch.is_alive(process, second));
        }
    }

    /// From now on requests are in flight.
    pub fn start_beat(&mut self) {
        if !self.beat.is_set() {
            self.beat.set(wait_for_beat(self.meter.recent_ns()));
        }
    }

    /// Requests in flight may be silent for hours: each second their accounts get what they have held, and what they have used
    /// before.
    fn beat(&mut self) -> Option<u64> {
        self.take(Owner::Loop);
        // the timers are a little apart
        if now_ms() + TICK_MS / 2 >= self.next_tick_ms {
            self.tick();
        }
        self.settle_connections();
        self.settle_flying();
        let now_ns = self.meter.now_ns();
        self.zones.pass(now_ns);
        let goes_on = self.flying.is_some() || self.connections.has_unsettled();
        goes_on.then(|| wait_for_beat(now_ns))
    }

    fn update_other_threads(&mut self) {
        let others_ns =
            process_cpu_ns().saturating_sub(thread_cpu_ns()).saturating_sub(self.other_threads_ns);
        self.totals.pool_threads_cpu_ns = self.totals.pool_threads_cpu_ns.max(others_ns);
    }

    fn show(&mut self) {
        self.totals.clock_readings = self.meter.readings();
        self.zones.show_uncounted(&mut self.totals);
        if let Some((workers, slot)) = &self.shown {
            workers.publish(*slot, &self.totals);
        }
    }

    /// Brings the shared worker totals up to date with the running lap.
    pub fn show_now(&mut self) {
        self.read_clock();
        self.update_other_threads();
        self.zones.settle(self.meter.now_ns());
        self.show();
    }
}

/// Milliseconds until the next beat.
fn wait_for_beat(now_ns: u64) -> u64 {
    let wait_ms = (1000 + BEAT_MS - now_ns / 1_000_000 % 1000) % 1000;
    // one that comes a little early is the one of this second
    if wait_ms < 100 { wait_ms + 1000 } else { wait_ms }
}

/// The timer of a worker that has requests in flight.
struct Beat;

impl Task for Beat {
    fn run(&mut self) -> Option<u64> {
        with(Worker::beat).flatten()
    }
}

/// The event loop of `cycle` goes on; whether this process measures it.
///
/// A reload in single-process mode makes a new cycle without calling `init_process` (`ngx_single_process_cycle`): what was
/// set up belongs to the old one, and measuring stops.
#[inline]
pub fn enter_loop(cycle: *const ngx_cycle_t) -> bool {
    let entered = with(|worker| {
        if !core::ptr::eq(worker.cycle, cycle) {
            return false;
        }
        // handlers may have run outside of the door: `ngx_close_idle_connections` calls them itself
        if worker.owner != Owner::Loop {
            worker.switch(Owner::Loop);
        }
        true
    });
    if entered == Some(false) {
        // `ngx_clean_old_cycles` may unload the module when the old cycle is gone, and what is hooked in stays
        keep_library();
        // SAFETY: null says that the cycle is not the one that the worker began with; nothing is measured any more.
        unsafe { exit_process(core::ptr::null_mut()) };
    }
    entered == Some(true)
}
