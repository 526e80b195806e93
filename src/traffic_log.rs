//! The traffic log: `request_cpu_log PATH zone=NAME [interval=TIME]`.
//!
//! What is written, and how a writer that was killed loses nothing, is in [`accounting::traffic`]; here is who writes, when, and
//! where. Each log has a ledger in shared memory of its own, which outlives reloads and binary upgrades as the accounts do
//! ([`crate::memory`]).
//!
//! All workers look at the end of an interval whether there is something to be done, and a compare-and-swap in the ledger tells
//! one of them to do it; if it has not done it a second later, another one is told so. That this is not a second one while the
//! first one writes is seen to by a robust mutex of the ledger, which nobody waits for: its owner is a thread that writes, and
//! the kernel takes it from a thread that has ended, however that came, and from no other (`set_robust_list(2)`). So a writer
//! that hangs, since its disk does, is waited for: it may go on writing at any time. What was counted meanwhile stays in the
//! accounts.
//!
//! When NGINX ends, its master writes what is left, after its workers; so it does when a reload removes a log. A worker that was
//! told to finish leaves writing to its successors; unless they have other accounts, since then nobody else would do it.

use core::cell::{Cell, RefCell};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use accounting::key;
use accounting::table::Table;
use accounting::traffic::{self, About, Append, BATCH_BYTES, Instant, Ledger, Part};
use memmap2::MmapRaw;
use nginx_sys::{
    NGX_ERROR, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_OK, NGX_PROCESS_WORKER, ngx_conf_t, ngx_cycle,
    ngx_cycle_t, ngx_exiting, ngx_gmtime, ngx_int_t, ngx_log_t, ngx_open_file_t, ngx_pagesize, ngx_process,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_str_t, ngx_tm_t, ngx_uint_t,
};
use ngx::ngx_log_error;

use crate::clock::shared_ms;
use crate::conf::{MainConf, Zone, main_conf};
use crate::memory::Memory;
use crate::timer::{Task, Timer};
use crate::{module, state, zones};

/// How long until somebody else tries what one was told to do.
const CLAIM_MS: u64 = 1000;
/// How long until it is tried again after an error, unless the interval is shorter.
const RETRY_MS: u64 = 10_000;
/// How long until a worker looks again whether its thread is done.
const POLL_MS: u64 = 200;
/// How long a worker sleeps at most: the clock of the wall may be set.
const SLEEP_MS: u64 = 60_000;
/// How long a process that ends waits for a writer that does not get on.
const PATIENCE: Duration = Duration::from_secs(3);

/// A log of the configuration. In the configuration's pool.
pub struct Log {
    pub main: *mut MainConf,
    pub file: *mut ngx_open_file_t,
    /// full name of the file
    pub path: ngx_str_t,
    pub zone_name: ngx_str_t,
    pub interval_ms: u64,
    /// where it is in the configuration
    pub place: (ngx_str_t, ngx_uint_t),
    /// null until the whole configuration has been read
    pub zone: *mut Zone,
    /// set when the shared memory is there
    ledger: Option<Ledger>,
    table: Option<Table>,
    /// none if it is in NGINX's zone
    memory: Option<Memory>,
}

impl Log {
    pub fn new(
        main: *mut MainConf,
        file: *mut ngx_open_file_t,
        path: ngx_str_t,
        zone_name: ngx_str_t,
        interval_ms: u64,
        place: (ngx_str_t, ngx_uint_t),
    ) -> Log {
        let (zone, ledger, table, memory) = (null_mut(), None, None, None);
        Log { main, file, path, zone_name, interval_ms, place, zone, ledger, table, memory }
    }

    /// What it is known by in all processes.
    fn name(&self) -> u64 {
        traffic::name_of(self.zone_name.as_bytes(), self.path.as_bytes())
    }
}

fn logs(main: &MainConf) -> impl Iterator<Item = &Log> {
    // SAFETY: logs live in the configuration's pool.
    main.logs().iter().map(|&log| unsafe { &*log })
}

