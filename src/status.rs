//! The status endpoint: accounts and worker totals, to be read by people and by machines.
//!
//! An answer may have hundreds of megabytes, and its worker has other things to do. So it is rendered while it is sent, one
//! piece after the other in the same memory, for a bounded time in each turn of the event loop, which all answers share
//! (`turns`). What is needed for that lives in the request's pool, and ends with it.
//!
//! The page for browsers and what it loads are in `page`.

use core::ffi::c_void;
use core::ptr::{self, null_mut};
use std::time::Instant;

use accounting::key::{self, Cut};
use accounting::meter::Mode;
use accounting::render::negotiate::{Content, Format, accepts_gzip};
use accounting::render::{self, Answer, Detail, Only, Status, Zone};
use accounting::table::{Slot, Table};
use nginx_sys::{
    NGX_DONE, NGX_ERROR, NGX_HTTP_BAD_REQUEST, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR,
    NGX_HTTP_NOT_ALLOWED, NGX_HTTP_NOT_FOUND, NGX_HTTP_OK, NGX_HTTP_REQUEST_TIME_OUT, NGX_LOG_INFO, NGX_OK,
    ngx_buf_t, ngx_cached_time, ngx_chain_t, ngx_cycle_t, ngx_gmtime, ngx_handle_write_event, ngx_http_arg,
    ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_discard_request_body, ngx_http_finalize_request,
    ngx_http_output_filter, ngx_http_request_t, ngx_http_send_header, ngx_http_test_reading, ngx_int_t,
    ngx_list_push, ngx_pcalloc, ngx_pool_cleanup_add, ngx_str_t, ngx_table_elt_t, ngx_tm_t, ngx_uint_t,
    ngx_unescape_uri,
};

use ngx::ngx_log_error;

use crate::clock::shared_ms;
use crate::conf::{self, MainConf, loc_conf};
use crate::nginx::{bits, event};
use crate::page::{self, Asset};
use crate::worker::{Worker, with};
use crate::zones;

mod turns;

/// An answer is sent in pieces of this many bytes, or a little more; one that fits into a piece has a `Content-Length`.
const PIECE_BYTES: usize = 64 * 1024;
/// The clock is read once in so many steps of rendering, each of which takes some microseconds at most.
const STEPS_PER_READING: usize = 16;

/// The end of a `Content-Type` with a charset.
const CHARSET: &str = "; charset=utf-8";
/// The arguments of a request that this location understands.
pub const ARGUMENTS: [&str; 5] = ["format", "detail", "zone", "key", "asset"];

/// Content handler of a location with `request_cpu_status`.
pub unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: NGINX calls with a request that is in such a location.
    let request = unsafe { &mut *r };
    if request.method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as ngx_uint_t == 0 {
        return NGX_HTTP_NOT_ALLOWED as ngx_int_t;
    }
    // SAFETY: as above.
    let rc = unsafe { ngx_http_discard_request_body(r) };
    if rc != NGX_OK as ngx_int_t {
        return rc;
    }
    let (wanted, by_accept) = wanted(request);
    let mut text = Vec::new();
    // all of a piece at once, as NGINX's modules do: if there is no memory, the request fails, and not the worker
    if text.try_reserve(PIECE_BYTES + PIECE_BYTES / 2).is_err() {
        return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    }
    let mut answer = None;
    let (status, content_type, headers) = match wanted.and_then(|wanted| answered(request, wanted)) {
        Ok(Answered::Page) => {
            (NGX_HTTP_OK, "text/html; charset=utf-8", page::answer(request, by_accept, &mut text))
        }
        Ok(Answered::Asset(asset)) => {
            // what a subrequest answers becomes a part of something else, and headers of it are not sent
            let gzip =
                ptr::eq(request.main, request) && accepts_gzip(&header_values(request, b"accept-encoding"));
            (NGX_HTTP_OK, asset.content_type, asset.answer(request, gzip, &mut text))
        }
        Ok(Answered::Status(status, format, if_missing)) => {
            answer = Some(Answer::new(status, format).or_error(if_missing));
            (NGX_HTTP_OK, format.content_type(), status_headers(request, by_accept))
        }
        Err(Refused { status, format, message }) => {
            render::error(format, &message, &mut text);
            (status, format.content_type(), status_headers(request, by_accept))
        }
    };
    if headers.is_none() {
        return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    }
    request.headers_out.status = status as ngx_uint_t;
    request.headers_out.content_type =
        ngx_str_t { len: content_type.len(), data: content_type.as_ptr().cast_mut() };
    // without parameters, as `ngx_http_upstream_copy_content_type` has it: `gzip_types` names types
    request.headers_out.content_type_len = content_type.find(';').unwrap_or(content_type.len());
    if content_type.ends_with(CHARSET) {
        // so that `charset` does not change it (`ngx_http_destination_charset`); the header has it already
        let name = "utf-8";
        request.headers_out.charset = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
    }
    // SAFETY: as above.
    unsafe { send(r, answer, text) }
}

