//! Counters that outlive the memory they are in: `state=FILE` of `request_cpu_zone`.
//!
//! The master reads the file when it makes a zone's table, and writes it when it ends, after its workers. Meanwhile one of
//! the workers writes it once a minute, so that a master that is killed, or a machine that fails, loses no more than that.
//! Which one is decided by a compare-and-swap in the table (`Table::claim_save`), so there is no lock that a worker could
//! take with it.
//!
//! Writing takes place in a thread that lives just as long: it may have to wait for the disk, and the event loop may not. It
//! touches the table, which is made to be shared, and nothing of NGINX.

use core::mem::MaybeUninit;
use core::ptr::null_mut;
use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use accounting::key;
use accounting::state::{self, Refused, Saved};
use accounting::table::{NEVER, Table};
use memmap2::MmapRaw;
use nginx_sys::{
    NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_cycle_t, ngx_exiting, ngx_log_t, ngx_test_config,
};
use ngx::ngx_log_error;

use crate::conf::{MainConf, Zone, main_conf};
use crate::memory::Memory;
use crate::timer::{Task, Timer};
use crate::worker::{is_alive, now_ms};
use crate::zones;

/// How often workers save, in milliseconds.
const INTERVAL_MS: u64 = 60_000;
/// How long until a worker looks again whether its thread is done.
const POLL_MS: u64 = 500;
/// How many files are set aside before somebody has to look.
const MAX_SET_ASIDE: usize = 100;

// ---- reading, in the master ----------------------------------------------------------------------------------------

/// Brings the accounts of a zone's file into its new table.
pub fn load(zone: &mut Zone, table: &Table, log: *mut ngx_log_t) {
    let Some(path) = zone.state.clone() else { return };
    let saved = examine(zone, &path, log);
    if is_test() {
        return;
    }
    remove_leftovers(&path);
    if let Some(saved) = saved {
        let restored = saved.restore(table);
        zones::log_restored(zone, restored, &format!("\"{}\"", path.display()), log);
    }
}

/// Looks whether the file of a zone whose accounts are known already can be overwritten.
pub fn check(zone: &mut Zone, log: *mut ngx_log_t) {
    if let Some(path) = zone.state.clone() {
        examine(zone, &path, log);
    }
}

/// Lets the workers save a zone from now on, unless they do already.
pub fn begin(zone: &Zone) {
    if let (Some(table), Some(_)) = (&zone.table, &zone.state)
        && table.save_due_ms() == NEVER
    {
        table.set_save_due(now_ms() + INTERVAL_MS);
    }
}

/// What the file holds. One that cannot be used is set aside; if even that is not possible, the zone goes on without a
/// file, so that it stays as it is.
fn examine(zone: &mut Zone, path: &Path, log: *mut ngx_log_t) -> Option<Saved> {
    let (name, file) = (zone.name, path.display());
    let reason = match read(path, zone.key_text.as_bytes()) {
        Ok(saved) => return saved,
        Err(reason) => reason,
    };
    if is_test() {
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "\"{file}\" cannot be used in request_cpu_zone \"{name}\": {reason}; NGINX would set it aside"
        );
        return None;
    }
    match set_aside(path) {
        Ok(aside) => {
            let aside = aside.display();
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "\"{file}\" is not used in request_cpu_zone \"{name}\": {reason}; it is \"{aside}\" now"
            );
        }
        Err(error) => {
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "\"{file}\" is not used in request_cpu_zone \"{name}\": {reason}; since it cannot be set aside, \
                 the counters are not saved: {error}"
            );
            zone.state = None;
        }
    }
    None
}

/// Nothing if there is no file.
fn read(path: &Path, key_text: &[u8]) -> Result<Option<Saved>, String> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    state::read(&bytes, key_text).map(Some).map_err(|refused: Refused| refused.to_string())
}

/// The file, or as much of it as tells that it is not one of ours.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // opening a FIFO would wait
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.by_ref().take(state::START.len() as u64).read_to_end(&mut bytes)?;
        if bytes == state::START {
            file.read_to_end(&mut bytes)?;
        }
    }
    Ok(bytes)
}

/// Whether this is `nginx -t`, which must change nothing.
fn is_test() -> bool {
    // SAFETY: set when NGINX starts.
    unsafe { ngx_test_config != 0 }
}

