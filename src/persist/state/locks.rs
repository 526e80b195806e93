//! The locks of zones: given up, handed on.

use nginx_sys::ngx_log_t;

use crate::config::main::MainConf;
use crate::config::zone::Zone;
use crate::nginx::thread::{PATIENCE, within};
use crate::persist::kept::kept;
use crate::persist::origin::is_new_binary;
use crate::persist::state::lock::Lock;
use crate::persist::state::save::log_hang;

/// This process is not the master.
pub fn close(zone: &Zone) {
    kept(zone).and_then(|kept| kept.lock.take());
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
    if !is_new_binary() {
        unlock(main.zones());
    }
}

fn locks<'a>(zones: impl Iterator<Item = &'a Zone>) -> Vec<Lock> {
    zones.filter_map(|zone| kept(zone)?.lock.take()).collect()
}

/// Calls `f` with each lock. A disk that does not answer is not waited for: whether it did.
fn each(locks: Vec<Lock>, f: fn(Lock)) -> bool {
    locks.is_empty() || within(PATIENCE, move || locks.into_iter().for_each(f)).is_some()
}

/// Whether another copy of this module, in the same process, has a zone's file now.
pub fn is_taken_over(zone: &Zone) -> bool {
    let Some(kept) = kept(zone) else { return false };
    let lock = kept.lock.take();
    let taken_over = lock.as_ref().is_some_and(Lock::is_taken_over);
    kept.lock.set(lock);
    taken_over
}
