//! Counters that outlive the memory they are in: `state=FILE` of `request_cpu_zone`.
//!
//! The master reads the file when it makes a zone's table. It writes the file when it ends, after its workers, and when a reload
//! takes the zone or the module away. Meanwhile one of the workers writes it once a minute, so that a master that is killed, or a
//! machine that fails, loses no more than that. Which one is decided by a compare-and-swap in the table (`Table::claim_save`),
//! so there is no lock that a worker could take with it.
//!
//! Writing takes place in a thread that lives just as long: it may have to wait for the disk, and the event loop may not. It
//! touches the table, which is made to be shared, and nothing of NGINX.
//!
//! While a configuration is being tried, the file is read and locked, but not changed: the reload may still fail.

use std::cell::{Cell, OnceCell};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use accounting::key;
use accounting::state::Saved;
use accounting::table::{NEVER, Table};
use accounting::traffic;
use memmap2::MmapRaw;
use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_LOG_WARN, NGX_PROCESS_WORKER, ngx_exiting, ngx_log_t,
    ngx_process, ngx_test_config, ngx_uint_t,
};
use ngx::ngx_log_error;

use crate::charge::worker::now_ms;
use crate::config::conf::{MainConf, Zone};
use crate::nginx::thread::{PATIENCE, Progress, Work, within};
use crate::nginx::timer::{Task, Timer};
use crate::persist::memory::Memory;
use crate::persist::zones;

mod file;
mod lock;

use file::Content;
pub use file::{has_room_for_names, resolve};
use lock::{Lock, Refused};

/// What is said of a disk that is not waited for.
pub const NO_ANSWER: &str = "its disk does not answer";

/// How often workers save, in milliseconds.
const INTERVAL_MS: u64 = 60_000;
/// How long until a worker looks again whether its thread is done.
const POLL_MS: u64 = 500;
/// How long a worker that ends waits for what it has begun to write: its master writes the same after it.
const WORKER_PATIENCE: Duration = Duration::from_millis(500);

/// The file of a zone.
pub struct StateFile {
    /// no symbolic link
    path: PathBuf,
    /// held by the master
    lock: Cell<Option<Lock>>,
    /// why the file that is there is set aside once the configuration is in use
    unusable: OnceCell<String>,
    /// it is not written
    given_up: Cell<bool>,
}

