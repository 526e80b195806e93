//! The format that a client prefers: proactive negotiation as in RFC 9110, section 12.5.

/// The kind of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// the page for browsers, `text/html`, which requests the accounts itself
    Page,
    /// the accounts
    Status(Format),
}

/// A format of the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    Json,
    /// `text/plain; version=0.0.4`
    Prometheus,
}

impl Content {
    /// The kind that a directive or an argument names.
    pub fn from_name(name: &[u8]) -> Option<Content> {
        match name {
            b"json" => Some(Content::Status(Format::Json)),
            b"prometheus" => Some(Content::Status(Format::Prometheus)),
            b"html" => Some(Content::Page),
            _ => None,
        }
    }

    /// The kind that the values of a request's `Accept` headers prefer. The values must be joined by commas. The
    /// result is JSON if the client has no preference, or prefers only unknown formats.
    ///
    /// The most specific range that matches a format determines the format's weight. A range that names another format
    /// of Prometheus (OpenMetrics, protocol buffers, another version of the text format) counts for Prometheus.
    /// Scrapers that prefer such a format still accept `*/*`, but cannot read JSON. The page is only for clients that
    /// name `text/html`, as browsers do.
    pub fn from_accept(accept: &[u8]) -> Content {
        let mut json = Preference::default();
        let mut text = Preference::default();
        let mut kin = Preference::default();
        let mut html = Preference::default();
        for range in elements(accept, b',') {
            let Some(range) = Range::parse(range) else { continue };
            match range.offer {
                Offer::Json => json.note(&range),
                Offer::Plain => text.note(&range),
                Offer::Kin => kin.note(&range),
                Offer::Html => html.note(&range),
                Offer::Any => {
                    json.note(&range);
                    text.note(&range);
                }
            }
        }
        let prometheus = text.weight.max(kin.weight);
        if html.weight > json.weight && html.weight >= prometheus {
            Content::Page
        } else if prometheus > json.weight {
            Content::Status(Format::Prometheus)
        } else {
            Content::Status(Format::Json)
        }
    }

    /// The format of an error message.
    pub fn format_of_errors(self) -> Format {
        match self {
            Content::Page => Format::Json,
            Content::Status(format) => format,
        }
    }
}

impl Format {
    /// Value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Whether the values of a request's `Accept-Encoding` headers (joined by commas) allow `gzip`, and do not prefer
/// `identity`: RFC 9110, section 12.5.3.
pub fn accepts_gzip(accept_encoding: &[u8]) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for element in elements(accept_encoding, b',') {
        let mut parts = elements(element, b';');
        let Some(coding) = parts.next() else { continue };
        let q = parts.find_map(|part| {
            let at = part.iter().position(|&byte| byte == b'=')?;
            part[..at].trim_ascii().eq_ignore_ascii_case(b"q").then(|| part[at + 1..].trim_ascii())
        });
        let Some(weight) = q.map_or(Some(1000), weight) else { continue };
        let known = match () {
            () if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => &mut gzip,
            () if coding.eq_ignore_ascii_case(b"identity") => &mut identity,
            () if coding == b"*" => &mut any,
            () => continue,
        };
        *known = (*known).max(Some(weight));
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// The weight, in thousandths, that the most specific range so far gives to a format.
#[derive(Default)]
struct Preference {
    specificity: u32,
    weight: u32,
}

impl Preference {
    fn note(&mut self, range: &Range) {
        if range.specificity > self.specificity {
            *self = Preference { specificity: range.specificity, weight: range.weight };
        } else if range.specificity == self.specificity {
            self.weight = self.weight.max(range.weight);
        }
    }
}

/// The formats that a range matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    Json,
    Plain,
    /// a Prometheus format that is not supported
    Kin,
    Html,
    Any,
}

/// One media range of `Accept` that matches a format.
struct Range {
    offer: Offer,
    /// 1: `*/*`, 2: `type/*`, 3: `type/subtype`, and 1 more for each parameter
    specificity: u32,
    /// 0 to 1000
    weight: u32,
}

impl Range {
    /// `None` if the range is malformed, or matches no format.
    fn parse(element: &[u8]) -> Option<Range> {
        let mut parts = elements(element, b';');
        let media = parts.next()?;
        let slash = media.iter().position(|&byte| byte == b'/')?;
        let (kind, subtype) = (&media[..slash], &media[slash + 1..]);
        let is = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
        let mut range = match () {
            () if kind == b"*" && subtype == b"*" => Range::of(Offer::Any, 1),
            () if is(kind, b"application") && subtype == b"*" => Range::of(Offer::Json, 2),
            () if is(kind, b"text") && subtype == b"*" => Range::of(Offer::Plain, 2),
            () if is(media, b"application/json") => Range::of(Offer::Json, 3),
            () if is(media, b"text/plain") => Range::of(Offer::Plain, 3),
            () if is(media, b"text/html") => Range::of(Offer::Html, 3),
            () if is(media, b"application/openmetrics-text") => Range::of(Offer::Kin, 3),
            () if is(media, b"application/vnd.google.protobuf") => Range::of(Offer::Kin, 3),
            () => return None,
        };
        for part in parts {
            let (name, value) = match part.iter().position(|&byte| byte == b'=') {
                Some(at) => (part[..at].trim_ascii(), part[at + 1..].trim_ascii()),
                None => (part, &[][..]),
            };
            if is(name, b"q") {
                range.weight = weight(value)?;
                // later parts are not parameters of the range
                break;
            }
            if range.offer == Offer::Plain && !is_parameter_of_text(name, value) {
                range.offer = Offer::Kin;
            }
            if !part.is_empty() {
                range.specificity += 1;
            }
        }
        Some(range)
    }

    fn of(offer: Offer, specificity: u32) -> Range {
        Range { offer, specificity, weight: 1000 }
    }
}

/// Whether the text format has this parameter.
fn is_parameter_of_text(name: &[u8], value: &[u8]) -> bool {
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    if name.eq_ignore_ascii_case(b"version") {
        value == b"0.0.4"
    } else if name.eq_ignore_ascii_case(b"charset") {
        value.eq_ignore_ascii_case(b"utf-8")
    } else {
        name.is_empty()
    }
}

/// A weight in thousandths, `0` to `1` with up to three decimals; more decimals are cut.
fn weight(value: &[u8]) -> Option<u32> {
    let (whole, decimals) = match value {
        [whole] => (*whole, &[][..]),
        [whole, b'.', decimals @ ..] => (*whole, decimals),
        _ => return None,
    };
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = decimals.iter().copied().chain([b'0'; 3]).take(3);
    let thousandths = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    match (whole, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

/// The parts between separators that are not in a quoted string, without white space around them.
fn elements(mut rest: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.iter().position(|&byte| {
            if escaped {
                escaped = false;
            } else if quoted {
                escaped = byte == b'\\';
                quoted = byte != b'"';
            } else if byte == b'"' {
                quoted = true;
            } else {
                return byte == separator;
            }
            false
        });
        let element = &rest[..end.unwrap_or(rest.len())];
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => done = true,
        }
        Some(element.trim_ascii())
    })
}

#[cfg(test)]
mod tests;
