//! A limit on the CPU of one key: token buckets of its account, shared by all workers, without a lock.
//!
//! A bucket holds what was used and is not paid yet. It is full when nothing is missing, and empty when as much as
//! `burst` is missing. What is missing beyond that is the debt; while there is one, requests are refused. Time
//! pays, `rate` per second, and a full bucket takes no more.
//!
//! An account has a bucket for each of its limits, [`MAX_BUCKETS`] at most. CPU of a request that a limit has
//! checked counts in the bucket of that limit. CPU that no limit has checked counts in all of them. The first
//! bucket is in the account. Others are made when a second limit checks a request of the key, in memory of the
//! table, and each refers to the next one: see [`Table::check`](crate::table::Table::check).
//!
//! Whoever finds that time has passed since the last payment takes that time by one compare-and-swap, and then pays
//! for it. A worker that is killed between the two takes some milliseconds' income with it, and nothing else.
//! Clocks of workers may be late: who comes with an older time than the last payment's pays nothing. If it is older
//! by more than `LATE_MS`, the last payment's time was ahead, and time goes on from the older one: so a clock that
//! was ahead stops the income for a second at most.
//!
//! With `max_debt`, what a request is expected to use is charged when it is let in. This is a charge as any other:
//! it is in the bucket from then on, and time pays it, also where the worker is killed before the request ends.

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
