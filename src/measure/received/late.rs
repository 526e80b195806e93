//! Bytes that arrive after their request has ended.

use crate::measure::charge::Charge;

/// Reports to the layer above.
pub trait Late: Charge {
    #[cfg(ngx_feature = "http_v2")]
    /// The last request of a connection has received more bytes than were known when it ended.
    fn add_received(&mut self, c: crate::nginx::connection::Connection<'_>, bytes: u64);
}
