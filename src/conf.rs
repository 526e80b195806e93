//! Directives: what they mean, and how wrong ones are refused.

use core::cell::{Cell, OnceCell};
use core::ffi::{c_char, c_void};
use core::ops::RangeInclusive;
use core::ptr::{self, null, null_mut};
use core::slice;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use accounting::billing::LOGS;
use accounting::meter::{Mode, parse_max_error};
use accounting::render::Detail;
use accounting::render::negotiate::Content;
use accounting::table::{ACTIVE_THRESHOLD_NS, Table};
use accounting::threshold::parse_active_threshold;
use accounting::traffic;
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_2MORE, NGX_CONF_ANY, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_ERROR,
    NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET,
    NGX_HTTP_SRV_CONF, NGX_LOG_EMERG, NGX_LOG_WARN, NGX_OK, ngx_command_t, ngx_conf_full_name,
    ngx_conf_open_file, ngx_conf_t, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t,
    ngx_http_complex_value_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_main_conf_t,
    ngx_http_core_module, ngx_http_get_variable_index, ngx_int_t, ngx_pagesize, ngx_parse_size,
    ngx_parse_time, ngx_pcalloc, ngx_pool_cleanup_add, ngx_shared_memory_add, ngx_str_t, ngx_uint_t,
};
use ngx::{ngx_conf_log_error, ngx_string};

use crate::accounts::AccountSet;
use crate::limit::{self, LimitAccounts, LimitConf};
use crate::memory::Memory;
use crate::nginx::array::Array;
use crate::nginx::cycle::Cycle;
use crate::nginx::thread::{PATIENCE, within};
use crate::state::StateFile;
use crate::traffic_log::{self, Log};
use crate::{advice, context_index, module, request, state, status, variables, zones};

/// A request is counted in at most so many zones.
pub const MAX_ZONES_PER_REQUEST: usize = 8;

/// Of the traffic log, in milliseconds.
const DEFAULT_INTERVAL_MS: u64 = 60_000;
const INTERVALS_MS: RangeInclusive<u64> = 1000..=traffic::MAX_INTERVAL_MS;

const EMPTY_COMMAND: ngx_command_t = ngx_command_t::empty();

pub static mut COMMANDS: [ngx_command_t; 8] = [
    ngx_command_t {
        name: ngx_string!("request_cpu_zone"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_CONF_2MORE) as ngx_uint_t,
        set: Some(request_cpu_zone),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        ..EMPTY_COMMAND
    },
    ngx_command_t {
        name: ngx_string!("request_cpu"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_1MORE) as ngx_uint_t,
        set: Some(request_cpu),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        ..EMPTY_COMMAND
    },
    ngx_command_t {
        name: ngx_string!("request_cpu_clock"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE12) as ngx_uint_t,
        set: Some(request_cpu_clock),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        ..EMPTY_COMMAND
    },
    ngx_command_t {
        name: ngx_string!("request_cpu_status"),
        type_: (NGX_HTTP_LOC_CONF | NGX_CONF_ANY) as ngx_uint_t,
        set: Some(request_cpu_status),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        ..EMPTY_COMMAND
    },
    ngx_command_t {
        name: ngx_string!("request_cpu_limit"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_1MORE) as ngx_uint_t,
        set: Some(limit::request_cpu_limit),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        ..EMPTY_COMMAND
    },
    ngx_command_t {
        name: ngx_string!("request_cpu_limit_log_level"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1) as ngx_uint_t,
        set: Some(limit::request_cpu_limit_log_level),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        ..EMPTY_COMMAND
    },
    ngx_command_t {
        name: ngx_string!("request_cpu_log"),
        type_: (NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE) as ngx_uint_t,
        set: Some(request_cpu_log),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        ..EMPTY_COMMAND
    },
    EMPTY_COMMAND,
];

/// `NGX_CONF_OK`
const CONF_OK: *mut c_char = null_mut();
/// `NGX_CONF_ERROR`: the reason has been logged.
const CONF_ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);

/// Why a directive is refused; written to the error log with the file and the line.
#[derive(Debug)]
pub enum Refusal {
    Memory,
    Message(String),
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal::Message(message)
    }
}

/// A zone of the configuration.
pub struct Zone {
    pub name: ngx_str_t,
    /// as written, to be compared on reload
    pub key_text: ngx_str_t,
    pub key: Key,
    pub size_bytes: usize,
    /// set when the shared memory is there
    pub table: OnceCell<Table>,
    /// where the table is; none if it is in NGINX's zone
    pub memory: OnceCell<Memory>,
    /// the file that its counters are kept in
    pub state: Option<StateFile>,
    /// seconds with so much CPU count as active, in nanoseconds
    pub active_threshold_ns: u64,
}