/// Whether a request is in a location with `request_cpu_status`: after the rewrite phase.
///
/// # Safety
/// `r` must be a request that NGINX has created.
pub unsafe fn is_for(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as the caller promises.
    let content = unsafe { (*r).content_handler };
    content.is_some_and(|content| ptr::fn_addr_eq(content, handler as unsafe extern "C" fn(_) -> _))
}

/// The arguments are wrong.
struct Refused {
    status: u32,
    format: Format,
    message: String,
}

/// What is asked for.
enum Wanted {
    Content(Content),
    Asset(&'static Asset),
}

/// What is answered if they are right.
enum Answered {
    Page,
    Asset(&'static Asset),
    /// and what is said instead, if no zone has the account
    Status(Status, Format, String),
}

/// What the client gets by the directive, the arguments `asset` and `format`, or its `Accept` header, and whether that header
/// was asked.
///
/// A directive that names a format of the accounts leaves no choice. Where it names the page, the arguments are heard: the
/// page itself asks for JSON, and for what it loads, by them.
fn wanted(r: &mut ngx_http_request_t) -> (Result<Wanted, Refused>, bool) {
    // SAFETY: the request is in a location.
    let configured = unsafe { loc_conf(r) }.status.content;
    if let Some(fixed @ Content::Status(_)) = configured {
        return (Ok(Wanted::Content(fixed)), false);
    }
    if let Some(name) = argument(r, "asset") {
        let asset = Asset::find(&name).map(Wanted::Asset);
        return (
            asset.ok_or_else(|| refuse(Format::Json, NGX_HTTP_NOT_FOUND, "unknown asset", &name)),
            false,
        );
    }
    let by_accept = |r: &_| Content::from_accept(&header_values(r, b"accept"));
    match (configured, argument(r, "format")) {
        (_, Some(name)) if name != b"auto" => match Content::from_name(&name) {
            Some(content) => (Ok(Wanted::Content(content)), false),
            None => {
                let format = configured.unwrap_or_else(|| by_accept(r)).format_of_errors();
                (Err(refuse(format, NGX_HTTP_BAD_REQUEST, "unknown format", &name)), configured.is_none())
            }
        },
        (Some(content), _) => (Ok(Wanted::Content(content)), false),
        (None, _) => (Ok(Wanted::Content(by_accept(r))), true),
    }
}

/// What is to be answered.
fn answered(r: &mut ngx_http_request_t, wanted: Wanted) -> Result<Answered, Refused> {
    let content = match wanted {
        Wanted::Content(content) => content,
        Wanted::Asset(asset) => return Ok(Answered::Asset(asset)),
    };
    // SAFETY: the request is in a location.
    let configured = unsafe { loc_conf(r) }.status.detail;
    let detail = match argument(r, "detail") {
        Some(name) => Detail::from_name(&name).ok_or_else(|| {
            refuse(content.format_of_errors(), NGX_HTTP_BAD_REQUEST, "unknown detail", &name)
        })?,
        None => configured,
    };
    let Content::Status(format) = content else { return Ok(Answered::Page) };
    with(Worker::show_now);
    let (zones, if_missing) = select(r, format)?;
    let (clock, shared) = conf::with_running(|main| {
        (main.map_or(Mode::default(), |main| main.clock), main.and_then(zones::workers))
    });
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        nginx_version: nginx_version(),
        time: now(),
        clock: clock.name(),
        max_error_ns: clock.max_error_ns(),
        workers: shared.map(|workers| workers.living()).unwrap_or_default(),
        worker_totals: shared.map(|workers| workers.totals()).unwrap_or_default(),
        zones,
        detail,
    };
    Ok(Answered::Status(status, format, if_missing))
}

/// The zones and accounts that the arguments `zone` and `key` leave, and what is said if no zone has the account.
fn select(r: &mut ngx_http_request_t, format: Format) -> Result<(Vec<Zone>, String), Refused> {
    let (wanted_zone, wanted_key) = (argument(r, "zone"), argument(r, "key"));
    let shown_as = wanted_key.as_deref().and_then(Cut::new);
    let mut zones = Vec::new();
    let mut zone_known = false;
    conf::with_running(|main| {
        for zone in main.into_iter().flat_map(MainConf::zones) {
            let Some(table) = zone.table() else { continue };
            if wanted_zone.as_ref().is_some_and(|name| name != zone.name.as_bytes()) {
                continue;
            }
            zone_known = true;
            let only = wanted_key.as_ref().map(|key| Only {
                slot: table.find(key).filter(|&slot| is_shown(&table, slot)),
                shown_as: shown_as.clone(),
            });
            if only.as_ref().is_some_and(|only| only.slot.is_none() && only.shown_as.is_none()) {
                continue;
            }
            let name = key::display(zone.name.as_bytes()).into_owned();
            zones.push(Zone { name, size_bytes: zone.size_bytes as u64, table, only });
        }
    });
    let unknown = |what, value: &[u8]| refuse(format, NGX_HTTP_NOT_FOUND, what, value);
    match (wanted_zone, wanted_key) {
        (Some(zone), _) if !zone_known => Err(unknown("unknown zone", &zone)),
        (_, Some(key)) if zones.is_empty() => Err(unknown("unknown key", &key)),
        (_, Some(key)) => Ok((zones, unknown("unknown key", &key).message)),
        (_, None) => Ok((zones, String::new())),
    }
}

/// The overflow account is always there, but is not shown before something was counted in it.
fn is_shown(table: &Table, slot: Slot) -> bool {
    slot != Slot::OVERFLOW || !table.account(slot).is_untouched(table.epoch())
}

fn refuse(format: Format, status: u32, what: &str, value: &[u8]) -> Refused {
    Refused { status, format, message: format!("{what} \"{}\"", key::display(value)) }
}

/// An argument of the request, unescaped.
fn argument(r: &mut ngx_http_request_t, name: &str) -> Option<Vec<u8>> {
    let mut value = ngx_str_t::empty();
    // SAFETY: `ngx_http_arg` reads the name and the request's arguments, and sets the value to a part of them.
    let found = unsafe { ngx_http_arg(r, name.as_ptr().cast_mut(), name.len(), &mut value) };
    if found != NGX_OK as ngx_int_t {
        return None;
    }
    let mut bytes = value.as_bytes().to_vec();
    let start = bytes.as_mut_ptr();
    let (mut to, mut from) = (start, start);
    // SAFETY: writes no more than it reads, in the same memory: it takes pointers to both for that.
    unsafe { ngx_unescape_uri(&mut to, &mut from, bytes.len(), 0) };
    bytes.truncate(to.addr() - start.addr());
    Some(bytes)
}

/// Sets the headers of the accounts, and of errors. `None` if there is no memory.
fn status_headers(r: &mut ngx_http_request_t, by_accept: bool) -> Option<()> {
    add_header(r, "Cache-Control", "no-store")?;
    if by_accept {
        add_header(r, "Vary", "Accept")?;
    }
    add_header(r, "X-Content-Type-Options", "nosniff")?;
    Some(())
}

/// `None` if there is no memory.
pub fn add_header(
    r: &mut ngx_http_request_t,
    name: &'static str,
    value: &'static str,
) -> Option<*mut ngx_table_elt_t> {
    let text = |text: &'static str| ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
    // SAFETY: the list was made with the request, in its pool; an element of zeros is an empty header, and its `next`
    // (since 1.23) is null. NGINX does not write to the text of headers.
    unsafe {
        let header = ngx_list_push(&mut r.headers_out.headers).cast::<ngx_table_elt_t>();
        if header.is_null() {
            return None;
        }
        header.write_bytes(0, 1);
        (*header).hash = 1;
        (*header).key = text(name);
        (*header).value = text(value);
        Some(header)
    }
}

/// All values of the request's headers of a name (in small letters), joined as one list.
fn header_values(r: &ngx_http_request_t, name: &[u8]) -> Vec<u8> {
    let mut values = Vec::new();
    let mut part: *const nginx_sys::ngx_list_part_t = &r.headers_in.headers.part;
    // SAFETY: the list of the request's headers, complete when content is made.
    while let Some(this) = unsafe { part.as_ref() } {
        let headers: &[ngx_table_elt_t] = if this.nelts == 0 {
            &[]
        } else {
            // SAFETY: as above.
            unsafe { core::slice::from_raw_parts(this.elts.cast(), this.nelts) }
        };
        for header in headers.iter().filter(|h| h.key.as_bytes().eq_ignore_ascii_case(name)) {
            if !values.is_empty() {
                values.push(b',');
            }
            values.extend_from_slice(header.value.as_bytes());
        }
        part = this.next;
    }
    values
}

/// `1.28.3`
fn nginx_version() -> &'static str {
    // `NGINX_VERSION` is what the module was built against, and NGINX loads it into no other version
    nginx_sys::NGINX_VERSION.to_str().unwrap_or("")
}

