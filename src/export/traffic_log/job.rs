//! The traffic log: `request_cpu_log PATH zone=NAME [interval=TIME]`.
//!
//! What is written, and how a writer that was killed loses nothing, is in [`accounting::traffic`]; here is who writes, when, and
//! where. Each log has a ledger in shared memory of its own, which outlives reloads and binary upgrades as the accounts do
//! ([`crate::persist::memory`]).
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

use core::cell::{Cell, OnceCell};
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::null;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use accounting::key;
use accounting::table::Table;
use accounting::traffic::{self, About, Append, BATCH_BYTES, Instant, Ledger, Part};
use memmap2::MmapRaw;
use nginx_sys::{
    NGX_ERROR, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_OK, NGX_PROCESS_WORKER, ngx_conf_t,
    ngx_exiting, ngx_gmtime, ngx_int_t, ngx_log_t, ngx_open_file_t, ngx_pagesize, ngx_process,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_str_t, ngx_tm_t, ngx_uint_t,
};
use ngx::ngx_log_error;

use crate::config::conf::{self, MainConf, Zone};
use crate::measure::clock::shared_ms;
use crate::module;
use crate::nginx::cycle::Cycle;
use crate::nginx::thread::{PATIENCE, Progress, Work};
use crate::nginx::timer::{Task, Timer};
use crate::persist::memory::Memory;
use crate::persist::zones;

/// How long until somebody else tries what one was told to do.
const CLAIM_MS: u64 = 1000;
/// How long until it is tried again after an error, unless the interval is shorter.
const RETRY_MS: u64 = 10_000;
/// How long until a worker looks again whether its thread is done.
const POLL_MS: u64 = 200;
/// How long a worker sleeps at most: the clock of the wall may be set.
const SLEEP_MS: u64 = 60_000;

/// A log of the configuration. In the configuration's pool.
pub struct Log {
    main: *const MainConf,
    pub file: *mut ngx_open_file_t,
    /// full name of the file
    pub path: ngx_str_t,
    pub zone_name: ngx_str_t,
    pub interval_ms: u64,
    /// where it is in the configuration
    pub place: (ngx_str_t, ngx_uint_t),
    /// null until the whole configuration has been read
    pub zone: Cell<*const Zone>,
    /// set when the shared memory is there
    ledger: OnceCell<Ledger>,
    table: OnceCell<Table>,
    /// none if it is in NGINX's zone
    pub memory: OnceCell<Memory>,
    /// its ledger continues no other one's
    is_new: Cell<bool>,
}

impl Log {
    pub fn new(
        main: *const MainConf,
        file: *mut ngx_open_file_t,
        path: ngx_str_t,
        zone_name: ngx_str_t,
        interval_ms: u64,
        place: (ngx_str_t, ngx_uint_t),
    ) -> Log {
        let (zone, ledger) = (Cell::new(null()), OnceCell::new());
        let (table, memory, is_new) = (OnceCell::new(), OnceCell::new(), Cell::new(false));
        Log { main, file, path, zone_name, interval_ms, place, zone, ledger, table, memory, is_new }
    }

    /// What it is known by in all processes.
    fn name(&self) -> u64 {
        traffic::name_of(self.zone_name.as_bytes(), self.path.as_bytes())
    }

    fn ledger(&self) -> Option<Ledger> {
        self.ledger.get().copied()
    }

    fn zone(&self) -> Option<&Zone> {
        // SAFETY: null, or a zone of the same configuration, in the same pool.
        unsafe { self.zone.get().as_ref() }
    }

    /// The configuration that it is part of.
    fn main(&self) -> Option<&MainConf> {
        // SAFETY: it is in the same pool, and its directives have been read.
        unsafe { self.main.as_ref() }
    }

    fn has_table(&self, table: &Table) -> bool {
        self.table.get().is_some_and(|its| its.id() == table.id())
    }
}

// ---- shared memory, in the master ------------------------------------------------------------------------------------

