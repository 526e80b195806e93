//! Directives, as NGINX's table of commands has them.

use core::ffi::{CStr, c_char};

use nginx_sys::{ngx_command_t, ngx_str_t, ngx_uint_t};

use crate::nginx::callback::callback;
use crate::nginx::conf::{CONF_ERROR, CONF_OK, Conf, Failed};
use crate::nginx::module::Configuration;

/// Why a directive is refused.
#[derive(Debug)]
pub enum Refusal {
    /// There is no memory, or the reason has been logged.
    Failed,
    /// To be written to the error log with the file and the line.
    Message(String),
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal::Message(message)
    }
}

impl From<Failed> for Refusal {
    fn from(_: Failed) -> Self {
        Refusal::Failed
    }
}

/// A directive of this module's.
pub trait Directive {
    /// The configuration that it is part of.
    type Conf: Configuration;
    const NAME: &'static CStr;
    /// Where it may be, and with how many arguments: `NGX_HTTP_…_CONF` and `NGX_CONF_…`.
    const TYPE: u32;

    /// Reads it.
    ///
    /// # Errors
    /// Why it is refused.
    fn set(cf: &mut Conf<'_>, conf: &Self::Conf) -> Result<(), Refusal>;

    /// Its name in messages.
    fn name() -> &'static str {
        Self::NAME.to_str().unwrap_or_default()
    }
}

/// What NGINX has to know of a directive.
pub const fn command<D: Directive>() -> ngx_command_t {
    let name = D::NAME.to_bytes();
    ngx_command_t {
        name: ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() },
        type_: D::TYPE as ngx_uint_t,
        set: Some(set::<D>),
        conf: D::Conf::OFFSET,
        ..ngx_command_t::empty()
    }
}

/// The end of a table of commands.
pub const END: ngx_command_t = ngx_command_t::empty();

callback! {
    /// The table of commands names the configuration, which is of this type.
    fn set<D: Directive>(cf: Conf<'_>, _cmd: *mut ngx_command_t, conf: Option<&D::Conf>) -> *mut c_char {
        let mut cf = cf;
        let Some(conf) = conf else { return CONF_ERROR };
        match D::set(&mut cf, conf) {
            Ok(()) => CONF_OK,
            Err(Refusal::Failed) => CONF_ERROR,
            Err(Refusal::Message(message)) => {
                cf.refuse(&message);
                CONF_ERROR
            }
        }
    }
}
