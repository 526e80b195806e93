//! `request_cpu zone=NAME …;` or `request_cpu off;`

use core::cell::{Cell, OnceCell};
use core::ffi::CStr;
use std::rc::Rc;

use accounting::account_set::MAX_ZONES_PER_REQUEST;
use accounting::parameters::{Form, Text};
use nginx_sys::{NGX_CONF_1MORE, NGX_HTTP_LOC_CONF, NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF, ngx_str_t};

use crate::config::location::LocConf;
use crate::config::main::MainConf;
use crate::config::parameters;
use crate::config::zone::Zone;
use crate::nginx::conf::{Conf, Failed, Place, text};
use crate::nginx::directive::{Directive, Refusal};

/// A zone that a `request_cpu` or a `request_cpu_limit` names; its place is known when the whole configuration has been read.
pub struct ZoneUse {
    pub name: ngx_str_t,
    pub(super) place: Place,
    /// in [`MainConf::zones`]
    index: Cell<usize>,
    zone: OnceCell<Rc<Zone>>,
}

impl ZoneUse {
    /// As the directive that is being read names it.
    pub(super) fn named(cf: &Conf<'_>, name: &[u8]) -> ZoneUse {
        ZoneUse { name: text(name), place: cf.place(), index: Cell::new(usize::MAX), zone: OnceCell::new() }
    }

    /// The zone was found, at this place in [`MainConf::zones`].
    pub(super) fn set(&self, index: usize, zone: &Rc<Zone>) {
        self.index.set(index);
        // called once
        let _ = self.zone.set(zone.clone());
    }

    /// The place of the zone in [`MainConf::zones`], once the whole configuration has been read.
    #[inline]
    pub fn index(&self) -> usize {
        self.index.get()
    }

    /// The zone, once the whole configuration has been read.
    #[inline]
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.get().map(|zone| &**zone)
    }
}

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