impl StateFile {
    /// The file of this path, which [`resolve`] has returned.
    pub fn new(path: PathBuf) -> StateFile {
        StateFile { path, lock: Cell::new(None), unusable: OnceCell::new(), given_up: Cell::new(false) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the accounts of a table are kept in this file.
    pub fn is_of(&self, table: &Table) -> bool {
        table.saved_as()[1] == name_of(&self.path)
    }

    /// This process is not the master.
    pub fn close(&self) {
        self.lock.take();
    }
}

// ---- reading, in the master ----------------------------------------------------------------------------------------

/// What a table knows its file by, whoever has written it last.
fn name_of(path: &Path) -> u64 {
    traffic::name_of(b"", path.as_os_str().as_bytes())
}

/// The zone is refused, and the reason has been logged.
pub struct Failed;

/// Brings the accounts of a zone's file into its new table.
///
/// # Errors
/// If the file must be left alone.
pub fn load(zone: &Zone, table: &Table, log: *mut ngx_log_t) -> Result<(), Failed> {
    let saved = examine(zone, log)?;
    if let (Some(saved), Some(state)) = (saved, &zone.state)
        && !is_test()
    {
        let restored = saved.restore(table);
        zones::log_restored(zone, restored, &format!("\"{}\"", state.path.display()), log);
    }
    Ok(())
}

/// Looks whether the file of a zone whose accounts are known already can be written over.
///
/// # Errors
/// If the file must be left alone.
pub fn check(zone: &Zone, before: Option<&Zone>, log: *mut ngx_log_t) -> Result<(), Failed> {
    if before.is_some_and(|before| before.state_path() == zone.state_path()) {
        // it was looked at, and written since
        return lock(zone, log);
    }
    examine(zone, log).map(drop)
}

/// What the file holds, and what is to become of it.
fn examine(zone: &Zone, log: *mut ngx_log_t) -> Result<Option<Saved>, Failed> {
    let Some(state) = &zone.state else { return Ok(None) };
    lock(zone, log)?;
    let (name, file) = (zone.name, state.path.display());
    let (path, key_text) = (state.path.clone(), zone.key_text.as_bytes().to_vec());
    let content = within(PATIENCE, move || file::read(&path, &key_text));
    match content.unwrap_or_else(|| Err(format!("it cannot be read: {NO_ANSWER}"))) {
        Ok(Content::Nothing) => Ok(None),
        Ok(Content::Saved(saved)) => Ok(Some(saved)),
        Ok(Content::Unusable(reason)) => {
            if is_test() {
                ngx_log_error!(
                    NGX_LOG_WARN,
                    log,
                    "\"{file}\" cannot be used in request_cpu_zone \"{name}\": {reason}; NGINX would set it aside"
                );
            }
            let _ = state.unusable.set(reason);
            Ok(None)
        }
        Err(reason) => {
            ngx_log_error!(
                NGX_LOG_EMERG,
                log,
                "invalid state file \"{file}\" in request_cpu_zone \"{name}\": {reason}"
            );
            Err(Failed)
        }
    }
}

/// Makes sure that no other server has the file. A configuration test does not: the server that is tested may have it.
fn lock(zone: &Zone, log: *mut ngx_log_t) -> Result<(), Failed> {
    let Some(state) = zone.state.as_ref().filter(|_| !is_test()) else { return Ok(()) };
    let (name, file) = (zone.name, state.path.display());
    // only the first configuration of a new binary goes on with what the old master has
    let old_master = zones::is_new_binary().then(zones::old_master).flatten();
    let path = state.path.clone();
    // taking it may wait for a worker too
    match within(2 * PATIENCE, move || Lock::take(&path, old_master)) {
        Some(Ok(lock)) => state.lock.set(Some(lock)),
        None => {
            ngx_log_error!(
                NGX_LOG_EMERG,
                log,
                "state file \"{file}\" in request_cpu_zone \"{name}\" cannot be locked: {NO_ANSWER}"
            );
            return Err(Failed);
        }
        Some(Err(Refused::Busy)) => {
            ngx_log_error!(
                NGX_LOG_EMERG,
                log,
                "state file \"{file}\" in request_cpu_zone \"{name}\" is in use by another server"
            );
            return Err(Failed);
        }
        Some(Err(Refused::Error(error))) => {
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "state file \"{file}\" in request_cpu_zone \"{name}\" cannot be locked: {error}; \
                 another server that uses it would not be noticed"
            );
        }
    }
    Ok(())
}

/// The configuration is in use now: files that cannot be used are set aside, and workers save from now on. If a file cannot be set
/// aside, the zone goes on without one, so that it stays as it is.
pub fn commit(zone: &Zone, log: *mut ngx_log_t) {
    if is_test() {
        return;
    }
    let name = zone.state.as_ref().map_or(0, |state| name_of(&state.path));
    if let Some(table) = zone.table().filter(|table| table.saved_as()[1] != name) {
        table.set_saved_as([0, name]);
    }
    let Some(state) = &zone.state else { return };
    file::remove_leftovers(&state.path);
    if let Some(reason) = state.unusable.get() {
        let (name, file) = (zone.name, state.path.display());
        match file::set_aside(&state.path) {
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
                state.given_up.set(true);
            }
        }
    }
    if let Some(table) = zone.table().filter(|table| table.save_due_ms() == NEVER && !state.given_up.get()) {
        table.set_save_due(now_ms() + INTERVAL_MS);
    }
}

/// Whether this is `nginx -t`, which must change nothing.
pub fn is_test() -> bool {
    // SAFETY: set when NGINX starts.
    unsafe { ngx_test_config != 0 }
}

// ---- writing -------------------------------------------------------------------------------------------------------

/// A zone with a file; all that is needed to write it, in any thread.
struct Job {
    zone: String,
    key_text: Vec<u8>,
    path: PathBuf,
    table: Table,
    progress: Progress,
    /// the process ID of the parent, in a worker that of its master
    parent: libc::pid_t,
    /// keeps the table's memory
    _mapping: Option<Arc<MmapRaw>>,
}

impl Job {
    fn of(zone: &Zone, progress: &Progress) -> Option<Arc<Job>> {
        let state = zone.state.as_ref().filter(|state| !state.given_up.get())?;
        Some(Arc::new(Job {
            zone: key::display(zone.name.as_bytes()).into_owned(),
            key_text: zone.key_text.as_bytes().to_vec(),
            path: state.path.clone(),
            table: zone.table()?,
            progress: progress.clone(),
            // SAFETY: has no conditions.
            parent: unsafe { libc::getppid() },
            _mapping: zone.memory.get().map(Memory::mapping),
        }))
    }

    fn save(&self) -> io::Result<()> {
        file::replace(&self.path, &self.progress, |out| {
            accounting::state::write(&self.table, &self.key_text, out)
        })?;
        if let Some(id) = file::id(&self.path) {
            self.table.set_saved_as([id, name_of(&self.path)]);
        }
        Ok(())
    }

