//! A worker process: its start, its work in each second, its end.

use accounting::limit::Limit;
use accounting::meter::{Meter, Mode};
use accounting::process::ProcessId;
use accounting::table::Checked;
use accounting::workers::{WorkerSlot, Workers};
use nginx_sys::{NGX_LOG_ALERT, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_log_t};

use crate::charge::accounts::Zones;
use crate::charge::connections::Connections;
use crate::charge::context::Contexts;
use crate::charge::share::is_configured;
use crate::charge::verdict::Verdict;
use crate::charge::worker::{Exit, FlushTimer, Owner, Worker, begin, with};
use crate::config::main::MainConf;
use crate::config::zone::Zone;
#[cfg(feature = "audit")]
use crate::measure::audit::Audit;
use crate::measure::charge::Charge;
use crate::measure::clock::{self, Fault, ThreadClocks, process_cpu_ns, shared_ms, thread_cpu_ns};
#[cfg(ngx_feature = "http_v2")]
use crate::measure::http2::frames::FrameHook;
use crate::measure::laps::Laps;
use crate::measure::{event_loop, io, listeners, received};
use crate::nginx::allocator;
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::io::worker_number;
use crate::nginx::listening::accept_first;
use crate::nginx::own_timer::OwnTimer;
use crate::nginx::process::{self, Watch};
use crate::nginx::served::ServedCycle;
use crate::nginx::time::now_ms;
use crate::nginx::timer::Task;
use accounting::account_set::{AccountId, AccountSet};

/// The interval at which slow values are updated, in milliseconds.
const TICK_MS: u64 = 1000;
/// The time within each second at which the usage of requests in flight is flushed to their accounts, in milliseconds.
/// It is near the end of the second, so that little of the usage is counted in the next second.
const FLUSH_MS: u64 = 980;

/// Starts measuring in this process, for the event loop of a cycle. Returns whether this process measures. `exit` is
/// called when another cycle begins in this process.
pub fn start(main: &MainConf, cycle: ServedCycle, workers: Option<Workers>, exit: Exit) -> bool {
    listeners::hook::<Worker>(cycle);
    let (connections, log) = (Connections::of(cycle), cycle.log());
    // `init_zone` has run for each zone
    let tables = main.zones().map(Zone::table);
    let own = process::own();
    let Some(mut zones) = Zones::new(tables, own) else {
        ngx_log_error!(NGX_LOG_ALERT, log, "request_cpu: a zone has no table, nothing is measured");
        return false;
    };
    let shown = begin_in_shared_memory(workers, &mut zones, own, log);
    report_once(main.clock(), log);
    let clocks = ThreadClocks::of_this_thread(main.clock() == Mode::Thread);
    #[cfg(feature = "audit")]
    let audit = Audit::start(&clocks);
    let meter = Meter::start(clocks, main.clock());
    let other_threads_ns = process_cpu_ns().saturating_sub(meter.charged_ns());
    let Some(contexts) = Contexts::take() else { return false };
    let worker = Box::new(Worker {
        cycle,
        contexts,
        laps: Laps::start(
            meter,
            #[cfg(feature = "audit")]
            audit,
        ),
        last: AccountSet::EMPTY,
        touched: None,
        first_in_flight: None,
        connections,
        #[cfg(ngx_feature = "http_v2")]
        frame_hook: FrameHook::default(),
        zones,
        scratch: Vec::new(),
        waiting: Vec::new(),
        exit,
        first_verdict: Verdict::first(main),
        exact_connection: main.has_connection_variable(),
        process: own,
        shown,
        watch: Watch::new(own),
        next_tick_ms: 0,
        flush_timer: Some(OwnTimer::new(FlushTimer, log)),
        other_threads_ns,
    });
    begin(worker);
    true
}

/// Puts our functions in place of NGINX's functions. Called after [`start`].
pub fn hook() {
    event_loop::hook::<Worker>();
    io::hook::<Worker>();
    received::hook::<Worker>();
    #[cfg(ngx_feature = "ssl")]
    crate::nginx::tls::find_functions();
    #[cfg(ngx_feature = "threads")]
    crate::measure::threads::hook::<Worker>();
}

