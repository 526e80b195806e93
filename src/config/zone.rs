//! `request_cpu_zone KEY zone=NAME:SIZE [state=FILE] [active_threshold=N%|CORES];`

use core::cell::OnceCell;
use core::ffi::CStr;
use core::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use accounting::parameters::{Form, Text};
use accounting::table::{ACTIVE_THRESHOLD_NS, Table};
use accounting::threshold::parse_active_threshold;
use nginx_sys::{NGX_CONF_2MORE, NGX_HTTP_MAIN_CONF, ngx_str_t};

use crate::config::attached::Attached;
use crate::config::key::Key;
use crate::config::main::MainConf;
use crate::config::{parameters, state_path};
use crate::nginx::conf::{Conf, parse_size, text};
use crate::nginx::directive::{Directive, Refusal};
use crate::nginx::shared_memory::{self, Init, page_bytes};

/// A zone of the configuration.
pub struct Zone {
    pub name: ngx_str_t,
    /// as written, to be compared on reload
    pub key_text: ngx_str_t,
    pub key: Key,
    pub size_bytes: usize,
    /// set when the shared memory is there
    pub table: OnceCell<Table>,
    /// the file that its counters are kept in
    state: Option<PathBuf>,
    /// seconds with so much CPU count as active, in nanoseconds
    pub active_threshold_ns: u64,
    /// where the table is, and what becomes of the file
    pub attached: Attached,
}

impl Zone {
    /// Its accounts; `None` until the shared memory is there.
    #[inline]
    pub fn table(&self) -> Option<Table> {
        self.table.get().copied()
    }

    /// The path of its state file, if it has one. It is no symbolic link.
    pub fn state_path(&self) -> Option<&Path> {
        self.state.as_deref()
    }
}

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
