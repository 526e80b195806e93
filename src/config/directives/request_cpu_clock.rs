//! `request_cpu_clock thread;` or `request_cpu_clock hybrid [max_error=TIME];`

use core::ffi::CStr;

use accounting::meter::{Mode, parse_max_error};
use accounting::parameters::Form;
use nginx_sys::{NGX_CONF_TAKE12, NGX_HTTP_MAIN_CONF};

use crate::config::directives::parameters;
use crate::config::main::MainConf;
use crate::nginx::conf::Conf;
use crate::nginx::directive::{Directive, Refusal};

/// The directive.
pub struct RequestCpuClock;

impl Directive for RequestCpuClock {
    type Conf = MainConf;
    const NAME: &'static CStr = c"request_cpu_clock";
    const TYPE: u32 = NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE12;

    fn set(cf: &mut Conf<'_>, main: &MainConf) -> Result<(), Refusal> {
        if main.clock.get().is_some() {
            return Err("\"request_cpu_clock\" is duplicate".to_string().into());
        }
        let given = parameters::read::<Self>(cf, 1, &[("max_error", Form::Value)])?;
        let of_name = |name: &[u8]| match name {
            b"thread" => Some(Mode::Thread),
            b"hybrid" => Some(Mode::default()),
            _ => None,
        };
        let mut clock = given.valid(given.at(0), "clock", "\"hybrid\" or \"thread\"", of_name)?;
        if given.has("max_error") {
            let Mode::Hybrid { max_error_ns } = &mut clock else {
                // the clock `thread` has no parameter
                return Err(given.unknown(cf.arguments().nth(2).unwrap_or_default()).into());
            };
            let parsed = given.parse("max_error", "max_error", "from 1us to 10ms", parse_max_error)?;
            *max_error_ns = parsed.unwrap_or(*max_error_ns);
        }
        // it was not set before
        let _ = main.clock.set(clock);
        Ok(())
    }
}
