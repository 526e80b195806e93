//! `request_cpu_limit`: requests of a key that uses too much CPU are refused.
//!
//! As `ngx_http_limit_req_handler`, in the preaccess phase, and once per request: what an internal redirect leads to is not
//! checked again. The bucket is in the key's account, see [`accounting::limit`].

use core::num::NonZeroU64;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use accounting::account_set::MAX_ZONES_PER_REQUEST;
use accounting::key;
use accounting::limit::{Limit, parse_cores};
use accounting::table::Checked;
use nginx_sys::{
    NGX_DECLINED, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_LOG_ERR, NGX_OK, ngx_array_push,
    ngx_http_complex_value, ngx_http_complex_value_t, ngx_http_core_main_conf_t, ngx_http_handler_pt,
    ngx_http_phases_NGX_HTTP_PREACCESS_PHASE, ngx_http_request_t, ngx_int_t, ngx_list_push, ngx_pnalloc,
    ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};
use ngx::{ngx_log_error, ngx_string};

use crate::charge::context::{dropped_body, find};
use crate::charge::lookup;
use crate::charge::unnoticed::unnoticed;
use crate::charge::verdict::{Charge, Dropped, Limited, Status, Verdict};
use crate::charge::worker::{is_measuring, with};
use crate::config::limit::{Cores, LimitAccounts, LimitConf};
use crate::config::location::{LocConf, loc_conf};
use crate::nginx::bits;
use crate::nginx::time::now_ms;

pub mod body;

const NAME: &str = "request_cpu_limit";
const NS_PER_MS: u64 = 1_000_000;
/// An unusable value of `cores` is logged once in so many milliseconds.
const COMPLAIN_MS: u64 = 60_000;

/// Adds the phase handler.
pub fn register(core: &mut ngx_http_core_main_conf_t) -> Result<(), ()> {
    let phase = &mut core.phases[ngx_http_phases_NGX_HTTP_PREACCESS_PHASE as usize];
    // SAFETY: an array of handlers that `ngx_http_init_phases` has made.
    unsafe {
        let place = ngx_array_push(&mut phase.handlers).cast::<ngx_http_handler_pt>();
        if place.is_null() {
            return Err(());
        }
        place.write(Some(check));
    }
    Ok(())
}

/// The preaccess phase.
unsafe extern "C" fn check(r: *mut ngx_http_request_t) -> ngx_int_t {
    let declined = NGX_DECLINED as ngx_int_t;
    // SAFETY: NGINX calls with a request.
    unsafe {
        let conf = loc_conf(r);
        if r != (*r).main || !is_measuring() {
            return declined;
        }
        // it was answered before, and is counted as that
        if bits::request::POST_ACTION.is_set(r) {
            return declined;
        }
        // without memory for a context, it is not measured either
        let Some(context) = find(r) else { return declined };
        if conf.limits().is_empty()
            || conf.limits_spare_status() && conf.status.get().is_answered_by((*r).content_handler)
        {
            with(|worker| {
                let verdict = &mut worker.context(context).verdict;
                verdict.apart &= verdict.status.is_some();
            });
            return declined;
        }
        if with(|worker| worker.context(context).verdict.status).flatten().is_some() {
            return declined;
        }
        let Judgement { mut verdict, mut limited, refusing } = judge(r, conf);
        if refusing.is_some()
            && body::drop_large(r)
            && let Some(limited) = Limited::of(r, &mut limited)
        {
            limited.dropped = Some(Dropped::new(body::MAX_READ));
        }
        verdict.apart |= limited.is_some();
        with(|worker| {
            let context = worker.context(context);
            (context.verdict, context.limited) = (verdict, limited);
            context.mark_in_flight();
        });
        if limited.is_some()
            && let Some(dropped) = dropped_body(r)
        {
            body::watch(r, dropped);
        }
        let Some(refusing) = refusing else { return declined };
        if add_retry_after(r, refusing.retry_after_s).is_err() {
            return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
        }
        refusing.status as ngx_int_t
    }
}

