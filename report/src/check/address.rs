//! Addresses on which servers listen.

use std::net::IpAddr;

/// A `listen`.
#[derive(Clone, Debug)]
pub struct Listen {
    /// the address with its port, so that equal addresses have equal texts
    pub address: String,
    pub is_default: bool,
    pub is_quic: bool,
    /// whether only this machine can reach it
    pub is_local: bool,
}

impl Listen {
    /// The address in a server without `listen`.
    pub fn standard() -> Self {
        Self::of(&["80".to_owned()])
    }

    /// Reads the arguments of `listen`.
    pub fn of(arguments: &[String]) -> Self {
        let (first, parameters) =
            arguments.split_first().map_or(("", &[] as &[_]), |(first, rest)| (first, rest));
        let has = |name: &str| parameters.iter().any(|parameter| parameter == name);
        let (address, is_local) = read(first);
        Listen {
            address,
            is_default: has("default_server") || has("default"),
            is_quic: has("quic"),
            is_local,
        }
    }
}

/// The full address, and whether only this machine can reach it.
fn read(text: &str) -> (String, bool) {
    if text.starts_with("unix:") {
        return (text.to_owned(), true);
    }
    // a port, or a range of ports
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return (format!("0.0.0.0:{text}"), false);
    }
    let end = text.rfind(']').unwrap_or(0);
    let colon = text.get(end..).and_then(|rest| rest.rfind(':')).map(|at| end + at);
    let (host, port) = match colon {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, "80"),
    };
    let host = if host == "*" { "0.0.0.0" } else { host };
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = match plain.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost",
    };
    (format!("{host}:{port}"), is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_loopback_and_unix_sockets_are_local() {
        for (text, address, is_local) in [
            ("80", "0.0.0.0:80", false),
            ("8000-8010", "0.0.0.0:8000-8010", false),
            ("*:8080", "0.0.0.0:8080", false),
            ("10.0.0.1", "10.0.0.1:80", false),
            ("127.0.0.1", "127.0.0.1:80", true),
            ("127.9.8.7:81", "127.9.8.7:81", true),
            ("localhost:81", "localhost:81", true),
            ("[::]:80", "[::]:80", false),
            ("[::1]", "[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", true),
            ("unix:/run/a.sock", "unix:/run/a.sock", true),
            ("example.com:80", "example.com:80", false),
        ] {
            let listen = Listen::of(&[text.to_owned()]);
            assert_eq!((listen.address.as_str(), listen.is_local), (address, is_local), "{text}");
        }
    }
}