/// Now in UTC, with milliseconds.
fn now() -> String {
    // SAFETY: NGINX's cached time, which `ngx_time_update` replaces as a whole; `ngx_gmtime` fills `tm`.
    unsafe {
        let time = &*(&raw const ngx_cached_time).read_volatile();
        let mut tm: ngx_tm_t = core::mem::zeroed();
        ngx_gmtime(time.sec, &mut tm);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, time.msec
        )
    }
}

/// An answer on its way to the client; in the request's pool.
struct Sending {
    request: *mut ngx_http_request_t,
    cycle: *mut ngx_cycle_t,
    /// what is still to be rendered
    answer: Option<Answer>,
    /// the piece that is being rendered or sent
    text: Vec<u8>,
    /// it is complete, and the filters have it
    sent: bool,
    /// where they note how much of it they have taken; null until the first one is sent
    buffer: *mut ngx_buf_t,
}

impl Drop for Sending {
    fn drop(&mut self) {
        turns::leave(self.request);
    }
}

/// What a turn has come to.
enum Turn {
    /// The request is to be finalized with this.
    Done(ngx_int_t),
    /// It goes on when the request's write handler is called.
    Later,
    /// It could go on, but has had its time.
    Spent,
}

/// Begins to send a text and what `answer` adds to it, and finishes at once where the client takes it all.
unsafe fn send(r: *mut ngx_http_request_t, answer: Option<Answer>, text: Vec<u8>) -> ngx_int_t {
    // SAFETY: NGINX has called the content handler with this request. Memory from a pool is aligned to NGX_ALIGNMENT, which
    // is enough for pointers and 64-bit integers.
    unsafe {
        let cleanup = ngx_pool_cleanup_add((*r).pool, size_of::<Sending>());
        if cleanup.is_null() {
            return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
        }
        let sending = (*cleanup).data.cast::<Sending>();
        sending.write(Sending {
            request: r,
            cycle: current_cycle(),
            answer,
            text,
            sent: false,
            buffer: null_mut(),
        });
        (*cleanup).handler = Some(freed);
        match (*sending).go_on() {
            Turn::Done(rc) => rc,
            Turn::Later | Turn::Spent => {
                // as `ngx_http_upstream_init_request` and `ngx_http_set_write_handler`; with a body to be discarded,
                // `ngx_http_finalize_connection` sets the handler for reading
                (*r).read_event_handler = Some(ngx_http_test_reading);
                (*r).write_event_handler = Some(write_handler);
                bits::request::COUNT.set((*r).main, bits::request::COUNT.get((*r).main) + 1);
                NGX_DONE as ngx_int_t
            }
        }
    }
}

