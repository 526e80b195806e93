//! The configuration that NGINX is reading.

use core::ffi::{c_char, c_void};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut, without_provenance_mut};
use core::slice;

use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_WARN, NGX_OK, ngx_conf_full_name, ngx_conf_open_file, ngx_conf_t, ngx_cycle_t,
    ngx_http_compile_complex_value, ngx_http_compile_complex_value_t, ngx_http_complex_value_t,
    ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_main_conf_t, ngx_http_core_module,
    ngx_http_get_variable_index, ngx_int_t, ngx_log_t, ngx_parse_size, ngx_parse_time, ngx_pool_cleanup_add,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_str_t, ngx_uint_t,
};
use ngx::{ngx_conf_log_error, ngx_log_error};

use crate::nginx::content::ContentHandler;
use crate::nginx::cycle::Cycle;
use crate::nginx::file::OpenFile;
use crate::nginx::module::{self, Descriptor, MainConfiguration, Module};

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

/// A text in NGINX's form.
pub fn text(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
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

    fn get(&self) -> &ngx_conf_t {
        // SAFETY: as the caller of `new` says.
        unsafe { self.cf.as_ref() }
    }

    fn cycle(&self) -> *mut ngx_cycle_t {
        self.get().cycle
    }

    /// The name and the arguments of the directive that is being read.
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: `ngx_conf_handler` calls with an array of strings that no handler changes. The strings are in the
        // configuration's pool.
        let args: &[ngx_str_t] = unsafe {
            let args = &*self.get().args;
            slice::from_raw_parts(args.elts.cast(), args.nelts)
        };
        args.iter().map(|arg| {
            // SAFETY: as above.
            if arg.len == 0 { &[][..] } else { unsafe { slice::from_raw_parts(arg.data, arg.len) } }
        })
    }

    /// Where the directive is that is being read. There is a file: directives of `http` cannot be in `-g`.
    pub fn place(&self) -> Place {
        // SAFETY: the file that is being read.
        let file = unsafe { &*self.get().conf_file };
        Place { file: file.file.name, line: file.line }
    }

    /// The error log.
    pub fn log(&self) -> *mut ngx_log_t {
        self.get().log
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

    /// Keeps a value in the configuration's pool, to be dropped with it. Values that were kept later are dropped first.
    ///
    /// # Errors
    /// There is no memory.
    fn keep<T>(&self, value: T) -> Result<NonNull<T>, Failed> {
        // SAFETY: as `drop_value` gets it, `data` is what is written below. `ngx_destroy_pool` calls this once, before it frees the
        // memory.
        unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
            // SAFETY: as above.
            unsafe { data.cast::<T>().drop_in_place() }
        }
        const { assert!(align_of::<T>() <= align_of::<usize>()) }
        // SAFETY: the pool is valid, and what it gives out is aligned to a word (`NGX_ALIGNMENT`).
        unsafe {
            let cleanup = ngx_pool_cleanup_add(self.get().pool, size_of::<T>()).as_mut().ok_or(Failed)?;
            let place = NonNull::new(cleanup.data.cast::<T>()).ok_or(Failed)?;
            place.write(value);
            cleanup.handler = Some(drop_value::<T>);
            Ok(place)
        }
    }

    /// A new configuration of this module's, for NGINX; null if there is no memory.
    pub fn make<T: Default>(&self) -> *mut c_void {
        self.keep(T::default()).map_or(null_mut(), |made| made.as_ptr().cast())
    }

    /// Calls `f` when NGINX gives this configuration up, with its cycle: before anything that was kept until now is dropped.
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
                // SAFETY: the cycle is in the pool that is being destroyed, which frees its memory after all cleanups.
                if let Some(cycle) = unsafe { Cycle::new(self.cycle) } {
                    (self.f)(cycle);
                }
            }
        }
        self.keep(End { cycle: self.cycle(), f }).map(drop)
    }

    /// Adds shared memory of this module's, by a name that is copied, and keeps a value for it. `None` if there is such memory already.
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
        // SAFETY: `cf` is valid, and its cycle lives as long as the configuration. The tag is this module's, so that no other module's
        // zone is taken for ours.
        let zone = unsafe {
            let mut name = ngx_str_t::from_bytes(self.get().pool, name).ok_or(Failed)?;
            let tag = Module::descriptor().cast();
            ngx_shared_memory_add(self.cf.as_ptr(), &mut name, bytes, tag).as_mut().ok_or(Failed)?
        };
        if !zone.data.is_null() {
            return Ok(None);
        }
        zone.init = Some(init);
        zone.data = self.keep(value)?.as_ptr().cast();
        Ok(Some(()))
    }

    /// A path relative to NGINX's prefix, as a whole.
    ///
    /// # Errors
    /// There is no memory.
    pub fn full_name(&self, path: &[u8]) -> Result<ngx_str_t, Failed> {
        let mut name = text(path);
        // SAFETY: the cycle is valid; `name` is set to a string in the configuration's pool.
        let status = unsafe { ngx_conf_full_name(self.cycle(), &mut name, 0) };
        if status == NGX_OK as ngx_int_t { Ok(name) } else { Err(Failed) }
    }

    /// A file that NGINX opens with all others, and reopens on USR1.
    ///
    /// # Errors
    /// There is no memory.
    pub fn open_file(&self, path: &[u8]) -> Result<OpenFile, Failed> {
        // SAFETY: the cycle is valid. The file lives as long as the configuration.
        unsafe { OpenFile::new(ngx_conf_open_file(self.cycle(), &mut text(path))) }.ok_or(Failed)
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
        // SAFETY: all zero is what NGINX's modules start from too; `ngx_http_compile_complex_value` fills the value, or logs
        // why it cannot.
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

    fn context(&self) -> &'a ngx_http_conf_ctx_t {
        // SAFETY: within `http`, it is an `ngx_http_conf_ctx_t`, whose configurations are all created.
        unsafe { &*self.get().ctx.cast() }
    }

    /// The module's configuration in `http`.
    pub fn main_conf<T: MainConfiguration>(&self) -> Option<&'a T> {
        // SAFETY: the module is in the cycle that calls it back.
        unsafe { module::element(self.context().main_conf) }
    }

    /// What a server is known by: the one that the place is in that is being read or merged.
    pub fn server(&self) -> *const c_void {
        self.context().srv_conf.cast()
    }

    /// The core module's configuration in `http`.
    pub fn core(&mut self) -> &mut ngx_http_core_main_conf_t {
        // SAFETY: the core module has one at its place. `self` is borrowed, so that there is no other reference to it.
        unsafe { &mut *(*self.context().main_conf.add(ngx_http_core_module.ctx_index)).cast() }
    }

    fn core_location(&mut self) -> &mut ngx_http_core_loc_conf_t {
        // SAFETY: as in `core`.
        unsafe { &mut *(*self.context().loc_conf.add(ngx_http_core_module.ctx_index)).cast() }
    }

    /// Sets what answers requests in the location that is being read.
    pub fn set_handler(&mut self, handler: ContentHandler) {
        self.core_location().handler = Some(handler);
    }

    /// Whether something follows the answers of the location that is being merged. `ngx_http_merge_locations` and
    /// `ngx_http_merge_servers` name the location; the core module has merged its own configuration before.
    pub fn has_post_action(&mut self) -> bool {
        !self.core_location().post_action.data.is_null()
    }
}
