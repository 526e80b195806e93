//! Reads state files, in the master.

use std::path::PathBuf;

use accounting::state::{Restored, Saved};
use accounting::table::{NEVER, Table};
use nginx_sys::{NGX_LOG_EMERG, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_log_t};

use crate::config::zone::Zone;
use crate::nginx::conf::Failed;
use crate::nginx::cycle::Cycle;
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::process::is_test;
use crate::nginx::thread::{NO_ANSWER, PATIENCE, within};
use crate::nginx::time::now_ms;
use crate::persist::kept::kept;
use crate::persist::origin;
use crate::persist::state::file::{self, Content, name_of};
use crate::persist::state::lock::{Lock, Refused};
use crate::persist::state::save::INTERVAL_MS;

/// Restores the accounts in a zone's file into its new table.
///
/// # Errors
/// The file must not be changed.
pub fn load(zone: &Zone, table: &Table, log: *mut ngx_log_t) -> Result<(), Failed> {
    let saved = examine(zone, log)?;
    if let (Some(saved), Some(state)) = (saved, zone.state_path())
        && !is_test()
    {
        let restored = saved.restore(table);
        log_restored(zone, restored, &format!("\"{}\"", state.display()), log);
    }
    Ok(())
}

/// Checks whether the file of a zone may be overwritten. The zone's accounts are known from memory.
///
/// # Errors
/// The file must not be changed.
pub fn check(zone: &Zone, before: Option<&Zone>, log: *mut ngx_log_t) -> Result<(), Failed> {
    if before.is_some_and(|before| before.state_path() == zone.state_path()) {
        // the file was checked before, and has been written since
        return lock(zone, log);
    }
    examine(zone, log).map(drop)
}

/// Reads the content of the file, and decides whether the file can be used.
fn examine(zone: &Zone, log: *mut ngx_log_t) -> Result<Option<Saved>, Failed> {
    let Some(path) = zone.state_path() else { return Ok(None) };
    lock(zone, log)?;
    let (name, file) = (zone.name, path.display());
    let (path, key_text) = (path.to_path_buf(), zone.key_text.as_bytes().to_vec());
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
            if let Some(kept) = kept(zone) {
                let _ = kept.unusable.set(reason);
            }
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

/// Makes sure that no other server uses the file. A configuration test skips this: the tested server may use it.
fn lock(zone: &Zone, log: *mut ngx_log_t) -> Result<(), Failed> {
    let Some(path) = zone.state_path().filter(|_| !is_test()) else { return Ok(()) };
    let (name, file) = (zone.name, path.display());
    // only the first configuration of a new binary continues with the files of the old master
    let old_master = origin::is_new_binary().then(origin::old_master).flatten();
    let path: PathBuf = path.into();
    // At a reload, workers of this server that end may still write the file, one after the other. A server that starts
    // has no such workers.
    let attempts = if Cycle::with_running(|running| running.is_some()) { 3 } else { 1 };
    let mut taken = None;
    for _ in 0..attempts {
        let path = path.clone();
        // taking the lock may also wait for a worker
        taken = within(2 * PATIENCE, move || Lock::take(&path, old_master));
        if !matches!(taken, Some(Err(Refused::Busy))) {
            break;
        }
    }
    match taken {
        Some(Ok(lock)) => kept(zone).ok_or(Failed)?.lock.set(Some(lock)),
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

/// Called when the configuration is in use: sets files aside that cannot be used, and lets workers save from now on.
/// If a file cannot be set aside, the zone runs without a file, so that the file stays unchanged.
pub fn commit(zone: &Zone, log: *mut ngx_log_t) {
    if is_test() {
        return;
    }
    let name = zone.state_path().map_or(0, name_of);
    if let Some(table) = zone.table().filter(|table| table.saved_as()[1] != name) {
        table.set_saved_as([0, name]);
    }
    let (Some(path), Some(kept)) = (zone.state_path(), kept(zone)) else { return };
    file::remove_leftovers(path);
    if let Some(reason) = kept.unusable.get() {
        let (name, file) = (zone.name, path.display());
        match file::set_aside(path) {
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
                kept.given_up.set(true);
            }
        }
    }
    if let Some(table) = zone.table().filter(|table| table.save_due_ms() == NEVER && !kept.given_up.get()) {
        table.set_save_due(now_ms() + INTERVAL_MS);
    }
}

/// Logs the number of restored accounts.
pub fn log_restored(zone: &Zone, restored: Restored, from: &str, log: *mut ngx_log_t) {
    let Restored { accounts, overflowed } = restored;
    let name = zone.name;
    ngx_log_error!(
        NGX_LOG_NOTICE,
        log,
        "request_cpu_zone \"{name}\": {accounts} accounts restored from {from}"
    );
    if overflowed > 0 {
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "request_cpu_zone \"{name}\" is too small: {overflowed} accounts from {from} were added to \"*\""
        );
    }
}
