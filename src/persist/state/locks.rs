//! The locks of zones: released, or passed on.

use nginx_sys::ngx_log_t;

use crate::config::main::MainConf;
use crate::config::zone::Zone;
use crate::nginx::thread::{PATIENCE, within};
use crate::persist::kept::kept;
use crate::persist::origin::is_new_binary;
use crate::persist::state::lock::Lock;
use crate::persist::state::save::log_hang;

/// Drops the lock in a process that is not the master.
pub fn close(zone: &Zone) {
    kept(zone).and_then(|kept| kept.lock.take());
}

/// Called when the master ends: others may use its files. Another master that shares a lock keeps it.
pub fn remove_locks(main: &MainConf, log: *mut ngx_log_t) {
    let locks = locks(main.zones());
    let files =
        locks.iter().map(|lock| format!("\"{}\"", lock.path().display())).collect::<Vec<_>>().join(", ");
    if !each(locks, Lock::release) {
        log_hang(&files, log);
    }
}

/// Releases the locks of zones that are no longer in any configuration. Their files are written: others may use them.
pub fn unlock<'a>(zones: impl Iterator<Item = &'a Zone>) {
    let release = |lock: Lock| {
        if lock.is_alone() {
            lock.release();
        }
    };
    // a lock file that cannot be removed does no harm: its lock is not held
    let _ = each(locks(zones), release);
}

/// The tried configuration is given up: removes the locks that it has created.
pub fn give_up(main: &MainConf) {
    if !is_new_binary() {
        unlock(main.zones());
    }
}

fn locks<'a>(zones: impl Iterator<Item = &'a Zone>) -> Vec<Lock> {
    zones.filter_map(|zone| kept(zone)?.lock.take()).collect()
}

/// Calls `f` with each lock. Does not wait for a disk that does not answer. Returns whether the disk answered.
fn each(locks: Vec<Lock>, f: fn(Lock)) -> bool {
    locks.is_empty() || within(PATIENCE, move || locks.into_iter().for_each(f)).is_some()
}

/// Whether another copy of this module in the same process uses the zone's file now.
pub fn is_taken_over(zone: &Zone) -> bool {
    let Some(kept) = kept(zone) else { return false };
    let lock = kept.lock.take();
    let taken_over = lock.as_ref().is_some_and(Lock::is_taken_over);
    kept.lock.set(lock);
    taken_over
}
