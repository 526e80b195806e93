//! The part of a table that its accounts know.

use crate::limit::Bucket;

/// The part of a table that its accounts know.
pub trait TableView {
    /// The epoch of the gauges of requests in flight.
    fn epoch(&self) -> u32;

    /// How much CPU in a second makes it an active one, in nanoseconds.
    fn active_threshold_ns(&self) -> u64;

    /// The bucket that comes after this one in its account.
    fn bucket_after(&self, bucket: &Bucket) -> Option<&Bucket>;
}
