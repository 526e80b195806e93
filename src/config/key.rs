//! The KEY of a zone.

use nginx_sys::{ngx_http_complex_value_t, ngx_uint_t};

use crate::nginx::conf::{Conf, Failed};

/// The way in which the key of a request is found.
pub enum Key {
    /// `$server_name` is a constant of the server: its account need not be looked up each time
    ServerName(ngx_uint_t),
    /// a single variable, by its index: its value is used without a copy
    Variable(ngx_uint_t),
    /// `$host` or `$http_host`, as a variable: clients can send requests without a value, and these are counted in the
    /// overflow account
    Host(ngx_uint_t),
    /// text and variables
    Complex(ngx_http_complex_value_t),
}

impl Key {
    /// Reads a key from the text of the directive.
    ///
    /// # Errors
    /// There is no memory, or NGINX has logged the error.
    pub(in crate::config) fn read(cf: &mut Conf<'_>, text: &[u8]) -> Result<Key, Failed> {
        let Some(name) = single_variable(text) else {
            return cf.compile(text).map(Key::Complex);
        };
        let index = cf.variable(name)?;
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        Ok(match index {
            _ if is(b"server_name") => Key::ServerName(index),
            _ if is(b"host") || is(b"http_host") => Key::Host(index),
            _ => Key::Variable(index),
        })
    }
}

/// The name in `$name` or `${name}`, if the text is nothing else. Captures (`$1`) are not variables.
fn single_variable(text: &[u8]) -> Option<&[u8]> {
    let name = text.strip_prefix(b"$")?;
    let name = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
    let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (is_name && name.first().is_some_and(|first| !first.is_ascii_digit())).then_some(name)
}
