//! Writes state files, in threads.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use accounting::key;
use accounting::table::Table;
use memmap2::MmapRaw;
use nginx_sys::{NGX_LOG_ERR, NGX_LOG_NOTICE, ngx_log_t};

use crate::config::zone::Zone;
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::process::{self, Role};
use crate::nginx::thread::{PATIENCE, Progress, Work};
use crate::persist::kept::kept;
use crate::persist::memory::Memory;
use crate::persist::state::file::{self, name_of};
use crate::persist::state::lock::{Lock, Refused};

/// The interval in which workers save, in milliseconds.
pub const INTERVAL_MS: u64 = 60_000;

/// A zone with a file, with all data that a thread needs to write it.
pub struct Job {
    zone: String,
    key_text: Vec<u8>,
    path: PathBuf,
    table: Table,
    progress: Progress,
    /// the process ID of the parent; in a worker, the one of its master
    parent: i32,
    /// keeps the table's memory mapped
    _mapping: Option<Arc<MmapRaw>>,
}

impl Job {
    /// `None` if the zone has no file, or its file is not written.
    pub fn of(zone: &Zone, progress: &Progress) -> Option<Arc<Job>> {
        let kept = kept(zone).filter(|kept| !kept.given_up.get())?;
        Some(Arc::new(Job {
            zone: key::display(zone.name.as_bytes()).into_owned(),
            key_text: zone.key_text.as_bytes().to_vec(),
            path: zone.state_path()?.to_path_buf(),
            table: zone.table()?,
            progress: progress.clone(),
            parent: process::parent(),
            _mapping: kept.memory.get().map(Memory::mapping),
        }))
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The names of the zone and of its file, for messages.
    pub fn names(&self) -> (&str, std::path::Display<'_>) {
        (&self.zone, self.path.display())
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

    /// Saves in a worker. If no configuration has the zone any more, or the master was killed, no process holds the
    /// lock for this worker. In that case, ending workers take the lock in turn. They do not write a file that another
    /// configuration or another server has written in the meantime.
    pub fn save_in_worker(&self) -> io::Result<()> {
        let is_alone = process::role() == Role::Worker && process::parent() != self.parent;
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

    /// Logs an error.
    pub fn log(&self, error: &io::Error, log: *mut ngx_log_t) {
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

/// The result of each job.
pub type Results = Vec<(Arc<Job>, io::Result<()>)>;

/// Saves all zones.
pub fn save_all(jobs: Vec<Arc<Job>>, save: impl Fn(&Job) -> io::Result<()>) -> Results {
    let save = |job: Arc<Job>| {
        let result = save(&job);
        (job, result)
    };
    jobs.into_iter().map(save).collect()
}

/// A running write of files.
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

    /// Begins to save all jobs.
    pub fn of(
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

    /// Waits until the files are written, and logs errors. Does not wait for a disk that does not answer. Returns
    /// whether the disk answered.
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

/// Logs that a disk does not answer.
pub fn log_hang(files: &str, log: *mut ngx_log_t) {
    ngx_log_error!(
        NGX_LOG_ERR,
        log,
        "request_cpu: saving counters in {files} takes too long, NGINX does not wait any longer"
    );
}

fn used_again() -> io::Error {
    io::Error::other("another configuration has used the file since")
}