    /// In a worker. If no configuration has the zone any more, or the master was killed, nobody holds the lock for this worker, and
    /// workers that end take turns. They leave a file alone that was written since by another configuration, or by another server.
    fn save_in_worker(&self) -> io::Result<()> {
        // SAFETY: both only read what belongs to the process.
        let (parent, is_worker) =
            unsafe { (libc::getppid(), ngx_process == NGX_PROCESS_WORKER as ngx_uint_t) };
        let is_alone = is_worker && parent != self.parent;
        if !self.table.is_orphaned() && !is_alone {
            return self.save();
        }
        match Lock::take_in_worker(&self.path) {
            Ok(lock) => {
                let is_newer = file::id(&self.path) != Some(self.table.saved_as()[0]);
                let saved = if is_newer { Err(used_again()) } else { self.save() };
                lock.remove();
                saved
            }
            Err(Refused::Busy) => Err(used_again()),
            Err(Refused::Error(error)) => Err(error),
        }
    }

    fn log(&self, error: &io::Error, log: *mut ngx_log_t) {
        let (zone, file) = (&self.zone, self.path.display());
        if self.table.is_orphaned() {
            ngx_log_error!(
                NGX_LOG_NOTICE,
                log,
                "request_cpu_zone \"{zone}\" was removed: what its last requests used is not in \"{file}\": {error}"
            );
        } else {
            ngx_log_error!(
                NGX_LOG_ERR,
                log,
                "the counters of request_cpu_zone \"{zone}\" cannot be saved in \"{file}\": {error}"
            );
        }
    }
}

type Results = Vec<(Arc<Job>, io::Result<()>)>;

fn save_all(jobs: Vec<Arc<Job>>, save: impl Fn(&Job) -> io::Result<()>) -> Results {
    let save = |job: Arc<Job>| {
        let result = save(&job);
        (job, result)
    };
    jobs.into_iter().map(save).collect()
}

/// Files that are being written.
pub struct Saving {
    work: Option<Work<Results>>,
    files: String,
    log: *mut ngx_log_t,
}

impl Saving {
    /// Begins to write the files of some zones.
    pub fn start<'a>(zones: impl Iterator<Item = &'a Zone>, log: *mut ngx_log_t) -> Saving {
        let progress = Progress::new();
        let jobs: Vec<Arc<Job>> = zones.filter_map(|zone| Job::of(zone, &progress)).collect();
        Saving::of(jobs, &progress, log, Job::save)
    }

    fn of(
        jobs: Vec<Arc<Job>>,
        progress: &Progress,
        log: *mut ngx_log_t,
        save: impl Fn(&Job) -> io::Result<()> + Send + 'static,
    ) -> Saving {
        let files =
            jobs.iter().map(|job| format!("\"{}\"", job.path.display())).collect::<Vec<_>>().join(", ");
        if jobs.is_empty() {
            return Saving { work: None, files, log };
        }
        let work = Work::start_or_run(progress, move || save_all(jobs, save));
        Saving { work: Some(work), files, log }
    }

    /// Waits until they are written, and says what went wrong. A disk that does not answer is not waited for: whether it did.
    pub fn finish(self) -> bool {
        let Saving { work: Some(work), files, log } = self else { return true };
        match work.wait(PATIENCE) {
            Some(results) => {
                for (job, error) in results.into_iter().filter_map(|(job, result)| Some((job, result.err()?)))
                {
                    job.log(&error, log);
                }
                true
            }
            None => {
                log_hang(&files, log);
                false
            }
        }
    }
}

fn log_hang(files: &str, log: *mut ngx_log_t) {
    ngx_log_error!(
        NGX_LOG_ERR,
        log,
        "request_cpu: saving counters in {files} takes too long, NGINX does not wait any longer"
    );
}

/// The master ends: others may have its files. Another master that shares a lock keeps it.
pub fn remove_locks(main: &MainConf, log: *mut ngx_log_t) {
    let locks = locks(main.zones());
    let files =
        locks.iter().map(|lock| format!("\"{}\"", lock.path().display())).collect::<Vec<_>>().join(", ");
    if !each(locks, Lock::release) {
        log_hang(&files, log);
    }
}

/// Zones are in no configuration any more, and their files are written: others may have them.
pub fn unlock<'a>(zones: impl Iterator<Item = &'a Zone>) {
    let release = |lock: Lock| {
        if lock.is_alone() {
            lock.release();
        }
    };
    // a lock that cannot be removed is in nobody's way: it is not held
    let _ = each(locks(zones), release);
}