impl Zone {
    /// Its accounts; `None` until the shared memory is there.
    #[inline]
    pub fn table(&self) -> Option<Table> {
        self.table.get().copied()
    }

    /// The path of its state file, if it has one.
    pub fn state_path(&self) -> Option<&Path> {
        self.state.as_ref().map(StateFile::path)
    }
}

/// How the key of a request is found.
pub enum Key {
    /// `$server_name`, which is a constant of the server: its account need not be looked up each time
    ServerName(ngx_uint_t),
    /// one variable, by its index: its value is used where it is
    Variable(ngx_uint_t),
    /// `$host` or `$http_host`, as a variable: requests without a value, which clients can send, have the overflow account
    Host(ngx_uint_t),
    /// text and variables
    Complex(ngx_http_complex_value_t),
}

/// A zone that a `request_cpu` or a `request_cpu_limit` names; its place is known when the whole configuration has been read.
pub struct ZoneUse {
    pub name: ngx_str_t,
    file: ngx_str_t,
    line: ngx_uint_t,
    /// in [`MainConf::zones`]
    index: Cell<usize>,
    zone: Cell<*const Zone>,
}

/// What is configured in `http`. In the configuration's pool.
#[repr(C)]
pub struct MainConf {
    /// In the configuration's pool, as all that is meant by a pointer here.
    zones: Array<*const Zone>,
    /// of all `request_cpu`
    uses: Array<Array<ZoneUse>>,
    /// of all places with `request_cpu_limit`
    pub limits: Array<Array<LimitConf>>,
    logs: Array<*const Log>,
    clock_set: bool,
    pub clock: Mode,
    /// the first zone of the first location whose configuration was merged; null if it has none
    zones_somewhere: Option<*const ZoneUse>,
    /// whether it makes a difference which locations a request goes through: not all have the same zones, or one has `post_action`
    ways_differ: bool,
    /// whether anything of this module is used, so that requests must be measured
    pub measured: bool,
    /// whether the clock must be read where a request takes over from its connection
    pub connection_variable: bool,
    /// where the workers' worker totals are; null if nothing is measured
    pub workers: *const zones::WorkersZone,
    pub places: Array<advice::Place>,
    /// what has become of this configuration
    pub stage: Cell<Stage>,
}

/// What has become of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is being read and tried. If that fails, nothing of it has had an effect.
    Tried,
    /// It is in use, or was.
    Used,
    /// Its counters are in the hands of another configuration, or were saved.
    Over,
}

/// What is configured in a location. In the configuration's pool.
#[repr(C)]
pub struct LocConf {
    /// empty means inherited, or none
    uses: Array<ZoneUse>,
    off: bool,
    pub status: StatusConf,
    /// whether this is a location with `request_cpu_status`, or in one
    pub in_status: bool,
    /// empty means inherited, or none
    pub limits: Array<LimitConf>,
    /// in [`MainConf::limits`]
    pub limits_place: u16,
    pub limits_off: bool,
    /// whether requests that read the status are not checked: the limits are those of levels above its location
    pub limits_spare_status: bool,
    /// at which refusals are logged; none means inherited, or the default
    pub limit_log_level: Option<ngx_uint_t>,
    /// As `known`, for the limits.
    pub limit_accounts: OnceCell<(*mut *mut c_void, LimitAccounts)>,
    /// The accounts of all requests here, and their server's `srv_conf`, if that alone decides. Set by a worker, for itself.
    pub known: OnceCell<(*mut *mut c_void, AccountSet)>,
}

/// Parameters of `request_cpu_status`.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatusConf {
    set: bool,
    /// none: the client's choice
    pub content: Option<Content>,
    /// unless the client names another
    pub detail: Detail,
}

impl MainConf {
    pub fn zones(&self) -> impl ExactSizeIterator<Item = &Zone> + Clone {
        // SAFETY: zones are in the pool that this is in (`own`), and are only changed through cells.
        self.zones.as_slice().iter().map(|&zone| unsafe { &*zone })
    }

    pub fn logs(&self) -> impl ExactSizeIterator<Item = &Log> + Clone {
        // SAFETY: as zones.
        self.logs.as_slice().iter().map(|&log| unsafe { &*log })
    }
}

impl LocConf {
    /// The zones that a request is counted in.
    pub fn zones(&self) -> &[ZoneUse] {
        self.uses.as_slice()
    }

    /// The limits that a request is checked against.
    pub fn limits(&self) -> &[LimitConf] {
        self.limits.as_slice()
    }
}

impl ZoneUse {
    /// As the directive that is being read names it.
    pub fn named(cf: &ngx_conf_t, name: ngx_str_t) -> ZoneUse {
        // SAFETY: the file that is being read; it has a name, but for `-g`, where directives of `http` cannot be.
        let (file, line) = unsafe { ((*cf.conf_file).file.name, (*cf.conf_file).line) };
        ZoneUse { name, file, line, index: Cell::new(usize::MAX), zone: Cell::new(null()) }
    }

