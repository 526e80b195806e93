//! Text in NGINX's form.

use nginx_sys::ngx_str_t;

/// A text in NGINX's form; to be kept no longer than the bytes are there.
pub fn text(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}