/// Asks NGINX for the memory of a log. Called when all zones are known, so it comes after theirs. `None` if there is no memory.
pub fn add_memory(cf: &mut ngx_conf_t, log: &Log, zone: &Zone) -> Option<()> {
    let name = [b"request_cpu", &memory_name(log)[..]].concat();
    // SAFETY: set when NGINX starts.
    let page = unsafe { ngx_pagesize };
    let bytes = traffic::region_bytes(zone.size_bytes);
    // what the slab pool takes for itself: its head, and a descriptor of 24 bytes per page
    let bytes = (bytes + bytes / 64).next_multiple_of(page) + 4 * page;
    // SAFETY: `cf` is valid, and its cycle lives as long as the configuration; the name is copied into its pool.
    unsafe {
        let mut name = ngx_str_t::from_bytes(cf.pool, &name)?;
        let shm = ngx_shared_memory_add(cf, &mut name, bytes, module().cast()).as_mut()?;
        shm.init = Some(init_log);
        shm.data = (&raw const *log).cast_mut().cast();
    }
    Some(())
}

/// What the names of all logs' memory begin with.
const MEMORY: &[u8] = b"_log:";

fn memory_name(log: &Log) -> Vec<u8> {
    [MEMORY, format!("{:016x}", log.name()).as_bytes()].concat()
}

/// Called by `ngx_init_cycle` when the log's memory is there, and its zone's table.
unsafe extern "C" fn init_log(shm: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `add_memory` has put a `Log` there, in this cycle and in the one before; both change through cells.
    let (shm, log, before) = unsafe { (&*shm, &*(*shm).data.cast::<Log>(), data.cast::<Log>().as_ref()) };
    let Some(table) = log.zone().and_then(Zone::table) else { return NGX_ERROR as ngx_int_t };
    let kept = before
        .filter(|before| before.has_table(&table))
        .and_then(|before| Some((before.ledger()?, before.memory.get().cloned())))
        .or_else(|| continued_here(log, &table))
        .or_else(|| left(log, &table));
    log.is_new.set(kept.is_none());
    let (ledger, memory) = match kept.map_or_else(|| make_ledger(shm, log, &table), Ok) {
        Ok(made) => made,
        Err(reason) => {
            ngx_log_error!(NGX_LOG_EMERG, shm.shm.log, "{reason} in request_cpu_log \"{}\"", log.path);
            return NGX_ERROR as ngx_int_t;
        }
    };
    // `ngx_init_cycle` calls once for each log
    let _ = log.table.set(table);
    let _ = log.ledger.set(ledger);
    if let Some(memory) = memory {
        let _ = log.memory.set(memory);
    }
    NGX_OK as ngx_int_t
}

/// The ledger of the log in the configuration that is running whose lines this one continues.
fn continued_here(log: &Log, table: &Table) -> Option<(Ledger, Option<Memory>)> {
    conf::with_running(|main| {
        let old = main?.logs().filter(|old| old.has_table(table));
        let ledgers: Vec<Ledger> = old.clone().filter_map(Log::ledger).collect();
        let ledger = continued(log, &ledgers)?;
        let old = { old }.find(|old| old.ledger().is_some_and(|its| its.is(&ledger)))?;
        Some((ledger, old.memory.get().cloned()))
    })
}

/// Of ledgers of the same accounts, the one of this log; or one whose log is not there any more, since its file has got another
/// name.
fn continued(log: &Log, ledgers: &[Ledger]) -> Option<Ledger> {
    let is_taken = |ledger: &Ledger| {
        let is = |log: &Log| log.name() == ledger.name() || log.ledger().is_some_and(|its| its.is(ledger));
        log.main().is_some_and(|main| main.logs().any(is))
    };
    let same = ledgers.iter().find(|ledger| ledger.name() == log.name());
    same.or_else(|| ledgers.iter().find(|ledger| !is_taken(ledger))).copied()
}

/// What the binary before, or another copy of this module, has left us of logs of this table.
fn all_left(table: &Table) -> Vec<(Ledger, Memory)> {
    let left = zones::source().map(|source| Memory::left(MEMORY, source)).unwrap_or_default();
    let open = |memory: Memory| {
        // SAFETY: as many bytes are mapped, at the start of a page, as long as `memory` is there.
        let ledger = unsafe { Ledger::open(memory.base(), memory.bytes(), table) }.ok()?;
        Some((ledger, memory))
    };
    left.into_iter().filter_map(open).collect()
}