    /// The place of the zone in [`MainConf::zones`], once the whole configuration has been read.
    #[inline]
    pub fn index(&self) -> usize {
        self.index.get()
    }

    /// The zone, once the whole configuration has been read.
    #[inline]
    pub fn zone(&self) -> Option<&Zone> {
        // SAFETY: null, or a zone of the configuration that this is part of.
        unsafe { self.zone.get().as_ref() }
    }
}

fn allocate<T>(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: NGINX calls with a valid `cf`. All zero is valid for the types that this is used for.
    unsafe { ngx_pcalloc((*cf).pool, size_of::<T>()) }
}

/// Puts a value into the configuration's pool, to be dropped with it. `None` if there is no memory.
pub fn own<T>(cf: &ngx_conf_t, value: T) -> Option<*mut T> {
    // SAFETY: as `drop_value` gets it, `data` is what is written here.
    unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
        // SAFETY: as below; `ngx_destroy_pool` calls this once, before it frees the memory.
        unsafe { data.cast::<T>().drop_in_place() }
    }
    const { assert!(align_of::<T>() <= align_of::<usize>()) }
    // SAFETY: the pool is valid, and what it gives out is aligned to a word (`NGX_ALIGNMENT`).
    unsafe {
        let cleanup = ngx_pool_cleanup_add(cf.pool, size_of::<T>()).as_mut()?;
        let place = cleanup.data.cast::<T>();
        place.write(value);
        cleanup.handler = Some(drop_value::<T>);
        Some(place)
    }
}

pub unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    let conf = allocate::<MainConf>(cf).cast::<MainConf>();
    if !conf.is_null() {
        // SAFETY: just allocated.
        unsafe {
            conf.write(MainConf {
                zones: Array::EMPTY,
                uses: Array::EMPTY,
                limits: Array::EMPTY,
                logs: Array::EMPTY,
                zones_somewhere: None,
                ways_differ: false,
                clock_set: false,
                clock: Mode::default(),
                measured: false,
                connection_variable: false,
                workers: null(),
                stage: Cell::new(Stage::Tried),
                places: Array::EMPTY,
            });
        }
    }
    conf.cast()
}

pub unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    let conf = allocate::<LocConf>(cf).cast::<LocConf>();
    if !conf.is_null() {
        // SAFETY: just allocated.
        unsafe {
            conf.write(LocConf {
                uses: Array::EMPTY,
                off: false,
                status: StatusConf::default(),
                in_status: false,
                limits: Array::EMPTY,
                limits_place: 0,
                limits_off: false,
                limits_spare_status: false,
                limit_log_level: None,
                limit_accounts: OnceCell::new(),
                known: OnceCell::new(),
            })
        };
    }
    conf.cast()
}

pub unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    prev: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: NGINX hands over what `create_loc_conf` made, of two different levels.
    let (cf, prev, conf) = unsafe { (&mut *cf, &*prev.cast::<LocConf>(), &mut *conf.cast::<LocConf>()) };
    if conf.uses.is_empty() && !conf.off {
        conf.uses = prev.uses;
        conf.off = prev.off;
    }
    if conf.limits.is_empty() && !conf.limits_off {
        conf.limits = prev.limits;
        conf.limits_place = prev.limits_place;
        conf.limits_off = prev.limits_off;
        conf.limits_spare_status = conf.status.set || prev.limits_spare_status;
    }
    conf.in_status = conf.status.set || prev.in_status;
    if !conf.status.set {
        // for an `if` in the location, which has a configuration of its own, but the handler of the location
        // (`ngx_http_update_location_config`); other locations have other handlers
        conf.status = StatusConf { set: false, ..prev.status };
    }
    conf.limit_log_level = conf.limit_log_level.or(prev.limit_log_level);
    // SAFETY: `ngx_http_merge_locations` and `ngx_http_merge_servers` name the location whose configurations are merged; the core
    // module has merged its own before.
    let has_action = unsafe { request::has_post_action((*cf.ctx.cast::<ngx_http_conf_ctx_t>()).loc_conf) };
    let zones = conf.zones().first().map_or(null(), ptr::from_ref);
    let noted = while_parsing(cf, |main, cf| {
        main.ways_differ |= has_action || *main.zones_somewhere.get_or_insert(zones) != zones;
        advice::note(cf, main, conf)
    });
    match noted {
        Some(()) => CONF_OK,
        None => CONF_ERROR,
    }
}

/// The main configuration of the module in a cycle; none without `http`, or if the cycle does not have this copy of the module.
pub fn main_conf(cycle: Cycle<'_>) -> Option<&MainConf> {
    // SAFETY: `create_main_conf` has made it; what changes after the configuration was read is in cells.
    unsafe { cycle.http_main_conf(module()) }
}