// ---- shared memory, in the master ------------------------------------------------------------------------------------

/// Asks NGINX for the memory of a log. Called when all zones are known, so it comes after theirs.
pub fn add_memory(cf: &mut ngx_conf_t, log: *mut Log) -> Result<(), ()> {
    // SAFETY: the log and its zone live in the configuration's pool.
    let (name, zone_bytes) = unsafe { (memory_name(&*log), (*(*log).zone).size_bytes) };
    let name = [b"request_cpu", &name[..]].concat();
    // SAFETY: set when NGINX starts.
    let page = unsafe { ngx_pagesize };
    let bytes = traffic::region_bytes(zone_bytes);
    // what the slab pool takes for itself: its head, and a descriptor of 24 bytes per page
    let bytes = (bytes + bytes / 64).next_multiple_of(page) + 4 * page;
    // SAFETY: `cf` is valid, and its cycle lives as long as the configuration; the name is copied into its pool.
    unsafe {
        let mut name = ngx_str_t::from_bytes(cf.pool, &name).ok_or(())?;
        let shm = ngx_shared_memory_add(cf, &mut name, bytes, module().cast()).as_mut().ok_or(())?;
        shm.init = Some(init_log);
        shm.data = log.cast();
    }
    Ok(())
}

/// What the names of all logs' memory begin with.
const MEMORY: &[u8] = b"_log:";

fn memory_name(log: &Log) -> Vec<u8> {
    [MEMORY, format!("{:016x}", log.name()).as_bytes()].concat()
}

/// Called by `ngx_init_cycle` when the log's memory is there, and its zone's table.
extern "C" fn init_log(shm: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `add_memory` has put a `Log` there, in this cycle and in the one before; its zone is one of this configuration.
    let (shm, log, before) = unsafe { (&*shm, &mut *(*shm).data.cast::<Log>(), data.cast::<Log>().as_ref()) };
    // SAFETY: as above.
    let Some(table) = (unsafe { (*log.zone).table }) else { return NGX_ERROR as ngx_int_t };
    log.table = Some(table);
    if let Some(before) =
        before.filter(|before| has_table(before, &table)).or_else(|| predecessor(log, &table))
    {
        log.ledger = before.ledger;
        log.memory = before.memory.clone();
        return NGX_OK as ngx_int_t;
    }
    match make_ledger(shm, log, &table) {
        Ok(()) => NGX_OK as ngx_int_t,
        Err(reason) => {
            ngx_log_error!(NGX_LOG_EMERG, shm.shm.log, "{reason} in request_cpu_log \"{}\"", log.path);
            NGX_ERROR as ngx_int_t
        }
    }
}

fn has_table(log: &Log, table: &Table) -> bool {
    log.table.is_some_and(|its| its.id() == table.id())
}

/// The log of the configuration that is running whose lines this one continues.
fn predecessor(log: &Log, table: &Table) -> Option<&'static Log> {
    // SAFETY: the cycle before, which is complete; the first time, it is `init_cycle` of NGINX's main function.
    let cycle = unsafe { ngx_cycle.as_ref() }.filter(|cycle| !cycle.conf_ctx.is_null())?;
    // SAFETY: its configuration lives until this one is in use.
    let old = main_conf(cycle)?.logs().iter().map(|&log| unsafe { &*log });
    let old: Vec<&'static Log> = old.filter(|old| has_table(old, table)).collect();
    let ledgers: Vec<Ledger> = old.iter().filter_map(|old| old.ledger).collect();
    let ledger = continued(log, &ledgers)?;
    old.into_iter().find(|old| old.ledger.is_some_and(|its| its.is(&ledger)))
}