/// The configuration that was being tried is given up: it leaves no lock behind that nobody had before.
pub fn give_up(main: &MainConf) {
    if !zones::is_new_binary() {
        unlock(main.zones());
    }
}

fn locks<'a>(zones: impl Iterator<Item = &'a Zone>) -> Vec<Lock> {
    zones.filter_map(|zone| zone.state.as_ref()?.lock.take()).collect()
}

/// Calls `f` with each lock. A disk that does not answer is not waited for: whether it did.
fn each(locks: Vec<Lock>, f: fn(Lock)) -> bool {
    locks.is_empty() || within(PATIENCE, move || locks.into_iter().for_each(f)).is_some()
}

/// Whether another copy of this module, in the same process, has a zone's file now.
pub fn is_taken_over(zone: &Zone) -> bool {
    let Some(state) = &zone.state else { return false };
    let lock = state.lock.take();
    let taken_over = lock.as_ref().is_some_and(Lock::is_taken_over);
    state.lock.set(lock);
    taken_over
}

// ---- once a minute, in a worker ------------------------------------------------------------------------------------

/// What a worker needs to save.
struct Saver {
    log: *mut ngx_log_t,
    jobs: Vec<Arc<Job>>,
    progress: Progress,
    running: Option<Work<Results>>,
}

thread_local! {
    /// The saver of this process, if there is anything to save.
    static SAVER: Cell<Option<Timer<Saver>>> = const { Cell::new(None) };
}

/// A worker begins.
pub fn start(main: &MainConf, log: *mut ngx_log_t) {
    let progress = Progress::new();
    let jobs: Vec<Arc<Job>> = main.zones().filter_map(|zone| Job::of(zone, &progress)).collect();
    if jobs.is_empty() {
        return;
    }
    let saver = Saver { log, jobs, progress, running: None };
    let wait_ms = saver.wait_ms();
    let timer = Timer::new(saver, log);
    if let Some(wait_ms) = wait_ms {
        timer.set(wait_ms);
    }
    SAVER.set(Some(timer));
}

/// A worker ends: what it has begun to write gets done. What nobody else will write is written.
pub fn stop() {
    let Some(timer) = SAVER.take() else { return };
    // SAFETY: there is no other copy.
    let mut saver = unsafe { timer.stop() };
    saver.finish(WORKER_PATIENCE);
    let orphans: Vec<_> = saver.jobs.iter().filter(|job| job.table.is_orphaned()).cloned().collect();
    // so that the last second is in it
    orphans.iter().for_each(|job| job.table.conclude());
    Saving::of(orphans, &saver.progress, saver.log, Job::save_in_worker).finish();
}

impl Task for Saver {
    fn run(&mut self) -> Option<u64> {
        // A worker that was told to finish may have an old table, of another size than that of its successors.
        if is_finishing() && !self.jobs.iter().any(|job| job.table.is_orphaned()) {
            return None;
        }
        self.save_what_is_due();
        self.wait_ms()
    }
}

impl Saver {
    fn save_what_is_due(&mut self) {
        if self.running.as_ref().is_some_and(Work::is_finished) {
            self.finish(WORKER_PATIENCE);
        }
        if self.running.is_some() {
            return;
        }
        let now_ms = now_ms();
        let is_ours = |job: &&Arc<Job>| {
            (!is_finishing() || job.table.is_orphaned()) && job.table.claim_save(now_ms, now_ms + INTERVAL_MS)
        };
        let due: Vec<Arc<Job>> = self.jobs.iter().filter(is_ours).cloned().collect();
        if due.is_empty() {
            return;
        }
        let log = self.log;
        match Work::start_nice(&self.progress, move || save_all(due, Job::save_in_worker)) {
            Ok(work) => self.running = Some(work),
            Err(error) => {
                ngx_log_error!(NGX_LOG_ERR, log, "request_cpu: no thread to save counters in: {error}");
            }
        }
    }

    /// Waits for the thread, and says what went wrong.
    fn finish(&mut self, patience: Duration) {
        let Some(work) = self.running.take() else { return };
        let Some(results) = work.wait(patience) else {
            let files = self.jobs.iter().map(|job| format!("\"{}\"", job.path.display()));
            log_hang(&files.collect::<Vec<_>>().join(", "), self.log);
            return;
        };
        for (job, result) in results {
            match result {
                Ok(()) => {}
                Err(error) if is_not_allowed(&error) && !job.table.is_orphaned() => {
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

fn used_again() -> io::Error {
    io::Error::other("another configuration has used the file since")
}

/// Whether this worker was told to finish.
fn is_finishing() -> bool {
    // SAFETY: set by `ngx_worker_process_cycle`.
    unsafe { ngx_exiting != 0 }
}

fn is_not_allowed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