/// Calls `f` with the main configuration in use, if it has one.
pub fn with_running<R>(f: impl FnOnce(Option<&MainConf>) -> R) -> R {
    Cycle::with_running(|cycle| f(cycle.and_then(main_conf)))
}

/// The module's configuration of the location that a request is in.
///
/// # Safety
/// `r` must be a request that NGINX has created.
pub unsafe fn loc_conf<'a>(r: *mut nginx_sys::ngx_http_request_t) -> &'a LocConf {
    // SAFETY: every location has one, made by `create_loc_conf`.
    unsafe { &*(*(*r).loc_conf.add(context_index())).cast::<LocConf>() }
}

/// Runs the body of a directive and logs its refusal.
pub fn directive(
    cf: *mut ngx_conf_t,
    body: impl FnOnce(&mut ngx_conf_t, &[ngx_str_t]) -> Result<(), Refusal>,
) -> *mut c_char {
    // SAFETY: NGINX calls with the directive and its arguments as strings, in an array that no handler changes.
    let (cf, args) = unsafe {
        let args = &*(*cf).args;
        (&mut *cf, slice::from_raw_parts(args.elts.cast::<ngx_str_t>(), args.nelts))
    };
    match body(cf, args) {
        Ok(()) => CONF_OK,
        Err(Refusal::Memory) => CONF_ERROR,
        Err(Refusal::Message(message)) => {
            ngx_conf_log_error!(NGX_LOG_EMERG, cf, "{message}");
            CONF_ERROR
        }
    }
}

/// `request_cpu_zone KEY zone=NAME:SIZE [state=FILE] [active_threshold=N%|CORES];`
unsafe extern "C" fn request_cpu_zone(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `conf` is the main configuration, as the command table says; `cmd` is an entry of it.
    let (main, directive_name) = unsafe { (&mut *conf.cast::<MainConf>(), (*cmd).name) };
    directive(cf, |cf, args| {
        let mut place: Option<(ngx_str_t, usize)> = None;
        let mut state = None;
        let mut active_threshold_ns = None;
        for arg in &args[2..] {
            let duplicate =
                || Err(Refusal::from(format!("duplicate parameter \"{arg}\" in \"{directive_name}\"")));
            if let Some(value) = arg.strip_prefix("zone=") {
                if place.is_some() {
                    return duplicate();
                }
                place = Some(parse_zone(&value, &directive_name)?);
            } else if let Some(value) = arg.strip_prefix("state=") {
                if state.is_some() {
                    return duplicate();
                }
                state = Some(parse_state(cf, value, main, &directive_name)?);
            } else if let Some(value) = arg.strip_prefix("active_threshold=") {
                let Some(ns) = parse_active_threshold(value.as_bytes()) else {
                    return Err(format!(
                        "invalid threshold \"{value}\" in \"{directive_name}\", \
                         it must be cores from 0 to 100, or a percentage of one"
                    )
                    .into());
                };
                if active_threshold_ns.replace(ns).is_some() {
                    return duplicate();
                }
            } else {
                return Err(format!("invalid parameter \"{arg}\" in \"{directive_name}\"").into());
            }
        }
        let Some((mut name, size_bytes)) = place else {
            return Err(format!("\"{directive_name}\" must have \"zone\" parameter").into());
        };
        let mut value = args[1];
        let key_text = value;
        let key = key(cf, &mut value)?;
        // SAFETY: `cf` is valid; the tag is this module's, so that no other module's zone is taken for ours.
        let shm = unsafe { ngx_shared_memory_add(cf, &mut name, size_bytes, module().cast()).as_mut() };
        let shm = shm.ok_or(Refusal::Memory)?;
        if !shm.data.is_null() {
            return Err(format!("zone \"{name}\" in \"{directive_name}\" is duplicate").into());
        }
        let active_threshold_ns = active_threshold_ns.unwrap_or(ACTIVE_THRESHOLD_NS);
        let (table, memory) = (OnceCell::new(), OnceCell::new());
        let zone = Zone { name, key_text, key, size_bytes, table, memory, state, active_threshold_ns };
        let zone = own(cf, zone).ok_or(Refusal::Memory)?;
        shm.init = Some(zones::init_zone);
        shm.data = zone.cast();
        main.zones.push(cf, zone.cast_const()).ok_or(Refusal::Memory)
    })
}