/// Gives the file a name that no other one has.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let names = (0..MAX_SET_ASIDE).map(|n| match n {
        0 => with_suffix(path, ".bad"),
        n => with_suffix(path, &format!(".bad-{n}")),
    });
    for aside in names {
        match fs::symlink_metadata(&aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::rename(path, &aside)?;
                return Ok(aside);
            }
            _ => {}
        }
    }
    Err(io::Error::other("there are too many of its kind"))
}

/// Removes what a process that was killed while it wrote has left behind.
fn remove_leftovers(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Ok(entries) = fs::read_dir(folder).map(|entries| entries.flatten()) else { return };
    for entry in entries {
        let found = entry.file_name();
        let pid = found.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b".tmp-"));
        let pid: Option<u32> = pid.and_then(|pid| str::from_utf8(pid).ok()?.parse().ok());
        if pid.is_some_and(|pid| !is_alive(pid)) {
            // it is in nobody's way
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

// ---- writing -------------------------------------------------------------------------------------------------------

/// A zone with a file; all that is needed to write it, in any thread.
struct Job {
    zone: String,
    key_text: Vec<u8>,
    path: PathBuf,
    table: Table,
    /// keeps the table's memory
    _mapping: Option<Arc<MmapRaw>>,
}

fn jobs(main: &MainConf) -> Vec<Arc<Job>> {
    // SAFETY: zones live in the configuration's pool.
    let zones = main.zones().iter().map(|&zone| unsafe { &*zone });
    let jobs = zones.filter_map(|zone| {
        Some(Arc::new(Job {
            zone: key::display(zone.name.as_bytes()).into_owned(),
            key_text: zone.key_text.as_bytes().to_vec(),
            path: zone.state.clone()?,
            table: zone.table?,
            _mapping: zone.memory.as_ref().map(Memory::mapping),
        }))
    });
    jobs.collect()
}

type Results = Vec<(Arc<Job>, io::Result<()>)>;

fn save_all(jobs: Vec<Arc<Job>>) -> Results {
    let save = |job: Arc<Job>| {
        let result = job.save();
        (job, result)
    };
    jobs.into_iter().map(save).collect()
}

impl Job {
    /// Replaces the file as a whole.
    fn save(&self) -> io::Result<()> {
        let folder = File::open(self.path.parent().ok_or(io::ErrorKind::NotFound)?)?;
        // two masters can be at it, so each writes a file of its own
        let temporary = with_suffix(&self.path, &format!(".tmp-{}", process::id()));
        let written = self.write(&temporary).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // the reason is the error above
            let _ = fs::remove_file(&temporary);
        }
        written?;
        folder.sync_all()
    }

    fn write(&self, temporary: &Path) -> io::Result<()> {
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary);
        let file = create().or_else(|error| match error.kind() {
            // of a process that had our number, and was killed
            io::ErrorKind::AlreadyExists => fs::remove_file(temporary).and_then(|()| create()),
            _ => Err(error),
        })?;
        let mut out = BufWriter::with_capacity(64 * 1024, file);
        state::write(&self.table, &self.key_text, &mut out)?;
        out.get_ref().sync_all()
    }

    fn log(&self, error: &io::Error, log: *mut ngx_log_t) {
        let (zone, file) = (&self.zone, self.path.display());
        ngx_log_error!(
            NGX_LOG_ERR,
            log,
            "the counters of request_cpu_zone \"{zone}\" cannot be saved in \"{file}\": {error}"
        );
    }
}

/// Runs `f` in a thread that gets no signals, as `ngx_thread_pool_cycle` does: NGINX's handlers must interrupt the event
/// loop, and `SIGXFSZ` becomes an error of `write`.
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: `sigfillset` initialises the set; a thread starts with the mask of the one that makes it.
    unsafe {
        libc::sigfillset(blocked.as_mut_ptr());
        for signal in [libc::SIGILL, libc::SIGFPE, libc::SIGSEGV, libc::SIGBUS] {
            libc::sigdelset(blocked.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), before.as_mut_ptr());
    }
    let handle = thread::Builder::new().name("request_cpu".into()).stack_size(256 * 1024).spawn(f);
    // SAFETY: the call above has filled the set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), null_mut()) };
    handle
}

