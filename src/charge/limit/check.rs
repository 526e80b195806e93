//! Limits: a request is refused if its key uses too much CPU.
//!
//! As `ngx_http_limit_req_handler`, the check runs in the preaccess phase, and once per request: it is not repeated
//! after an internal redirect. The bucket is in the key's account, see [`accounting::limit`].

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use accounting::key;
use accounting::limit::{Limit, parse_cores};
use accounting::table::Checked;
use nginx_sys::{
    NGX_DECLINED, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_LOG_ERR, ngx_http_complex_value_t, ngx_int_t,
    ngx_uint_t,
};

use crate::charge::context::find;
use crate::charge::counted_by::location;
use crate::charge::limit::body::{self, dropped_body};
use crate::charge::lookup::{find_account, key_of};
use crate::charge::unnoticed::unnoticed;
use crate::charge::verdict::{Charge, LimitedRef, Status, Verdict};
use crate::charge::worker::{is_measuring, with};
use crate::config::limit::{Cores, LimitAccounts, LimitConf};
use crate::config::location::LocConf;
use crate::nginx::conf::Core;
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::phase::{self, Phase, PhaseHandler};
use crate::nginx::request::Request;
use crate::nginx::text::text;
use crate::nginx::time::now_ms;
use accounting::account_set::MAX_ZONES_PER_REQUEST;

const NAME: &str = "request_cpu_limit";
const NS_PER_MS: u64 = 1_000_000;
/// An invalid value of `cores` is logged at most once in this interval, in milliseconds.
const COMPLAIN_MS: u64 = 60_000;

/// Adds the phase handler. `None` if there is no memory.
pub fn register(core: Core<'_>) -> Option<()> {
    phase::add_handler::<Check>(core, Phase::Preaccess)
}

struct Check;

impl PhaseHandler for Check {
    #[inline]
    fn handle(r: Request<'_>) -> ngx_int_t {
        check(r).unwrap_or(NGX_DECLINED as ngx_int_t)
    }
}

/// Checks a request. Returns its status if it is refused.
fn check(r: Request<'_>) -> Option<ngx_int_t> {
    let conf = location(r);
    // In `post_action`, the request was answered before. It is counted with that answer.
    if !r.is_main() || !is_measuring() || r.is_post_action() {
        return None;
    }
    // Without memory for a context, the request is not measured either.
    let context = find(r)?;
    if conf.limits().is_empty()
        || conf.limits_spare_status() && conf.status.get().is_answered_by(r.content_handler())
    {
        with(|worker| {
            let verdict = &mut worker.context(context).verdict;
            verdict.apart &= verdict.status.is_some();
        });
        return None;
    }
    if with(|worker| worker.context(context).verdict.status).flatten().is_some() {
        return None;
    }
    let Judgement { mut verdict, mut limited, refusing } = judge(r, conf);
    if refusing.is_some()
        && body::drop_large(r)
        && let Some(limited) = made(r, &mut limited)
    {
        limited.dropped.left.set(body::MAX_READ);
        limited.dropped.is_dropped.set(true);
    }
    verdict.apart |= limited.is_some();
    with(|worker| {
        let context = worker.context(context);
        (context.verdict, context.limited) = (verdict, limited);
        context.mark_in_flight();
    });
    if limited.is_some()
        && let Some(limited) = dropped_body(r)
    {
        body::watch(r, &limited.dropped);
    }
    let refusing = refusing?;
    Some(match add_retry_after(r, refusing.retry_after_s) {
        Some(()) => refusing.status as ngx_int_t,
        None => NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
    })
}

struct Refusing {
    status: ngx_uint_t,
    retry_after_s: u64,
}

/// The result of all limits of a location for a request.
struct Judgement {
    verdict: Verdict,
    limited: Option<LimitedRef>,
    refusing: Option<Refusing>,
}

/// The [`Limited`](crate::charge::verdict::Limited) of a request. It is created if it does not exist yet.
fn made(r: Request<'_>, limited: &mut Option<LimitedRef>) -> Option<LimitedRef> {
    *limited = limited.or_else(|| LimitedRef::of(r));
    *limited
}