/// `NAME:SIZE`
fn parse_zone(value: &ngx_str_t, directive: &ngx_str_t) -> Result<(ngx_str_t, usize), Refusal> {
    let bytes = value.as_bytes();
    let Some(colon) = bytes.iter().position(|&byte| byte == b':') else {
        return Err(format!("invalid zone size \"\" in \"{directive}\": \"zone={value}\" has no size").into());
    };
    let Some((name, rest)) = value.split_at(colon) else {
        return Err(Refusal::Memory);
    };
    if name.is_empty() {
        return Err(format!("invalid zone name \"\" in \"{directive}\"").into());
    }
    let Some(mut size) = rest.strip_prefix(":") else {
        return Err(Refusal::Memory);
    };
    // SAFETY: `ngx_parse_size` only reads the string.
    let bytes = unsafe { ngx_parse_size(&mut size) };
    let Some(bytes) = usize::try_from(bytes).ok().filter(|&bytes| bytes > 0) else {
        return Err(format!("invalid zone size \"{size}\" in \"{directive}\"").into());
    };
    // SAFETY: set when NGINX starts.
    let least = 8 * unsafe { ngx_pagesize };
    if bytes < least {
        return Err(format!(
            "invalid zone size \"{size}\" in \"{directive}\": zone \"{name}\" is too small, it takes at least {}k",
            least / 1024
        )
        .into());
    }
    Ok((name, bytes))
}

/// The file of `state=FILE`: relative to NGINX's prefix, as other paths.
fn parse_state(
    cf: &mut ngx_conf_t,
    value: ngx_str_t,
    main: &MainConf,
    directive: &ngx_str_t,
) -> Result<StateFile, Refusal> {
    let refuse =
        |what: &str| Err(Refusal::from(format!("invalid state file \"{value}\" in \"{directive}\": {what}")));
    if value.is_empty() {
        return refuse("it has no name");
    }
    let mut name = value;
    // SAFETY: `cf` is valid; `ngx_conf_full_name` sets `name` to a string in the configuration's pool.
    if unsafe { ngx_conf_full_name(cf.cycle, &mut name, 0) } != NGX_OK as ngx_int_t {
        return Err(Refusal::Memory);
    }
    // a worker may have another working directory
    let path = std::path::absolute(OsStr::from_bytes(name.as_bytes()))
        .map_err(|error| format!("invalid state file \"{value}\" in \"{directive}\": {error}"))?;
    let folder = path.parent().filter(|_| path.file_name().is_some() && !value.as_bytes().ends_with(b"/"));
    if folder.is_none() {
        return refuse("it is a folder");
    }
    let path = match within(PATIENCE, move || state_path(&path)) {
        Some(Ok(path)) => path,
        Some(Err(what)) => return refuse(&what),
        None => return refuse(state::NO_ANSWER),
    };
    if !state::has_room_for_names(&path) {
        return refuse("its name is too long");
    }
    let has_it = |other: &&Zone| other.state.as_ref().is_some_and(|state| state.path() == path);
    if let Some(other) = main.zones().find(has_it) {
        return refuse(&format!("zone \"{}\" has it", other.name));
    }
    Ok(StateFile::new(path))
}

/// Where the file of a `state` is, or why there can be none. It may have to wait for a disk.
fn state_path(path: &Path) -> Result<PathBuf, String> {
    match path.parent().map(fs::metadata) {
        Some(Ok(found)) if !found.is_dir() => return Err("its folder is a file".to_string()),
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err("its folder does not exist".to_string());
        }
        // what others may do there, who start and run NGINX, is not known yet
        _ => {}
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err("it is a folder".to_string()),
        Ok(found) if !found.is_file() => return Err("it is not a regular file".to_string()),
        _ => {}
    }
    state::resolve(path).map_err(|error| error.to_string())
}

/// The key of a zone, as it is written.
fn key(cf: &mut ngx_conf_t, text: &mut ngx_str_t) -> Result<Key, Refusal> {
    let Some(name) = single_variable(text.as_bytes()) else {
        return compile(cf, text).map(Key::Complex);
    };
    let mut name = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
    // SAFETY: `cf` is valid; the name is copied, in lower case, if it is new.
    let index = unsafe { ngx_http_get_variable_index(cf, &mut name) };
    let index = ngx_uint_t::try_from(index).map_err(|_| Refusal::Memory)?;
    let is = |other: &[u8]| name.as_bytes().eq_ignore_ascii_case(other);
    Ok(match index {
        _ if is(b"server_name") => Key::ServerName(index),
        _ if is(b"host") || is(b"http_host") => Key::Host(index),
        _ => Key::Variable(index),
    })
}

/// The name in `$name` or `${name}`, if there is nothing else. Captures (`$1`) are not variables.
fn single_variable(text: &[u8]) -> Option<&[u8]> {
    let name = text.strip_prefix(b"$")?;
    let name = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
    let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (is_name && name.first().is_some_and(|first| !first.is_ascii_digit())).then_some(name)
}