/// Called by `ngx_master_process_exit`, when all workers are gone.
pub fn exit_master(cycle: *mut ngx_cycle_t) {
    let Some(main) = main_conf(cycle) else { return };
    let jobs = jobs(main);
    if jobs.is_empty() {
        return;
    }
    // SAFETY: the cycle's log is there until its pool is destroyed.
    let log = unsafe { (*cycle).log };
    match spawn(move || save_all(jobs)) {
        Ok(thread) => thread.join().into_iter().flatten().for_each(|(job, result)| {
            if let Err(error) = result {
                job.log(&error, log);
            }
        }),
        Err(error) => {
            ngx_log_error!(NGX_LOG_ERR, log, "request_cpu: no thread to save counters in: {error}");
        }
    }
}

// ---- once a minute, in a worker ------------------------------------------------------------------------------------

/// What a worker needs to save.
struct Saver {
    log: *mut ngx_log_t,
    jobs: Vec<Arc<Job>>,
    running: Option<JoinHandle<Results>>,
}

thread_local! {
    /// The saver of this process, if there is anything to save.
    static SAVER: Cell<Option<Timer<Saver>>> = const { Cell::new(None) };
}

/// A worker begins.
pub fn start(main: &MainConf, log: *mut ngx_log_t) {
    let jobs = jobs(main);
    if jobs.is_empty() {
        return;
    }
    let saver = Saver { log, jobs, running: None };
    let wait_ms = saver.wait_ms();
    let timer = Timer::new(saver, log);
    if let Some(wait_ms) = wait_ms {
        timer.set(wait_ms);
    }
    SAVER.set(Some(timer));
}

/// A worker ends: what it has begun to write gets done.
pub fn stop() {
    if let Some(timer) = SAVER.take() {
        // SAFETY: there is no other copy.
        unsafe { timer.stop() }.finish();
    }
}

impl Task for Saver {
    fn run(&mut self) -> Option<u64> {
        // SAFETY: set by `ngx_worker_process_cycle` when the worker is told to finish. It may have an old table then, of another
        // size than that of its successors.
        if unsafe { ngx_exiting } != 0 {
            return None;
        }
        self.save_what_is_due();
        self.wait_ms()
    }
}

impl Saver {
    fn save_what_is_due(&mut self) {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish();
        }
        if self.running.is_some() {
            return;
        }
        let now_ms = now_ms();
        let is_ours = |job: &&Arc<Job>| job.table.claim_save(now_ms, now_ms + INTERVAL_MS);
        let due: Vec<Arc<Job>> = self.jobs.iter().filter(is_ours).cloned().collect();
        if due.is_empty() {
            return;
        }
        let log = self.log;
        match spawn(move || {
            // SAFETY: sets how this thread is scheduled: the event loop may want the same processor.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
            save_all(due)
        }) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => {
                ngx_log_error!(NGX_LOG_ERR, log, "request_cpu: no thread to save counters in: {error}");
            }
        }
    }

    /// Waits for the thread, and says what went wrong.
    fn finish(&mut self) {
        let results = self.running.take().map(JoinHandle::join);
        for (job, result) in results.into_iter().flatten().flatten() {
            match result {
                Ok(()) => {}
                Err(error) if is_not_allowed(&error) => {
                    // all workers are the same user; the next configuration tries again
                    job.table.set_save_due(NEVER);
                    let (zone, file) = (&job.zone, job.path.display());
                    ngx_log_error!(
                        NGX_LOG_NOTICE,
                        self.log,
                        "the counters of request_cpu_zone \"{zone}\" are saved in \"{file}\" only when NGINX ends, \
                         since its workers may not write there: {error}"
                    );
                }
                Err(error) => job.log(&error, self.log),
            }
        }
    }

    /// When something is to be done.
    fn wait_ms(&self) -> Option<u64> {
        let now_ms = now_ms();
        let waits = self.jobs.iter().map(|job| job.table.save_due_ms()).filter(|&due_ms| due_ms != NEVER);
        match self.running {
            Some(_) => Some(POLL_MS),
            None => waits.min().map(|due_ms| due_ms.saturating_sub(now_ms).clamp(1, INTERVAL_MS)),
        }
    }
}

fn is_not_allowed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