fn current_cycle() -> *mut ngx_cycle_t {
    // SAFETY: set when NGINX starts, and by a reload of a single process.
    unsafe { nginx_sys::ngx_cycle }
}

/// The request's pool is being destroyed: nothing refers to the text any more.
unsafe extern "C" fn freed(data: *mut c_void) {
    // SAFETY: `send` has written it there, and this is called once.
    unsafe { data.cast::<Sending>().drop_in_place() };
}

/// The answer that a request is being sent.
unsafe fn find(r: *mut ngx_http_request_t) -> Option<*mut Sending> {
    // SAFETY: the request has not been freed, nor has its pool, which subrequests have in common.
    unsafe {
        let mut cleanup = (*(*r).pool).cleanup;
        while let Some(this) = cleanup.as_ref() {
            let sending = this.data.cast::<Sending>();
            if this.handler.is_some_and(|handler| ptr::fn_addr_eq(handler, freed as unsafe extern "C" fn(_)))
                && (*sending).request == r
            {
                return Some(sending);
            }
            cleanup = this.next;
        }
        None
    }
}

/// The client takes more, or has not for too long, or it is the next turn. As `ngx_http_writer`.
unsafe extern "C" fn write_handler(r: *mut ngx_http_request_t) {
    // SAFETY: NGINX calls with a request that `send` has set this handler for.
    unsafe {
        let c = (*r).connection;
        let turn = if bits::event::TIMEDOUT.is_set((*c).write) && turns::is_waiting(r) {
            // the client was not waited for
            bits::event::TIMEDOUT.set((*c).write, 0);
            find(r).map_or(Turn::Done(NGX_ERROR as ngx_int_t), |sending| (*sending).go_on())
        } else if bits::event::TIMEDOUT.is_set((*c).write) {
            ngx_log_error!(NGX_LOG_INFO, (*c).log, "client timed out");
            bits::connection::TIMEDOUT.set(c, 1);
            Turn::Done(NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t)
        } else {
            match find(r) {
                Some(sending) => (*sending).go_on(),
                None => Turn::Done(NGX_ERROR as ngx_int_t),
            }
        };
        if let Turn::Done(rc) = turn {
            ngx_http_finalize_request(r, rc);
        }
    }
}