pub fn compile(cf: &mut ngx_conf_t, value: &mut ngx_str_t) -> Result<ngx_http_complex_value_t, Refusal> {
    // SAFETY: all zero is what NGINX's modules start from too; `ngx_http_compile_complex_value` fills the value, or logs
    // why it cannot.
    unsafe {
        let mut complex: ngx_http_complex_value_t = core::mem::zeroed();
        let mut compile: ngx_http_compile_complex_value_t = core::mem::zeroed();
        compile.cf = cf;
        compile.value = value;
        compile.complex_value = &mut complex;
        if ngx_http_compile_complex_value(&mut compile) == NGX_OK as ngx_int_t {
            Ok(complex)
        } else {
            Err(Refusal::Memory)
        }
    }
}

/// `request_cpu zone=NAME …;` or `request_cpu off;`
unsafe extern "C" fn request_cpu(
    cf: *mut ngx_conf_t,
    _cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `conf` is a location's configuration, as the command table says.
    let loc = unsafe { &mut *conf.cast::<LocConf>() };
    directive(cf, |cf, args| {
        let before = loc.zones().len();
        for arg in &args[1..] {
            if arg.as_bytes() == b"off" {
                if args.len() > 2 || before > 0 {
                    return Err("\"off\" cannot be combined with zones in \"request_cpu\""
                        .to_string()
                        .into());
                }
                if loc.off {
                    return Err("\"request_cpu off\" is duplicate".to_string().into());
                }
                loc.off = true;
                continue;
            }
            let Some(name) = arg.strip_prefix("zone=").filter(|name| !name.is_empty()) else {
                return Err(format!("invalid parameter \"{arg}\" in \"request_cpu\"").into());
            };
            if loc.off {
                return Err(
                    format!("\"zone={name}\" cannot be combined with \"off\" in \"request_cpu\"").into()
                );
            }
            if loc.zones().iter().any(|used| used.name == name) {
                return Err(format!("zone \"{name}\" in \"request_cpu\" is duplicate").into());
            }
            if loc.zones().len() == MAX_ZONES_PER_REQUEST {
                return Err(format!(
                    "too many zones in \"request_cpu\": \"{name}\" is one more than {MAX_ZONES_PER_REQUEST}"
                )
                .into());
            }
            loc.uses.push(cf, ZoneUse::named(cf, name)).ok_or(Refusal::Memory)?;
        }
        if before == 0 && !loc.uses.is_empty() {
            while_parsing(cf, |main, cf| main.uses.push(cf, loc.uses)).ok_or(Refusal::Memory)?;
        }
        Ok(())
    })
}

/// Calls `f` with the module's main configuration while `http` is being read, by a directive that was not given it.
pub fn while_parsing<R>(cf: &mut ngx_conf_t, f: impl FnOnce(&mut MainConf, &mut ngx_conf_t) -> R) -> R {
    // SAFETY: within `http`, `cf.ctx` is an `ngx_http_conf_ctx_t` whose main configurations are all created. NGINX's parser has
    // one thread, and calls one handler at a time: those of `http` get this configuration themselves, and do not call this.
    // `f` has no other way to it.
    let main =
        unsafe { &mut *(*(*cf.ctx.cast::<ngx_http_conf_ctx_t>()).main_conf.add(context_index())).cast() };
    f(main, cf)
}

/// `request_cpu_clock thread;` or `request_cpu_clock hybrid [max_error=TIME];`
unsafe extern "C" fn request_cpu_clock(
    cf: *mut ngx_conf_t,
    _cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `conf` is the main configuration, as the command table says.
    let main = unsafe { &mut *conf.cast::<MainConf>() };
    directive(cf, |_cf, args| {
        if core::mem::replace(&mut main.clock_set, true) {
            return Err("\"request_cpu_clock\" is duplicate".to_string().into());
        }
        main.clock = match args[1].as_bytes() {
            b"thread" => Mode::Thread,
            b"hybrid" => Mode::default(),
            _ => {
                return Err(format!(
                    "invalid clock \"{}\" in \"request_cpu_clock\", it must be \"hybrid\" or \"thread\"",
                    args[1]
                )
                .into());
            }
        };
        let Some(arg) = args.get(2) else { return Ok(()) };
        let (Mode::Hybrid { max_error_ns }, Some(value)) = (&mut main.clock, arg.strip_prefix("max_error="))
        else {
            return Err(format!("invalid parameter \"{arg}\" in \"request_cpu_clock\"").into());
        };
        *max_error_ns = parse_max_error(value.as_bytes()).ok_or_else(|| {
            format!("invalid time \"{arg}\" in \"request_cpu_clock\", it must be from 1us to 10ms")
        })?;
        Ok(())
    })
}

