//! What an account needs to know of its table.

use crate::limit::Bucket;

/// What an account needs to know of the table that has it.
pub trait TableView {
    /// The epoch of the gauges of requests in flight.
    fn epoch(&self) -> u32;

    /// How much CPU in a second makes it an active one, in nanoseconds.
    fn active_threshold_ns(&self) -> u64;

    /// The bucket that comes after this one in its account.
    fn bucket_after(&self, bucket: &Bucket) -> Option<&Bucket>;
}
