//! `request_cpu_limit`: requests of a key that uses too much CPU are refused.
//!
//! As `ngx_http_limit_req_handler`, in the preaccess phase, and once per request: what an internal redirect leads to is not
//! checked again. The bucket is in the key's account, see [`accounting::limit`].

use core::ffi::{c_char, c_void};
use core::num::NonZeroU64;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::OnceLock;

use accounting::key;
use accounting::limit::{Limit, LimitId, parse_cores};
use accounting::table::Checked;
use nginx_sys::{
    NGX_DECLINED, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN,
    NGX_OK, ngx_array_push, ngx_command_t, ngx_conf_t, ngx_http_complex_value, ngx_http_complex_value_t,
    ngx_http_core_main_conf_t, ngx_http_handler_pt, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE,
    ngx_http_request_t, ngx_int_t, ngx_list_push, ngx_parse_time, ngx_pnalloc, ngx_str_t, ngx_table_elt_t,
    ngx_uint_t,
};
use ngx::{ngx_log_error, ngx_string};

use crate::charge::accounts::AccountId;
use crate::charge::context::{dropped_body, find};
use crate::charge::lookup;
use crate::charge::unnoticed::unnoticed;
use crate::charge::verdict::{Charge, Dropped, Limited, Status, Verdict};
use crate::charge::worker::{is_measuring, with};
use crate::config::conf::{
    LocConf, MAX_ZONES_PER_REQUEST, Refusal, ZoneUse, compile, directive, loc_conf, while_parsing,
};
use crate::nginx::bits;
use crate::nginx::time::now_ms;

pub mod body;

const NAME: &str = "request_cpu_limit";
const NS_PER_MS: u64 = 1_000_000;
/// `NGX_HTTP_TOO_MANY_REQUESTS`
const TOO_MANY_REQUESTS: ngx_uint_t = 429;
/// An unusable value of `cores` is logged once in so many milliseconds.
const COMPLAIN_MS: u64 = 60_000;

/// A `request_cpu_limit`. In the configuration's pool.
pub struct LimitConf {
    pub used: ZoneUse,
    cores: Cores,
    /// tells it apart from other limits of the zone
    pub(super) id: LimitId,
    /// milliseconds of CPU; none: what `cores` bring in a second
    burst_ms: Option<u64>,
    /// milliseconds of CPU; none: a debt has no bound
    max_debt_ms: Option<u64>,
    /// what a refused request is answered with
    status: ngx_uint_t,
    pub(super) dry_run: bool,
}

enum Cores {
    Constant(Limit),
    Variable(ngx_http_complex_value_t),
}

/// `request_cpu_limit zone=NAME cores=NUMBER [burst=TIME] [max_debt=TIME] [status=CODE] [dry_run];` or `request_cpu_limit off;`
pub unsafe extern "C" fn request_cpu_limit(
    cf: *mut ngx_conf_t,
    _cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `conf` is a location's configuration, as the command table says.
    let loc = unsafe { &mut *conf.cast::<LocConf>() };
    directive(cf, |cf, args| {
        if let [_, arg] = args
            && arg.as_bytes() == b"off"
        {
            if core::mem::replace(&mut loc.limits_off, true) {
                return Err(format!("\"{NAME} off\" is duplicate").into());
            }
            if !loc.limits.is_empty() {
                return Err(format!("\"off\" cannot be combined with limits in \"{NAME}\"").into());
            }
            return Ok(());
        }
        let limit = parse(cf, &args[1..])?;
        if loc.limits_off {
            return Err(format!("a limit cannot be combined with \"off\" in \"{NAME}\"").into());
        }
        if loc.limits().iter().any(|other| other.used.name == limit.used.name) {
            return Err(format!("zone \"{}\" in \"{NAME}\" is duplicate", limit.used.name).into());
        }
        if loc.limits().len() == MAX_ZONES_PER_REQUEST {
            let name = limit.used.name;
            return Err(format!(
                "too many limits in \"{NAME}\": that of zone \"{name}\" is one more than {MAX_ZONES_PER_REQUEST}"
            )
            .into());
        }
        let is_first = loc.limits.is_empty();
        loc.limits.push(cf, limit).ok_or(Refusal::Memory)?;
        if is_first {
            let place = while_parsing(cf, |main, cf| {
                let place = main.limits.as_slice().len();
                main.limits.push(cf, loc.limits).map(|()| place)
            });
            loc.limits_place = u16::try_from(place.ok_or(Refusal::Memory)?).map_err(|_| {
                format!("too many places with limits in \"{NAME}\", there can be {}", 1 << u16::BITS)
            })?;
        }
        Ok(())
    })
}

