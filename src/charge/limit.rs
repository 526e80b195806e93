//! `request_cpu_limit`: requests of a key that uses too much CPU are refused.
//!
//! As `ngx_http_limit_req_handler`, in the preaccess phase, and once per request: what an internal redirect leads to is not
//! checked again. The bucket is in the key's account, see [`accounting::limit`].

use core::num::NonZeroU64;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use accounting::account_set::{AccountId, AccountSet, MAX_ZONES_PER_REQUEST};
use accounting::key;
use accounting::limit::{Limit, LimitId, Share, parse_cores};
use accounting::table::Checked;
use nginx_sys::{
    NGX_DECLINED, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_LOG_ERR, NGX_OK,
    ngx_array_push, ngx_conf_t, ngx_http_add_variable, ngx_http_complex_value, ngx_http_complex_value_t,
    ngx_http_core_main_conf_t, ngx_http_handler_pt, ngx_http_phases_NGX_HTTP_PREACCESS_PHASE,
    ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t, ngx_list_push, ngx_palloc, ngx_pnalloc,
    ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};
use ngx::{ngx_log_error, ngx_string};

use crate::charge::request;
use crate::charge::worker::{is_measuring, now_ms, with};
use crate::config::limit::{Cores, LimitAccounts, LimitConf};
use crate::config::location::{LocConf, loc_conf};
use crate::config::main::{MainConf, with_running};
use crate::export::variables::set_valid;
use crate::nginx::bits;

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

/// The values of `$request_cpu_limit_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Passed,
    Rejected,
    RejectedDryRun,
}

/// What its limits have said to a request. It is small, since every request has one.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// none: it was not checked, or no limit applies
    status: Option<Status>,
    /// which of the limits would have refused it, as bits
    dry_run: u8,
    /// the limits, by their place in [`MainConf::limits`]
    limits: u16,
    /// what it uses may not be the same to all limits of its accounts
    apart: bool,
}

const _: () = assert!(MAX_ZONES_PER_REQUEST <= u8::BITS as usize);

impl Verdict {
    /// No limit applies.
    pub const NONE: Verdict = Verdict { status: None, dry_run: 0, limits: 0, apart: false };

    /// The verdict of a request that has not reached the preaccess phase.
    pub fn first(main: &MainConf) -> Verdict {
        Verdict { apart: main.has_limits(), ..Verdict::NONE }
    }

    /// Whether what the request uses may not be the same to all limits of its accounts.
    #[inline]
    pub fn sets_apart(&self) -> bool {
        self.apart
    }

    /// Whether there are limits, and the request has not got to where they are checked.
    #[inline]
    pub fn is_unchecked(&self) -> bool {
        self.apart && self.status.is_none()
    }

    /// Says what the request's CPU is to each of its accounts.
    #[inline]
    pub fn mark(&self, limited: Option<&Limited>, accounts: &mut AccountSet) {
        if self.apart && self.status.is_some() {
            self.set_shares(limited, accounts);
        }
    }

    #[inline(never)]
    fn set_shares(&self, limited: Option<&Limited>, accounts: &mut AccountSet) {
        // the cycle that this worker serves
        with_running(|main| {
            let limits = main.map_or(&[][..], |main| main.limits_of(self.limits));
            let would_refuse = |zone| {
                limits
                    .iter()
                    .enumerate()
                    .any(|(n, limit)| self.dry_run >> n & 1 != 0 && limit.used.index() == zone)
            };
            accounts.set_shares(|id| match self.status {
                Some(Status::Rejected) => Share::Refused,
                _ if would_refuse(id.zone()) => Share::RefusedDryRun,
                // A key that is known later may have another account than the one that was checked.
                _ => limited
                    .and_then(|limited| limited.charges.iter().flatten().find(|charge| charge.id.is_same(id)))
                    .map_or(Share::Used, |charge| Share::Checked(charge.bucket)),
            });
        });
    }
}

/// What few limited requests need; in the request's pool.
pub struct Limited {
    /// By limit: none where the account has no other limit, and nothing was charged.
    charges: [Option<Charge>; MAX_ZONES_PER_REQUEST],
    /// of a refused request whose body is not read
    pub dropped: Option<body::Dropped>,
}

/// What a limit has charged to its bucket when it let a request in.
#[derive(Clone, Copy)]
pub struct Charge {
    pub id: AccountId,
    pub bucket: u8,
    /// what is left of it, in nanoseconds of CPU
    pub ns: u64,
}

impl Limited {
    const NONE: Limited = Limited { charges: [None; MAX_ZONES_PER_REQUEST], dropped: None };

