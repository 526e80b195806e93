//! Writes logs at the end of each interval, in a worker.

use core::cell::Cell;
use std::fs::File;
use std::io;
use std::sync::Arc;

use accounting::traffic::{Instant, Ledger};
use nginx_sys::ngx_log_t;

use crate::config::log::Log;
use crate::config::main::{MainConf, with_running};
use crate::export::traffic_log::file::Files;
use crate::export::traffic_log::job::{Job, News, Reason, now};
use crate::export::traffic_log::last::LastPart;
use crate::export::traffic_log::log;
use crate::nginx::cycle::Cycle;
use crate::nginx::own_timer::OwnTimer;
use crate::nginx::process::{self, Role};
use crate::nginx::thread::{PATIENCE, Work};
use crate::nginx::timer::Task;

/// The time in milliseconds after which another worker may take over a task.
const CLAIM_MS: u64 = 1000;
/// The time in milliseconds until a worker checks again whether its thread has finished.
const POLL_MS: u64 = 200;
/// The longest sleep of a worker, in milliseconds: the wall clock may be set.
const SLEEP_MS: u64 = 60_000;

/// The writer of a worker.
struct Writer {
    log: *mut ngx_log_t,
    logs: Vec<Writing>,
}

/// A log, as this worker writes it.
struct Writing {
    job: Arc<Job>,
    files: Files,
    running: Option<Work<Option<News>>>,
}

/// A duplicate of the file that NGINX has open for the log of a ledger, in the configuration in use.
fn current_file(ledger: &Ledger) -> io::Result<File> {
    with_running(|main| {
        let is_its = |of: &&Log| log::ledger(of).is_some_and(|its| its.is(ledger));
        let found = main.into_iter().flat_map(MainConf::logs).find(is_its);
        found.ok_or(io::ErrorKind::NotFound)?.file.duplicate()
    })
}

thread_local! {
    /// the writer of this process, if it has logs
    static WRITER: Cell<Option<OwnTimer<Writer>>> = const { Cell::new(None) };
}

/// Starts the writer of a worker.
pub fn start(main: &MainConf, cycle: Cycle<'_>) {
    let writing = |log: &Log| {
        let job = Arc::new(Job::of(log, cycle)?);
        Some(Writing { job, files: Files::default(), running: None })
    };
    let logs: Vec<Writing> = main.logs().filter_map(writing).collect();
    if logs.is_empty() {
        return;
    }
    let mut writer = Writer { log: cycle.log(), logs };
    writer.logs.iter_mut().for_each(Writing::follow);
    let wait_ms = writer.wait_ms();
    let timer = OwnTimer::new(writer, cycle.log());
    if let Some(wait_ms) = wait_ms {
        timer.set(wait_ms);
    }
    WRITER.set(Some(timer));
}

/// Stops the writer of a worker. Finishes the writes that it has begun, and writes parts that no other process will
/// write. `is_current`: the files are still those of the cycle with which the worker began.
pub fn stop(is_current: bool) {
    let Some(mut writer) = WRITER.take().and_then(OwnTimer::stop) else { return };
    let is_worker = process::role() == Role::Worker;
    let log = writer.log;
    for writing in &mut writer.logs {
        writing.finish(log);
        if is_worker && is_current && writing.job.ledger.is_retired() {
            let (mut files, ledger) = (writing.files.clone(), writing.job.ledger);
            let file = current_file(&ledger);
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

    /// The time until the next task, in milliseconds.
    fn wait_ms(&self) -> Option<u64> {
        let now = now();
        let wait_ms = self.logs.iter().filter_map(|writing| writing.wait_ms(now)).min();
        wait_ms.map(|wait_ms| wait_ms.clamp(1, SLEEP_MS))
    }
}

impl Writing {
    /// Whether this worker may write. A worker that was told to finish leaves writing to its successors, if they have
    /// the same accounts.
    fn may_write(&self) -> bool {
        !process::is_finishing() || self.job.ledger.is_retired()
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

    /// Waits for the thread, and logs errors.
    fn finish(&mut self, log: *mut ngx_log_t) {
        let Some(work) = self.running.take() else { return };
        if let Some(news) = work.wait(PATIENCE).unwrap_or(Some(News::Hangs)) {
            news.log(&self.job, log);
        }
    }

    fn follow(&mut self) {
        self.files.follow(&self.job.ledger, current_file(&self.job.ledger));
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
