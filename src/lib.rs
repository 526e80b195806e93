//! An NGINX module that measures the CPU time of each request in nanoseconds, and charges it to accounts.
//!
//! This file is only the wiring. The layers below it are listed from top to bottom. No layer imports from a layer above
//! it:
//!
//! - `export`: variables, the status endpoint, the traffic log. `persist`: counters that survive a reload, an upgrade,
//!   or a restart.
//! - `charge`: requests, accounts and limits. Laps are added to them.
//! - `measure`: from an event to its owner and to a lap. Beside it, `config`: the directives.
//! - `nginx`: typed access to NGINX's structures. Bit fields are at the positions that the C compiler gives them.
//!
//! All state of a worker belongs to one thread, which runs the event loop. Code that does not depend on NGINX is in the
//! crate `accounting`.

use core::ptr::{addr_of, addr_of_mut};

use charge::{limit, phases, process, worker};
use config::directives::request_cpu::RequestCpu;
use config::directives::request_cpu_clock::RequestCpuClock;
use config::directives::request_cpu_limit::{RequestCpuLimit, RequestCpuLimitLogLevel};
use config::directives::request_cpu_log::RequestCpuLog;
use config::directives::request_cpu_status::RequestCpuStatus;
use config::directives::request_cpu_zone::RequestCpuZone;
use config::location::LocConf;
use config::main::{MainConf, main_conf};
use config::{advice, resolve};
use export::status::handler::StatusAnswers;
use export::{traffic_log, variables};
use nginx::bits::initial;
use nginx::callback::callback;
use nginx::conf::{self, Conf, Failed};
use nginx::cycle::Cycle;
use nginx::directive::{self, command};
use nginx::module::{Descriptor, Module};
use nginx::process::{Role, role};
use nginx::served::ServedCycle;
use nginx_sys::{
    NGX_ERROR, NGX_HTTP_MODULE, NGX_OK, ngx_command_t, ngx_http_module_t, ngx_int_t, ngx_module_t, ngx_uint_t,
};
use persist::state::saver;
use persist::tables::Tables;
use persist::{lifecycle, memory, origin};

mod charge;
mod config;
mod export;
mod measure;
mod nginx;
mod persist;

// ---- data that NGINX looks up ----------------------------------------------------------------------------

static MODULE_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(variables::preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(conf::create::<MainConf>),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(conf::create::<LocConf>),
    merge_loc_conf: Some(conf::merge::<LocConf>),
};

static mut COMMANDS: [ngx_command_t; 8] = [
    command::<RequestCpuZone<Tables>>(),
    command::<RequestCpu>(),
    command::<RequestCpuClock>(),
    command::<RequestCpuStatus<StatusAnswers>>(),
    command::<RequestCpuLimit>(),
    command::<RequestCpuLimitLogLevel>(),
    command::<RequestCpuLog>(),
    directive::END,
];

/// The lists that `ngx_load_module` looks up by their names. A static module is in NGINX's own lists
/// (objs/ngx_modules.c), which have the same names.
#[cfg(not(feature = "static"))]
#[allow(non_upper_case_globals)]
mod lists {
    use core::ffi::c_char;
    use core::ptr::{addr_of_mut, null, null_mut};

    use nginx_sys::ngx_module_t;

    const MODULES: usize = 1;

    #[unsafe(no_mangle)]
    static mut ngx_modules: [*mut ngx_module_t; MODULES + 1] =
        [addr_of_mut!(super::ngx_http_request_cpu_module), null_mut()];

    #[unsafe(no_mangle)]
    static mut ngx_module_names: [*const c_char; MODULES + 1] =
        [c"ngx_http_request_cpu_module".as_ptr(), null()];

    // an empty list: the order of HTTP modules does not matter to this module
    #[unsafe(no_mangle)]
    static mut ngx_module_order: [*const c_char; 1] = [null()];
}