/// Of ledgers of the same accounts, the one of this log; or one whose log is not there any more, since its file has got another
/// name.
fn continued(log: &Log, ledgers: &[Ledger]) -> Option<Ledger> {
    // SAFETY: the configuration that this log is part of.
    let main = unsafe { log.main.as_ref() }?;
    let is_taken = |ledger: &Ledger| {
        logs(main).any(|log| log.name() == ledger.name() || log.ledger.is_some_and(|its| its.is(ledger)))
    };
    let same = ledgers.iter().find(|ledger| ledger.name() == log.name());
    same.or_else(|| ledgers.iter().find(|ledger| !is_taken(ledger))).copied()
}

thread_local! {
    /// What the binary before has left us, until our first configuration is complete.
    static INHERITED: RefCell<Option<Vec<Memory>>> = const { RefCell::new(None) };
}

/// A log whose lines this one continues, of the binary before.
fn inherited(log: &Log, table: &Table) -> Option<(Ledger, Memory)> {
    if !zones::is_new_binary() {
        return None;
    }
    INHERITED.with_borrow_mut(|inherited| {
        let memories = inherited.get_or_insert_with(|| Memory::all_inherited(MEMORY));
        // SAFETY: as many bytes are mapped, at the start of a page, as long as `memory` is there.
        let open = |memory: &Memory| unsafe { Ledger::open(memory.base(), memory.bytes(), table) }.ok();
        let ledgers: Vec<Ledger> = memories.iter().filter_map(open).collect();
        let ledger = continued(log, &ledgers)?;
        let at = memories.iter().position(|memory| open(memory).is_some_and(|its| its.is(&ledger)))?;
        Some((ledger, memories.swap_remove(at)))
    })
}

/// A number that no log of these accounts has, in this configuration or in the one that is running: the accounts keep the peaks of
/// each log by it. What this one does not continue goes on in another log of this configuration, which may not have its ledger yet.
fn free_number(log: &Log, table: &Table) -> usize {
    // SAFETY: the cycle before, which is complete; the first time, it is `init_cycle` of NGINX's main function.
    let running = unsafe { ngx_cycle.as_ref() }.filter(|cycle| !cycle.conf_ctx.is_null());
    let running = running.and_then(|cycle| main_conf(cycle));
    // SAFETY: the configuration that this log is part of.
    let this = unsafe { log.main.as_ref() };
    let all = this.into_iter().chain(running.as_deref()).flat_map(logs);
    let mut taken: Vec<usize> =
        all.filter(|log| has_table(log, table)).filter_map(|log| log.ledger).map(|its| its.log()).collect();
    INHERITED.with_borrow(|inherited| {
        // SAFETY: as many bytes are mapped, at the start of a page, as long as the memory is there.
        let open = |memory: &Memory| unsafe { Ledger::open(memory.base(), memory.bytes(), table) }.ok();
        taken.extend(inherited.iter().flatten().filter_map(open).map(|its| its.log()));
    });
    // a zone has no more logs than there are numbers
    (0..traffic::LOGS).find(|number| !taken.contains(number)).unwrap_or(0)
}

/// Gives up what has no use.
pub fn close_inherited() {
    INHERITED.take();
}

/// The ledger that the binary before has left us, or a new one.
fn make_ledger(shm: &ngx_shm_zone_t, log: &mut Log, table: &Table) -> Result<(), accounting::table::Error> {
    if let Some((ledger, memory)) = inherited(log, table) {
        (log.ledger, log.memory) = (Some(ledger), Some(memory));
        return Ok(());
    }
    // SAFETY: the zone lives in the configuration's pool.
    let bytes = traffic::region_bytes(unsafe { (*log.zone).size_bytes });
    let name = memory_name(log);
    log.memory = zones::shared_memory(&name, bytes, shm.shm.log);
    let base = match &log.memory {
        Some(memory) => memory.base(),
        None => {
            let base = zones::take_all(shm, bytes).ok_or(accounting::table::Error::TooSmall)?;
            // a debugging slab allocator fills what it gives out (`ngx_slab_junk`)
            // SAFETY: it has given out as many bytes.
            unsafe { base.write_bytes(0, bytes) };
            base
        }
    };
    // SAFETY: memory that nobody else uses, all zero since it is new, at the start of a page; it stays as long as the log.
    let ledger = unsafe { Ledger::create(base, bytes, table, free_number(log, table), now().monotonic_ms) }?;
    ledger.set_name(log.name());
    Lock::make(&ledger);
    log.ledger = Some(ledger);
    Ok(())
}

