//! The directives. Each has a file of its own, with the directive's name.

pub mod parameters;
pub mod request_cpu;
pub mod request_cpu_clock;
pub mod request_cpu_limit;
pub mod request_cpu_log;
pub mod request_cpu_status;
pub mod request_cpu_zone;
pub mod state_path;