/// The ledger of a log whose lines this one continues, of the binary before or of another copy of this module.
fn left(log: &Log, table: &Table) -> Option<(Ledger, Option<Memory>)> {
    let left = all_left(table);
    let taken: Vec<u64> = log.main()?.logs().filter_map(|log| Some(log.ledger()?.name())).collect();
    // by its name, since the same memory can be mapped twice
    let ledgers: Vec<Ledger> =
        left.iter().map(|(ledger, _)| *ledger).filter(|ledger| !taken.contains(&ledger.name())).collect();
    let ledger = continued(log, &ledgers)?;
    let (ledger, memory) = left.into_iter().find(|(its, _)| its.is(&ledger))?;
    Some((ledger, Some(memory)))
}

/// A number that no log of these accounts has, in this configuration or in the one that is running: the accounts keep the peaks of
/// each log by it. What this one does not continue goes on in another log of this configuration, which may not have its ledger yet.
fn free_number(log: &Log, table: &Table) -> usize {
    let numbers = |main: &MainConf| -> Vec<usize> {
        let logs = main.logs().filter(|log| log.has_table(table));
        logs.filter_map(Log::ledger).map(|its| its.log()).collect()
    };
    let mut taken = log.main().map(numbers).unwrap_or_default();
    taken.extend(conf::with_running(|main| main.map(numbers)).unwrap_or_default());
    taken.extend(all_left(table).iter().map(|(its, _)| its.log()));
    // a zone has no more logs than there are numbers
    (0..traffic::LOGS).find(|number| !taken.contains(number)).unwrap_or(0)
}

/// A new ledger, for which all that the accounts have counted until now is written.
fn make_ledger(
    shm: &ngx_shm_zone_t,
    log: &Log,
    table: &Table,
) -> Result<(Ledger, Option<Memory>), accounting::table::Error> {
    let too_small = accounting::table::Error::TooSmall;
    let bytes = traffic::region_bytes(log.zone().ok_or(too_small)?.size_bytes);
    let memory = zones::shared_memory(&memory_name(log), bytes, shm.shm.log);
    let base = match &memory {
        Some(memory) => memory.base(),
        None => {
            let base = zones::take_all(shm, bytes).ok_or(too_small)?;
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
    Ok((ledger, memory))
}

/// The memory of all logs.
pub fn memories(main: &MainConf) -> impl Iterator<Item = &Memory> {
    main.logs().filter_map(|log| log.memory.get())
}

/// A configuration gets in use. Ledgers belong to its logs now. Logs of the one before that it does not continue get their last
/// part; if the configuration has not their accounts any more, that is not the end: workers of before may still count there.
pub fn commit(main: Option<&MainConf>, before: Option<&MainConf>, cycle: Cycle<'_>) {
    let now = || main.into_iter().flat_map(MainConf::logs);
    for log in now() {
        if let (Some(ledger), Some(table)) = (log.ledger(), log.table.get()) {
            ledger.set_name(log.name());
            if log.is_new.take() {
                ledger.forget_peaks(table);
            }
        }
    }
    let is_continued = |its: &Ledger| now().filter_map(Log::ledger).any(|ledger| ledger.is(its));
    let has_table = |table: &Table| {
        let mut tables = main.into_iter().flat_map(MainConf::zones).filter_map(Zone::table);
        tables.any(|now| now.id() == table.id())
    };
    let mut parts = Vec::new();
    for old in before.into_iter().flat_map(MainConf::logs) {
        let Some(job) = Job::of(old, cycle).filter(|job| !is_continued(&job.ledger)) else { continue };
        let reason = if has_table(&job.table) { Reason::Removed } else { Reason::Last };
        if reason == Reason::Last {
            job.ledger.retire();
        }
        let file = duplicate(old.file);
        parts.push(LastPart::start(Arc::new(job), move || Held::new(file?), reason));
    }
    parts.into_iter().for_each(|part| part.finish(cycle.log()));
}

/// The last parts of the logs of a configuration that is given up with the module. NGINX has closed their files.
pub fn leave(main: &MainConf, cycle: Cycle<'_>, is_gone: impl Fn(&Log) -> bool, log: *mut ngx_log_t) {
    let mut parts = Vec::new();
    for old in main.logs().filter(|log| is_gone(log)) {
        let Some(job) = Job::of(old, cycle) else { continue };
        job.ledger.retire();
        let path = PathBuf::from(OsStr::from_bytes(old.path.as_bytes()));
        parts.push(LastPart::start(Arc::new(job), move || Held::reopened(&path), Reason::Last));
    }
    parts.into_iter().for_each(|part| part.finish(log));
}

// ---- writing ---------------------------------------------------------------------------------------------------------

/// The lock of a ledger, held by the thread that made this.
///
/// A robust mutex belongs to its thread, so this is not `Send`.
struct Lock<'a>(&'a Ledger, PhantomData<*const ()>);

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
            0 => Some(Lock(ledger, PhantomData)),
            libc::EOWNERDEAD => {
                // what it has left is found in the journal
                // SAFETY: this thread has the mutex now.
                unsafe { libc::pthread_mutex_consistent(mutex) };
                Some(Lock(ledger, PhantomData))
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
        // SAFETY: this thread has taken it: `Lock` cannot be sent to another one.
        unsafe { libc::pthread_mutex_unlock(Lock::mutex(self.0)) };
    }
}

