//! A limit on the CPU of one key: token buckets of its account, shared by all workers, without a lock.
//!
//! A bucket counts CPU that was used and is not paid yet. This amount is called missing. The bucket is full when
//! nothing is missing, and empty when `burst` is missing. CPU that is missing beyond the burst is the debt. While
//! there is a debt, requests are refused. Time pays, at `rate` per second; a full bucket takes no more.
//!
//! An account has a bucket for each of its limits, [`MAX_BUCKETS`] at most. CPU of a request that a limit has checked
//! counts in the bucket of that limit. CPU that no limit has checked counts in all buckets. The first bucket is in
//! the account. More buckets are made when a second limit checks a request of the key. They are in memory of the
//! table, and each refers to the next one: see [`Table::check`](crate::table::Table::check).
//!
//! A worker that pays takes the time since the last payment by one compare-and-swap, and then pays for it. A worker
//! that is killed between the two steps loses the payment of some milliseconds, and nothing else. Clocks of workers
//! may be late: a worker whose time is before the last payment pays nothing. If its time is more than `LATE_MS`
//! before the last payment, the time of that payment was ahead. Then time continues from the earlier one. So a clock
//! that was ahead stops payments for a second at most.
//!
//! With `max_debt`, the expected CPU of a request is charged when the request is admitted. This charge is like any
//! other: it is in the bucket from then on, and time pays it, even if the worker is killed before the request ends.

mod bucket;
mod config;
mod number;
mod share;
mod times;

pub use bucket::{Bucket, BucketState};
pub use config::{Limit, LimitId};
pub use number::{parse_cores, parse_decimal};
pub use share::{Apart, DRY_RUN, Share};
pub use times::MAX_BUCKETS;

#[cfg(test)]
use self::{bucket::*, config::*, number::*, share::*, times::*};

#[cfg(test)]
mod tests;
