//! `request_cpu_status [format=auto|json|prometheus|html] [detail=full|low];`

use core::ffi::CStr;
use core::marker::PhantomData;

use accounting::parameters::Form;
use accounting::render::Detail;
use accounting::render::negotiate::Content;
use nginx_sys::{NGX_CONF_ANY, NGX_HTTP_LOC_CONF};

use crate::config::directives::parameters;
use crate::config::location::LocConf;
use crate::config::status::StatusConf;
use crate::nginx::conf::Conf;
use crate::nginx::content::ContentHandler;
use crate::nginx::directive::{Directive, Refusal};

/// Provides the handler that answers status requests.
pub trait Answers {
    const HANDLER: ContentHandler;
}

/// The directive. `A` answers the requests.
pub struct RequestCpuStatus<A>(PhantomData<A>);

impl<A: Answers> Directive for RequestCpuStatus<A> {
    type Conf = LocConf;
    const NAME: &'static CStr = c"request_cpu_status";
    const TYPE: u32 = NGX_HTTP_LOC_CONF | NGX_CONF_ANY;

    fn set(cf: &mut Conf<'_>, loc: &LocConf) -> Result<(), Refusal> {
        if loc.status.get().is_set {
            return Err("\"request_cpu_status\" is duplicate".to_string().into());
        }
        let given = parameters::read::<Self>(cf, 0, &[("format", Form::Value), ("detail", Form::Value)])?;
        let formats = "\"auto\", \"json\", \"prometheus\" or \"html\"";
        let content = given.parse("format", "format", formats, |name| match name {
            b"auto" => Some(None),
            name => Content::from_name(name).map(Some),
        })?;
        let detail = given.parse("detail", "detail", "\"full\" or \"low\"", Detail::from_name)?;
        loc.status.set(StatusConf {
            is_set: true,
            place: Some(cf.place()),
            content: content.flatten(),
            detail: detail.unwrap_or_default(),
            handler: Some(A::HANDLER),
        });
        cf.set_handler(A::HANDLER);
        Ok(())
    }
}
