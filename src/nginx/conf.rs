//! The configuration that NGINX is reading.

use core::ffi::{c_char, c_void};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut, without_provenance_mut};

use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_WARN, NGX_OK, ngx_conf_file_t, ngx_conf_full_name, ngx_conf_open_file, ngx_conf_t,
    ngx_cycle_t, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t, ngx_http_complex_value_t,
    ngx_http_conf_ctx_t, ngx_http_core_main_conf_t, ngx_http_get_variable_index, ngx_int_t, ngx_log_t,
    ngx_parse_size, ngx_parse_time, ngx_pool_cleanup_add, ngx_pool_t, ngx_shared_memory_add, ngx_shm_zone_t,
    ngx_str_t, ngx_uint_t,
};
use ngx::http::{HttpModuleLocationConf, HttpModuleMainConf, NgxHttpCoreModule};
use ngx::{ngx_conf_log_error, ngx_log_error};

use crate::nginx::content::ContentHandler;
use crate::nginx::cycle::Cycle;
use crate::nginx::file::OpenFile;
use crate::nginx::module::{
    self, Configuration, Descriptor, LocationConfiguration, MainConfiguration, Module,
};
use crate::nginx::text::text;

/// `NGX_CONF_OK`
pub const CONF_OK: *mut c_char = null_mut();
/// `NGX_CONF_ERROR`: the reason has been logged.
pub const CONF_ERROR: *mut c_char = without_provenance_mut(usize::MAX);

/// There is no memory, or NGINX has logged another reason.
#[derive(Debug, Clone, Copy)]
pub struct Failed;

/// Where a directive is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    file: ngx_str_t,
    line: ngx_uint_t,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A size such as `8m`, in bytes.
pub fn parse_size(value: &[u8]) -> Option<usize> {
    // SAFETY: `ngx_parse_size` only reads the string.
    usize::try_from(unsafe { ngx_parse_size(&mut text(value)) }).ok()
}

/// A time such as `500ms`, in milliseconds.
pub fn parse_time_ms(value: &[u8]) -> Option<u64> {
    // SAFETY: `ngx_parse_time` only reads the string; 0: in milliseconds.
    u64::try_from(unsafe { ngx_parse_time(&mut text(value), 0) }).ok()
}

/// What NGINX hands over.
struct Parts<'a> {
    args: &'a [ngx_str_t],
    file: &'a ngx_conf_file_t,
    context: &'a ngx_http_conf_ctx_t,
    cycle: *mut ngx_cycle_t,
    pool: *mut ngx_pool_t,
    log: *mut ngx_log_t,
}

/// The configuration that is being read, within `http`, as a callback of NGINX gets it.
pub struct Conf<'a> {
    cf: NonNull<ngx_conf_t>,
    of: PhantomData<&'a mut ngx_conf_t>,
}