/// The memory of all logs.
pub fn memories(main: &MainConf) -> impl Iterator<Item = &Memory> {
    logs(main).filter_map(|log| log.memory.as_ref())
}

/// In a process that the master has forked: what it executes is not to inherit the memory.
pub fn close_descriptors(main: &MainConf) {
    // SAFETY: logs live in the configuration's pool, and this process has one thread.
    main.logs().iter().filter_map(|&log| unsafe { (*log).memory.as_mut() }).for_each(Memory::close);
}

/// A configuration is complete. Ledgers belong to its logs now. Logs of the one before that it does not continue get their last part; if it has not their
/// accounts any more, that is not the end: workers of before may still count there.
pub fn commit(cycle: &ngx_cycle_t) {
    let main = main_conf(cycle);
    for log in main.iter().flat_map(|main| logs(main)) {
        if let Some(ledger) = log.ledger {
            ledger.set_name(log.name());
        }
    }
    // SAFETY: the cycle before, until `ngx_init_cycle` is done; the first time, it is `init_cycle` of NGINX's main function.
    let before = unsafe { cycle.old_cycle.as_ref() }.filter(|before| !before.conf_ctx.is_null());
    let Some((before, logs_before)) = before.and_then(|before| Some((before, main_conf(before)?))) else {
        return;
    };
    let main = main_conf(cycle);
    for old in logs(logs_before) {
        let now = || main.iter().flat_map(|main| logs(main));
        let is_continued = |its: &Ledger| now().filter_map(|log| log.ledger).any(|ledger| ledger.is(its));
        let Some(job) = Job::of(old, before).filter(|job| !is_continued(&job.ledger)) else { continue };
        // SAFETY: zones live in the configuration's pool.
        let zones = main.iter().flat_map(|main| main.zones()).map(|&zone| unsafe { &*zone });
        let mut tables = zones.filter_map(|zone| zone.table);
        let has_table = tables.any(|table| table.id() == job.table.id());
        if !has_table {
            job.ledger.retire();
        }
        let reason = if has_table { Reason::Removed } else { Reason::Last };
        last_part(Arc::new(job), Held::of(old.file), reason, cycle.log);
    }
}

// ---- writing ---------------------------------------------------------------------------------------------------------

/// The lock of a ledger, held by the thread that made this.
struct Lock<'a>(&'a Ledger);

impl<'a> Lock<'a> {
    fn mutex(ledger: &Ledger) -> *mut libc::pthread_mutex_t {
        const { assert!(size_of::<libc::pthread_mutex_t>() <= 64 && align_of::<libc::pthread_mutex_t>() <= 64) }
        ledger.lock().as_ptr().cast()
    }

