//! Text in NGINX's form.

use core::marker::PhantomData;

use nginx_sys::ngx_str_t;

/// A text in NGINX's form. It must not be kept longer than the bytes live.
pub fn text(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

/// A text in NGINX's form, for functions that only read it or replace it with another text.
pub(super) struct Text<'a> {
    text: ngx_str_t,
    of: PhantomData<&'a [u8]>,
}

impl<'a> Text<'a> {
    /// The text with these bytes.
    pub fn new(bytes: &'a [u8]) -> Text<'a> {
        Text { text: text(bytes), of: PhantomData }
    }

    /// The text in NGINX's form.
    pub fn get(&self) -> ngx_str_t {
        self.text
    }

    /// The pointer, for functions of NGINX.
    pub fn as_mut_ptr(&mut self) -> *mut ngx_str_t {
        &raw mut self.text
    }
}
