//! `request_cpu_log PATH zone=NAME [interval=TIME];`

use core::cell::OnceCell;
use core::ffi::CStr;
use core::ops::RangeInclusive;
use std::rc::Rc;

use accounting::billing::LOGS;
use accounting::parameters::{Form, Text};
use accounting::traffic;
use nginx_sys::{NGX_CONF_1MORE, NGX_HTTP_MAIN_CONF};

use crate::config::attached::Attached;
use crate::config::directives::parameters;
use crate::config::log::Log;
use crate::config::main::MainConf;
use crate::nginx::conf::{Conf, parse_time_ms};
use crate::nginx::directive::{Directive, Refusal};
use crate::nginx::text::text;

const DEFAULT_INTERVAL_MS: u64 = 60_000;
const INTERVALS_MS: RangeInclusive<u64> = 1000..=traffic::MAX_INTERVAL_MS;

/// The directive.
pub struct RequestCpuLog;

impl Directive for RequestCpuLog {
    type Conf = MainConf;
    const NAME: &'static CStr = c"request_cpu_log";
    const TYPE: u32 = NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE;

    fn set(cf: &mut Conf<'_>, main: &MainConf) -> Result<(), Refusal> {
        let (directive, known) = (Self::name(), [("zone", Form::Name), ("interval", Form::Value)]);
        let given = parameters::read::<Self>(cf, 1, &known)?;
        let interval_ms = given.parse("interval", "interval", "from 1s to 3660d", |value| {
            parse_time_ms(value).filter(|ms| INTERVALS_MS.contains(ms))
        })?;
        let path = given.at(0);
        check_path(path, directive)?;
        let zone_name = text(given.required("zone")?);
        let file = cf.open_file(path)?;
        // Two writers could use the file. A line that one of them must repair after a kill would no longer be the last
        // one.
        if main.logs.look(|logs| logs.iter().any(|other| other.path() == file.name())) {
            let path = Text(path);
            return Err(format!("path \"{path}\" in \"{directive}\" is that of another one").into());
        }
        // accounts keep peaks for this number of logs
        let of_zone = |other: &&Rc<Log>| other.zone_name == zone_name;
        if main.logs.look(|logs| logs.iter().filter(of_zone).count()) == LOGS {
            return Err(format!(
                "too many logs of zone \"{zone_name}\" in \"{directive}\": \"{}\" is one more than {LOGS}",
                Text(path)
            )
            .into());
        }
        main.logs.push(Rc::new(Log {
            file,
            zone_name,
            interval_ms: interval_ms.unwrap_or(DEFAULT_INTERVAL_MS),
            place: cf.place(),
            zone: OnceCell::new(),
            attached: Attached::default(),
        }));
        Ok(())
    }
}

/// Checks a path. The file is opened once, for all requests, and other targets of `access_log` are not supported.
fn check_path(path: &[u8], directive: &str) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("invalid path \"{}\" in \"{directive}\": {what}", Text(path)));
    if path.is_empty() {
        return refuse("it has no name");
    }
    if path.contains(&b'$') {
        return refuse("variables are not supported");
    }
    if path == b"off" {
        return refuse("there is no log without the directive; a file of that name is \"./off\"");
    }
    if path.starts_with(b"syslog:") {
        return refuse("syslog is not supported");
    }
    Ok(())
}
