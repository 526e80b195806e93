//! `request_cpu_zone KEY zone=NAME:SIZE [state=FILE] [active_threshold=N%|CORES];`

use core::cell::OnceCell;
use core::ffi::CStr;
use core::marker::PhantomData;
use std::rc::Rc;

use accounting::parameters::{Form, Text};
use accounting::table::ACTIVE_THRESHOLD_NS;
use accounting::threshold::parse_active_threshold;
use nginx_sys::{NGX_CONF_2MORE, NGX_HTTP_MAIN_CONF};

use crate::config::attached::Attached;
use crate::config::directives::{parameters, state_path};
use crate::config::key::Key;
use crate::config::main::MainConf;
use crate::config::zone::Zone;
use crate::nginx::conf::{Conf, parse_size};
use crate::nginx::directive::{Directive, Refusal};
use crate::nginx::shared_memory::{self, Init, page_bytes};
use crate::nginx::text::text;

/// The directive. `I` makes the tables.
pub struct RequestCpuZone<I>(PhantomData<I>);

impl<I: Init<Zone>> Directive for RequestCpuZone<I> {
    type Conf = MainConf;
    const NAME: &'static CStr = c"request_cpu_zone";
    const TYPE: u32 = NGX_HTTP_MAIN_CONF | NGX_CONF_2MORE;

    fn set(cf: &mut Conf<'_>, main: &MainConf) -> Result<(), Refusal> {
        let known = [("zone", Form::Value), ("state", Form::Value), ("active_threshold", Form::Value)];
        let given = parameters::read::<Self>(cf, 1, &known)?;
        let (name, size_bytes) = parse_zone(given.required("zone")?, Self::name())?;
        let state = match given.get("state") {
            Some(value) => Some(state_path::parse(cf, value, main, Self::name())?),
            None => None,
        };
        let active_threshold_ns = given.parse(
            "active_threshold",
            "threshold",
            "cores from 0 to 100, or a percentage of one",
            parse_active_threshold,
        )?;
        let zone = Rc::new(Zone {
            name: text(name),
            key_text: text(given.at(0)),
            key: Key::read(cf, given.at(0))?,
            size_bytes,
            table: OnceCell::new(),
            state,
            active_threshold_ns: active_threshold_ns.unwrap_or(ACTIVE_THRESHOLD_NS),
            attached: Attached::default(),
        });
        if shared_memory::add::<_, I>(cf, name, size_bytes, &zone)?.is_none() {
            return Err(format!("zone \"{}\" in \"{}\" is duplicate", Text(name), Self::name()).into());
        }
        main.zones.push(zone);
        Ok(())
    }
}

/// `NAME:SIZE`
fn parse_zone<'a>(value: &'a [u8], directive: &str) -> Result<(&'a [u8], usize), Refusal> {
    let Some(colon) = value.iter().position(|&byte| byte == b':') else {
        let value = Text(value);
        return Err(format!("invalid zone size \"\" in \"{directive}\": \"zone={value}\" has no size").into());
    };
    let (name, size) = value.split_at(colon);
    let size = size.get(1..).unwrap_or_default();
    if name.is_empty() {
        return Err(format!("invalid zone name \"\" in \"{directive}\"").into());
    }
    let Some(bytes) = parse_size(size).filter(|&bytes| bytes > 0) else {
        return Err(format!("invalid zone size \"{}\" in \"{directive}\"", Text(size)).into());
    };
    let least = 8 * page_bytes();
    if bytes < least {
        return Err(format!(
            "invalid zone size \"{}\" in \"{directive}\": zone \"{}\" is too small, it takes at least {}k",
            Text(size),
            Text(name),
            least / 1024
        )
        .into());
    }
    Ok((name, bytes))
}