    /// In a ledger that nobody else knows yet.
    fn make(ledger: &Ledger) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: there is room for a mutex; attributes are initialised before they are used.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(Lock::mutex(ledger), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
        }
    }

    /// None if another thread that lives has it, of this process or another one.
    fn try_take(ledger: &'a Ledger) -> Option<Lock<'a>> {
        let mutex = Lock::mutex(ledger);
        // SAFETY: `make` has initialised it, maybe in another process.
        match unsafe { libc::pthread_mutex_trylock(mutex) } {
            0 => Some(Lock(ledger)),
            libc::EOWNERDEAD => {
                // what it has left is found in the journal
                // SAFETY: this thread has the mutex now.
                unsafe { libc::pthread_mutex_consistent(mutex) };
                Some(Lock(ledger))
            }
            _ => None,
        }
    }

    fn take(ledger: &'a Ledger, patience: Duration) -> Option<Lock<'a>> {
        let begin = std::time::Instant::now();
        loop {
            let lock = Lock::try_take(ledger);
            if lock.is_some() || begin.elapsed() > patience {
                return lock;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread has taken it: `Lock` holds no reference that another thread could be given, and is not sent.
        unsafe { libc::pthread_mutex_unlock(Lock::mutex(self.0)) };
    }
}

/// The log's file, as this process has it open. NGINX replaces the descriptor when it reopens its files
/// (`ngx_reopen_files`), so what a thread writes to is a duplicate.
#[derive(Clone)]
struct Held {
    file: Arc<File>,
    id: [u64; 2],
}

impl Held {
    fn of(file: *const ngx_open_file_t) -> io::Result<Held> {
        // SAFETY: files live in the configuration's pool.
        let descriptor = unsafe { (*file).fd };
        if descriptor < 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        // SAFETY: it is open as long as its cycle is in use, in which the caller is.
        let file = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().map(File::from)?;
        let id = Descriptor::new(&file).about()?.id;
        Ok(Held { file: Arc::new(file), id })
    }
}

struct Descriptor<'a> {
    file: &'a File,
    progress: Option<&'a AtomicU64>,
    /// NGINX opens its files to be written only
    readable: Option<File>,
}

impl Descriptor<'_> {
    fn new(file: &File) -> Descriptor<'_> {
        Descriptor { file, progress: None, readable: None }
    }
}

impl Append for Descriptor<'_> {
    fn about(&mut self) -> io::Result<About> {
        let found = self.file.metadata()?;
        Ok(About { id: [found.dev(), found.ino()], size: found.len(), is_regular: found.is_file() })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(progress) = self.progress {
            progress.fetch_add(1, Relaxed);
        }
        Ok(count)
    }

    fn cut(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        if self.readable.is_none() {
            // the same file, whatever its name is now
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            self.readable = Some(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?);
        }
        self.readable.as_ref().ok_or(io::ErrorKind::Unsupported)?.read_at(bytes, at)
    }
}

/// A log; all that is needed to write it, in any thread.
struct Job {
    ledger: Ledger,
    table: Table,
    interval_ms: u64,
    host: String,
    zone: String,
    path: String,
    /// how often something has been written, for who waits for it
    progress: AtomicU64,
    /// keep the memory of the ledger and of the table
    _mappings: [Option<Arc<MmapRaw>>; 2],
}

/// Why a part is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Its interval is over.
    Due,
    /// Nobody may be there to write more.
    Last,
    /// Nobody is to write more.
    Removed,
}

impl Job {
    fn of(log: &Log, cycle: &ngx_cycle_t) -> Option<Job> {
        let text = |text: &ngx_str_t| key::display(text.as_bytes()).into_owned();
        // SAFETY: the zone lives in the configuration's pool.
        let zone = unsafe { log.zone.as_ref() }?;
        Some(Job {
            ledger: log.ledger?,
            table: log.table?,
            interval_ms: log.interval_ms,
            host: text(&cycle.hostname),
            zone: text(&log.zone_name),
            path: text(&log.path),
            progress: AtomicU64::new(0),
            _mappings: [log.memory.as_ref(), zone.memory.as_ref()].map(|memory| memory.map(Memory::mapping)),
        })
    }

    /// Writes a part to the last one of the files; an earlier one is that of before, where something may not have been brought to
    /// its end. Whether there is anything to say of it.
    fn write(&self, files: &[Held], reason: Reason) -> Option<News> {
        let patience = if reason == Reason::Due { Duration::ZERO } else { PATIENCE / 2 };
        let Some(_lock) = Lock::take(&self.ledger, patience) else {
            return (reason != Reason::Due).then_some(News::Busy);
        };
        if self.ledger.is_closed() || reason == Reason::Due && !self.ledger.is_due(now(), self.interval_ms) {
            return None;
        }
        let result = self.write_locked(files, reason);
        if reason == Reason::Removed {
            self.ledger.close();
        }
        match result {
            Ok(()) => (self.ledger.note_error(0) != 0).then_some(News::Recovered),
            Err(error) if reason == Reason::Due => self.failed(error),
            Err(error) => Some(News::Lost(error)),
        }
    }

