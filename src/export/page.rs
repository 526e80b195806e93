//! The page for browsers. It is the same for every client, and is built into the module (see page/). It reads the
//! accounts as JSON from its own address. It also loads its script, style and icon from there, with the argument
//! `asset`.
//!
//! The assets are separate from the page because of the policies of servers. A server may add a
//! `Content-Security-Policy` to all its answers: `ngx_http_headers_filter` adds it to the existing one. Browsers
//! enforce that policy in addition to the page's own. Most such policies allow `'self'`, but nothing inline.

use accounting::arguments;

use crate::nginx::content::Request;

/// The arguments of a status request. The page does not add them to the addresses that it loads.
const ARGUMENTS: [&str; 5] = ["format", "detail", "zone", "key", "asset"];

/// The page. build.rs has inserted the tags of the assets.
const PAGE: &str = include_str!(concat!(env!("OUT_DIR"), "/page.html"));
/// The mark in the page that is replaced by the other arguments of the page's address.
const OTHER_ARGUMENTS: &str = "{{arguments}}";

/// A file that the page loads.
pub struct Asset {
    name: &'static str,
    pub content_type: &'static str,
    /// changes with the asset's content
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
    /// The asset of an argument `NAME` or `NAME@TAG`. None if the tag belongs to another version of the module: a page
    /// never gets a script that was made for another page.
    pub fn find(argument: &[u8]) -> Option<&'static Asset> {
        let mut parts = argument.splitn(2, |&byte| byte == b'@');
        let (name, tag) = (parts.next()?, parts.next());
        ASSETS
            .iter()
            .find(|asset| asset.name.as_bytes() == name && tag.is_none_or(|tag| tag == asset.tag.as_bytes()))
    }

    /// Sets the headers of the asset, and appends it. `None` if there is no memory.
    ///
    /// Browsers keep the asset, as they keep the page, but ask each time whether it has changed. So an asset that a
    /// filter of the server has spoiled is not kept for longer than the filter is configured.
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
/// The page changes only with the module. Browsers keep it, but ask each time whether it has changed; NGINX answers
/// that itself (`ngx_http_not_modified_header_filter`). The page is small, and is not compressed: filters that are set
/// for `text/html` (`gzip`, `ssi`, `sub_filter`, `add_before_body`) work on it as on any other page.
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
    // An argument may be a token. So the arguments are those that the client has sent, not those that NGINX may have
    // rewritten.
    let arguments = arguments::others_as_html(r.unparsed_uri().as_bytes(), &ARGUMENTS);
    for (n, part) in PAGE.split(OTHER_ARGUMENTS).enumerate() {
        if n > 0 {
            text.extend_from_slice(&arguments);
        }
        text.extend_from_slice(part.as_bytes());
    }
    Some(())
}