impl Sending {
    /// Renders and sends for a while, if it is this answer's turn; otherwise it waits for that.
    fn go_on(&mut self) -> Turn {
        if self.cycle != current_cycle() {
            // a single process was told to reload, and the zones may be gone
            return Turn::Done(NGX_ERROR as ngx_int_t);
        }
        let begin = Instant::now();
        let turn = if !self.is_active() {
            // Events of the connection do not come here. A first piece is made, and what comes next when it is active.
            let turn = self.work(None);
            turns::ran(self.request, begin.elapsed());
            turn
        } else if let Some(slice) = turns::slice(self.request) {
            let turn = self.work(Some(begin + slice));
            let is_waiting = !matches!(turn, Turn::Spent) || turns::wait(self.request).is_ok();
            turns::ran(self.request, begin.elapsed());
            if is_waiting { turn } else { Turn::Done(NGX_ERROR as ngx_int_t) }
        } else if turns::wait(self.request).is_ok() {
            Turn::Spent
        } else {
            Turn::Done(NGX_ERROR as ngx_int_t)
        };
        if matches!(turn, Turn::Spent) {
            self.start_timer();
        }
        turn
    }

    /// Renders and sends until there is no time left, the client takes no more, or all is done.
    fn work(&mut self, turn_ends: Option<Instant>) -> Turn {
        self.stop_timer();
        if !self.is_free() {
            // SAFETY: the request is there, and what it has to send is on its way through the filters.
            let rc = unsafe { ngx_http_output_filter(self.request, null_mut()) };
            if rc == NGX_ERROR as ngx_int_t {
                return Turn::Done(rc);
            }
            if !self.is_free() {
                return self.wait();
            }
        }
        while self.render(turn_ends) {
            if self.buffer.is_null()
                && let Some(rc) = self.send_header()
            {
                return Turn::Done(rc);
            }
            let rc = self.output();
            if self.answer.is_none() || rc == NGX_ERROR as ngx_int_t {
                // what is left of the last piece is `ngx_http_writer`'s
                return Turn::Done(rc);
            }
            if !self.is_free() {
                return self.wait();
            }
        }
        Turn::Spent
    }

    /// Fills the piece; whether it is complete.
    fn render(&mut self, turn_ends: Option<Instant>) -> bool {
        while let Some(answer) = &mut self.answer
            && self.text.len() < PIECE_BYTES
        {
            for _ in 0..STEPS_PER_READING {
                if !answer.write_some(shared_ms(), &mut self.text) {
                    if answer.is_missing() {
                        // all of it is in the first piece, and the header comes with that
                        // SAFETY: the request is there.
                        unsafe { (*self.request).headers_out.status = NGX_HTTP_NOT_FOUND as ngx_uint_t };
                    }
                    self.answer = None;
                    return true;
                }
            }
            if self.text.len() < PIECE_BYTES && turn_ends.is_some_and(|ends| Instant::now() >= ends) {
                return false;
            }
        }
        true
    }