    /// Says so, unless that has been said before.
    fn failed(&self, error: io::Error) -> Option<News> {
        self.ledger.set_next_try(now().monotonic_ms + RETRY_MS.min(self.interval_ms));
        let number = error.raw_os_error().unwrap_or(libc::EIO) as u32;
        (self.ledger.note_error(number) != number).then_some(News::Failed(error))
    }

    /// Waits for a thread that writes, but not for one that does not get on: the process may end at any time, since that is what
    /// the journal is for.
    fn wait_for(&self, thread: JoinHandle<Option<News>>) -> Option<News> {
        let mut last = (std::time::Instant::now(), self.progress.load(Relaxed));
        while !thread.is_finished() {
            let progress = self.progress.load(Relaxed);
            if progress != last.1 {
                last = (std::time::Instant::now(), progress);
            } else if last.0.elapsed() > PATIENCE {
                return Some(News::Hangs);
            }
            thread::sleep(Duration::from_millis(2));
        }
        thread.join().ok().flatten()
    }

    fn write_locked(&self, files: &[Held], reason: Reason) -> io::Result<()> {
        let open = |held| {
            let Held { file, .. }: &Held = held;
            Descriptor { progress: Some(&self.progress), ..Descriptor::new(file) }
        };
        let mut files: Vec<Descriptor> = files.iter().map(open).collect();
        let mut all: Vec<&mut dyn Append> = files.iter_mut().map(|file| file as &mut dyn Append).collect();
        self.ledger.resolve(&self.table, &mut all)?;
        let file = all.pop().ok_or(io::ErrorKind::NotFound)?;
        // a pipe takes no more than that at once, and never a half of it
        let batch_bytes = if file.about()?.is_regular { BATCH_BYTES } else { libc::PIPE_BUF };
        let now = now();
        let end = match reason {
            Reason::Due => self.ledger.end_of_part(now, self.interval_ms),
            Reason::Last | Reason::Removed => now,
        };
        let part = Part::new(&utc(end.wall_ms), end.monotonic_ms, &self.host, &self.zone, batch_bytes);
        self.ledger.write_part(&self.table, shared_ms(), &part, file).map(drop)
    }
}

/// What an operator needs to know.
enum News {
    Failed(io::Error),
    Recovered,
    /// It was the last part.
    Lost(io::Error),
    /// Another process writes, and does not come to an end.
    Busy,
    /// This one does not.
    Hangs,
}

impl News {
    fn log(&self, job: &Job, log: *mut ngx_log_t) {
        let (zone, path) = (&job.zone, &job.path);
        match self {
            News::Failed(error) => {
                ngx_log_error!(
                    NGX_LOG_ERR,
                    log,
                    "request_cpu_log \"{path}\" of zone \"{zone}\" cannot be written: {error}; \
                     what is not in it will be when that is possible again"
                );
            }
            News::Recovered => {
                ngx_log_error!(
                    NGX_LOG_NOTICE,
                    log,
                    "request_cpu_log \"{path}\" of zone \"{zone}\" is written again"
                );
            }
            News::Lost(error) => {
                ngx_log_error!(
                    NGX_LOG_ERR,
                    log,
                    "request_cpu_log \"{path}\" of zone \"{zone}\" lacks its last part: {error}"
                );
            }
            News::Busy => {
                ngx_log_error!(
                    NGX_LOG_ERR,
                    log,
                    "request_cpu_log \"{path}\" of zone \"{zone}\" lacks its last part: another process is writing"
                );
            }
            News::Hangs => {
                ngx_log_error!(
                    NGX_LOG_ERR,
                    log,
                    "request_cpu_log \"{path}\" of zone \"{zone}\" is not waited for any longer"
                );
            }
        }
    }
}