/// Checks a request against all limits of a location. Each limit counts its own refusals.
fn judge(r: Request<'_>, conf: &LocConf) -> Judgement {
    let mut verdict = Verdict { limits: conf.limits_place(), ..Verdict::NONE };
    let mut limited: Option<LimitedRef> = None;
    let mut refusing: Option<Refusing> = None;
    let found;
    let accounts = match conf.limit_accounts.get() {
        Some((server, accounts)) if *server == r.server() => accounts,
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
                Some(rate) => Limit::new(limit_conf.id, rate, limit_conf.burst_ms, limit_conf.max_debt_ms),
                None => continue,
            },
        };
        let checked = with(|worker| worker.check(account, &limit, limit_conf.dry_run)).flatten();
        verdict.status = verdict.status.or(Some(Status::Passed));
        let Some(Checked { result, bucket, is_only_one }) = checked else { continue };
        let debt_ns = match result {
            Ok(0) if is_only_one => continue,
            Ok(ns) => {
                if let Some(limited) = made(r, &mut limited)
                    && let Some(place) = limited.charges.get(n)
                {
                    place.set(Some(Charge { id: account, bucket, ns }));
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
    if refusing.is_some() {
        verdict.status = Some(Status::Rejected);
    } else if verdict.dry_run != 0 {
        verdict.status = Some(Status::RejectedDryRun);
    }
    verdict.apart = matches!(verdict.status, Some(Status::Rejected | Status::RejectedDryRun));
    Judgement { verdict, limited, refusing }
}

#[inline(never)]
fn find_accounts(r: Request<'_>, conf: &LocConf) -> LimitAccounts {
    let mut accounts: LimitAccounts = [None; MAX_ZONES_PER_REQUEST];
    let mut lasting = true;
    for (account, limit) in accounts.iter_mut().zip(conf.limits()) {
        lasting &= find_account(r, &limit.used, false, |id| *account = Some(id));
    }
    if lasting {
        // a location belongs to one server, see `LocConf::known`
        let _ = conf.limit_accounts.set((r.server(), accounts));
    }
    accounts
}

/// The rate that a variable evaluates to. `None`: the request is not limited.
fn evaluate(r: Request<'_>, cores: &ngx_http_complex_value_t) -> Option<NonZeroU64> {
    let value = r.evaluate(cores).filter(|value| !value.is_empty())?;
    let rate = parse_cores(value);
    if rate.is_none() {
        complain(r, value);
    }
    rate
}

#[cold]
fn complain(r: Request<'_>, value: &[u8]) {
    static QUIET_UNTIL_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = now_ms();
    if now_ms < QUIET_UNTIL_MS.load(Relaxed) {
        return;
    }
    QUIET_UNTIL_MS.store(now_ms + COMPLAIN_MS, Relaxed);
    ngx_log_error!(
        NGX_LOG_ERR,
        r.log(),
        "invalid cores \"{}\" in \"{NAME}\", it must be a number from 0.001 to 100000; the request is not limited",
        key::display(value)
    );
}

#[cold]
fn log_refusal(r: Request<'_>, conf: &LocConf, limit: &LimitConf, debt_ns: NonZeroU64) {
    let level = conf.limit_log_level().unwrap_or(NGX_LOG_ERR as ngx_uint_t);
    if !r.logs_at(level) {
        return;
    }
    let debt_ms = debt_ns.get().div_ceil(NS_PER_MS);
    let dry_run = if limit.dry_run { ", dry run" } else { "" };
    let Some(zone) = limit.used.zone() else { return };
    unnoticed(r, || {
        ngx_log_error!(
            level,
            r.log(),
            "limiting requests by CPU{dry_run}, debt: {}.{:03} s, zone \"{}\", key \"{}\"",
            debt_ms / 1000,
            debt_ms % 1000,
            limit.used.name,
            key::display(key_of(r, zone))
        );
    });
}

/// Adds the time in which the debt will be paid. `error_page` keeps the header too.
fn add_retry_after(r: Request<'_>, seconds: u64) -> Option<()> {
    r.add_header(text(b"Retry-After"), itoa::Buffer::new().format(seconds).as_bytes())
}

/// The value of `$request_cpu_limit_status`.
pub fn status(r: Request<'_>) -> Option<&'static str> {
    if !is_measuring() {
        return None;
    }
    let context = find(r.main())?;
    match with(|worker| worker.context(context).verdict.status).flatten()? {
        Status::Passed => Some("PASSED"),
        Status::Rejected => Some("REJECTED"),
        Status::RejectedDryRun => Some("REJECTED_DRY_RUN"),
    }
}
