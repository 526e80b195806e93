//! The answers in a location with `request_cpu_status`.

use accounting::key;
use accounting::meter::Mode;
use accounting::render::negotiate::{Content, Format, accepts_gzip};
use accounting::render::{self, Answer, Detail, Status};
use nginx_sys::{
    NGX_HTTP_BAD_REQUEST, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NOT_ALLOWED, NGX_HTTP_NOT_FOUND,
    NGX_HTTP_OK, ngx_int_t,
};

use crate::charge::worker::{Worker, with};
use crate::config::directives::request_cpu_status::Answers;
use crate::config::location::loc_conf;
use crate::config::main::with_running;
use crate::config::status::StatusConf;
use crate::export::page::{self, Asset};
use crate::export::status::selection::select;
use crate::export::status::sending::{self, PIECE_BYTES};
use crate::nginx::callback::callback;
use crate::nginx::content::{ContentHandler, Request};
use crate::nginx::time::{cached_wall_ms, utc};
use crate::persist::lifecycle::workers;

/// Answers status requests.
pub struct StatusAnswers;

impl Answers for StatusAnswers {
    const HANDLER: ContentHandler = handler;
}

callback! {
    fn handler(request: Request) -> ngx_int_t {
        let conf = loc_conf(request.request()).status.get();
        answer(request, conf)
    }
}

fn answer(mut request: Request, configured: StatusConf) -> ngx_int_t {
    if !request.is_get_or_head() {
        return NGX_HTTP_NOT_ALLOWED as ngx_int_t;
    }
    if let Err(status) = request.discard_body() {
        return status;
    }
    let (wanted, by_accept) = wanted(request, configured);
    let mut text = Vec::new();
    // The whole piece is allocated at once, as in NGINX's modules: if there is no memory, the request fails, not the
    // worker.
    if text.try_reserve(PIECE_BYTES + PIECE_BYTES / 2).is_err() {
        return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    }
    let mut answer = None;
    let wanted = wanted.and_then(|wanted| answered(request, configured, wanted));
    let (status, content_type, headers) = match wanted {
        Ok(Answered::Page) => {
            (NGX_HTTP_OK, "text/html; charset=utf-8", page::answer(&mut request, by_accept, &mut text))
        }
        Ok(Answered::Asset(asset)) => {
            // The answer to a subrequest becomes a part of another answer, and its headers are not sent.
            let gzip = request.is_main() && accepts_gzip(&request.header_values(b"accept-encoding"));
            (NGX_HTTP_OK, asset.content_type, asset.answer(&mut request, gzip, &mut text))
        }
        Ok(Answered::Status(status, format, if_missing)) => {
            answer = Some(Answer::new(status, format).or_error(if_missing));
            (NGX_HTTP_OK, format.content_type(), status_headers(&mut request, by_accept))
        }
        Err(Refused { status, format, message }) => {
            render::error(format, &message, &mut text);
            (status, format.content_type(), status_headers(&mut request, by_accept))
        }
    };
    if headers.is_none() {
        return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    }
    request.set_status(status);
    request.set_content_type(content_type);
    sending::begin(request, answer, text)
}

/// The refusal of a request whose arguments are wrong.
struct Refused {
    status: u32,
    format: Format,
    message: String,
}

/// The object that a request asks for.
enum Wanted {
    Content(Content),
    Asset(&'static Asset),
}

/// The answer to a request whose arguments are right.
enum Answered {
    Page,
    Asset(&'static Asset),
    /// the status, its format, and the message if no zone has the account
    Status(Status, Format, String),
}

/// The answer that the directive, the arguments `asset` and `format`, or the `Accept` header select. The second value
/// tells whether the `Accept` header was used.
///
/// If the directive names a format of the accounts, the client has no choice. If it names the page, the arguments
/// count: the page uses them to request JSON and its assets.
fn wanted(r: Request, configured: StatusConf) -> (Result<Wanted, Refused>, bool) {
    let configured = configured.content;
    if let Some(fixed @ Content::Status(_)) = configured {
        return (Ok(Wanted::Content(fixed)), false);
    }
    if let Some(name) = r.argument("asset") {
        let asset = Asset::find(&name).map(Wanted::Asset);
        return (
            asset.ok_or_else(|| refuse(Format::Json, NGX_HTTP_NOT_FOUND, "unknown asset", &name)),
            false,
        );
    }
    let by_accept = || Content::from_accept(&r.header_values(b"accept"));
    match (configured, r.argument("format")) {
        (_, Some(name)) if name != b"auto" => match Content::from_name(&name) {
            Some(content) => (Ok(Wanted::Content(content)), false),
            None => {
                let format = configured.unwrap_or_else(by_accept).format_of_errors();
                (Err(refuse(format, NGX_HTTP_BAD_REQUEST, "unknown format", &name)), configured.is_none())
            }
        },
        (Some(content), _) => (Ok(Wanted::Content(content)), false),
        (None, _) => (Ok(Wanted::Content(by_accept())), true),
    }
}

/// The answer to a request.
fn answered(r: Request, configured: StatusConf, wanted: Wanted) -> Result<Answered, Refused> {
    let content = match wanted {
        Wanted::Content(content) => content,
        Wanted::Asset(asset) => return Ok(Answered::Asset(asset)),
    };
    let detail = match r.argument("detail") {
        Some(name) => Detail::from_name(&name).ok_or_else(|| {
            refuse(content.format_of_errors(), NGX_HTTP_BAD_REQUEST, "unknown detail", &name)
        })?,
        None => configured.detail,
    };
    let Content::Status(format) = content else { return Ok(Answered::Page) };
    with(Worker::show_now);
    let unknown = |(what, value): (&str, Vec<u8>)| refuse(format, NGX_HTTP_NOT_FOUND, what, &value);
    let (zones, missing) = select(r.argument("zone"), r.argument("key")).map_err(unknown)?;
    let if_missing = missing.map_or_else(String::new, |missing| unknown(missing).message);
    let (clock, shared) =
        with_running(|main| (main.map_or(Mode::default(), |main| main.clock()), main.and_then(workers)));
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        nginx_version: nginx_version(),
        time: utc(cached_wall_ms()),
        clock: clock.name(),
        max_error_ns: clock.max_error_ns(),
        workers: shared.map(|workers| workers.living()).unwrap_or_default(),
        worker_totals: shared.map(|workers| workers.totals()).unwrap_or_default(),
        zones,
        detail,
    };
    Ok(Answered::Status(status, format, if_missing))
}

fn refuse(format: Format, status: u32, what: &str, value: &[u8]) -> Refused {
    Refused { status, format, message: format!("{what} \"{}\"", key::display(value)) }
}

/// Sets the headers for accounts and errors. `None` if there is no memory.
fn status_headers(r: &mut Request, by_accept: bool) -> Option<()> {
    r.add_header("Cache-Control", "no-store")?;
    if by_accept {
        r.add_header("Vary", "Accept")?;
    }
    r.add_header("X-Content-Type-Options", "nosniff")?;
    Some(())
}

/// `1.28.3`
fn nginx_version() -> &'static str {
    // `NGINX_VERSION` is the version that the module was built for. NGINX loads the module into no other version.
    nginx_sys::NGINX_VERSION.to_str().unwrap_or("")
}
