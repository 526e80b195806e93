//! The status endpoint: accounts and books, to be read by people and by machines.

use core::ptr::null_mut;
use std::io;

use accounting::key;
use accounting::meter::Mode;
use accounting::render::negotiate::Format;
use accounting::render::{self, Status, Zone};
use accounting::table::{Slot, Table};
use nginx_sys::{
    NGX_ERROR, NGX_HTTP_BAD_REQUEST, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR,
    NGX_HTTP_NOT_ALLOWED, NGX_HTTP_NOT_FOUND, NGX_HTTP_OK, NGX_OK, ngx_alloc_chain_link, ngx_buf_t,
    ngx_cached_time, ngx_chain_t, ngx_create_temp_buf, ngx_gmtime, ngx_http_arg,
    ngx_http_discard_request_body, ngx_http_output_filter, ngx_http_request_t, ngx_http_send_header,
    ngx_int_t, ngx_str_t, ngx_table_elt_t, ngx_tm_t, ngx_uint_t, ngx_unescape_uri,
};

use crate::conf::{self, loc_conf, main_conf};
use crate::worker::{Worker, now_ms, with};
use crate::zones;

/// The answer is made in pieces of this many bytes: 10,000 keys need no large block.
const CHUNK_BYTES: usize = 32 * 1024;

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
    let mut body = Chunks::new(request);
    let (status, content_type) = match answer(request, &mut body) {
        Ok(format) => (NGX_HTTP_OK, format.content_type()),
        Err(Failure::Io) => return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t,
        Err(Failure::Refused(format, status, message)) => {
            body = Chunks::new(request);
            if render::error(format, &message, &mut body).is_err() {
                return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
            }
            (status, format.content_type())
        }
    };
    send(request, body, status, content_type)
}

enum Failure {
    /// No memory.
    Io,
    /// The arguments are wrong: status, and what to say.
    Refused(Format, u32, String),
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        // the only writer is a pool's memory
        Failure::Io
    }
}

/// Writes the answer; says in which format.
fn answer(r: &mut ngx_http_request_t, body: &mut Chunks) -> Result<Format, Failure> {
    // SAFETY: the request is in a location.
    let configured = unsafe { loc_conf(r) }.status;
    let preferred = configured.format.unwrap_or_else(|| Format::from_accept(&accept(r)));
    let format = match (configured.format, argument(r, "format")) {
        (None, Some(name)) if name != b"auto" => Format::from_name(&name)
            .ok_or_else(|| refuse(preferred, NGX_HTTP_BAD_REQUEST, "unknown format", &name))?,
        _ => preferred,
    };
    with(Worker::show_now);
    let zones = select(r, format)?;
    // SAFETY: NGINX's current cycle.
    let main = main_conf(unsafe { nginx_sys::ngx_cycle.cast() });
    let clock = main.as_ref().map_or(Mode::default(), |main| main.clock);
    let shared = main.and_then(|main| zones::workers(main));
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        nginx_version: nginx_version(),
        time: &now(),
        clock: clock.name(),
        max_error_ns: clock.max_error_ns(),
        now_ms: now_ms(),
        workers: shared.map(|workers| workers.living()).unwrap_or_default(),
        worker_totals: shared.map(|workers| workers.totals()).unwrap_or_default(),
        zones,
        detail: configured.detail,
    };
    match format {
        Format::Json => render::json(&status, body)?,
        Format::Prometheus => render::prometheus(&status, body)?,
    }
    Ok(format)
}