fn now() -> Instant {
    let ms = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one `timespec`.
        unsafe { libc::clock_gettime(clock, &mut time) };
        time.tv_sec.max(0) as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
    };
    Instant { wall_ms: ms(libc::CLOCK_REALTIME), monotonic_ms: ms(libc::CLOCK_MONOTONIC) }
}

/// As `2026-01-31T12:00:00.000Z`.
fn utc(wall_ms: u64) -> String {
    // SAFETY: all zero is valid for numbers; `ngx_gmtime` fills them, and touches nothing else.
    let tm = unsafe {
        let mut tm: ngx_tm_t = core::mem::zeroed();
        ngx_gmtime((wall_ms / 1000) as libc::time_t, &mut tm);
        tm
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        tm.tm_year,
        tm.tm_mon,
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        wall_ms % 1000
    )
}

/// The last part of each log. Called by `ngx_master_process_exit`, when all workers are gone.
pub fn exit_master(cycle: *mut ngx_cycle_t) {
    let Some(main) = main_conf(cycle) else { return };
    // SAFETY: the cycle and its log are there until its pool is destroyed.
    let (cycle, log) = unsafe { (&*cycle, (*cycle).log) };
    for of in logs(main) {
        let Some(job) = Job::of(of, cycle) else { continue };
        last_part(Arc::new(job), Held::of(of.file), Reason::Last, log);
    }
}

/// Writes it in the master.
fn last_part(job: Arc<Job>, held: io::Result<Held>, reason: Reason, log: *mut ngx_log_t) {
    match held {
        Ok(held) => write_and_wait(job, vec![held], reason, log),
        Err(error) => News::Lost(error).log(&job, log),
    }
}

/// In a thread, which gets no signals: `SIGXFSZ` is to be an error of `write`.
fn write_and_wait(job: Arc<Job>, files: Vec<Held>, reason: Reason, log: *mut ngx_log_t) {
    let its = job.clone();
    match state::spawn(move || its.write(&files, reason)) {
        Ok(thread) => {
            if let Some(news) = job.wait_for(thread) {
                news.log(&job, log);
            }
        }
        Err(error) => News::Lost(error).log(&job, log),
    }
}

// ---- every interval, in a worker -------------------------------------------------------------------------------------

/// What a worker needs to write.
struct Writer {
    log: *mut ngx_log_t,
    logs: Vec<Writing>,
}

/// A log, as this worker writes it.
struct Writing {
    job: Arc<Job>,
    file: *const ngx_open_file_t,
    held: Option<Held>,
    /// the file before it was reopened, as long as something in it may not have been brought to its end
    before: Option<Held>,
    running: Option<JoinHandle<Option<News>>>,
}

thread_local! {
    /// The writer of this process, if there is anything to write.
    static WRITER: Cell<Option<Timer<Writer>>> = const { Cell::new(None) };
}

/// A worker begins.
pub fn start(main: &MainConf, cycle: &ngx_cycle_t) {
    let writing = |log: &Log| {
        let job = Arc::new(Job::of(log, cycle)?);
        Some(Writing { job, file: log.file, held: None, before: None, running: None })
    };
    let logs: Vec<Writing> = logs(main).filter_map(writing).collect();
    if logs.is_empty() {
        return;
    }
    let mut writer = Writer { log: cycle.log, logs };
    writer.logs.iter_mut().for_each(Writing::follow);
    let wait_ms = writer.wait_ms();
    let timer = Timer::new(writer, cycle.log);
    if let Some(wait_ms) = wait_ms {
        timer.set(wait_ms);
    }
    WRITER.set(Some(timer));
}

