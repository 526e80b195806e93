//! The last part of a log: written when NGINX ends, or when a reload removes the log.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use accounting::table::Table;
use accounting::traffic::Ledger;
use nginx_sys::ngx_log_t;

use crate::config::main::MainConf;
use crate::config::zone::Zone;
use crate::export::traffic_log::file::Held;
use crate::export::traffic_log::job::{Job, News, Reason};
use crate::export::traffic_log::log::{kept, ledger, memory, name};
use crate::nginx::cycle::Cycle;
use crate::nginx::thread::{PATIENCE, Work};
use crate::persist::memory::Memory;

/// Called when a configuration comes into use. The ledgers belong to its logs now. Logs of the previous configuration
/// that it does not continue get their last part. If the new configuration does not have their accounts any more, more
/// parts may follow: workers of the previous configuration may still count in these accounts.
pub fn begin(main: Option<&MainConf>, before: Option<&MainConf>, cycle: Cycle<'_>) {
    let now = || main.into_iter().flat_map(MainConf::logs);
    for log in now() {
        let Some(kept) = kept(log) else { continue };
        if let (Some(ledger), Some(table)) = (kept.ledger.get(), kept.table.get()) {
            ledger.set_name(name(log));
            if kept.is_new.take() {
                ledger.forget_peaks(table);
            }
        }
    }
    let is_continued = |its: &Ledger| now().filter_map(ledger).any(|ledger| ledger.is(its));
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
        let file = old.file.duplicate();
        parts.push(LastPart::start(Arc::new(job), move || Held::new(file?), reason));
    }
    parts.into_iter().for_each(|part| part.finish(cycle.log()));
}

/// Writes the last parts of a configuration that is given up with the module. NGINX has closed its files.
pub fn end(main: &MainConf, cycle: Cycle<'_>, is_gone: &dyn Fn(&Memory) -> bool, log: *mut ngx_log_t) {
    let mut parts = Vec::new();
    for old in main.logs().filter(|log| memory(log).is_some_and(is_gone)) {
        let Some(job) = Job::of(old, cycle) else { continue };
        job.ledger.retire();
        let path = PathBuf::from(OsStr::from_bytes(old.path().as_bytes()));
        parts.push(LastPart::start(Arc::new(job), move || Held::reopened(&path), Reason::Last));
    }
    parts.into_iter().for_each(|part| part.finish(log));
}

/// Writes the last part of each log. Called by `ngx_master_process_exit`, after all workers have ended.
pub fn exit_master(main: &MainConf, cycle: Cycle<'_>) {
    let mut parts = Vec::new();
    for of in main.logs() {
        let Some(job) = Job::of(of, cycle) else { continue };
        let file = of.file.duplicate();
        parts.push(LastPart::start(Arc::new(job), move || Held::new(file?), Reason::Last));
    }
    parts.into_iter().for_each(|part| part.finish(cycle.log()));
}

/// A last part that a thread is writing. The thread gets no signals: `SIGXFSZ` must appear as an error of `write`.
pub struct LastPart {
    job: Arc<Job>,
    work: Work<Option<News>>,
}

impl LastPart {
    /// Starts writing. `file` may also wait for the disk.
    fn start(
        job: Arc<Job>,
        file: impl FnOnce() -> io::Result<Held> + Send + 'static,
        reason: Reason,
    ) -> LastPart {
        LastPart::with_files(job, move || Ok(vec![file()?]), reason)
    }

    /// Starts writing to the last one of `files`. `files` may also wait for the disk.
    pub fn with_files(
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

    /// Waits for the thread, and logs errors. It does not wait for a disk that does not answer: the process may end at
    /// any time, because the journal keeps the unfinished part.
    pub fn finish(self, log: *mut ngx_log_t) {
        let LastPart { job, work } = self;
        if let Some(news) = work.wait(PATIENCE).unwrap_or(Some(News::Hangs)) {
            news.log(&job, log);
        }
    }
}
