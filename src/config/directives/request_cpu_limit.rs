//! `request_cpu_limit zone=NAME cores=NUMBER [burst=TIME] [max_debt=TIME] [status=CODE] [dry_run];`,
//! `request_cpu_limit off;` and `request_cpu_limit_log_level`.

use core::ffi::CStr;
use core::num::NonZeroU64;
use std::rc::Rc;

use accounting::account_set::MAX_ZONES_PER_REQUEST;
use accounting::limit::{Limit, LimitId, parse_cores};
use accounting::parameters::{Form, Parameters, Text};
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_TAKE1, NGX_HTTP_LOC_CONF, NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF, NGX_LOG_ERR,
    NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_uint_t,
};

use crate::config::directives::parameters;
use crate::config::limit::{Cores, LimitConf};
use crate::config::location::LocConf;
use crate::config::main::MainConf;
use crate::config::zone_use::ZoneUse;
use crate::nginx::conf::{Conf, Failed, parse_time_ms};
use crate::nginx::directive::{Directive, Refusal};

const NS_PER_MS: u64 = 1_000_000;
/// `NGX_HTTP_TOO_MANY_REQUESTS`
const TOO_MANY_REQUESTS: ngx_uint_t = 429;

/// The directive.
pub struct RequestCpuLimit;

impl Directive for RequestCpuLimit {
    type Conf = LocConf;
    const NAME: &'static CStr = c"request_cpu_limit";
    const TYPE: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_1MORE;

    fn set(cf: &mut Conf<'_>, loc: &LocConf) -> Result<(), Refusal> {
        if cf.arguments().skip(1).eq([b"off"]) {
            if loc.limits_off.replace(true) {
                return Err("\"request_cpu_limit off\" is duplicate".to_string().into());
            }
            if loc.limits.get().is_some() {
                return Err("\"off\" cannot be combined with limits in \"request_cpu_limit\""
                    .to_string()
                    .into());
            }
            return Ok(());
        }
        let limit = parse(cf)?;
        if loc.limits_off.get() {
            return Err("a limit cannot be combined with \"off\" in \"request_cpu_limit\""
                .to_string()
                .into());
        }
        let name = limit.used.name;
        let is_first = loc.limits.get().is_none();
        let limits = loc.limits.get_or_init(Rc::default);
        if limits.look(|limits| limits.iter().any(|other| other.used.name == name)) {
            return Err(format!("zone \"{name}\" in \"request_cpu_limit\" is duplicate").into());
        }
        if limits.look(<[LimitConf]>::len) == MAX_ZONES_PER_REQUEST {
            return Err(format!(
                "too many limits in \"request_cpu_limit\": that of zone \"{name}\" is one more than \
                 {MAX_ZONES_PER_REQUEST}"
            )
            .into());
        }
        limits.push(limit);
        if is_first {
            let main: &MainConf = cf.main_conf().ok_or(Failed)?;
            let place = main.limits.look(<[_]>::len);
            main.limits.push(limits.clone());
            loc.limits_place.set(u16::try_from(place).map_err(|_| {
                format!(
                    "too many places with limits in \"request_cpu_limit\", there can be {}",
                    1 << u16::BITS
                )
            })?);
        }
        Ok(())
    }
}

fn parse(cf: &mut Conf<'_>) -> Result<LimitConf, Refusal> {
    let known = [
        ("zone", Form::Name),
        ("cores", Form::Value),
        ("burst", Form::Value),
        ("max_debt", Form::Value),
        ("status", Form::Value),
        ("dry_run", Form::Flag),
    ];
    let given = parameters::read::<RequestCpuLimit>(cf, 0, &known)?;
    let burst_ms = parse_time(&given, "burst", 0)?;
    let max_debt_ms = parse_time(&given, "max_debt", 1)?;
    let status = given.parse("status", "status", "between 400 and 599", parse_status)?;
    let used = ZoneUse::named(cf, given.required("zone")?);
    let text = given.required("cores")?;
    // A limit keeps its identity after a reload, and in another location, if its parameters are the same. The value of
    // a variable may change.
    let id = |rate: Option<NonZeroU64>| {
        let cores = rate.map_or_else(|| Text(text).to_string(), |rate| rate.to_string());
        LimitId::of(format!("{cores} {burst_ms:?} {max_debt_ms:?}").as_bytes())
    };
    let (id, cores) = if text.contains(&b'$') {
        (id(None), Cores::Variable(cf.compile(text)?))
    } else {
        let rate = given.valid(text, "cores", "a number from 0.001 to 100000", parse_cores)?;
        let id = id(Some(rate));
        (id, Cores::Constant(Limit::new(id, rate, burst_ms, max_debt_ms)))
    };
    let (status, dry_run) = (status.unwrap_or(TOO_MANY_REQUESTS), given.has("dry_run"));
    Ok(LimitConf { used, cores, id, burst_ms, max_debt_ms, status, dry_run })
}

/// A CPU time in milliseconds, in the forms of NGINX's other times; at least `least_ms`.
fn parse_time(given: &Parameters<'_>, name: &str, least_ms: u64) -> Result<Option<u64>, String> {
    let least = if least_ms > 0 { format!(" of at least {least_ms}ms") } else { String::new() };
    given.parse(name, name, &format!("a time{least}, such as \"500ms\" or \"2s\""), |value| {
        parse_time_ms(value).filter(|&ms| ms >= least_ms && ms.checked_mul(NS_PER_MS).is_some())
    })
}

/// Parses a status in the range of `limit_req_status`.
fn parse_status(value: &[u8]) -> Option<ngx_uint_t> {
    // `from_str` would accept a sign
    let digits = value.iter().all(u8::is_ascii_digit).then_some(value)?;
    str::from_utf8(digits).ok()?.parse().ok().filter(|status| (400..=599).contains(status))
}

/// The directive `request_cpu_limit_log_level info|notice|warn|error;`
pub struct RequestCpuLimitLogLevel;

impl Directive for RequestCpuLimitLogLevel {
    type Conf = LocConf;
    const NAME: &'static CStr = c"request_cpu_limit_log_level";
    const TYPE: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1;

    fn set(cf: &mut Conf<'_>, loc: &LocConf) -> Result<(), Refusal> {
        let of_name = |name: &[u8]| match name {
            b"info" => Some(NGX_LOG_INFO),
            b"notice" => Some(NGX_LOG_NOTICE),
            b"warn" => Some(NGX_LOG_WARN),
            b"error" => Some(NGX_LOG_ERR),
            _ => None,
        };
        let given = parameters::read::<Self>(cf, 1, &[])?;
        let allowed = "\"info\", \"notice\", \"warn\" or \"error\"";
        let level = given.valid(given.at(0), "level", allowed, of_name)?;
        match loc.limit_log_level.replace(Some(level as ngx_uint_t)) {
            Some(_) => Err("\"request_cpu_limit_log_level\" is duplicate".to_string().into()),
            None => Ok(()),
        }
    }
}