impl<'a> Conf<'a> {
    /// `None` for null.
    ///
    /// # Safety
    /// `cf` must be what NGINX calls back with, within `http`, and nothing else may use it for `'a`.
    pub unsafe fn new(cf: *mut ngx_conf_t) -> Option<Conf<'a>> {
        Some(Conf { cf: NonNull::new(cf)?, of: PhantomData })
    }

    fn parts(&self) -> Parts<'a> {
        // SAFETY: as the caller of `new` says. `ngx_conf_handler` calls with an array of strings that no
        // handler changes, and that is there until the file has been read; the strings are in the
        // configuration's pool. There is a file: directives of `http` cannot be in `-g`. Within `http`, the
        // context is an `ngx_http_conf_ctx_t`, whose configurations are all created.
        unsafe {
            let cf = self.cf.as_ref();
            let (args, context) = ((*cf.args).as_slice(), &*cf.ctx.cast());
            Parts { args, file: &*cf.conf_file, context, cycle: cf.cycle, pool: cf.pool, log: cf.log }
        }
    }

    /// The name and the arguments of the directive that is being read.
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> {
        self.parts().args.iter().map(ngx_str_t::as_bytes)
    }

    /// Where the directive is that is being read.
    pub fn place(&self) -> Place {
        let file = self.parts().file;
        Place { file: file.file.name, line: file.line }
    }

    /// The error log.
    pub fn log(&self) -> *mut ngx_log_t {
        self.parts().log
    }

    /// Logs why a directive is refused, with its place.
    pub fn refuse(&mut self, message: &str) {
        ngx_conf_log_error!(NGX_LOG_EMERG, self.cf.as_ptr(), "{message}");
    }

    /// Logs why the whole configuration is refused.
    pub fn refuse_all(&self, message: fmt::Arguments<'_>) {
        ngx_log_error!(NGX_LOG_EMERG, self.log(), "{message}");
    }

    /// Warns of something in the whole configuration.
    pub fn warn(&self, message: fmt::Arguments<'_>) {
        ngx_log_error!(NGX_LOG_WARN, self.log(), "{message}");
    }

    /// Calls `f` when NGINX gives this configuration up, with its cycle: before anything that was kept until
    /// now is dropped.
    ///
    /// # Errors
    /// There is no memory.
    pub fn at_end(&self, f: fn(Cycle<'_>)) -> Result<(), Failed> {
        struct End {
            cycle: *const ngx_cycle_t,
            f: fn(Cycle<'_>),
        }
        impl Drop for End {
            fn drop(&mut self) {
                // SAFETY: the cycle is in the pool that is being destroyed, which frees its memory after all
                // cleanups.
                if let Some(cycle) = unsafe { Cycle::new(self.cycle) } {
                    (self.f)(cycle);
                }
            }
        }
        let Parts { cycle, pool, .. } = self.parts();
        // SAFETY: the pool of the configuration that is being read.
        unsafe { keep(pool, End { cycle, f }) }.map(drop)
    }

    /// Adds shared memory of this module's, by a name that is copied, and keeps a value for it. `None` if there
    /// is such memory already.
    ///
    /// # Errors
    /// There is no memory, or NGINX has logged another reason.
    pub(super) fn add_shared_memory<T>(
        &self,
        name: &[u8],
        bytes: usize,
        init: unsafe extern "C" fn(*mut ngx_shm_zone_t, *mut c_void) -> ngx_int_t,
        value: T,
    ) -> Result<Option<()>, Failed> {
        // SAFETY: `cf` is valid, and its cycle lives as long as the configuration. The tag is this module's, so
        // that no other module's zone is taken for ours.
        let zone = unsafe {
            let mut name = ngx_str_t::from_bytes(self.parts().pool, name).ok_or(Failed)?;
            let tag = Module::descriptor().cast();
            ngx_shared_memory_add(self.cf.as_ptr(), &mut name, bytes, tag).as_mut().ok_or(Failed)?
        };
        if !zone.data.is_null() {
            return Ok(None);
        }
        zone.init = Some(init);
        // SAFETY: the pool of the configuration that is being read.
        zone.data = unsafe { keep(self.parts().pool, value) }?.as_ptr().cast();
        Ok(Some(()))
    }

    /// A path relative to NGINX's prefix, as a whole.
    ///
    /// # Errors
    /// There is no memory.
    pub fn full_name(&self, path: &[u8]) -> Result<ngx_str_t, Failed> {
        let mut name = text(path);
        // SAFETY: the cycle is valid; `name` is set to a string in the configuration's pool.
        let status = unsafe { ngx_conf_full_name(self.parts().cycle, &mut name, 0) };
        if status == NGX_OK as ngx_int_t { Ok(name) } else { Err(Failed) }
    }

    /// A file that NGINX opens with all others, and reopens on USR1.
    ///
    /// # Errors
    /// There is no memory.
    pub fn open_file(&self, path: &[u8]) -> Result<OpenFile, Failed> {
        // SAFETY: the cycle is valid. The file lives as long as the configuration.
        unsafe { OpenFile::new(ngx_conf_open_file(self.parts().cycle, &mut text(path))) }.ok_or(Failed)
    }

    /// The index of a variable, which may be defined later.
    ///
    /// # Errors
    /// There is no memory.
    pub fn variable(&mut self, name: &[u8]) -> Result<ngx_uint_t, Failed> {
        // SAFETY: `cf` is valid; the name is copied, in lower case, if it is new.
        let index = unsafe { ngx_http_get_variable_index(self.cf.as_ptr(), &mut text(name)) };
        ngx_uint_t::try_from(index).map_err(|_| Failed)
    }

    /// A text with variables.
    ///
    /// # Errors
    /// There is no memory, or a reason that has been logged.
    pub fn compile(&mut self, value: &[u8]) -> Result<ngx_http_complex_value_t, Failed> {
        // SAFETY: all zero is what NGINX's modules start from too; `ngx_http_compile_complex_value` fills the
        // value, or logs why it cannot.
        unsafe {
            let mut complex: ngx_http_complex_value_t = core::mem::zeroed();
            let mut compile: ngx_http_compile_complex_value_t = core::mem::zeroed();
            let mut value = text(value);
            compile.cf = self.cf.as_ptr();
            compile.value = &mut value;
            compile.complex_value = &mut complex;
            let status = ngx_http_compile_complex_value(&mut compile);
            if status == NGX_OK as ngx_int_t { Ok(complex) } else { Err(Failed) }
        }
    }

    /// The module's configuration in `http`.
    pub fn main_conf<T: MainConfiguration>(&self) -> Option<&'a T> {
        // SAFETY: the module is in the cycle that calls it back.
        unsafe { module::element(self.parts().context.main_conf) }
    }

    /// What a server is known by: the one that the place is in that is being read or merged.
    pub fn server(&self) -> *const c_void {
        self.parts().context.srv_conf.cast()
    }

    /// The core module's configuration in `http`.
    ///
    /// # Errors
    /// There is none.
    pub fn core(&mut self) -> Result<&mut ngx_http_core_main_conf_t, Failed> {
        // `self` is borrowed, so that there is no other reference to it
        NgxHttpCoreModule::main_conf_mut(self.parts().context).ok_or(Failed)
    }

    /// Sets what answers requests in the location that is being read.
    pub fn set_handler(&mut self, handler: ContentHandler) {
        if let Some(core) = NgxHttpCoreModule::location_conf_mut(self.parts().context) {
            core.handler = Some(handler);
        }
    }

    /// Whether something follows the answers of the location that is being merged. `ngx_http_merge_locations` and
    /// `ngx_http_merge_servers` name the location; the core module has merged its own configuration before.
    pub fn has_post_action(&self) -> bool {
        let core = NgxHttpCoreModule::location_conf(self.parts().context);
        core.is_some_and(|core| !core.post_action.data.is_null())
    }
}

