//! What one worker has for its accounts and has not added to them yet.
//!
//! An atomic addition takes as long as some twenty plain ones, and a request needs more than a dozen. So what the requests of
//! an account bring in one turn of the event loop is summed up in the worker's own memory first, and added when the turn ends.

use crate::account::{Classes, Count, Usage, cpu_bucket};
use crate::limit::{DRY_RUN, Share};
use crate::table::{Slot, Table};

/// Accounts that are summed up at the same time. A worker that serves more of them in one turn adds more often.
const PLACES: usize = 16;

/// Sums for one account.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// none: there is nothing
    slot: Option<Slot>,
    usage: Usage,
    /// the part of the CPU that was refused requests', as [`DRY_RUN`]
    refused_ns: [u64; DRY_RUN.len()],
    /// requests that ended, all of the same classes
    classes: Classes,
    ended: Count,
    /// and those of the same bucket of CPU, which changes more often
    bucket: u8,
    in_bucket: u64,
}

/// One worker's sums for the accounts of one table.
#[derive(Debug, Default)]
pub struct Unsettled {
    /// which places hold something, as bits
    used: u32,
    // an account has one place, and shares it with others
    places: [Sums; PLACES],
}

impl Unsettled {
    /// The sums for this account.
    #[inline]
    fn sums(&mut self, table: &Table, now_ms: u64, slot: Slot) -> &mut Sums {
        let at = slot.index() % PLACES;
        let sums = &mut self.places[at];
        if sums.slot != Some(slot) {
            sums.settle(table, now_ms);
            sums.slot = Some(slot);
            self.used |= 1 << at;
        }
        sums
    }

    /// A request has used this. `now_ms` is a monotonic clock's that all workers share.
    #[inline]
    pub fn add(&mut self, table: &Table, now_ms: u64, slot: Slot, share: Share, usage: &Usage) {
        self.sums(table, now_ms, slot).add(share, usage);
    }

    /// What came after a request's log line has used `ns` nanoseconds of CPU.
    #[inline]
    pub fn charge(&mut self, table: &Table, now_ms: u64, slot: Slot, share: Share, ns: u64) {
        let sums = self.sums(table, now_ms, slot);
        sums.usage.cpu_ns += ns;
        sums.set_apart(share, ns);
    }

    /// What an account has not got yet that limits count, in nanoseconds of CPU.
    #[inline]
    pub fn used_ns(&self, slot: Slot) -> u64 {
        let sums = &self.places[slot.index() % PLACES];
        if sums.slot != Some(slot) {
            return 0;
        }
        sums.usage.cpu_ns.saturating_sub(sums.refused_ns.iter().sum())
    }

    /// A request has ended, of these classes, that took `cpu_ns` nanoseconds of CPU; `usage` is what is new.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    pub fn finish(
        &mut self,
        table: &Table,
        now_ms: u64,
        slot: Slot,
        share: Share,
        usage: &Usage,
        classes: Classes,
        cpu_ns: u64,
    ) {
        let sums = self.sums(table, now_ms, slot);
        sums.add(share, usage);
        if sums.classes != classes {
            sums.settle_ended(table, slot);
            sums.classes = classes;
        }
        let bucket = cpu_bucket(cpu_ns);
        if sums.bucket != bucket {
            sums.settle_bucket(table, slot);
            sums.bucket = bucket;
        }
        sums.in_bucket += 1;
        sums.ended.requests += 1;
        sums.ended.cpu_ns += cpu_ns;
    }

    /// Adds all sums to their accounts.
    #[inline]
    pub fn settle(&mut self, table: &Table, now_ms: u64) {
        while self.used != 0 {
            let at = self.used.trailing_zeros() as usize;
            self.used &= self.used - 1;
            self.places[at].settle(table, now_ms);
        }
    }
}

impl Sums {
    #[inline]
    fn add(&mut self, share: Share, usage: &Usage) {
        self.usage = self.usage.plus(usage);
        self.set_apart(share, usage.cpu_ns);
    }

    /// CPU that is part of the sum may be no use.
    #[inline]
    fn set_apart(&mut self, share: Share, ns: u64) {
        match share {
            Share::Used => {}
            Share::Refused => self.refused_ns[0] += ns,
            Share::RefusedDryRun => self.refused_ns[1] += ns,
        }
    }

    #[cold]
    #[inline(never)]
    fn settle(&mut self, table: &Table, now_ms: u64) {
        if let Some(slot) = self.slot {
            let (usage, refused_ns) =
                (core::mem::take(&mut self.usage), core::mem::take(&mut self.refused_ns));
            table.account(slot).add_shares(now_ms, &usage, &refused_ns);
            self.settle_ended(table, slot);
            self.settle_bucket(table, slot);
            self.slot = None;
        }
    }

    #[cold]
    #[inline(never)]
    fn settle_ended(&mut self, table: &Table, slot: Slot) {
        let ended = core::mem::take(&mut self.ended);
        if ended.requests != 0 {
            table.account(slot).count(&self.classes, &ended);
        }
    }