/// `request_cpu_status [format=auto|json|prometheus|html] [detail=full|low];`
unsafe extern "C" fn request_cpu_status(
    cf: *mut ngx_conf_t,
    _cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `conf` is a location's configuration, as the command table says.
    let loc = unsafe { &mut *conf.cast::<LocConf>() };
    directive(cf, |cf, args| {
        let refuse = |arg: &ngx_str_t, allowed: &str| {
            Err(Refusal::from(format!(
                "invalid parameter \"{arg}\" in \"request_cpu_status\", it must be {allowed}"
            )))
        };
        if core::mem::replace(&mut loc.status.set, true) {
            return Err("\"request_cpu_status\" is duplicate".to_string().into());
        }
        let (mut format_set, mut detail_set) = (false, false);
        for arg in &args[1..] {
            if let Some(value) = arg.strip_prefix("format=") {
                if core::mem::replace(&mut format_set, true) {
                    return Err(format!("duplicate parameter \"{arg}\" in \"request_cpu_status\"").into());
                }
                loc.status.content = match value.as_bytes() {
                    b"auto" => None,
                    name => match Content::from_name(name) {
                        Some(content) => Some(content),
                        None => return refuse(arg, "\"auto\", \"json\", \"prometheus\" or \"html\""),
                    },
                };
            } else if let Some(value) = arg.strip_prefix("detail=") {
                if core::mem::replace(&mut detail_set, true) {
                    return Err(format!("duplicate parameter \"{arg}\" in \"request_cpu_status\"").into());
                }
                loc.status.detail = match Detail::from_name(value.as_bytes()) {
                    Some(detail) => detail,
                    None => return refuse(arg, "\"full\" or \"low\""),
                };
            } else {
                return Err(format!("invalid parameter \"{arg}\" in \"request_cpu_status\"").into());
            }
        }
        // SAFETY: within a location, the core module's configuration of it is at its place.
        let core = unsafe {
            let ctx = &*cf.ctx.cast::<ngx_http_conf_ctx_t>();
            let index = ngx_http_core_module.ctx_index;
            &mut *(*ctx.loc_conf.add(index)).cast::<ngx_http_core_loc_conf_t>()
        };
        core.handler = Some(status::handler);
        Ok(())
    })
}

/// `request_cpu_log PATH zone=NAME [interval=TIME];`
unsafe extern "C" fn request_cpu_log(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: `conf` is the main configuration, as the command table says; `cmd` is an entry of it.
    let (main, directive_name) = unsafe { (&mut *conf.cast::<MainConf>(), (*cmd).name) };
    directive(cf, |cf, args| {
        let (mut zone, mut interval_ms) = (None, None);
        for arg in &args[2..] {
            let duplicate =
                || Err(Refusal::from(format!("duplicate parameter \"{arg}\" in \"{directive_name}\"")));
            if let Some(value) = arg.strip_prefix("zone=").filter(|value| !value.is_empty()) {
                if zone.replace(value).is_some() {
                    return duplicate();
                }
            } else if let Some(mut value) = arg.strip_prefix("interval=") {
                // SAFETY: `ngx_parse_time` only reads the string; 0: in milliseconds.
                let ms = unsafe { ngx_parse_time(&mut value, 0) };
                let Some(ms) = u64::try_from(ms).ok().filter(|ms| INTERVALS_MS.contains(ms)) else {
                    return Err(format!(
                        "invalid interval \"{value}\" in \"{directive_name}\", it must be from 1s to 3660d"
                    )
                    .into());
                };
                if interval_ms.replace(ms).is_some() {
                    return duplicate();
                }
            } else {
                return Err(format!("invalid parameter \"{arg}\" in \"{directive_name}\"").into());
            }
        }
        let mut path = args[1];
        check_log_path(&mut path, &directive_name)?;
        let Some(zone) = zone else {
            return Err(format!("\"{directive_name}\" must have \"zone\" parameter").into());
        };
        // SAFETY: `cf` is valid. NGINX opens the file with all others, and reopens it on USR1.
        let file = unsafe { ngx_conf_open_file(cf.cycle, &mut path).as_mut() }.ok_or(Refusal::Memory)?;
        let others = main.logs();
        // two writers could be at it, and what one of them is to mend after a kill would not be at the end any more
        if others.clone().any(|other| other.path == file.name) {
            return Err(format!("path \"{}\" in \"{directive_name}\" is that of another one", args[1]).into());
        }
        // accounts keep the peaks of so many
        if others.filter(|other| other.zone_name == zone).count() == LOGS {
            return Err(format!(
                "too many logs of zone \"{zone}\" in \"{directive_name}\": \"{}\" is one more than {LOGS}",
                args[1]
            )
            .into());
        }
        // SAFETY: the file that is being read; it has a name, but for `-g`, where directives of `http` cannot be.
        let place = unsafe { ((*cf.conf_file).file.name, (*cf.conf_file).line) };
        let interval_ms = interval_ms.unwrap_or(DEFAULT_INTERVAL_MS);
        let log = Log::new(conf.cast::<MainConf>(), file, file.name, zone, interval_ms, place);
        let log = own(cf, log).ok_or(Refusal::Memory)?;
        main.logs.push(cf, log.cast_const()).ok_or(Refusal::Memory)
    })
}