/// The zones and accounts that the arguments `zone` and `key` leave.
fn select<'a>(r: &mut ngx_http_request_t, format: Format) -> Result<Vec<Zone<'a>>, Failure> {
    let (wanted_zone, wanted_key) = (argument(r, "zone"), argument(r, "key"));
    // SAFETY: NGINX's current cycle; zones live as long as its configuration.
    let configured: &[*mut conf::Zone] =
        main_conf(unsafe { nginx_sys::ngx_cycle.cast() }).map_or(&[], |main| main.zones());
    let mut zones = Vec::new();
    let (mut zone_known, mut key_known) = (false, false);
    for &zone in configured {
        // SAFETY: as above.
        let zone = unsafe { &*zone };
        let Some(table) = zone.table else { continue };
        if wanted_zone.as_ref().is_some_and(|name| name != zone.name.as_bytes()) {
            continue;
        }
        zone_known = true;
        let slots: Vec<Slot> = match &wanted_key {
            Some(key) => table.find(key).filter(|&slot| is_shown(&table, slot)).into_iter().collect(),
            None => table.slots(),
        };
        if wanted_key.is_some() && slots.is_empty() {
            continue;
        }
        key_known = true;
        let name = key::display(zone.name.as_bytes());
        zones.push(Zone { name, size_bytes: zone.size_bytes as u64, table, slots });
    }
    match (wanted_zone, wanted_key) {
        (Some(zone), _) if !zone_known => Err(refuse(format, NGX_HTTP_NOT_FOUND, "unknown zone", &zone)),
        (_, Some(key)) if !key_known => Err(refuse(format, NGX_HTTP_NOT_FOUND, "unknown key", &key)),
        _ => Ok(zones),
    }
}

/// The overflow account is always there, but is not shown before something was counted in it.
fn is_shown(table: &Table, slot: Slot) -> bool {
    slot != Slot::OVERFLOW || !table.account(slot).snapshot(now_ms(), table.epoch()).is_untouched()
}

fn refuse(format: Format, status: u32, what: &str, value: &[u8]) -> Failure {
    Failure::Refused(format, status, format!("{what} \"{}\"", key::display(value)))
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

/// All values of `Accept`, joined as one list.
fn accept(r: &ngx_http_request_t) -> Vec<u8> {
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
        for header in headers.iter().filter(|h| h.key.as_bytes().eq_ignore_ascii_case(b"accept")) {
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

/// A body in the request's pool.
struct Chunks {
    pool: *mut nginx_sys::ngx_pool_t,
    first: *mut ngx_chain_t,
    last: *mut ngx_chain_t,
    bytes: u64,
}

impl Chunks {
    fn new(r: &ngx_http_request_t) -> Self {
        Self { pool: r.pool, first: null_mut(), last: null_mut(), bytes: 0 }
    }

    /// The buffer that is being filled.
    fn buffer(&mut self) -> Option<&mut ngx_buf_t> {
        // SAFETY: links and buffers are made below, in a pool that outlives `self`.
        unsafe { self.last.as_ref().map(|link| &mut *link.buf) }
    }

    fn grow(&mut self) -> io::Result<()> {
        // SAFETY: the request's pool; both functions return null when there is no memory.
        unsafe {
            let buffer = ngx_create_temp_buf(self.pool, CHUNK_BYTES);
            let link = ngx_alloc_chain_link(self.pool);
            if buffer.is_null() || link.is_null() {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            (*link).buf = buffer;
            (*link).next = null_mut();
            match self.last.as_mut() {
                Some(last) => last.next = link,
                None => self.first = link,
            }
            self.last = link;
        }
        Ok(())
    }
}

impl io::Write for Chunks {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = |buffer: &mut ngx_buf_t| buffer.end.addr() - buffer.last.addr();
        if self.buffer().map(room).unwrap_or(0) == 0 {
            self.grow()?;
        }
        let Some(buffer) = self.buffer() else { return Ok(0) };
        let count = data.len().min(room(buffer));
        // SAFETY: there is room for `count` bytes behind `last`.
        unsafe {
            buffer.last.copy_from_nonoverlapping(data.as_ptr(), count);
            buffer.last = buffer.last.add(count);
        }
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send(r: &mut ngx_http_request_t, mut body: Chunks, status: u32, content_type: &'static str) -> ngx_int_t {
    r.headers_out.status = status as ngx_uint_t;
    r.headers_out.content_length_n = body.bytes as i64;
    r.headers_out.content_type =
        ngx_str_t { len: content_type.len(), data: content_type.as_ptr().cast_mut() };
    r.headers_out.content_type_len = content_type.len();
    // SAFETY: a request without a header yet; the chain is in its pool.
    unsafe {
        let rc = ngx_http_send_header(r);
        if rc == NGX_ERROR as ngx_int_t || rc > NGX_OK as ngx_int_t || r.header_only() != 0 {
            return rc;
        }
        let main = core::ptr::eq(r, r.main);
        if let Some(last) = body.buffer() {
            last.set_last_buf(u32::from(main));
            last.set_last_in_chain(1);
        }
        ngx_http_output_filter(r, body.first)
    }
}