    fn settle_bucket(&mut self, table: &Table, slot: Slot) {
        let requests = core::mem::take(&mut self.in_bucket);
        if requests != 0 {
            table.account(slot).count_cpu(self.bucket, requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::account::Outcome;
    use crate::account::tests::{add_up, outcomes};
    use crate::table::Spare;
    use crate::testing::{Region, cases};

    #[derive(Debug, Clone)]
    enum Step {
        Add(usize, u64, Share),
        Finish(usize, Outcome, Share),
        Settle,
    }

    fn shares() -> impl Strategy<Value = Share> {
        prop_oneof![4 => Just(Share::Used), 1 => Just(Share::Refused), 1 => Just(Share::RefusedDryRun)]
    }

    proptest! {
        #![proptest_config(cases())]

        /// More accounts than places, so that some share one.
        #[test]
        fn what_is_settled_is_what_was_added(
            steps in prop::collection::vec(prop_oneof![
                4 => (0usize..40, 0u64..1 << 30, shares()).prop_map(|(at, n, share)| Step::Add(at, n, share)),
                4 => (0usize..40, outcomes(), shares()).prop_map(|(at, outcome, share)| Step::Finish(at, outcome, share)),
                1 => Just(Step::Settle),
            ], 0..200),
        ) {
            let region = Region::new(128 * 1024);
            let table = region.table().unwrap();
            let mut spare = Spare::default();
            let slots: Vec<Slot> = (0..40u8).map(|n| table.find_or_insert(&[n], &mut spare).slot).collect();
            let mut unsettled = Unsettled::default();
            let mut expected: BTreeMap<usize, (Usage, Count, [u64; 3])> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add(at, n, share) => {
                        let usage = Usage { cpu_ns: n / 2, wakeups: 1, sent_bytes: n + 1, received_bytes: n + 2 };
                        unsettled.add(&table, 5_000, slots[at], share, &usage);
                        unsettled.charge(&table, 5_000, slots[at], share, n);
                        let (sum, _, by_share) = expected.entry(at).or_default();
                        *sum = sum.plus(&Usage { cpu_ns: n / 2 + n, ..usage });
                        by_share[share as usize] += n / 2 + n;
                    }
                    Step::Finish(at, outcome, share) => {
                        let usage = Usage { cpu_ns: 1, ..Usage::default() };
                        unsettled.finish(&table, 5_000, slots[at], share, &usage, outcome.classes(), outcome.cpu_ns);
                        let (sum, count, by_share) = expected.entry(at).or_default();
                        *sum = sum.plus(&usage);
                        by_share[share as usize] += 1;
                        count.requests += 1;
                        count.cpu_ns += outcome.cpu_ns;
                    }
                    Step::Settle => unsettled.settle(&table, 5_000),
                }
            }
            for (at, &slot) in slots.iter().enumerate() {
                let all = expected.get(&at).map_or(0, |(_, _, by_share)| by_share[Share::Used as usize]);
                let cpu_ns = table.account(slot).usage().cpu_ns;
                let refused_ns = table.account(slot).refused().map(|count| count.cpu_ns).iter().sum::<u64>();
                prop_assert_eq!(cpu_ns - refused_ns + unsettled.used_ns(slot), all);
            }
            unsettled.settle(&table, 5_000);
            for (at, slot) in slots.into_iter().enumerate() {
                let (usage, count, by_share) = expected.remove(&at).unwrap_or_default();
                let snapshot = table.account(slot).snapshot(5_000, 0);
                prop_assert_eq!(snapshot.usage, usage);
                prop_assert_eq!(snapshot.refused.map(|count| count.cpu_ns).to_vec(), by_share[1..].to_vec());
                prop_assert_eq!(unsettled.used_ns(slot), 0);
                add_up(&snapshot, count.requests, count.cpu_ns);
            }
            prop_assert!(table.account(Slot::OVERFLOW).is_untouched(0));
        }
    }

    #[test]
    fn requests_are_counted_in_their_own_classes() {
        let region = Region::new(64 * 1024);
        let table = region.table().unwrap();
        let slot = table.find_or_insert(b"a", &mut Spare::default()).slot;
        let mut unsettled = Unsettled::default();
        for status in [200, 200, 404, 200] {
            let outcome = Outcome {
                status,
                cache: crate::account::CacheStatus::None,
                connection_order: 1,
                response_bytes: 1,
                cpu_ns: 1,
            };
            let (usage, classes) = (Usage::default(), outcome.classes());
            unsettled.finish(&table, 0, slot, Share::Used, &usage, classes, outcome.cpu_ns);
        }
        assert_eq!(table.account(slot).snapshot(0, 0).responses, [0, 2, 0, 1, 0], "the last one not yet");
        unsettled.settle(&table, 0);
        unsettled.settle(&table, 0);
        assert_eq!(table.account(slot).snapshot(0, 0).responses, [0, 3, 0, 1, 0]);
    }
}
