//! Bytes that come late.

use nginx_sys::ngx_connection_t;

use crate::measure::charge::Charge;

/// What is told to the layer above.
pub trait Late: Charge {
    /// The last request of a connection has received more bytes than were known when it ended.
    fn add_received(&mut self, c: *mut ngx_connection_t, bytes: u64);
}
