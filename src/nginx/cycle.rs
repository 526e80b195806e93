//! A cycle: one configuration that NGINX has read. Processes serve it.

use core::ffi::{CStr, c_char};
use core::ptr::null_mut;

use nginx_sys::{ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module, ngx_log_t, ngx_module_t, ngx_str_t};

use crate::nginx::callback::Argument;
use crate::nginx::live::{Live, get};
use crate::nginx::log;
use crate::nginx::module::{self, MainConfiguration, Module};

/// A cycle that is complete, or that is being made and whose configuration was read.
///
/// A cycle need not contain this module: it may have been made before the module was loaded, without `http`, or with
/// another copy of the module. Then its arrays have no element for the module. So the module's configuration is only
/// accessible through [`Cycle::http_main_conf`], which checks the cycle's modules first. The cycle itself is private.
#[derive(Clone, Copy)]
pub struct Cycle<'a>(Live<'a, ngx_cycle_t>);

impl<'a> Cycle<'a> {
    /// A cycle whose configuration was read. `None` for `init_cycle` in NGINX's main function, which has no
    /// configuration (`ngx_is_init_cycle`).
    pub(super) fn of(cycle: Live<'a, ngx_cycle_t>) -> Option<Cycle<'a>> {
        (!get!(cycle, conf_ctx).is_null()).then_some(Cycle(cycle))
    }

    pub(super) fn live(self) -> Live<'a, ngx_cycle_t> {
        self.0
    }

    /// Calls `f` with the cycle in use. `None` until the first configuration is in use.
    ///
    /// While NGINX reads a configuration (`ngx_init_cycle`), the previous cycle is in use.
    pub fn with_running<R>(f: impl FnOnce(Option<Cycle<'_>>) -> R) -> R {
        let running = global!(ngx_cycle);
        // SAFETY: `ngx_cycle` is null or a complete cycle: `main` and `ngx_master_process_cycle` set it after
        // `ngx_init_cycle` has returned. NGINX destroys a cycle only in `ngx_init_cycle` of a later one, which `f` does
        // not call.
        f(unsafe { Live::new(running) }.and_then(Cycle::of))
    }

    /// Calls `f` with the previous cycle, while that still exists (`ngx_init_modules`).
    pub fn with_previous<R>(self, f: impl FnOnce(Option<Cycle<'_>>) -> R) -> R {
        f(self.0.previous().and_then(Cycle::of))
    }

    /// The modules of this cycle, dynamic ones included.
    fn modules(self) -> impl ExactSizeIterator<Item = Live<'a, ngx_module_t>> {
        let first: *mut *mut ngx_module_t = get!(self.0, modules);
        let count = if first.is_null() { 0 } else { get!(self.0, modules_n) };
        // SAFETY: `ngx_cycle_modules` makes the array. `ngx_add_module` adds elements to it and counts them. Modules
        // live as long as a cycle that contains them.
        (0..count).map(move |at| unsafe { Live::at(*first.add(at)) })
    }

    /// Whether this copy of this module is part of the cycle.
    pub fn has_module(self) -> bool {
        self.modules().any(|its| its == Module::live())
    }

    /// Whether another copy of this module is part of the cycle: a library of the same name, loaded from
    /// another path.
    pub fn has_other_copy(self) -> bool {
        let own = Module::live();
        self.modules().any(|its| its != own && name(its) == name(own))
    }

    /// The module of this name, if it is part of the cycle.
    pub(super) fn module_named(self, wanted: &CStr) -> Option<Live<'a, ngx_module_t>> {
        self.modules().find(|module| name(*module) == Some(wanted))
    }

    /// Gives this module an index among the HTTP modules, if `http` has not done that.
    ///
    /// If `http` is not configured, no HTTP module gets an index. If the next cycle has `http` but not this module,
    /// `ngx_count_modules` takes the unset index of the previous cycle for the largest one, and returns 0. Then the
    /// master dies at the reload. This is so for each dynamic HTTP module. With an index, this module does not cause
    /// it.
    pub fn set_context_index(self) {
        module::set_context_index(|| self.free_context_index());
    }

    /// An index among the contexts and configurations of HTTP modules. No module of this cycle has this index, and none
    /// will be given it first.
    ///
    /// `ngx_module_ctx_index` gives out the lowest free indexes, so each index that it gives out is less than the
    /// number of modules.
    fn free_context_index(self) -> usize {
        let is_taken = |&index: &usize| self.modules().any(|its| module::has_index(its, index));
        (self.modules().len()..).find(|index| !is_taken(index)).unwrap_or(usize::MAX)
    }

    /// This module's configuration in `http`. `None` if this cycle does not contain this copy of the module, or has no
    /// `http`.
    pub fn http_main_conf<T: MainConfiguration>(self) -> Option<&'a T> {
        if !self.has_module() {
            return None;
        }
        // SAFETY: `conf_ctx` has an element for each core module, `http` among them (`ngx_init_cycle`).
        // `ngx_http_block` has put an array there. That array has an element for each HTTP module of this cycle, this
        // module included.
        unsafe {
            let http = *get!(self.0, conf_ctx).add(ngx_http_module.index);
            module::element(http.cast::<ngx_http_conf_ctx_t>().as_ref()?.main_conf)
        }
    }

    /// Calls `f` with a log that writes to the same file as the cycle's log, even if NGINX has closed the cycle's
    /// files: see [`log::reopened`].
    pub fn with_reopened_log(self, f: impl FnOnce(*mut ngx_log_t)) {
        log::reopened(self.0.log(), f);
    }

    /// The name of this machine.
    pub fn hostname(self) -> ngx_str_t {
        get!(self.0, hostname)
    }

    /// The error log of the cycle.
    pub fn log(self) -> *mut ngx_log_t {
        get!(self.0, log)
    }
}

/// The error log of the cycle in use, in a process that serves one.
pub(super) fn running_log() -> *mut ngx_log_t {
    Cycle::with_running(|cycle| cycle.map_or(null_mut(), Cycle::log))
}

/// `None` is null, or a cycle without a configuration.
impl Argument for Option<Cycle<'_>> {
    type C = *mut ngx_cycle_t;

    #[inline(always)]
    unsafe fn of(c: *mut ngx_cycle_t) -> Self {
        // SAFETY: As for `Live`, or the pointer is null. NGINX calls no function of this module with a cycle whose
        // configuration is being read.
        unsafe { Live::new(c) }.and_then(Cycle::of)
    }
}

/// The identity of a cycle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CycleId(*const ngx_cycle_t);

impl CycleId {
    /// The identity of the cycle in use.
    pub fn running() -> CycleId {
        CycleId(global!(ngx_cycle))
    }
}

/// The name of a module.
fn name<'a>(module: Live<'a, ngx_module_t>) -> Option<&'a CStr> {
    let name: *mut c_char = get!(module, name);
    // SAFETY: The name is a string that ends with a null. It lives as long as the module (`ngx_add_module`,
    // `ngx_preinit_modules`).
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })
}