/// The file is opened once, for all requests; what `access_log` has beside files is not there.
fn check_log_path(path: &mut ngx_str_t, directive: &ngx_str_t) -> Result<(), Refusal> {
    let refuse =
        |what: &str| Err(Refusal::from(format!("invalid path \"{path}\" in \"{directive}\": {what}")));
    let bytes = path.as_bytes();
    if bytes.is_empty() {
        return refuse("it has no name");
    }
    if bytes.contains(&b'$') {
        return refuse("variables are not supported");
    }
    if bytes == b"off" {
        return refuse("there is no log without the directive; a file of that name is \"./off\"");
    }
    if bytes.starts_with(b"syslog:") {
        return refuse("syslog is not supported");
    }
    Ok(())
}

/// All directives have been read: `ngx_http_block` calls this before it sets up phases and variables.
pub unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a valid `cf`.
    let cf = unsafe { &mut *cf };
    match while_parsing(cf, complete) {
        Some(()) => NGX_OK as ngx_int_t,
        None => NGX_ERROR as ngx_int_t,
    }
}

/// `None` if the reason has been logged, or there is no memory.
fn complete(main: &mut MainConf, cf: &mut ngx_conf_t) -> Option<()> {
    resolve(cf, main)?;
    // SAFETY: within `http`, the core module's main configuration is at its place.
    let core = unsafe {
        let ctx = &*cf.ctx.cast::<ngx_http_conf_ctx_t>();
        &mut *(*ctx.main_conf.add(ngx_http_core_module.ctx_index)).cast::<ngx_http_core_main_conf_t>()
    };
    let used = variables::used(core);
    main.connection_variable = used.connection;
    main.measured = used.any || !main.uses.is_empty() || !main.limits.is_empty();
    if main.measured {
        // the last handler of a phase is called first (`ngx_http_init_phase_handlers`): where a request is counted is known before
        // a limit refuses it
        if !main.limits.is_empty() {
            limit::register(core).ok()?;
        }
        request::register(core, main.ways_differ).ok()?;
        main.workers = zones::add_workers(cf)?;
        advice::give(cf, core, main);
    }
    // last: nothing is written after that, so the pointer that is kept stays valid
    zones::watch_end(cf, main)
}

/// Finds the zones that are named; a zone may be defined after its use.
fn resolve(cf: &mut ngx_conf_t, main: &MainConf) -> Option<()> {
    let mut counted = vec![false; main.zones().len()];
    for used in main.uses.as_slice().iter().flat_map(Array::as_slice) {
        if let Some(counted) = counted.get_mut(resolve_use(cf, main, used, "request_cpu")?) {
            *counted = true;
        }
    }
    for LimitConf { used, .. } in main.limits.as_slice().iter().flat_map(Array::as_slice) {
        let index = resolve_use(cf, main, used, "request_cpu_limit")?;
        if counted.get(index) != Some(&true) {
            ngx::ngx_log_error!(
                NGX_LOG_WARN,
                cf.log,
                "zone \"{}\" in \"request_cpu_limit\" is in no \"request_cpu\", so nothing is used of the limit in {}:{}",
                used.name,
                used.file,
                used.line
            );
        }
    }
    for log in main.logs() {
        let Some(zone) = main.zones().find(|zone| zone.name == log.zone_name) else {
            let (file, line) = log.place;
            ngx::ngx_log_error!(
                NGX_LOG_EMERG,
                cf.log,
                "unknown zone \"{}\" in \"request_cpu_log\" in {file}:{line}",
                log.zone_name
            );
            return None;
        };
        log.zone.set(zone);
        traffic_log::add_memory(cf, log, zone)?;
    }
    Some(())
}

/// Returns the place of the zone that is named. `None` if there is no such zone, which has been logged.
fn resolve_use(cf: &ngx_conf_t, main: &MainConf, used: &ZoneUse, directive: &str) -> Option<usize> {
    let Some((index, zone)) = main.zones().enumerate().find(|(_, zone)| zone.name == used.name) else {
        // `cf` stands at the end of `http` by now: the place is the one that was kept
        ngx::ngx_log_error!(
            NGX_LOG_EMERG,
            cf.log,
            "unknown zone \"{}\" in \"{directive}\" in {}:{}",
            used.name,
            used.file,
            used.line
        );
        return None;
    };
    used.index.set(index);
    used.zone.set(zone);
    Some(index)
}