fn parse(cf: &mut ngx_conf_t, args: &[ngx_str_t]) -> Result<LimitConf, Refusal> {
    let (mut zone, mut cores, mut burst_ms, mut max_debt_ms, mut status, mut dry_run) =
        (None, None, None, None, None, false);
    for arg in args {
        let duplicate = || Refusal::from(format!("duplicate parameter \"{arg}\" in \"{NAME}\""));
        fn once<T>(place: &mut Option<T>, value: T, twice: impl FnOnce() -> Refusal) -> Result<(), Refusal> {
            place.replace(value).map_or(Ok(()), |_| Err(twice()))
        }
        if let Some(name) = arg.strip_prefix("zone=").filter(|name| !name.is_empty()) {
            once(&mut zone, name, duplicate)?;
        } else if let Some(value) = arg.strip_prefix("cores=") {
            once(&mut cores, value, duplicate)?;
        } else if let Some(value) = arg.strip_prefix("burst=") {
            once(&mut burst_ms, parse_time("burst", value, 0)?, duplicate)?;
        } else if let Some(value) = arg.strip_prefix("max_debt=") {
            once(&mut max_debt_ms, parse_time("max_debt", value, 1)?, duplicate)?;
        } else if let Some(value) = arg.strip_prefix("status=") {
            once(&mut status, parse_status(value)?, duplicate)?;
        } else if arg.as_bytes() == b"dry_run" {
            if core::mem::replace(&mut dry_run, true) {
                return Err(duplicate());
            }
        } else {
            return Err(format!("invalid parameter \"{arg}\" in \"{NAME}\"").into());
        }
    }
    let missing = |what: &str| Refusal::from(format!("\"{NAME}\" must have \"{what}\" parameter"));
    let used = ZoneUse::named(cf, zone.ok_or_else(|| missing("zone"))?);
    let mut text = cores.ok_or_else(|| missing("cores"))?;
    // A limit is the same after a reload, and in another place, if its parameters are. What a variable stands for may change.
    let is_variable = text.as_bytes().contains(&b'$');
    let id = |rate: Option<NonZeroU64>| {
        let cores = rate.map_or_else(|| text.to_string(), |rate| rate.to_string());
        LimitId::of(format!("{cores} {burst_ms:?} {max_debt_ms:?}").as_bytes())
    };
    let (id, cores) = if is_variable {
        let id = id(None);
        (id, Cores::Variable(compile(cf, &mut text)?))
    } else {
        let rate = parse_cores(text.as_bytes()).ok_or_else(|| {
            format!("invalid cores \"{text}\" in \"{NAME}\", it must be a number from 0.001 to 100000")
        })?;
        let id = id(Some(rate));
        (id, Cores::Constant(Limit::new(id, rate, burst_ms, max_debt_ms)))
    };
    let status = status.unwrap_or(TOO_MANY_REQUESTS);
    Ok(LimitConf { used, cores, id, burst_ms, max_debt_ms, status, dry_run })
}

/// A time of CPU, in the forms of NGINX's other times, in milliseconds; at least `least_ms`.
fn parse_time(name: &str, mut value: ngx_str_t, least_ms: u64) -> Result<u64, Refusal> {
    // SAFETY: `ngx_parse_time` only reads the string.
    let ms = unsafe { ngx_parse_time(&mut value, 0) };
    let ms = u64::try_from(ms).ok().filter(|ms| ms.checked_mul(NS_PER_MS).is_some());
    ms.filter(|&ms| ms >= least_ms).ok_or_else(|| {
        let least = if least_ms > 0 { format!(" of at least {least_ms}ms") } else { String::new() };
        format!(
            "invalid {name} \"{value}\" in \"{NAME}\", it must be a time{least}, such as \"500ms\" or \"2s\""
        )
        .into()
    })
}

/// The range of `limit_req_status`.
fn parse_status(value: ngx_str_t) -> Result<ngx_uint_t, Refusal> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let status = text.and_then(|text| text.parse().ok()).filter(|status| (400..=599).contains(status));
    status.ok_or_else(|| {
        format!("invalid status \"{value}\" in \"{NAME}\", it must be between 400 and 599").into()
    })
}

/// `request_cpu_limit_log_level info|notice|warn|error;`
pub unsafe extern "C" fn request_cpu_limit_log_level(
    cf: *mut ngx_conf_t,
    _cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `conf` is a location's configuration, as the command table says.
    let loc = unsafe { &mut *conf.cast::<LocConf>() };
    directive(cf, |_cf, args| {
        let level = match args[1].as_bytes() {
            b"info" => NGX_LOG_INFO,
            b"notice" => NGX_LOG_NOTICE,
            b"warn" => NGX_LOG_WARN,
            b"error" => NGX_LOG_ERR,
            _ => {
                return Err(format!(
                    "invalid level \"{}\" in \"request_cpu_limit_log_level\", it must be \"info\", \"notice\", \"warn\" or \
                     \"error\"",
                    args[1]
                )
                .into());
            }
        };
        match loc.limit_log_level.replace(level as ngx_uint_t) {
            Some(_) => Err("\"request_cpu_limit_log_level\" is duplicate".to_string().into()),
            None => Ok(()),
        }
    })
}

/// Whether a request is answered with the status.
pub type IsStatus = unsafe fn(*mut ngx_http_request_t) -> bool;

static IS_STATUS: OnceLock<IsStatus> = OnceLock::new();

/// Adds the phase handler.
pub fn register(core: &mut ngx_http_core_main_conf_t, is_status: IsStatus) -> Result<(), ()> {
    IS_STATUS.get_or_init(|| is_status);
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
        if conf.limits.is_empty()
            || conf.limits_spare_status && IS_STATUS.get().is_some_and(|is_status| is_status(r))
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
    let mut verdict = Verdict { limits: conf.limits_place, ..Verdict::NONE };
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

/// The accounts that a location's limits look at; none where the key is empty.
pub type LimitAccounts = [Option<AccountId>; MAX_ZONES_PER_REQUEST];

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
    let level = conf.limit_log_level.unwrap_or(NGX_LOG_ERR as ngx_uint_t);
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
