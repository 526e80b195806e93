//! The accounts of a request.

use accounting::key::OVERFLOW_KEY;
use nginx_sys::NGX_LOG_WARN;

use crate::charge::worker::with;
use crate::config::key::Key;
use crate::config::location::LocConf;
use crate::config::zone::Zone;
use crate::config::zone_use::ZoneUse;
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::request::Request;
use accounting::account_set::{AccountId, AccountSet};

/// Calls `f` with the accounts of a request in the zones of a location. `counts` is set once per request.
#[inline]
pub fn with_accounts<R>(r: Request<'_>, conf: &LocConf, counts: bool, f: impl FnOnce(&AccountSet) -> R) -> R {
    match known_accounts(r, conf) {
        Some(accounts) => f(accounts),
        None => f(&find_accounts(r, conf, counts)),
    }
}

/// The accounts of a request in the zones of a location, if all requests of its server have the same ones.
#[inline]
pub fn known_accounts<'a>(r: Request<'_>, conf: &'a LocConf) -> Option<&'a AccountSet> {
    conf.known.get().filter(|(server, _)| *server == r.server()).map(|(_, accounts)| accounts)
}

#[inline(never)]
fn find_accounts(r: Request<'_>, conf: &LocConf, counts: bool) -> AccountSet {
    let mut accounts = AccountSet::EMPTY;
    let mut lasting = true;
    for used in conf.zones() {
        lasting &= find_account(r, used, counts, |id| accounts.push(id));
    }
    if lasting {
        // A location belongs to one server. Otherwise only the first server would profit.
        let _ = conf.known.set((r.server(), accounts.clone()));
    }
    accounts
}

/// Calls `f` with the account of a request in a zone, if it has a key there. Returns whether all requests of its
/// server have the same account. The request must belong to the configuration that names the zone.
pub fn find_account(r: Request<'_>, used: &ZoneUse, counts: bool, f: impl FnOnce(AccountId)) -> bool {
    let Some(zone) = used.zone() else { return false };
    let lasting = matches!(zone.key, Key::ServerName(_));
    let key = key_of(r, zone);
    if key.is_empty() {
        return lasting;
    }
    let found = with(|worker| worker.zones.find(used.index(), key, counts)).flatten();
    let Some(found) = found else { return lasting };
    f(found.id);
    if found.warn {
        warn_full(r, zone);
    }
    lasting && found.lasting
}

/// The key of a request in a zone; empty if it has none. The request must belong to the configuration of the zone.
pub fn key_of<'a>(r: Request<'a>, zone: &Zone) -> &'a [u8] {
    let value = match &zone.key {
        Key::ServerName(index) | Key::Variable(index) | Key::Host(index) => r.variable(*index),
        Key::Complex(complex) => r.evaluate(complex),
    };
    match value.unwrap_or_default() {
        // A request without `Host` (`ngx_http_variable_host`) is counted and limited nevertheless.
        [] if matches!(zone.key, Key::Host(_)) => OVERFLOW_KEY,
        key => key,
    }
}

#[cold]
fn warn_full(r: Request<'_>, zone: &Zone) {
    ngx_log_error!(
        NGX_LOG_WARN,
        r.log(),
        "request_cpu_zone \"{}\" is full, requests of new keys are counted in the account \"*\"",
        zone.name
    );
}