    pub fn charges(&mut self) -> impl Iterator<Item = &mut Charge> {
        self.charges.iter_mut().flatten()
    }

    /// That of a request, which is made in its pool if it is not there yet; none if there is no memory. What was charged is not given back
    /// then.
    ///
    /// # Safety
    /// `limited` must be none, or of this request, which has not been freed.
    #[cold]
    #[inline(never)]
    unsafe fn of(r: *mut ngx_http_request_t, limited: &mut Option<NonNull<Limited>>) -> Option<&mut Limited> {
        if limited.is_none() {
            // SAFETY: the request has a pool, which gives out memory that is aligned to a word (`NGX_ALIGNMENT`).
            let place = unsafe { ngx_palloc((*r).pool, size_of::<Limited>()) };
            let place = NonNull::new(place)?.cast::<Limited>();
            // SAFETY: as above.
            unsafe { place.write(Limited::NONE) };
            *limited = Some(place);
        }
        // SAFETY: as the caller says; it is in use by `check` only, until the context has it.
        limited.as_mut().map(|limited| unsafe { limited.as_mut() })
    }
}

const _: () = assert!(align_of::<Limited>() <= align_of::<usize>());

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
        let Some(context) = request::find(r) else { return declined };
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
            limited.dropped = Some(body::Dropped::new());
        }
        verdict.apart |= limited.is_some();
        with(|worker| {
            let context = worker.context(context);
            (context.verdict, context.limited) = (verdict, limited);
            context.mark_in_flight();
        });
        if limited.is_some()
            && let Some(dropped) = request::dropped_body(r)
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

/// What CPU beyond a limit is where the limit could not refuse it: by the limit of the request's location.
pub fn share_beyond(conf: &LocConf, zone: usize) -> Share {
    let mut limits = conf.limits().iter().filter(|limit| limit.used.index() == zone);
    if limits.next().is_some_and(|limit| limit.dry_run) { Share::RefusedDryRun } else { Share::Refused }
}

/// As [`share_beyond`], for work of a connection, which is in no location: by all limits of the zone.
#[cold]
pub fn share_beyond_all(zone: usize) -> Share {
    with_running(|main| {
        let limits = main.into_iter().flat_map(MainConf::limits);
        let mut refusing = limits.filter(|limit| limit.used.index() == zone && !limit.dry_run);
        if refusing.next().is_some() { Share::Refused } else { Share::RefusedDryRun }
    })
}

/// Whether the zone at this place has a limit of this number, in the configuration that this worker serves.
#[cold]
pub fn is_configured(zone: usize, id: LimitId) -> bool {
    with_running(|main| {
        let mut limits = main.into_iter().flat_map(MainConf::limits);
        limits.any(|limit| limit.used.index() == zone && limit.id == id)
    })
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
                found = request::unnoticed(r, || find_accounts(r, conf));
                &found
            }
        };
        for (n, (limit_conf, account)) in conf.limits().iter().zip(accounts).enumerate() {
            let Some(account) = *account else { continue };
            let limit = match &limit_conf.cores {
                Cores::Constant(limit) => *limit,
                Cores::Variable(cores) => match request::unnoticed(r, || evaluate(r, cores)) {
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
        lasting &= unsafe { request::find_account(r, &limit.used, false, |id| *account = Some(id)) };
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
        request::unnoticed(r, || {
            let key = request::key_of(r, zone);
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

/// Adds `$request_cpu_limit_status`.
pub unsafe fn add_variable(cf: *mut ngx_conf_t) -> Result<(), ()> {
    let mut name = ngx_string!("request_cpu_limit_status");
    // SAFETY: the caller's `cf` is valid; the name is copied.
    let variable =
        unsafe { ngx_http_add_variable(cf, &mut name, NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t).as_mut() };
    variable.ok_or(())?.get_handler = Some(get_status);
    Ok(())
}

unsafe extern "C" fn get_status(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    // SAFETY: NGINX calls with a request and with room for a value.
    unsafe {
        let context = if is_measuring() { request::find((*r).main) } else { None };
        let verdict =
            context.and_then(|context| with(|worker| worker.context(context).verdict.status)).flatten();
        let value = match verdict {
            None => {
                bits::variable_value::NOT_FOUND.set(v, 1);
                return NGX_OK as ngx_int_t;
            }
            Some(Status::Passed) => "PASSED",
            Some(Status::Rejected) => "REJECTED",
            Some(Status::RejectedDryRun) => "REJECTED_DRY_RUN",
        };
        (*v).data = value.as_ptr().cast_mut();
        set_valid(&mut *v, value.len());
    }
    NGX_OK as ngx_int_t
}
