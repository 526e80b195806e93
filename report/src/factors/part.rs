//! The parts of `$request`: method, URI and path.

use super::fields::Field;

/// A part of `$request`, as in `GET /a?b=1 HTTP/1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPart {
    /// `$request_method`
    Method,
    /// `$request_uri`, with arguments
    Uri,
    /// `$uri`, without arguments
    Path,
}

impl RequestPart {
    /// The fields that it can be taken from.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Self::Method | Self::Uri => &[Field::By, Field::Request],
            Self::Path => &[Field::By, Field::RequestUri, Field::Request],
        }
    }

    /// The part that has the name of a variable.
    pub fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "request_method" => Some(Self::Method),
            "request_uri" => Some(Self::Uri),
            "uri" => Some(Self::Path),
            _ => None,
        }
    }

    /// None if the text is not a request line. Clients that send rubbish leave such texts in logs.
    pub fn of_request(self, request: &[u8]) -> Option<&[u8]> {
        let space = memchr::memchr(b' ', request)?;
        let (method, rest) = (request.get(..space)?, request.get(space + 1..)?);
        if !method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')) {
            return None;
        }
        let uri = match memchr::memrchr(b' ', rest) {
            Some(end) if rest.get(end + 1..)?.starts_with(b"HTTP/") => rest.get(..end)?,
            // HTTP/0.9
            _ => rest,
        };
        match self {
            Self::Method => Some(method),
            Self::Uri => Some(uri),
            Self::Path => Some(path(uri)),
        }
    }
}

/// A URI without its arguments.
pub fn path(uri: &[u8]) -> &[u8] {
    uri.get(..memchr::memchr(b'?', uri).unwrap_or(uri.len())).unwrap_or(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_request_line_are_separated() {
        let parts = |request: &'static str| {
            [RequestPart::Method, RequestPart::Uri, RequestPart::Path].map(|part| {
                part.of_request(request.as_bytes()).map_or("none", |part| std::str::from_utf8(part).unwrap())
            })
        };
        assert_eq!(parts("GET /a?b=1 HTTP/1.1"), ["GET", "/a?b=1", "/a"]);
        assert_eq!(parts("M-SEARCH * HTTP/1.1"), ["M-SEARCH", "*", "*"]);
        assert_eq!(parts("GET /a b?c HTTP/2.0"), ["GET", "/a b?c", "/a b"]);
        assert_eq!(parts("GET /"), ["GET", "/", "/"]);
        for rubbish in ["", "-", "GET", "\\x16\\x03\\x01 x", "get / HTTP/1.1"] {
            assert_eq!(parts(rubbish), ["none"; 3], "{rubbish}");
        }
    }
}
