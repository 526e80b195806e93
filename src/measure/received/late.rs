//! Bytes that come late.

use crate::measure::charge::Charge;
use crate::nginx::connection::Connection;

/// What is told to the layer above.
pub trait Late: Charge {
    /// The last request of a connection has received more bytes than were known when it ended.
    fn add_received(&mut self, c: Connection<'_>, bytes: u64);
}
