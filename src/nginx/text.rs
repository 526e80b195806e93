//! Text in NGINX's form.

use core::marker::PhantomData;

use nginx_sys::ngx_str_t;

/// A text in NGINX's form; to be kept no longer than the bytes are there.
pub fn text(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

/// A text in NGINX's form, for functions that only read it, or set it to another one.
pub(super) struct Text<'a> {
    text: ngx_str_t,
    of: PhantomData<&'a [u8]>,
}

impl<'a> Text<'a> {
    /// These bytes.
    pub fn new(bytes: &'a [u8]) -> Text<'a> {
        Text { text: text(bytes), of: PhantomData }
    }

    /// As NGINX keeps it.
    pub fn get(&self) -> ngx_str_t {
        self.text
    }

    /// For functions of NGINX.
    pub fn as_mut_ptr(&mut self) -> *mut ngx_str_t {
        &raw mut self.text
    }
}
