//! Reads state files, in the master.

use std::path::PathBuf;

use accounting::state::{Restored, Saved};
use accounting::table::{NEVER, Table};
use nginx_sys::{NGX_LOG_EMERG, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_log_t};
use ngx::ngx_log_error;

use crate::config::zone::Zone;
use crate::nginx::conf::Failed;
use crate::nginx::process::is_test;
use crate::nginx::thread::{NO_ANSWER, PATIENCE, within};
use crate::nginx::time::now_ms;
use crate::persist::kept::kept;
use crate::persist::origin;
use crate::persist::state::file::{self, Content, name_of};
use crate::persist::state::lock::{Lock, Refused};
use crate::persist::state::save::INTERVAL_MS;

/// Brings the accounts of a zone's file into its new table.
///
/// # Errors
/// If the file must be left alone.
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

/// Makes sure that no other server has the file. A configuration test does not: the server that is tested may
/// have it.
fn lock(zone: &Zone, log: *mut ngx_log_t) -> Result<(), Failed> {
    let Some(path) = zone.state_path().filter(|_| !is_test()) else { return Ok(()) };
    let (name, file) = (zone.name, path.display());
    // only the first configuration of a new binary goes on with what the old master has
    let old_master = origin::is_new_binary().then(origin::old_master).flatten();
    let path: PathBuf = path.into();
    // taking it may wait for a worker too
    match within(2 * PATIENCE, move || Lock::take(&path, old_master)) {
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

/// The configuration is in use now: files that cannot be used are set aside, and workers save from now on. If a
/// file cannot be set aside, the zone goes on without one, so that it stays as it is.
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

/// Says what became of accounts that were there before.
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
