//! The directives: a file for each, named as the directive is.

pub mod parameters;
pub mod request_cpu;
pub mod request_cpu_clock;
pub mod request_cpu_limit;
pub mod request_cpu_log;
pub mod request_cpu_status;
pub mod request_cpu_zone;
pub mod state_path;
