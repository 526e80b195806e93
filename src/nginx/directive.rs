//! Directives, as entries of NGINX's table of commands.

use core::ffi::{CStr, c_char};

use nginx_sys::{ngx_command_t, ngx_str_t, ngx_uint_t};

use crate::nginx::callback::callback;
use crate::nginx::conf::{CONF_ERROR, CONF_OK, Conf, Failed};
use crate::nginx::module::Configuration;

/// The reason why a directive is refused.
#[derive(Debug)]
pub enum Refusal {
    /// There is no memory, or the reason has been logged.
    Failed,
    /// The message for the error log, to which the file and the line are added.
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
    /// The configuration to which the directive belongs.
    type Conf: Configuration;
    const NAME: &'static CStr;
    /// The contexts and the number of arguments of the directive: `NGX_HTTP_…_CONF` and `NGX_CONF_…`.
    const TYPE: u32;

    /// Reads the directive.
    ///
    /// # Errors
    /// The reason why the directive is refused.
    fn set(cf: &mut Conf<'_>, conf: &Self::Conf) -> Result<(), Refusal>;

    /// The directive's name in messages.
    fn name() -> &'static str {
        Self::NAME.to_str().unwrap_or_default()
    }
}

/// The directive's entry in NGINX's table of commands.
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
    /// The table of commands contains the offset of the configuration, so the configuration is of this type.
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
