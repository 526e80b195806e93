//! A log with all data that a thread needs to write it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use accounting::key;
use accounting::table::Table;
use accounting::traffic::{Append, BATCH_BYTES, Instant, Ledger, Part};
use memmap2::MmapRaw;
use nginx_sys::{NGX_LOG_ERR, NGX_LOG_NOTICE, ngx_log_t, ngx_str_t};

use crate::config::log::Log;
use crate::export::traffic_log::file::{Descriptor, Held};
use crate::export::traffic_log::{lock, log};
use crate::measure::clock::shared_ms;
use crate::nginx::cycle::Cycle;
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::thread::{PATIENCE, Progress};
use crate::nginx::time::{monotonic_ms, utc, wall_ms};
use crate::persist::kept;
use crate::persist::memory::Memory;

/// The time until the next attempt after an error, unless the interval is shorter.
const RETRY_MS: u64 = 10_000;

/// A log with all data that a thread needs to write it.
pub struct Job {
    pub ledger: Ledger,
    pub table: Table,
    pub interval_ms: u64,
    host: String,
    zone: String,
    path: String,
    pub progress: Progress,
    /// these keep the memory of the ledger and of the table mapped
    _mappings: [Option<Arc<MmapRaw>>; 2],
}

/// The reason why a part is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The interval of the part is over.
    Due,
    /// It may be the last part, because no process may be left to write.
    Last,
    /// The log was removed: no process will write it any more.
    Removed,
}

impl Job {
    /// `None` if the log has no memory yet.
    pub fn of(log: &Log, cycle: Cycle<'_>) -> Option<Job> {
        let text = |text: &ngx_str_t| key::display(text.as_bytes()).into_owned();
        let zone = log.zone()?;
        Some(Job {
            ledger: log::ledger(log)?,
            table: log::table(log)?,
            interval_ms: log.interval_ms,
            host: text(&cycle.hostname()),
            zone: text(&log.zone_name),
            path: text(&log.path()),
            progress: Progress::new(),
            _mappings: [log::memory(log), kept::memory(zone)].map(|memory| memory.map(Memory::mapping)),
        })
    }

    /// Writes a part to the last one of `files`. An earlier file is the one before a reopening, and may contain an
    /// unfinished batch. Returns news for the operator, if there are any.
    pub fn write(&self, files: &[Held], reason: Reason) -> Option<News> {
        let patience = if reason == Reason::Due { Duration::ZERO } else { PATIENCE / 2 };
        let Some(_lock) = lock::of(&self.ledger).lock_within(patience) else {
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

    /// Notes an error. Returns it as news, unless it was reported before.
    pub fn failed(&self, error: io::Error) -> Option<News> {
        self.ledger.set_next_try(now().monotonic_ms + RETRY_MS.min(self.interval_ms));
        let number = error.raw_os_error().unwrap_or(libc::EIO) as u32;
        (self.ledger.note_error(number) != number).then_some(News::Failed(error))
    }

    fn write_locked(&self, files: &[Held], reason: Reason) -> io::Result<()> {
        let mut files: Vec<Descriptor> =
            files.iter().map(|held| Descriptor::of(held, &self.progress)).collect();
        let mut all: Vec<&mut dyn Append> = files.iter_mut().map(|file| file as &mut dyn Append).collect();
        self.ledger.resolve(&self.table, &mut all)?;
        let file = all.pop().ok_or(io::ErrorKind::NotFound)?;
        // a pipe takes at most this size in one piece
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

/// An event that an operator needs to know.
pub enum News {
    Failed(io::Error),
    Recovered,
    /// The last part was lost.
    Lost(io::Error),
    /// Another process writes, and does not finish.
    Busy,
    /// This process writes, and does not finish.
    Hangs,
}

impl News {
    pub fn log(&self, job: &Job, log: *mut ngx_log_t) {
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

/// The current time.
pub fn now() -> Instant {
    Instant { wall_ms: wall_ms(), monotonic_ms: monotonic_ms() }
}
