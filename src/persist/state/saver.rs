//! Saves state files once a minute, in a worker.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use accounting::table::NEVER;
use nginx_sys::{NGX_LOG_ERR, NGX_LOG_NOTICE, ngx_log_t};

use crate::config::main::MainConf;
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::own_timer::OwnTimer;
use crate::nginx::process::is_finishing;
use crate::nginx::thread::{Progress, Work};
use crate::nginx::time::now_ms;
use crate::nginx::timer::Task;
use crate::persist::state::save::{INTERVAL_MS, Job, Results, Saving, log_hang, save_all};

/// The time in milliseconds until a worker checks again whether its thread has finished.
const POLL_MS: u64 = 500;
/// The time for which an ending worker waits for a write that it has begun. Its master writes the same data
/// afterwards.
const WORKER_PATIENCE: Duration = Duration::from_millis(500);

/// The saver of a worker.
struct Saver {
    log: *mut ngx_log_t,
    jobs: Vec<Arc<Job>>,
    progress: Progress,
    running: Option<Work<Results>>,
}

thread_local! {
    /// the saver of this process, if it has files to save
    static SAVER: Cell<Option<OwnTimer<Saver>>> = const { Cell::new(None) };
}

/// Starts the saver of a worker.
pub fn start(main: &MainConf, log: *mut ngx_log_t) {
    let progress = Progress::new();
    let jobs: Vec<Arc<Job>> = main.zones().filter_map(|zone| Job::of(zone, &progress)).collect();
    if jobs.is_empty() {
        return;
    }
    let saver = Saver { log, jobs, progress, running: None };
    let wait_ms = saver.wait_ms();
    let timer = OwnTimer::new(saver, log);
    if let Some(wait_ms) = wait_ms {
        timer.set(wait_ms);
    }
    SAVER.set(Some(timer));
}

/// Stops the saver of a worker. Finishes a running write, and writes files that no other process will write.
pub fn stop() {
    let Some(mut saver) = SAVER.take().and_then(OwnTimer::stop) else { return };
    saver.finish(WORKER_PATIENCE);
    let orphans: Vec<_> = saver.jobs.iter().filter(|job| job.table().is_orphaned()).cloned().collect();
    // this includes the last second
    orphans.iter().for_each(|job| job.table().conclude());
    Saving::of(orphans, &saver.progress, saver.log, Job::save_in_worker).finish();
}

impl Task for Saver {
    fn run(&mut self) -> Option<u64> {
        // A worker that was told to finish may have an old table, of another size than its successors' table.
        if is_finishing() && !self.jobs.iter().any(|job| job.table().is_orphaned()) {
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
            (!is_finishing() || job.table().is_orphaned())
                && job.table().claim_save(now_ms, now_ms + INTERVAL_MS)
        };
        let due: Vec<Arc<Job>> = self.jobs.iter().filter(is_ours).cloned().collect();
        if due.is_empty() {
            return;
        }
        let log = self.log;
        // The lock of an orphaned file is held while the file is written, and the master of a new configuration waits
        // for it. A thread with a low priority could hold it for seconds on a busy machine.
        let start =
            if due.iter().any(|job| job.table().is_orphaned()) { Work::start } else { Work::start_nice };
        match start(&self.progress, Box::new(move || save_all(due, Job::save_in_worker))) {
            Ok(work) => self.running = Some(work),
            Err(error) => {
                ngx_log_error!(NGX_LOG_ERR, log, "request_cpu: no thread to save counters in: {error}");
            }
        }
    }

    /// Waits for the thread, and logs errors.
    fn finish(&mut self, patience: Duration) {
        let Some(work) = self.running.take() else { return };
        let Some(results) = work.wait(patience) else {
            let files = self.jobs.iter().map(|job| format!("\"{}\"", job.names().1));
            log_hang(&files.collect::<Vec<_>>().join(", "), self.log);
            return;
        };
        for (job, result) in results {
            match result {
                Ok(()) => {}
                Err(error) if is_not_allowed(&error) && !job.table().is_orphaned() => {
                    // all workers run as the same user; the next configuration tries again
                    job.table().set_save_due(NEVER);
                    let (zone, file) = job.names();
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

    /// The time until the next task, in milliseconds.
    fn wait_ms(&self) -> Option<u64> {
        let now_ms = now_ms();
        let waits = self.jobs.iter().map(|job| job.table().save_due_ms()).filter(|&due_ms| due_ms != NEVER);
        match self.running {
            Some(_) => Some(POLL_MS),
            None => waits.min().map(|due_ms| due_ms.saturating_sub(now_ms).clamp(1, INTERVAL_MS)),
        }
    }
}

fn is_not_allowed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
