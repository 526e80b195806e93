//! The configuration that NGINX is reading.

use core::ffi::{c_char, c_void};
use core::fmt;
use core::ptr::{self, null_mut, without_provenance_mut};

use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_WARN, NGX_OK, ngx_conf_open_file, ngx_conf_t, ngx_cycle_t,
    ngx_http_compile_complex_value, ngx_http_compile_complex_value_t, ngx_http_complex_value_t,
    ngx_http_conf_ctx_t, ngx_http_core_main_conf_t, ngx_int_t, ngx_log_t, ngx_shared_memory_add,
    ngx_shm_zone_t, ngx_str_t, ngx_uint_t,
};

use super::callback::{argument, callback};
use super::configurations::Configurations;
use super::content::ContentHandler;
use super::cycle::Cycle;
use super::error_log::{self, ngx_log_error};
use super::file::OpenFile;
use super::functions;
use super::live::{Live, get, set};
use super::module::{self, Configuration, Descriptor, LocationConfiguration, MainConfiguration, Module};
use super::pool::Pool;
use super::text::{Text, text};
use super::zero::zeroed;

/// `NGX_CONF_OK`
pub const CONF_OK: *mut c_char = null_mut();
/// `NGX_CONF_ERROR`: the reason has been logged.
pub const CONF_ERROR: *mut c_char = without_provenance_mut(usize::MAX);

/// There is no memory, or NGINX has logged another reason.
#[derive(Debug, Clone, Copy)]
pub struct Failed;

/// The position of a directive: file and line.
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
    usize::try_from(functions::parse_size(&mut Text::new(value))).ok()
}

/// A time such as `500ms`, in milliseconds.
pub fn parse_time_ms(value: &[u8]) -> Option<u64> {
    // 0 means that the result is in milliseconds.
    u64::try_from(functions::parse_time(&mut Text::new(value), 0)).ok()
}

/// The core module's configuration in `http`.
pub type Core<'a> = Live<'a, ngx_http_core_main_conf_t>;

/// The configuration that is being read, within `http`. Callbacks of NGINX get it.
pub struct Conf<'a>(Live<'a, ngx_conf_t>);

argument!(Conf: ngx_conf_t);

impl<'a> Conf<'a> {
    /// The argument of a callback within `http`. Its context is that of `http`, and all configurations of the context
    /// have been created.
    pub(super) fn of(cf: Live<'a, ngx_conf_t>) -> Conf<'a> {
        Conf(cf)
    }

    pub(super) fn live(&self) -> Live<'a, ngx_conf_t> {
        self.0
    }