// NGINX finds a module's descriptor by its name, and writes the module's index into it.
#[allow(non_upper_case_globals)]
#[used]
#[cfg_attr(feature = "static", unsafe(no_mangle))]
static mut ngx_http_request_cpu_module: ngx_module_t = ngx_module_t {
    ctx: addr_of!(MODULE_CONTEXT).cast_mut().cast(),
    commands: addr_of_mut!(COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    exit_master: Some(exit_master),
    // as NGX_MODULE_V1 of the server's headers has them: in Angie, `spare1` is `angie_sign`
    spare0: initial::SPARE0,
    spare1: initial::SPARE1,
    version: initial::VERSION,
    ..ngx_module_t::default()
};

impl Descriptor for Module {
    #[inline]
    fn descriptor() -> *mut ngx_module_t {
        addr_of_mut!(ngx_http_request_cpu_module)
    }
}

// ---- reading a configuration -----------------------------------------------------------------------------

callback! {
    /// All directives have been read. `ngx_http_block` calls this before it sets up phases and variables.
    fn postconfiguration(cf: Conf<'_>) -> ngx_int_t {
        let mut cf = cf;
        if complete(&mut cf).is_ok() { NGX_OK as ngx_int_t } else { NGX_ERROR as ngx_int_t }
    }
}

fn complete(cf: &mut Conf<'_>) -> Result<(), Failed> {
    let main: &MainConf = cf.main_conf().ok_or(Failed)?;
    resolve::resolve(cf, main)?;
    traffic_log::memory::add(cf, main)?;
    let used = variables::used(cf.core());
    main.set_use_of_variables(used.any, used.connection);
    if main.is_measured() {
        // NGINX calls the last handler of a phase first (`ngx_http_init_phase_handlers`). So the accounts of a request
        // are known before a limit refuses it.
        if main.has_limits() {
            limit::check::register(cf.core()).ok_or(Failed)?;
        }
        phases::register(cf.core(), main.ways_differ()).ok_or(Failed)?;
        lifecycle::add_workers(cf, main)?;
    }
    advice::give(cf, main)?;
    // This comes last, so that NGINX calls it first, before anything of this configuration is freed.
    cf.at_end(end_configuration)
}

/// NGINX discards a configuration.
fn end_configuration(cycle: Cycle<'_>) {
    if let Some(main) = main_conf(cycle) {
        lifecycle::end(main, cycle, |is_gone, log| traffic_log::last::end(main, cycle, is_gone, log));
    }
}

// ---- start and end of processes --------------------------------------------------------------------------

callback! {
    /// `ngx_init_modules` calls this when a configuration is complete and can no longer fail.
    fn init_module(cycle: Option<Cycle<'_>>) -> ngx_int_t {
        let Some(cycle) = cycle else { return NGX_OK as ngx_int_t };
        if origin::is_new_binary() {
            memory::close_inherited();
        }
        cycle.set_context_index();
        let main = main_conf(cycle);
        cycle.with_previous(|before| {
            let before = before.and_then(main_conf);
            lifecycle::begin(main, before, cycle, || traffic_log::last::begin(main, before, cycle));
        });
        NGX_OK as ngx_int_t
    }
}

callback! {
    /// `ngx_worker_process_init` and its like call this with the cycle that this process serves.
    fn init_process(cycle: Option<Cycle<'_>>) -> ngx_int_t {
        if let Some(cycle) = cycle {
            begin_process(cycle);
        }
        NGX_OK as ngx_int_t
    }
}

fn begin_process(cycle: Cycle<'_>) {
    let Some(main) = main_conf(cycle) else { return };
    let role = role();
    if role != Role::Single {
        lifecycle::close_descriptors(main);
        traffic_log::log::close_descriptors(main);
    }
    // Cache manager and cache loader call this too.
    if !matches!(role, Role::Worker | Role::Single) || !main.is_measured() {
        return;
    }
    // SAFETY: This is the cycle that this process serves, and it lives as long as the process. `ngx_event_process_init`
    // has run, since event modules come before those of HTTP.
    let served = unsafe { ServedCycle::new(cycle) };
    if process::start(main, served, lifecycle::workers(main), end_process) {
        saver::start(main, cycle.log());
        traffic_log::writer::start(main, cycle);
        process::hook();
    }
}

callback! {
    /// `ngx_worker_process_exit` and its like call this.
    fn exit_process(_cycle: Option<Cycle<'_>>) {
        end_process(true);
    }
}

/// This process ends, or another cycle begins in it. `is_current`: the process still serves the cycle with which it
/// began.
fn end_process(is_current: bool) {
    process::leave();
    saver::stop();
    traffic_log::writer::stop(is_current);
    worker::stop();
}

callback! {
    /// `ngx_master_process_exit` calls this when all workers have ended.
    fn exit_master(cycle: Option<Cycle<'_>>) {
        let Some(cycle) = cycle else { return };
        if let Some(main) = main_conf(cycle) {
            lifecycle::exit_master(main, cycle, || traffic_log::last::exit_master(main, cycle));
        }
    }
}
