//! The page for browsers: the same for everyone, built into the module (see page/). It reads the accounts as
//! JSON from the address that it came from, and loads its script, style and icon from there too, with the
//! argument `asset`.
//!
//! They are not in the page itself: where a server adds a `Content-Security-Policy` to all its answers
//! (`ngx_http_headers_filter` adds to what there is), browsers enforce that policy besides the page's own, and
//! most allow `'self'` but nothing inline.

use accounting::arguments;

use crate::nginx::content::Request;

/// The arguments of a request for the status: they are not handed on to what the page loads.
const ARGUMENTS: [&str; 5] = ["format", "detail", "zone", "key", "asset"];

/// build.rs has put the tags of the assets into it.
const PAGE: &str = include_str!(concat!(env!("OUT_DIR"), "/page.html"));
/// In the page: where other arguments of the page's address are to be.
const OTHER_ARGUMENTS: &str = "{{arguments}}";

/// What the page loads.
pub struct Asset {
    name: &'static str,
    pub content_type: &'static str,
    /// changes with the asset
    tag: &'static str,
    etag: &'static str,
    etag_gzip: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $content_type:literal, $tag:literal) => {
        Asset {
            name: $name,
            content_type: $content_type,
            tag: env!($tag),
            etag: concat!("\"", env!($tag), "\""),
            etag_gzip: concat!("\"", env!($tag), "-gzip\""),
            plain: include_bytes!(concat!("../../page/dist/", $name)),
            gzip: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")),
        }
    };
}

static ASSETS: [Asset; 3] = [
    asset!("page.js", "text/javascript; charset=utf-8", "TAG_PAGE_JS"),
    asset!("page.css", "text/css; charset=utf-8", "TAG_PAGE_CSS"),
    asset!("icon.svg", "image/svg+xml", "TAG_ICON_SVG"),
];

impl Asset {
    /// The asset of an argument `NAME` or `NAME@TAG`; none if the tag is that of another version of the module:
    /// a page never gets a script that was not made for it.
    pub fn find(argument: &[u8]) -> Option<&'static Asset> {
        let mut parts = argument.splitn(2, |&byte| byte == b'@');
        let (name, tag) = (parts.next()?, parts.next());
        ASSETS
            .iter()
            .find(|asset| asset.name.as_bytes() == name && tag.is_none_or(|tag| tag == asset.tag.as_bytes()))
    }

    /// Sets the headers of the asset, and appends it. `None` if there is no memory.
    ///
    /// As the page it is kept by browsers, which ask each time whether it is still the same: what a filter of
    /// the server has spoiled is not kept for longer than the filter is there.
    pub fn answer(&self, r: &mut Request, gzip: bool, text: &mut Vec<u8>) -> Option<()> {
        let etag = r.add_header("ETag", if gzip { self.etag_gzip } else { self.etag })?;
        r.set_etag(etag);
        r.add_header("Cache-Control", "no-cache")?;
        r.add_header("Vary", "Accept-Encoding")?;
        r.add_header("X-Content-Type-Options", "nosniff")?;
        if gzip {
            let encoding = r.add_header("Content-Encoding", "gzip")?;
            r.set_content_encoding(encoding);
        }
        text.extend_from_slice(if gzip { self.gzip } else { self.plain });
        Some(())
    }
}

/// Sets the headers of the page, and appends it. `None` if there is no memory.
///
/// The page changes with the module only: browsers keep it, but ask each time whether it is still the same,
/// which NGINX answers by itself (`ngx_http_not_modified_header_filter`). It is small, and not compressed:
/// filters that are set for `text/html` (`gzip`, `ssi`, `sub_filter`, `add_before_body`) work on it as on any
/// other page.
pub fn answer(r: &mut Request, by_accept: bool, text: &mut Vec<u8>) -> Option<()> {
    let etag = r.add_header("ETag", concat!("\"", env!("TAG_PAGE_HTML"), "\""))?;
    r.set_etag(etag);
    r.add_header("Cache-Control", "no-cache")?;
    if by_accept {
        r.add_header("Vary", "Accept")?;
    }
    r.add_header("Content-Security-Policy", env!("PAGE_POLICY"))?;
    r.add_header("X-Content-Type-Options", "nosniff")?;
    r.add_header("Referrer-Policy", "no-referrer")?;
    // a token, maybe: as the client has sent them, not as NGINX may have rewritten them
    let arguments = arguments::others_as_html(r.unparsed_uri().as_bytes(), &ARGUMENTS);
    for (n, part) in PAGE.split(OTHER_ARGUMENTS).enumerate() {
        if n > 0 {
            text.extend_from_slice(&arguments);
        }
        text.extend_from_slice(part.as_bytes());
    }
    Some(())
}