    /// The name and the arguments of the directive that is being read.
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: This is an array of strings that no handler changes. It lives until the file has been read
        // (`ngx_conf_handler`). The strings are in the configuration's pool.
        unsafe { (*get!(self.0, args)).as_slice::<ngx_str_t>() }.iter().map(ngx_str_t::as_bytes)
    }

    /// The position of the directive that is being read.
    pub fn place(&self) -> Place {
        let file = self.0.file();
        Place { file: get!(file, file.name), line: get!(file, line) }
    }

    /// The error log.
    pub fn log(&self) -> *mut ngx_log_t {
        get!(self.0, log)
    }

    fn http(&self) -> Live<'a, ngx_http_conf_ctx_t> {
        // SAFETY: as `of` says.
        unsafe { Live::at(get!(self.0, ctx).cast()) }
    }

    fn pool(&self) -> Pool<'a> {
        Pool::of(self.0.pool())
    }

    /// Logs the reason why a directive is refused, with the directive's position.
    pub fn refuse(&mut self, message: &str) {
        // SAFETY: The configuration is being read.
        unsafe {
            error_log::write_with_position(
                NGX_LOG_EMERG as ngx_uint_t,
                self.0.as_ptr(),
                format_args!("{message}"),
            );
        };
    }

    /// Logs the reason why the whole configuration is refused.
    pub fn refuse_all(&self, message: fmt::Arguments<'_>) {
        ngx_log_error!(NGX_LOG_EMERG, self.log(), "{message}");
    }

    /// Logs a warning about the whole configuration.
    pub fn warn(&self, message: fmt::Arguments<'_>) {
        ngx_log_error!(NGX_LOG_WARN, self.log(), "{message}");
    }

    /// Calls `f` with the configuration's cycle when NGINX discards this configuration. The call comes before values
    /// are dropped that were kept earlier.
    ///
    /// # Errors
    /// There is no memory.
    pub fn at_end(&self, f: fn(Cycle<'_>)) -> Result<(), Failed> {
        struct End {
            cycle: *mut ngx_cycle_t,
            f: fn(Cycle<'_>),
        }
        impl Drop for End {
            fn drop(&mut self) {
                // SAFETY: The cycle is in the pool that is being destroyed. The pool's memory is freed after all
                // cleanups.
                if let Some(cycle) = unsafe { Live::new(self.cycle) }.and_then(Cycle::of) {
                    (self.f)(cycle);
                }
            }
        }
        self.pool().keep(End { cycle: get!(self.0, cycle), f }).map(drop).ok_or(Failed)
    }

    /// Adds shared memory of this module's, and keeps a value for it. The name is copied. Returns `None` if there is
    /// such memory already.
    ///
    /// # Errors
    /// There is no memory, or NGINX has logged another reason.
    pub(super) fn add_shared_memory<T: 'static>(
        &self,
        name: &[u8],
        bytes: usize,
        init: unsafe extern "C" fn(*mut ngx_shm_zone_t, *mut c_void) -> ngx_int_t,
        value: T,
    ) -> Result<Option<()>, Failed> {
        let mut name = text(self.pool().join(&[name]).ok_or(Failed)?);
        // The tag is this module's descriptor, so that memory of another module is never mistaken for ours.
        let tag = Module::descriptor().cast();
        // SAFETY: The name is in the configuration's pool. The memory's description lives as long as the configuration.
        let zone = unsafe { Live::new(ngx_shared_memory_add(self.0.as_ptr(), &mut name, bytes, tag)) };
        let zone = zone.ok_or(Failed)?;
        if !get!(zone, data).is_null() {
            return Ok(None);
        }
        set!(zone, init, Some(init));
        set!(zone, data, ptr::from_ref(self.pool().keep(value).ok_or(Failed)?).cast_mut().cast());
        Ok(Some(()))
    }

    /// The full path for a path relative to NGINX's prefix.
    ///
    /// # Errors
    /// There is no memory.
    pub fn full_name(&self, path: &[u8]) -> Result<ngx_str_t, Failed> {
        let mut name = Text::new(path);
        let status = functions::conf_full_name(self.0.cycle(), &mut name, 0);
        if status == NGX_OK as ngx_int_t { Ok(name.get()) } else { Err(Failed) }
    }

    /// A file that NGINX opens with all other files of the configuration, and reopens on USR1.
    ///
    /// # Errors
    /// There is no memory.
    pub fn open_file(&self, path: &[u8]) -> Result<OpenFile, Failed> {
        let with_end = self.pool().join(&[path, b"\0"]).ok_or(Failed)?;
        let mut name = ngx_str_t { len: path.len(), data: with_end.as_mut_ptr() };
        // SAFETY: The name is in the configuration's pool, and ends with a null. The file's description lives as long
        // as the configuration.
        unsafe { OpenFile::new(ngx_conf_open_file(get!(self.0, cycle), &mut name)) }.ok_or(Failed)
    }

    /// The index of a variable. The variable may be defined later.
    ///
    /// # Errors
    /// There is no memory.
    pub fn variable(&mut self, name: &[u8]) -> Result<ngx_uint_t, Failed> {
        ngx_uint_t::try_from(functions::variable_index(self.0, &mut Text::new(name))).map_err(|_| Failed)
    }

    /// A text with variables.
    ///
    /// # Errors
    /// There is no memory, or NGINX has logged another reason.
    pub fn compile(&mut self, value: &[u8]) -> Result<ngx_http_complex_value_t, Failed> {
        let mut complex: ngx_http_complex_value_t = zeroed();
        let mut compile: ngx_http_compile_complex_value_t = zeroed();
        let mut value = text(value);
        compile.cf = self.0.as_ptr();
        compile.value = &raw mut value;
        compile.complex_value = &raw mut complex;
        // SAFETY: The function fills the complex value, whose parts are in the configuration's pool, or logs the reason
        // of a failure.
        let status = unsafe { ngx_http_compile_complex_value(&mut compile) };
        if status == NGX_OK as ngx_int_t { Ok(complex) } else { Err(Failed) }
    }

    /// The module's configuration in `http`.
    pub fn main_conf<T: MainConfiguration>(&self) -> Option<&'a T> {
        // SAFETY: A cycle that calls the module back contains the module.
        unsafe { module::element(get!(self.http(), main_conf)) }
    }

    /// The identity of the server to which the block belongs that is being read or merged.
    pub fn server(&self) -> *const c_void {
        get!(self.http(), srv_conf).cast()
    }

    /// The configurations of the location that is being merged.
    pub fn location(&self) -> Configurations {
        Configurations::merged(get!(self.http(), loc_conf).cast_const())
    }

    /// The cycle that is being made.
    pub(super) fn cycle(&self) -> Option<Cycle<'a>> {
        Cycle::of(self.0.cycle())
    }

    /// The core module's configuration in `http`.
    pub fn core(&self) -> Core<'a> {
        self.http().core_main_conf()
    }

    /// Sets the function that answers requests in the location that is being read.
    pub fn set_handler(&mut self, handler: ContentHandler) {
        set!(self.http().core_loc_conf(), handler, Some(handler));
    }

    /// Whether the location that is being merged has a `post_action`. `ngx_http_merge_locations` and
    /// `ngx_http_merge_servers` set the context to this location. The core module has merged its own configuration
    /// before.
    pub fn has_post_action(&self) -> bool {
        !get!(self.http().core_loc_conf(), post_action.data).is_null()
    }
}

/// A configuration that is created with its default values.
pub trait MadeByDefault: Configuration + Default + 'static {}

impl<T: Configuration + Default + 'static> MadeByDefault for T {}

/// A location's configuration that inherits from the level above.
pub trait Inherit: LocationConfiguration {
    /// Inherits values that are not set here from the level above.
    ///
    /// # Errors
    /// There is no memory.
    fn merge(&self, cf: &mut Conf<'_>, above: &Self) -> Result<(), Failed>;
}

callback! {
    /// `create_main_conf` and `create_loc_conf` of a module.
    pub fn create<T: MadeByDefault>(cf: Live<'_, ngx_conf_t>) -> *mut c_void {
        // The argument is not made a `Conf`: `ngx_http_block` sets the context only after it has called
        // `create_main_conf` and its like.
        Pool::of(cf.pool()).keep(T::default()).map_or(null_mut(), |made| ptr::from_ref(made).cast_mut().cast())
    }
}

callback! {
    /// `merge_loc_conf` of a module. [`create`] has made both configurations, for two levels.
    pub fn merge<T: Inherit>(cf: Conf<'_>, above: Option<&T>, conf: Option<&T>) -> *mut c_char {
        let mut cf = cf;
        let (Some(above), Some(conf)) = (above, conf) else { return CONF_ERROR };
        if conf.merge(&mut cf, above).is_ok() { CONF_OK } else { CONF_ERROR }
    }
}
