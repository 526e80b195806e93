//! `request_cpu_limit`: requests of a key that uses too much CPU are refused. See [`check`].

use core::ffi::{c_char, c_void};
use core::num::NonZeroU64;

use accounting::limit::{Limit, LimitId, parse_cores};
use nginx_sys::{
    NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_command_t, ngx_conf_t,
    ngx_http_complex_value_t, ngx_parse_time, ngx_str_t, ngx_uint_t,
};

use crate::charge::accounts::AccountId;
use crate::config::conf::{
    LocConf, MAX_ZONES_PER_REQUEST, Refusal, ZoneUse, compile, directive, while_parsing,
};

pub mod body;
pub mod check;

/// The accounts that a location's limits look at; none where the key is empty.
pub type LimitAccounts = [Option<AccountId>; MAX_ZONES_PER_REQUEST];

const NAME: &str = "request_cpu_limit";
const NS_PER_MS: u64 = 1_000_000;
/// `NGX_HTTP_TOO_MANY_REQUESTS`
const TOO_MANY_REQUESTS: ngx_uint_t = 429;

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

/// `request_cpu_limit zone=NAME cores=NUMBER [burst=TIME] [max_debt=TIME] [status=CODE] [dry_run];` or
/// `request_cpu_limit off;`
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
    // A limit is the same after a reload, and in another place, if its parameters are. What a variable stands for may
    // change.
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