struct Refusing {
    status: ngx_uint_t,
    retry_after_s: u64,
}

/// What all limits of a location say to a request.
struct Judgement {
    verdict: Verdict,
    limited: Option<NonNull<Limited>>,
    refusing: Option<Refusing>,
}

/// Asks all limits of a location: each counts what it refuses.
unsafe fn judge(r: *mut ngx_http_request_t, conf: &LocConf) -> Judgement {
    let mut verdict = Verdict { limits: conf.limits_place(), ..Verdict::NONE };
    let mut limited: Option<NonNull<Limited>> = None;
    let mut refusing: Option<Refusing> = None;
    // SAFETY: a request of NGINX's, in this location.
    unsafe {
        let found;
        let accounts = match conf.limit_accounts.get() {
            Some((server, accounts)) if *server == (*r).srv_conf => accounts,
            _ => {
                found = unnoticed(r, || find_accounts(r, conf));
                &found
            }
        };
        for (n, (limit_conf, account)) in conf.limits().iter().zip(accounts).enumerate() {
            let Some(account) = *account else { continue };
            let limit = match &limit_conf.cores {
                Cores::Constant(limit) => *limit,
                Cores::Variable(cores) => match unnoticed(r, || evaluate(r, cores)) {
                    Some(rate) => {
                        Limit::new(limit_conf.id, rate, limit_conf.burst_ms, limit_conf.max_debt_ms)
                    }
                    None => continue,
                },
            };
            let checked = with(|worker| worker.check(account, &limit, limit_conf.dry_run)).flatten();
            verdict.status = verdict.status.or(Some(Status::Passed));
            let Some(Checked { result, bucket, is_only_one }) = checked else { continue };
            let debt_ns = match result {
                Ok(0) if is_only_one => continue,
                Ok(ns) => {
                    let limited = Limited::of(r, &mut limited);
                    if let Some(place) = limited.and_then(|limited| limited.charges.get_mut(n)) {
                        *place = Some(Charge { id: account, bucket, ns });
                    }
                    continue;
                }
                Err(debt_ns) => debt_ns,
            };
            log_refusal(r, conf, limit_conf, debt_ns);
            if limit_conf.dry_run {
                verdict.dry_run |= 1 << n;
                continue;
            }
            let retry_after_s = limit.retry_after_s(debt_ns.get());
            let refusing = refusing.get_or_insert(Refusing { status: limit_conf.status, retry_after_s });
            refusing.retry_after_s = refusing.retry_after_s.max(retry_after_s);
        }
    }
    if refusing.is_some() {
        verdict.status = Some(Status::Rejected);
    } else if verdict.dry_run != 0 {
        verdict.status = Some(Status::RejectedDryRun);
    }
    verdict.apart = matches!(verdict.status, Some(Status::Rejected | Status::RejectedDryRun));
    Judgement { verdict, limited, refusing }
}

#[inline(never)]
unsafe fn find_accounts(r: *mut ngx_http_request_t, conf: &LocConf) -> LimitAccounts {
    let mut accounts: LimitAccounts = [None; MAX_ZONES_PER_REQUEST];
    let mut lasting = true;
    for (account, limit) in accounts.iter_mut().zip(conf.limits()) {
        // SAFETY: a request of NGINX's, in the location of these limits.
        lasting &= unsafe { lookup::find_account(r, &limit.used, false, |id| *account = Some(id)) };
    }
    if lasting {
        // SAFETY: as above. A location belongs to one server, see `LocConf::known`.
        let _ = conf.limit_accounts.set((unsafe { (*r).srv_conf }, accounts));
    }
    accounts
}