/// Logs problems of this machine. Only the first worker logs them, since they are the same for all workers.
fn report_once(mode: Mode, log: *mut ngx_log_t) {
    let sizes_known = allocator::look();
    let fault = clock::fault_of_thread_clock();
    if worker_number() != 0 {
        return;
    }
    if !sizes_known {
        ngx_log_error!(
            NGX_LOG_NOTICE,
            log,
            "request_cpu: malloc() is not of the library that has malloc_usable_size(), \
             memory of requests is counted without large pieces"
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
                "request_cpu: clock_gettime(CLOCK_THREAD_CPUTIME_ID) failed: {error}; \
                 getrusage() is used instead, which advances in \
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

/// Looks for killed workers: the master starts a new worker for each, so they are found here. Then acquires a slot in
/// each table, and one in the shared worker totals.
fn begin_in_shared_memory(
    workers: Option<Workers>,
    zones: &mut Zones,
    own: Option<ProcessId>,
    log: *mut ngx_log_t,
) -> Option<(Workers, WorkerSlot)> {
    // a dead worker may have had the process ID that this worker has now
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
    let slot = workers.acquire(worker_number(), own);
    if slot.is_none() {
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "request_cpu: too many workers, the totals of this one are not shown"
        );
    }
    slot.map(|slot| (workers, slot))
}

/// Called when the process is about to end: adds pending charges to accounts. Returns whether the process has
/// measured.
pub fn leave() -> bool {
    let has_measured = with(Worker::leave).is_some();
    if has_measured {
        // `ngx_worker_process_exit` uses the flag to tell which connections may still be open
        accept_first(true);
    }
    // Requests that end from here on are not measured any more: `worker::stop` follows.
    if let Some(timer) = with(|worker| worker.flush_timer.take()).flatten() {
        timer.stop();
    }
    has_measured
}

impl Worker {
    fn leave(&mut self) {
        self.read_clock_exactly();
        self.leave_all_flights();
        self.close_connections();
        self.zones.close_uncounted(&self.laps.totals);
        #[cfg(feature = "audit")]
        self.laps.audit.publish(self.laps.meter.readings(), self.cycle.log());
        self.zones.flush(self.laps.meter.recent_ns());
        self.show();
        self.zones.release();
        if let Some((workers, slot)) = self.shown.take() {
            workers.release(slot);
        }
    }

    /// Checks a request of this account against a limit, and counts a refusal.
    pub fn check(&mut self, id: AccountId, limit: &Limit, dry_run: bool) -> Option<Checked> {
        let is_configured = |of| is_configured(id.zone(), of);
        self.zones.check(self.laps.meter.recent_ns() / 1_000_000, id, limit, is_configured, dry_run)
    }

    /// Does the work that is due once in a second.
    #[inline]
    pub(super) fn tick_if_due(&mut self) {
        if now_ms() >= self.next_tick_ms {
            self.tick();
            self.read_clock_exactly();
        }
    }

    #[cold]
    #[inline(never)]
    fn tick(&mut self) {
        self.next_tick_ms = now_ms() + TICK_MS;
        let raw_offset_ns = self.laps.meter.clocks().calibrate();
        self.laps.meter.set_raw_offset(raw_offset_ns);
        self.update_other_threads();
        self.look_for_dead();
        let now_ns = self.laps.meter.now_ns();
        self.zones.follow(now_ns);
    }

    /// Looks for killed workers. In most cases the master starts a new worker, which also looks for them. The master
    /// starts none for a worker that was told to finish. In each second, one worker looks, for each piece of shared
    /// memory.
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

    /// Starts the flush timer: requests are in flight from now on.
    pub fn start_flush_timer(&mut self) {
        if let Some(timer) = &self.flush_timer
            && !timer.is_set()
        {
            timer.set(wait_for_flush_ms(self.laps.meter.recent_ns()));
        }
    }

    /// Requests in flight may be silent for hours. So each second adds the memory that they have held, and their
    /// earlier usage, to their accounts.
    fn flush(&mut self) -> Option<u64> {
        self.take(Owner::Loop);
        // the timers are slightly apart
        if now_ms() + TICK_MS / 2 >= self.next_tick_ms {
            self.tick();
        }
        self.charge_connections();
        self.add_active_use();
        let now_ns = self.laps.meter.now_ns();
        self.zones.pass(now_ns);
        let goes_on = self.first_in_flight.is_some() || self.connections.has_uncharged();
        goes_on.then(|| wait_for_flush_ms(now_ns))
    }

    fn update_other_threads(&mut self) {
        let others_ns =
            process_cpu_ns().saturating_sub(thread_cpu_ns()).saturating_sub(self.other_threads_ns);
        self.laps.totals.pool_threads_cpu_ns = self.laps.totals.pool_threads_cpu_ns.max(others_ns);
    }

    pub(super) fn show(&mut self) {
        self.laps.add_waits();
        self.laps.totals.clock_readings = self.laps.meter.readings();
        self.zones.show_uncounted(&mut self.laps.totals);
        if let Some((workers, slot)) = &self.shown {
            workers.publish(*slot, &self.laps.totals);
        }
    }

    /// Updates the shared worker totals, including the running lap.
    pub fn show_now(&mut self) {
        self.read_clock_exactly();
        self.update_other_threads();
        self.zones.flush(self.laps.meter.now_ns());
        self.show();
    }
}

/// Milliseconds until the flush timer expires the next time.
fn wait_for_flush_ms(now_ns: u64) -> u64 {
    let wait_ms = (1000 + FLUSH_MS - now_ns / 1_000_000 % 1000) % 1000;
    // a timer that expires slightly early is the one of this second
    if wait_ms < 100 { wait_ms + 1000 } else { wait_ms }
}

impl Task for FlushTimer {
    fn run(&mut self) -> Option<u64> {
        with(Worker::flush).flatten()
    }
}
