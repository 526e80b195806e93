//! An NGINX module that tells, in nanoseconds of CPU, what each request cost, and whose it was.
//!
//! This file is only the wiring. The layers below it; none imports from one above it:
//!
//! - [`export`]: variables, the status endpoint, the traffic log; [`persist`]: counters that outlive a reload, an upgrade, a restart;
//! - [`charge`]: requests, accounts and limits, which laps are added to;
//! - [`measure`]: from an event to its owner and to a lap; beside it [`config`]: directives;
//! - [`nginx`]: NGINX's structures, typed, with their bit fields where the C compiler places them.
//!
//! All state of a worker belongs to its one thread that runs the event loop. The pure part is the crate `accounting`.

// the only public items are the names that NGINX looks for, which a macro makes
#![allow(missing_docs)]

use core::ptr::{addr_of, addr_of_mut};

use charge::{process, worker};
use config::conf;
use export::{traffic_log, variables};
use nginx::cycle::Cycle;
use nginx_sys::{
    NGX_HTTP_MODULE, NGX_OK, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_cycle_t, ngx_http_module_t,
    ngx_int_t, ngx_module_t, ngx_process, ngx_uint_t,
};
use persist::{state, zones};

#[cfg(feature = "audit")]
mod audit;
mod charge;
mod config;
mod export;
mod measure;
mod nginx;
mod persist;

static MODULE_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(variables::preconfiguration),
    postconfiguration: Some(conf::postconfiguration),
    create_main_conf: Some(conf::create_main_conf),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(conf::create_loc_conf),
    merge_loc_conf: Some(conf::merge_loc_conf),
};

// NGINX finds a module's descriptor by its own name, and writes its place among the modules into it
ngx::ngx_modules!(ngx_http_request_cpu_module);

#[allow(non_upper_case_globals)]
#[used]
static mut ngx_http_request_cpu_module: ngx_module_t = ngx_module_t {
    ctx: addr_of!(MODULE_CONTEXT).cast_mut().cast(),
    commands: addr_of_mut!(conf::COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(zones::init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    exit_master: Some(exit_master),
    ..ngx_module_t::default()
};

/// Called by `ngx_worker_process_init` and its like.
unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    let done = NGX_OK as ngx_int_t;
    // SAFETY: NGINX sets it before it calls.
    let kind = unsafe { ngx_process };
    // SAFETY: NGINX calls with the cycle that this process serves, and that lives as long as the process.
    let Some(its) = (unsafe { Cycle::new(cycle) }) else { return done };
    if kind != NGX_PROCESS_SINGLE as ngx_uint_t {
        conf::main_conf(its).map(zones::close_descriptors);
    }
    // cache manager and loader come here too
    let serves = kind == NGX_PROCESS_WORKER as ngx_uint_t || kind == NGX_PROCESS_SINGLE as ngx_uint_t;
    let Some(main) = conf::main_conf(its).filter(|main| serves && main.measured) else { return done };
    // SAFETY: NGINX's cycle; `ngx_event_process_init` has run, since its module comes before dynamic ones.
    if unsafe { process::start(main, cycle, zones::workers(main), exit_process) } {
        state::start(main, its.log());
        traffic_log::start(main, its);
        process::hook();
    }
    done
}

/// Called by `ngx_worker_process_exit` and its like, and with null when another cycle begins in this process.
unsafe extern "C" fn exit_process(cycle: *mut ngx_cycle_t) {
    process::leave();
    state::stop();
    traffic_log::stop(!cycle.is_null());
    worker::stop();
}

/// Called by `ngx_master_process_exit`, when all workers are gone.
unsafe extern "C" fn exit_master(cycle: *mut ngx_cycle_t) {
    // SAFETY: the cycle is there until its pool is destroyed.
    let Some(cycle) = (unsafe { Cycle::new(cycle) }) else { return };
    let Some(main) = conf::main_conf(cycle) else { return };
    zones::conclude(main);
    // at the same time: each may have to wait for a disk
    let saving = state::Saving::start(main.zones(), cycle.log());
    traffic_log::exit_master(main, cycle);
    if saving.finish() {
        state::remove_locks(main, cycle.log());
    }
    main.stage.set(conf::Stage::Over);
}

/// The module's descriptor.
fn module() -> *mut ngx_module_t {
    addr_of_mut!(ngx_http_request_cpu_module)
}

/// `NGX_MODULE_UNSET_INDEX`
const UNSET_INDEX: ngx_uint_t = ngx_uint_t::MAX;

/// Gives the module a place among the HTTP modules, if `http` has not done that.
///
/// Where `http` is not configured, no HTTP module gets a place. If the next cycle has `http` but not this module,
/// `ngx_count_modules` takes the unset place of the cycle before for the largest one, and returns 0: the master dies at the
/// reload. This holds for each dynamic HTTP module; this one is in nobody's way.
fn take_context_index(cycle: Cycle<'_>) {
    // SAFETY: called by `ngx_init_modules`, in the one thread that reads configurations. A place that is set is kept by
    // `ngx_count_modules`.
    unsafe {
        if (*module()).ctx_index == UNSET_INDEX {
            (*module()).ctx_index = cycle.free_context_index();
        }
    }
}

/// The module's place in the arrays of contexts and configurations of HTTP modules.
#[inline]
fn context_index() -> usize {
    // SAFETY: `ngx_http_block` sets it while the configuration is read; after that it is only read.
    unsafe { (*module()).ctx_index }
}
