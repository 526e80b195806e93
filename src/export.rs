//! Readers: variables, the status endpoint with its page, and the traffic log.

pub mod page;
pub mod status;
pub mod traffic_log;
pub mod variables;