/// The rate that a variable stands for; none: the request is not limited.
unsafe fn evaluate(r: *mut ngx_http_request_t, cores: &ngx_http_complex_value_t) -> Option<NonZeroU64> {
    let mut value = ngx_str_t::empty();
    // SAFETY: a request of NGINX's; the value was compiled for the configuration that it is served by.
    let status = unsafe { ngx_http_complex_value(r, (&raw const *cores).cast_mut(), &mut value) };
    if status != NGX_OK as ngx_int_t || value.is_empty() {
        return None;
    }
    let rate = parse_cores(value.as_bytes());
    if rate.is_none() {
        // SAFETY: as above.
        unsafe { complain(r, &value) };
    }
    rate
}

#[cold]
unsafe fn complain(r: *mut ngx_http_request_t, value: &ngx_str_t) {
    static QUIET_UNTIL_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = now_ms();
    if now_ms < QUIET_UNTIL_MS.load(Relaxed) {
        return;
    }
    QUIET_UNTIL_MS.store(now_ms + COMPLAIN_MS, Relaxed);
    // SAFETY: a request's connection has a log.
    let log = unsafe { (*(*r).connection).log };
    ngx_log_error!(
        NGX_LOG_ERR,
        log,
        "invalid cores \"{}\" in \"{NAME}\", it must be a number from 0.001 to 100000; the request is not limited",
        key::display(value.as_bytes())
    );
}

#[cold]
unsafe fn log_refusal(r: *mut ngx_http_request_t, conf: &LocConf, limit: &LimitConf, debt_ns: NonZeroU64) {
    // SAFETY: a request of NGINX's, whose connection has a log.
    let log = unsafe { (*(*r).connection).log };
    let level = conf.limit_log_level().unwrap_or(NGX_LOG_ERR as ngx_uint_t);
    // SAFETY: as above.
    if level > unsafe { (*log).log_level } {
        return;
    }
    let debt_ms = debt_ns.get().div_ceil(NS_PER_MS);
    let dry_run = if limit.dry_run { ", dry run" } else { "" };
    let Some(zone) = limit.used.zone() else { return };
    // SAFETY: as above, served by the configuration that has the zone.
    unsafe {
        unnoticed(r, || {
            let key = lookup::key_of(r, zone);
            ngx_log_error!(
                level,
                log,
                "limiting requests by CPU{dry_run}, debt: {}.{:03} s, zone \"{}\", key \"{}\"",
                debt_ms / 1000,
                debt_ms % 1000,
                limit.used.name,
                key::display(key.as_bytes())
            );
        });
    }
}

/// Says when the debt is paid. It goes with the answer through `error_page` too.
unsafe fn add_retry_after(r: *mut ngx_http_request_t, seconds: u64) -> Result<(), ()> {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(seconds).as_bytes();
    // SAFETY: a request of NGINX's, before its header is sent. All zero is valid for a header; newer versions have a link to
    // the next one of its name in it, and the value lives as long as the request's pool.
    unsafe {
        let data = ngx_pnalloc((*r).pool, digits.len()).cast::<u8>();
        let header = ngx_list_push(&mut (*r).headers_out.headers).cast::<ngx_table_elt_t>();
        if data.is_null() || header.is_null() {
            return Err(());
        }
        data.copy_from_nonoverlapping(digits.as_ptr(), digits.len());
        header.write(core::mem::zeroed());
        (*header).hash = 1;
        (*header).key = ngx_string!("Retry-After");
        (*header).value = ngx_str_t { len: digits.len(), data };
    }
    Ok(())
}

/// The value of `$request_cpu_limit_status`.
///
/// # Safety
/// `r` must be a request that has not been freed.
pub unsafe fn status(r: *mut ngx_http_request_t) -> Option<&'static str> {
    if !is_measuring() {
        return None;
    }
    // SAFETY: as the caller says.
    let context = unsafe { find((*r).main) }?;
    match with(|worker| worker.context(context).verdict.status).flatten()? {
        Status::Passed => Some("PASSED"),
        Status::Rejected => Some("REJECTED"),
        Status::RejectedDryRun => Some("REJECTED_DRY_RUN"),
    }
}
