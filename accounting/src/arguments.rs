//! Arguments of a request for the status, and of the page that is its answer.

/// The arguments of an address other than `own` (in any case, as NGINX's `ngx_http_arg` has it), as HTML that can
/// be in an attribute, each followed by `&`: they go along to what the page loads.
pub fn others_as_html(uri: &[u8], own: &[&str]) -> Vec<u8> {
    let mut html = Vec::new();
    let query = uri.splitn(2, |&byte| byte == b'?').nth(1).unwrap_or_default();
    for argument in query.split(|&byte| byte == b'&') {
        let name = argument.split(|&byte| byte == b'=').next().unwrap_or_default();
        if argument.is_empty() || own.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name)) {
            continue;
        }
        for &byte in argument {
            // the rest cannot be in an address, or means something in HTML; browsers encode it as well
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
