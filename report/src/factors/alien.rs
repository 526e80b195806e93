//! Recognises lines of other logs, so that a message can say what they are.

use std::fmt;

use super::format::COMBINED;

/// A line of another log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alien {
    /// NGINX's own format
    Combined,
    /// the common log format: the same without referer and user agent
    Common,
    /// one of these, after the host and its port, as Apache's `vhost_combined`
    WithHost,
    /// the format `main` of nginx.org's packages: the same, and `"$http_x_forwarded_for"`
    Main,
    /// the same, and more
    MoreThanCombined,
    /// a line of an error log
    ErrorLog,
}

/// The configuration that adds CPU times to a log of `combined`. `has_host`: lines begin with the host.
pub fn advice(has_host: bool) -> String {
    let host = if has_host { "$host:$server_port " } else { "" };
    format!(
        "add to nginx.conf: log_format cpu '{host}{COMBINED} $request_cpu_time'; access_log \
         /var/log/nginx/access.log cpu; and read the new lines with --log-format-from \
         /etc/nginx/nginx.conf:cpu"
    )
}

impl fmt::Display for Alien {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Combined => "the line is of log_format combined, which has no $request_cpu_time",
            Self::Common => "the line is of the common log format, which has no $request_cpu_time",
            Self::WithHost => {
                "the line is of the common or combined log format after a host and port, which has no \
                 $request_cpu_time"
            }
            Self::Main => "the line is of log_format main of nginx.org, which has no $request_cpu_time",
            Self::MoreThanCombined => {
                "the line begins as log_format combined does; name its format with --log-format-from \
                 CONF:NAME"
            }
            Self::ErrorLog => "the line is of an error log; factors reads access logs",
        })
    }
}

impl Alien {
    /// The format of the line, if it is known.
    pub fn of(line: &[u8]) -> Option<Self> {
        if is_error_log(line) {
            return Some(Self::ErrorLog);
        }
        // the address, " - ", and the user up to the time
        let (address, after) = line.split_at_checked(memchr::memmem::find(line, b" - ")?)?;
        let after = after.get(3..)?;
        let has_host = begins_with_host(address);
        let with_host = |alien| if has_host { Self::WithHost } else { alien };
        let after = after.get(memchr::memmem::find(after, b" [")? + 2..)?;
        let (time, after) = after.split_at_checked("31/Jan/2026:12:00:00 +0000".len())?;
        if time.get(2) != Some(&b'/') || time.get(11) != Some(&b':') {
            return None;
        }
        let after = quoted(after.strip_prefix(b"] ")?)?;
        let after = number(after.strip_prefix(b" ")?)?;
        let after = number(after.strip_prefix(b" ")?)?;
        if after.is_empty() {
            return Some(with_host(Self::Common));
        }
        let after = quoted(after.strip_prefix(b" ")?)?;
        let after = quoted(after.strip_prefix(b" ")?)?;
        if after.is_empty() {
            return Some(with_host(Self::Combined));
        }
        let is_main = after.strip_prefix(b" ").and_then(quoted).is_some_and(<[u8]>::is_empty);
        Some(if is_main { Self::Main } else { Self::MoreThanCombined })
    }
}

/// `a.example:443 10.0.0.1`
fn begins_with_host(text: &[u8]) -> bool {
    let Some((host, _address)) = memchr::memchr(b' ', text).and_then(|at| text.split_at_checked(at)) else {
        return false;
    };
    let port = memchr::memrchr(b':', host).and_then(|at| host.get(at + 1..));
    port.and_then(number).is_some_and(<[u8]>::is_empty)
}

/// The text after a value in quotes. Values contain no quotes.
fn quoted(text: &[u8]) -> Option<&[u8]> {
    let inside = text.strip_prefix(b"\"")?;
    inside.get(memchr::memchr(b'"', inside)? + 1..)
}

/// The text after a number.
fn number(text: &[u8]) -> Option<&[u8]> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { None } else { text.get(digits..) }
}

/// `2026/01/31 12:00:00 [error] 12#12: `
fn is_error_log(line: &[u8]) -> bool {
    let has = |at: usize, byte| line.get(at) == Some(&byte);
    has(4, b'/')
        && has(7, b'/')
        && has(10, b' ')
        && has(13, b':')
        && has(16, b':')
        && has(19, b' ')
        && has(20, b'[')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str =
        r#"10.0.0.1 - a b [31/Jan/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl \x22x""#;

    #[test]
    fn logs_that_nginx_writes_are_recognised() {
        let of = |line: String| Alien::of(line.as_bytes());
        assert_eq!(of(LINE.to_owned()), Some(Alien::Combined));
        assert_eq!(of(format!("{LINE} \"-\"")), Some(Alien::Main));
        let common = LINE.replace(r#" "-" "curl \x22x""#, "");
        assert_eq!(of(common.clone()), Some(Alien::Common));
        for line in [LINE, &common] {
            assert_eq!(of(format!("a.example:443 {line}")), Some(Alien::WithHost));
            assert_eq!(of(format!("[2001:db8::1]:80 {line}")), Some(Alien::WithHost));
        }
        assert_eq!(of(format!("{LINE} \"-\" 0.5")), Some(Alien::MoreThanCombined));
        assert_eq!(
            of("2026/01/31 12:00:00 [error] 12#12: *1 open() failed".to_owned()),
            Some(Alien::ErrorLog)
        );
        for line in ["", "a.example / 200 5 0.1 x 1", "a - b [x", "{\"a\":1}"] {
            assert_eq!(of(line.to_owned()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in any::<Vec<u8>>(), cut in 0..LINE.len()) {
            let _ = (Alien::of(&line), Alien::of(&LINE.as_bytes()[..cut]), Alien::of(&LINE.as_bytes()[cut..]));
        }
    }
}
