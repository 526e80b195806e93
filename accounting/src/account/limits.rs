//! The limits of an account.

use super::cells::Account;
use super::count::{Count, read_tally};
use super::view::TableView;
use crate::limit::{Bucket, BucketState, DRY_RUN};

impl Account {
    /// The first bucket of the account's limits.
    #[inline]
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The buckets that belong to limits. Those after the first one are in the table.
    #[inline]
    pub(crate) fn buckets<'a>(
        &'a self,
        table: Option<&'a dyn TableView>,
    ) -> impl Iterator<Item = &'a Bucket> {
        let first = self.bucket.is_live().then_some(&self.bucket);
        core::iter::successors(first, move |bucket| table?.bucket_after(bucket))
    }

    /// The state of each limit. `table` is the table of this account.
    pub fn limits<'a>(
        &'a self,
        table: &'a dyn TableView,
        now_ms: u64,
    ) -> impl Iterator<Item = BucketState> + 'a {
        self.buckets(Some(table)).filter_map(move |bucket| bucket.read(now_ms))
    }

    /// The state of the limit that was checked last. If several were checked at the same time, it is the one with the
    /// largest debt. None if no limit has checked a request. `table` is the table of this account.
    pub fn limit(&self, table: &impl TableView, now_ms: u64) -> Option<BucketState> {
        let states = self.buckets(Some(table)).filter_map(|bucket| {
            let state = bucket.read(now_ms)?;
            Some((state, (core::cmp::Reverse(bucket.age_ms(now_ms)), state.debt_ns)))
        });
        states.max_by_key(|&(_, rank)| rank).map(|(state, _)| state)
    }

    /// Requests that limits have refused, and their CPU, as [`DRY_RUN`].
    pub fn refused(&self) -> [Count; DRY_RUN.len()] {
        self.refused.each_ref().map(read_tally)
    }
}