/// Keeps a value in a configuration's pool, to be dropped with it. Values that were kept later are dropped first.
///
/// # Errors
/// There is no memory.
///
/// # Safety
/// The pool must be a configuration's.
unsafe fn keep<T>(pool: *mut ngx_pool_t, value: T) -> Result<NonNull<T>, Failed> {
    // SAFETY: as `drop_value` gets it, `data` is what is written below. `ngx_destroy_pool` calls this once, before
    // it frees the memory.
    unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
        // SAFETY: as above.
        unsafe { data.cast::<T>().drop_in_place() }
    }
    const { assert!(align_of::<T>() <= align_of::<usize>()) }
    // SAFETY: as the caller says; what the pool gives out is aligned to a word (`NGX_ALIGNMENT`).
    unsafe {
        let cleanup = ngx_pool_cleanup_add(pool, size_of::<T>()).as_mut().ok_or(Failed)?;
        let place = NonNull::new(cleanup.data.cast::<T>()).ok_or(Failed)?;
        place.write(value);
        cleanup.handler = Some(drop_value::<T>);
        Ok(place)
    }
}

/// A configuration of a location, as it inherits.
pub trait Inherit: LocationConfiguration {
    /// Inherits what is not set here from the level above.
    ///
    /// # Errors
    /// There is no memory.
    fn merge(&self, cf: &mut Conf<'_>, above: &Self) -> Result<(), Failed>;
}

/// `create_main_conf` and `create_loc_conf` of a module.
pub unsafe extern "C" fn create<T: Configuration + Default>(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: NGINX calls with the configuration that is being read, which has a pool. No `Conf` is made of it:
    // `ngx_http_block` sets the context, which `Conf::parts` relies on, only after it has called `create_main_conf`
    // and its like.
    let made = unsafe { cf.as_ref().ok_or(Failed).and_then(|cf| keep(cf.pool, T::default())) };
    made.map_or(null_mut(), |made| made.as_ptr().cast())
}

/// `merge_loc_conf` of a module.
pub unsafe extern "C" fn merge<T: Inherit>(
    cf: *mut ngx_conf_t,
    above: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: NGINX calls within `http`, and hands over what `create` has made, of two levels.
    let (cf, above, conf) = unsafe { (Conf::new(cf), above.cast::<T>().as_ref(), conf.cast::<T>().as_ref()) };
    let (Some(mut cf), Some(above), Some(conf)) = (cf, above, conf) else { return CONF_ERROR };
    if conf.merge(&mut cf, above).is_ok() { CONF_OK } else { CONF_ERROR }
}
