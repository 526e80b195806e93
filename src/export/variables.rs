//! `$request_cpu_time` and similar variables, which are computed at each reading, since they change all the time. Also
//! `$request_cpu_subrequest`, which tells the log lines of subrequests from those of main requests.

use nginx_sys::{NGX_ERROR, NGX_OK, ngx_int_t};

use crate::charge::limit::check;
use crate::charge::reading::{Reading, read};
use crate::nginx::callback::callback;
use crate::nginx::conf::{Conf, Core};
use crate::nginx::request::Request;
use crate::nginx::variable::{NoMemory, Value, Variable, add, indexed};

const NS_PER_S: u64 = 1_000_000_000;

const CONNECTION_NS: &str = "request_cpu_connection_ns";

/// The parts of a variable's value: a whole number, and its decimals.
type Show = fn(&Reading) -> (u64, Option<u64>);

/// The variables. A variable's `data` is its index here.
const VARIABLES: [(&str, Show); 4] = [
    ("request_cpu_time", |r| (r.total_ns / NS_PER_S, Some(r.total_ns % NS_PER_S))),
    ("request_cpu_ns", |r| (r.total_ns, None)),
    ("request_cpu_wakeups", |r| (r.wakeups, None)),
    (CONNECTION_NS, |r| (r.connection_ns, None)),
];

callback! {
    /// Adds the variables. `ngx_http_block` calls this before it reads directives.
    pub fn preconfiguration(cf: Conf<'_>) -> ngx_int_t {
        if add_all(&cf).is_some() { NGX_OK as ngx_int_t } else { NGX_ERROR as ngx_int_t }
    }
}

fn add_all(cf: &Conf<'_>) -> Option<()> {
    for (at, (name, _)) in VARIABLES.into_iter().enumerate() {
        add::<Number>(cf, name, at)?;
    }
    add::<Subrequest>(cf, "request_cpu_subrequest", 0)?;
    add::<LimitStatus>(cf, "request_cpu_limit_status", 0)
}

/// The variables of this module that a configuration uses.
pub struct Used {
    pub any: bool,
    pub connection: bool,
}

/// Checks the variables that directives have requested so far (`ngx_http_get_variable_index`).
pub fn used(core: Core<'_>) -> Used {
    let is_used = |name: &str| indexed(core).any(|indexed| indexed.as_bytes() == name.as_bytes());
    Used { any: VARIABLES.iter().any(|(name, _)| is_used(name)), connection: is_used(CONNECTION_NS) }
}

/// A number, or a number with nine decimals.
struct Number;

impl Variable for Number {
    fn get(r: Request<'_>, value: Value<'_>, data: usize) -> Result<(), NoMemory> {
        let (Some(reading), Some((_, show))) = (read(r), VARIABLES.get(data)) else {
            value.set_missing();
            return Ok(());
        };
        let (whole, decimals) = show(&reading);
        let (mut first, mut second) = (itoa::Buffer::new(), itoa::Buffer::new());
        let whole = first.format(whole).as_bytes();
        // A leading 1 keeps the zeros. The decimal point replaces this 1.
        let decimals = decimals.map_or(&[][..], |ns| second.format(NS_PER_S + ns).as_bytes());
        value.set_copy(&[whole, decimals], |copy| {
            if let Some(point) = copy.get_mut(whole.len()) {
                *point = b'.';
            }
        })
    }
}

/// `1` in a subrequest, `0` in a main request.
struct Subrequest;

impl Variable for Subrequest {
    fn get(r: Request<'_>, value: Value<'_>, _data: usize) -> Result<(), NoMemory> {
        value.set(if r.is_main() { "0" } else { "1" });
        Ok(())
    }
}

/// The result of a request's limits.
struct LimitStatus;

impl Variable for LimitStatus {
    fn get(r: Request<'_>, value: Value<'_>, _data: usize) -> Result<(), NoMemory> {
        match check::status(r) {
            None => value.set_missing(),
            Some(status) => value.set(status),
        }
        Ok(())
    }
}
