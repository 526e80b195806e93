//! `request_cpu zone=NAME …;` or `request_cpu off;`

use core::ffi::CStr;
use std::rc::Rc;

use accounting::account_set::MAX_ZONES_PER_REQUEST;
use accounting::parameters::{Form, Text};
use nginx_sys::{NGX_CONF_1MORE, NGX_HTTP_LOC_CONF, NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF};

use crate::config::directives::parameters;
use crate::config::location::LocConf;
use crate::config::main::MainConf;
use crate::config::zone_use::ZoneUse;
use crate::nginx::conf::{Conf, Failed};
use crate::nginx::directive::{Directive, Refusal};

/// The directive.
pub struct RequestCpu;

impl Directive for RequestCpu {
    type Conf = LocConf;
    const NAME: &'static CStr = c"request_cpu";
    const TYPE: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_1MORE;

    fn set(cf: &mut Conf<'_>, loc: &LocConf) -> Result<(), Refusal> {
        let given = parameters::read::<Self>(cf, 0, &[("zone", Form::Names), ("off", Form::Flag)])?;
        if given.has("off") {
            if given.has("zone") || loc.uses.get().is_some() {
                return Err("\"off\" cannot be combined with zones in \"request_cpu\"".to_string().into());
            }
            if loc.off.replace(true) {
                return Err("\"request_cpu off\" is duplicate".to_string().into());
            }
            return Ok(());
        }
        let is_first = loc.uses.get().is_none();
        let uses = loc.uses.get_or_init(Rc::default);
        for name in given.all("zone") {
            let shown = Text(name);
            if loc.off.get() {
                let message = format!("\"zone={shown}\" cannot be combined with \"off\" in \"request_cpu\"");
                return Err(message.into());
            }
            if uses.look(|uses| uses.iter().any(|used| used.name.as_bytes() == name)) {
                return Err(format!("zone \"{shown}\" in \"request_cpu\" is duplicate").into());
            }
            if uses.look(<[ZoneUse]>::len) == MAX_ZONES_PER_REQUEST {
                return Err(format!(
                    "too many zones in \"request_cpu\": \"{shown}\" is one more than {MAX_ZONES_PER_REQUEST}"
                )
                .into());
            }
            uses.push(ZoneUse::named(cf, name));
        }
        if is_first {
            cf.main_conf::<MainConf>().ok_or(Failed)?.uses.push(uses.clone());
        }
        Ok(())
    }
}