    /// Sends the header with the first piece; says with what the request ends, if nothing is to follow.
    fn send_header(&mut self) -> Option<ngx_int_t> {
        // SAFETY: the request is there; a buffer of zeros is one of NGINX's.
        unsafe {
            let r = self.request;
            self.buffer = ngx_pcalloc((*r).pool, size_of::<ngx_buf_t>()).cast();
            if self.buffer.is_null() {
                return Some(NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t);
            }
            let whole = self.answer.is_none();
            (*r).headers_out.content_length_n = if whole { self.text.len() as i64 } else { -1 };
            let rc = ngx_http_send_header(r);
            let ends = rc == NGX_ERROR as ngx_int_t
                || rc > NGX_OK as ngx_int_t
                || bits::request::HEADER_ONLY.is_set(r);
            ends.then_some(rc)
        }
    }

    /// Hands the piece over to the filters.
    fn output(&mut self) -> ngx_int_t {
        self.sent = true;
        let range = self.text.as_mut_ptr_range();
        let is_last = self.answer.is_none();
        // SAFETY: the text stays as it is until it is taken, and the buffer as long as the request. Filters do not keep the
        // link of a chain. A flush keeps no part of the piece back, be it for `postpone_output` or in TLS.
        unsafe {
            let buffer = &mut *self.buffer;
            (buffer.start, buffer.pos) = (range.start, range.start);
            (buffer.last, buffer.end) = (range.end, range.end);
            bits::buf::TEMPORARY.set(buffer, (!self.text.is_empty()).into());
            bits::buf::FLUSH.set(buffer, (!is_last).into());
            bits::buf::LAST_IN_CHAIN.set(buffer, is_last.into());
            bits::buf::LAST_BUF.set(buffer, (is_last && self.request == (*self.request).main).into());
            let mut link = ngx_chain_t { buf: self.buffer, next: null_mut() };
            ngx_http_output_filter(self.request, &mut link)
        }
    }

    /// Whether there is nothing in the text, or a piece that is not complete yet: one that was sent is thrown away when it
    /// has left its memory. With HTTP/2, that happens while other streams are written.
    fn is_free(&mut self) -> bool {
        // SAFETY: null, or made by `send_header`.
        let taken = unsafe { self.buffer.as_ref() }.is_some_and(|buffer| buffer.pos == buffer.last);
        if self.sent && taken {
            self.sent = false;
            self.text.clear();
        }
        !self.sent
    }

    /// Whether the connection is this request's now, and not that of a subrequest or of its parent.
    fn is_active(&self) -> bool {
        // SAFETY: the request is there, and so is its connection.
        unsafe { (*(*self.request).connection).data == self.request.cast() }
    }

    /// Waits until the client takes more. A request that is not active is called when it gets so
    /// (`ngx_http_postpone_filter`).
    fn wait(&mut self) -> Turn {
        if self.is_active() {
            self.start_timer();
            // SAFETY: as above; every request has the core module's configuration.
            unsafe {
                let event = (*(*self.request).connection).write;
                let core = self.core_conf();
                if ngx_handle_write_event(event, (*core).send_lowat) != NGX_OK as ngx_int_t {
                    return Turn::Done(NGX_ERROR as ngx_int_t);
                }
            }
        }
        Turn::Later
    }

    fn core_conf(&self) -> *mut ngx_http_core_loc_conf_t {
        // SAFETY: the request is there; every one has the core module's configuration.
        unsafe { (*(*(*self.request).main).loc_conf.add(ngx_http_core_module.ctx_index)).cast() }
    }

    /// Limits how long a client is waited for. Also without waiting: a worker that is told to end does so as soon as there is no
    /// timer (`ngx_worker_process_cycle`), and would cut the answer short.
    fn start_timer(&mut self) {
        // SAFETY: as above.
        unsafe {
            let event = (*(*self.request).connection).write;
            if self.is_active() && !bits::event::DELAYED.is_set(event) {
                event::add_timer(event, (*self.core_conf()).send_timeout);
            }
        }
    }

    /// The client is not waited for, unless `limit_rate` holds the answer back.
    fn stop_timer(&mut self) {
        // SAFETY: as above.
        unsafe {
            let event = (*(*self.request).connection).write;
            if self.is_active() && bits::event::TIMER_SET.is_set(event) && !bits::event::DELAYED.is_set(event)
            {
                event::delete_timer(event);
            }
        }
    }
}