/// A duplicate of a descriptor that NGINX has open. Nothing here waits for a disk.
fn duplicate(file: *const ngx_open_file_t) -> io::Result<File> {
    // SAFETY: files live in the configuration's pool.
    let descriptor = unsafe { (*file).fd };
    if descriptor < 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: it is open as long as its cycle is in use, in which the caller is.
    unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().map(File::from)
}

/// The log's file, as this process has it open. NGINX replaces the descriptor when it reopens its files
/// (`ngx_reopen_files`), so what a thread writes to is a duplicate.
#[derive(Clone)]
struct Held {
    file: Arc<File>,
    id: [u64; 2],
}

impl Held {
    /// The file of this name, as NGINX opens it (`ngx_init_cycle`). For a cycle whose files NGINX has closed.
    fn reopened(path: &Path) -> io::Result<Held> {
        Held::new(OpenOptions::new().append(true).create(true).mode(0o644).open(path)?)
    }

    fn new(file: File) -> io::Result<Held> {
        let id = Descriptor::new(&file).about()?.id;
        Ok(Held { file: Arc::new(file), id })
    }
}

struct Descriptor<'a> {
    file: &'a File,
    progress: Option<&'a Progress>,
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
            progress.note();
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
    progress: Progress,
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
    fn of(log: &Log, cycle: Cycle<'_>) -> Option<Job> {
        let text = |text: &ngx_str_t| key::display(text.as_bytes()).into_owned();
        let zone = log.zone()?;
        Some(Job {
            ledger: log.ledger()?,
            table: log.table.get().copied()?,
            interval_ms: log.interval_ms,
            host: text(&cycle.as_ref().hostname),
            zone: text(&log.zone_name),
            path: text(&log.path),
            progress: Progress::new(),
            _mappings: [log.memory.get(), zone.memory.get()].map(|memory| memory.map(Memory::mapping)),
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
pub fn exit_master(main: &MainConf, cycle: Cycle<'_>) {
    let mut parts = Vec::new();
    for of in main.logs() {
        let Some(job) = Job::of(of, cycle) else { continue };
        let file = duplicate(of.file);
        parts.push(LastPart::start(Arc::new(job), move || Held::new(file?), Reason::Last));
    }
    parts.into_iter().for_each(|part| part.finish(cycle.log()));
}

/// A last part that is being written, in a thread, which gets no signals: `SIGXFSZ` is to be an error of `write`.
struct LastPart {
    job: Arc<Job>,
    work: Work<Option<News>>,
}

impl LastPart {
    /// `file` may have to wait for the disk too.
    fn start(
        job: Arc<Job>,
        file: impl FnOnce() -> io::Result<Held> + Send + 'static,
        reason: Reason,
    ) -> LastPart {
        LastPart::with_files(job, move || Ok(vec![file()?]), reason)
    }

    fn with_files(
        job: Arc<Job>,
        files: impl FnOnce() -> io::Result<Vec<Held>> + Send + 'static,
        reason: Reason,
    ) -> LastPart {
        let its = job.clone();
        let write = move || match files() {
            Ok(files) => its.write(&files, reason),
            Err(error) => Some(News::Lost(error)),
        };
        let work = Work::start_or_run(&job.progress, write);
        LastPart { job, work }
    }

    /// Waits for it, and says what went wrong. A disk that does not answer is not waited for: the process may end at any time,
    /// since that is what the journal is for.
    fn finish(self, log: *mut ngx_log_t) {
        let LastPart { job, work } = self;
        if let Some(news) = work.wait(PATIENCE).unwrap_or(Some(News::Hangs)) {
            news.log(&job, log);
        }
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
    files: Files,
    running: Option<Work<Option<News>>>,
}

/// What is written to.
#[derive(Clone, Default)]
struct Files {
    held: Option<Held>,
    /// the file before it was reopened, as long as something in it may not have been brought to its end
    before: Option<Held>,
}

impl Files {
    /// Takes the file that NGINX has open now; `file` is a duplicate of it. It may have to wait for a disk.
    fn follow(&mut self, ledger: &Ledger, file: io::Result<File>) {
        if !ledger.is_open() {
            self.before = None;
        }
        // should it not be possible, the file of before is written to
        let Ok(new) = file.and_then(Held::new) else { return };
        if self.held.as_ref().is_none_or(|held| held.id != new.id) {
            let old = self.held.replace(new);
            self.before = self.before.take().or(old.filter(|_| ledger.is_open()));
        }
    }

    fn all(&self) -> Vec<Held> {
        self.before.iter().chain(&self.held).cloned().collect()
    }
}

thread_local! {
    /// The writer of this process, if there is anything to write.
    static WRITER: Cell<Option<Timer<Writer>>> = const { Cell::new(None) };
}

/// A worker begins.
pub fn start(main: &MainConf, cycle: Cycle<'_>) {
    let writing = |log: &Log| {
        let job = Arc::new(Job::of(log, cycle)?);
        Some(Writing { job, file: log.file, files: Files::default(), running: None })
    };
    let logs: Vec<Writing> = main.logs().filter_map(writing).collect();
    if logs.is_empty() {
        return;
    }
    let mut writer = Writer { log: cycle.log(), logs };
    writer.logs.iter_mut().for_each(Writing::follow);
    let wait_ms = writer.wait_ms();
    let timer = Timer::new(writer, cycle.log());
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
            let (mut files, ledger) = (writing.files.clone(), writing.job.ledger);
            let file = duplicate(writing.file);
            let files = move || {
                files.follow(&ledger, file);
                Ok(files.all())
            };
            LastPart::with_files(writing.job.clone(), files, Reason::Last).finish(log);
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
            if writing.running.as_ref().is_some_and(Work::is_finished) {
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
        let (job, files) = (self.job.clone(), self.files.all());
        match Work::start_nice(&self.job.progress, move || job.write(&files, Reason::Due)) {
            Ok(work) => self.running = Some(work),
            Err(error) => {
                if let Some(news) = self.job.failed(error) {
                    news.log(&self.job, log);
                }
            }
        }
    }

    /// Waits for the thread, and says what went wrong.
    fn finish(&mut self, log: *mut ngx_log_t) {
        let Some(work) = self.running.take() else { return };
        if let Some(news) = work.wait(PATIENCE).unwrap_or(Some(News::Hangs)) {
            news.log(&self.job, log);
        }
    }

    fn follow(&mut self) {
        self.files.follow(&self.job.ledger, duplicate(self.file));
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
