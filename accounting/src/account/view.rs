//! The part of a table that its accounts know.

use crate::limit::Bucket;

/// The part of a table that its accounts know.
pub trait TableView {
    /// The epoch of the gauges of requests in flight.
    fn epoch(&self) -> u32;

    /// The CPU of a second, in nanoseconds, from which the second is an active one.
    fn active_threshold_ns(&self) -> u64;

    /// The bucket after this one in the same account.
    fn bucket_after(&self, bucket: &Bucket) -> Option<&Bucket>;
}
