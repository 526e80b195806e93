//! What is probably wrong in a configuration.

mod keys;
mod status;
mod use_of_zones;

use super::findings::{Finding, Findings};
use super::model::Model;

/// All findings: warnings first.
pub fn find(model: &Model) -> Vec<Finding> {
    let mut found = Findings::default();
    module(model, &mut found);
    use_of_zones::check(model, &mut found);
    keys::check(model, &mut found);
    status::check(model, &mut found);
    variables(model, &mut found);
    threads(model, &mut found);
    found.sorted()
}

fn module(model: &Model, found: &mut Findings) {
    // a module that is built into NGINX has no load_module
    if model.module.is_none() && !model.has_directives && model.variable.is_none() {
        let message = "the module is not loaded: load_module modules/ngx_http_request_cpu_module.so;";
        return found.warn("module-not-loaded", None, message.to_owned());
    }
    if !model.is_measured() {
        let place = model.module.as_ref().map(|(_, place)| place);
        let message = "nothing is measured: no \"request_cpu\" and no variable of the module is used";
        found.warn("nothing-measured", place, message.to_owned());
    }
}

fn variables(model: &Model, found: &mut Findings) {
    if let Some((name, place)) = model.variable.as_ref().filter(|_| !model.counts_requests()) {
        let message =
            format!("requests are measured for ${name} only: no \"request_cpu\" counts them in a zone");
        found.note("variable-without-zone", Some(place), message);
    }
    for format in model.formats.iter().filter(|format| format.is_measured && !format.is_used) {
        let message =
            format!("log_format \"{}\" is in no \"access_log\", so no log has its CPU time", format.name);
        found.note("format-unused", Some(&format.place), message);
    }
}

fn threads(model: &Model, found: &mut Findings) {
    if let Some(place) = model.aio_threads.as_ref().filter(|_| model.is_measured()) {
        let message = "with \"aio threads\", CPU time of threads that read into buffers or write files is in no \
                       account; the status shows it as pool_threads_cpu_ns";
        found.note("aio-threads", Some(place), message.to_owned());
    }
}