/// A worker ends: what it has begun to write gets done, and what nobody else will write is written. `is_current`: the files are
/// still those of the cycle that the worker began with.
pub fn stop(is_current: bool) {
    let Some(timer) = WRITER.take() else { return };
    // SAFETY: there is no other copy.
    let mut writer = unsafe { timer.stop() };
    // SAFETY: NGINX sets it before it calls.
    let is_worker = unsafe { ngx_process } == NGX_PROCESS_WORKER as ngx_uint_t;
    let log = writer.log;
    for writing in &mut writer.logs {
        writing.finish(log);
        if is_worker && is_current && writing.job.ledger.is_retired() {
            writing.follow();
            write_and_wait(writing.job.clone(), writing.files(), Reason::Last, log);
        }
    }
}

impl Task for Writer {
    fn run(&mut self) -> Option<u64> {
        self.write_what_is_due();
        self.wait_ms()
    }
}

impl Writer {
    fn write_what_is_due(&mut self) {
        for writing in &mut self.logs {
            if writing.running.as_ref().is_some_and(JoinHandle::is_finished) {
                writing.finish(self.log);
            }
            writing.follow();
            if writing.running.is_none() && writing.may_write() {
                writing.write_if_due(self.log);
            }
        }
    }

    /// When something is to be done.
    fn wait_ms(&self) -> Option<u64> {
        let now = now();
        let wait_ms = self.logs.iter().filter_map(|writing| writing.wait_ms(now)).min();
        wait_ms.map(|wait_ms| wait_ms.clamp(1, SLEEP_MS))
    }
}

impl Writing {
    /// A worker that was told to finish leaves it to its successors, if they know the same accounts.
    fn may_write(&self) -> bool {
        // SAFETY: set by `ngx_worker_process_cycle` when the worker is told to finish.
        let is_finishing = unsafe { ngx_exiting != 0 };
        !is_finishing || self.job.ledger.is_retired()
    }

    fn write_if_due(&mut self, log: *mut ngx_log_t) {
        let (ledger, now) = (&self.job.ledger, now());
        if !ledger.is_due(now, self.job.interval_ms)
            || !ledger.claim(now.monotonic_ms, now.monotonic_ms + CLAIM_MS)
        {
            return;
        }
        let (job, files) = (self.job.clone(), self.files());
        match state::spawn(move || {
            // SAFETY: sets how this thread is scheduled: the event loop may want the same processor.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
            job.write(&files, Reason::Due)
        }) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => {
                if let Some(news) = self.job.failed(error) {
                    news.log(&self.job, log);
                }
            }
        }
    }

    /// Waits for the thread, and says what went wrong.
    fn finish(&mut self, log: *mut ngx_log_t) {
        if let Some(news) = self.running.take().and_then(|thread| self.job.wait_for(thread)) {
            news.log(&self.job, log);
        }
    }

    /// Takes the file that NGINX has open now.
    fn follow(&mut self) {
        if !self.job.ledger.is_open() {
            self.before = None;
        }
        // should it not be possible, the file of before is written to
        let Ok(new) = Held::of(self.file) else { return };
        if self.held.as_ref().is_none_or(|held| held.id != new.id) {
            let old = self.held.replace(new);
            self.before = self.before.take().or(old.filter(|_| self.job.ledger.is_open()));
        }
    }

    fn files(&self) -> Vec<Held> {
        self.before.iter().chain(&self.held).cloned().collect()
    }

    fn wait_ms(&self, now: Instant) -> Option<u64> {
        let (ledger, interval_ms) = (&self.job.ledger, self.job.interval_ms);
        if self.running.is_some() {
            Some(POLL_MS)
        } else if !self.may_write() {
            None
        } else if ledger.is_due(now, interval_ms) {
            Some(ledger.next_try_ms().saturating_sub(now.monotonic_ms))
        } else {
            Some(now.next_end_ms(interval_ms))
        }
    }
}
