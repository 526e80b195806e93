//! Arguments of a status request, for the links of the live page.

/// The arguments of an address, except those in `own` (in any case, as in NGINX's `ngx_http_arg`). The result is the
/// text of an HTML attribute, with `&` after each argument. The page adds it to the addresses that it loads.
pub fn others_as_html(uri: &[u8], own: &[&str]) -> Vec<u8> {
    let mut html = Vec::new();
    let query = uri.splitn(2, |&byte| byte == b'?').nth(1).unwrap_or_default();
    for argument in query.split(|&byte| byte == b'&') {
        let name = argument.split(|&byte| byte == b'=').next().unwrap_or_default();
        if argument.is_empty() || own.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name)) {
            continue;
        }
        for &byte in argument {
            // other bytes cannot be in an address, or have a meaning in HTML; browsers encode them too
            if byte.is_ascii_alphanumeric() || b"-._~%=+,:;@/?!$*()[]|^".contains(&byte) {
                html.push(byte);
            } else {
                html.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
        }
        html.extend_from_slice(b"&amp;");
    }
    html
}

#[cfg(test)]
mod tests;
