//! The accounts of a request.

use accounting::key::OVERFLOW_KEY;
use nginx_sys::{
    NGX_LOG_WARN, NGX_OK, ngx_http_complex_value, ngx_http_get_flushed_variable, ngx_http_request_t,
    ngx_int_t, ngx_str_t,
};
use ngx::ngx_log_error;

use crate::charge::worker::with;
use crate::config::key::Key;
use crate::config::location::{LocConf, loc_conf};
use crate::config::zone::Zone;
use crate::config::zone_use::ZoneUse;
use crate::nginx::bits;
use crate::nginx::variable::len_of;
use accounting::account_set::{AccountId, AccountSet};

/// The location that a request is counted by: `Context::counted_by`, or the one that it is in.
///
/// # Safety
/// `known` must be the context's, or null.
#[inline]
pub unsafe fn counted_by<'a>(r: *mut ngx_http_request_t, known: *const LocConf) -> &'a LocConf {
    // SAFETY: locations live as long as the configuration, and that as long as its requests.
    unsafe { known.as_ref().unwrap_or_else(|| loc_conf(r)) }
}

/// Calls `f` with the accounts of a request, by the zones of a location. `counts`: once per request.
#[inline]
pub unsafe fn with_accounts<R>(
    r: *mut ngx_http_request_t,
    conf: &LocConf,
    counts: bool,
    f: impl FnOnce(&AccountSet) -> R,
) -> R {
    // SAFETY: a request of NGINX's.
    unsafe {
        match conf.known.get() {
            Some((server, accounts)) if *server == (*r).srv_conf => f(accounts),
            _ => f(&find_accounts(r, conf, counts)),
        }
    }
}

#[inline(never)]
unsafe fn find_accounts(r: *mut ngx_http_request_t, conf: &LocConf, counts: bool) -> AccountSet {
    let mut accounts = AccountSet::EMPTY;
    // SAFETY: a request of NGINX's; zones live as long as the configuration.
    unsafe {
        let mut lasting = true;
        for used in conf.zones() {
            lasting &= find_account(r, used, counts, |id| accounts.push(id));
        }
        if lasting {
            // a location belongs to one server; if it did not, the first one would be served faster
            let _ = conf.known.set(((*r).srv_conf, accounts.clone()));
        }
    }
    accounts
}

/// Calls `f` with the account of a request in a zone, if it has a key there; whether that is the same for all requests of its
/// server.
///
/// # Safety
/// `r` must be a request of the configuration that names the zone.
pub unsafe fn find_account(
    r: *mut ngx_http_request_t,
    used: &ZoneUse,
    counts: bool,
    f: impl FnOnce(AccountId),
) -> bool {
    let Some(zone) = used.zone() else { return false };
    // SAFETY: as the caller says; zones live as long as the configuration.
    unsafe {
        let lasting = matches!(zone.key, Key::ServerName(_));
        let key = key_of(r, zone);
        if key.is_empty() {
            return lasting;
        }
        let found = with(|worker| worker.zones.find(used.index(), key.as_bytes(), counts)).flatten();
        let Some(found) = found else { return lasting };
        f(found.id);
        if found.warn {
            warn_full(r, zone);
        }
        lasting && found.lasting
    }
}

/// As [`OVERFLOW_KEY`].
const OVERFLOW: ngx_str_t = ngx_str_t { len: OVERFLOW_KEY.len(), data: OVERFLOW_KEY.as_ptr().cast_mut() };

/// The key of a request in a zone; empty if it has none.
///
/// # Safety
/// `r` must be a request of the configuration that has the zone.
pub unsafe fn key_of(r: *mut ngx_http_request_t, zone: &Zone) -> ngx_str_t {
    let mut value = ngx_str_t::empty();
    // SAFETY: a request of NGINX's; the key was made for the configuration that it is served by.
    unsafe {
        match &zone.key {
            Key::ServerName(index) | Key::Variable(index) | Key::Host(index) => {
                if let Some(variable) = ngx_http_get_flushed_variable(r, *index).as_ref()
                    && !bits::variable_value::NOT_FOUND.is_set(variable)
                {
                    value = ngx_str_t { len: len_of(variable), data: variable.data };
                }
                // no `Host` (`ngx_http_variable_host`): counted and limited all the same
                if value.is_empty() && matches!(zone.key, Key::Host(_)) {
                    value = OVERFLOW;
                }
            }
            Key::Complex(complex) => {
                let key = (&raw const *complex).cast_mut();
                if ngx_http_complex_value(r, key, &mut value) != NGX_OK as ngx_int_t {
                    value.len = 0;
                }
            }
        }
    }
    value
}

#[cold]
unsafe fn warn_full(r: *mut ngx_http_request_t, zone: &Zone) {
    // SAFETY: a request's connection has a log.
    let log = unsafe { (*(*r).connection).log };
    ngx_log_error!(
        NGX_LOG_WARN,
        log,
        "request_cpu_zone \"{}\" is full, requests of new keys are counted in the account \"*\"",
        zone.name
    );
}
