//! What one worker has for its accounts and has not added to them yet.
//!
//! An atomic addition takes as long as some twenty plain ones, and a request needs more than a dozen. So what the requests of
//! an account bring in one turn of the event loop is summed up in the worker's own memory first, and added when the turn ends.

use crate::account::{Classes, Count, Usage, cpu_bucket};
use crate::table::{Slot, Table};

/// Accounts that are summed up at the same time. A worker that serves more of them in one turn adds more often.
const PLACES: usize = 16;

/// Sums for one account.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// none: there is nothing
    slot: Option<Slot>,
    usage: Usage,
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
    pub fn add(&mut self, table: &Table, now_ms: u64, slot: Slot, usage: &Usage) {
        let sums = &mut self.sums(table, now_ms, slot).usage;
        *sums = sums.plus(usage);
    }

    /// What came after a request's log line has used `ns` nanoseconds of CPU.
    #[inline]
    pub fn charge(&mut self, table: &Table, now_ms: u64, slot: Slot, ns: u64) {
        self.sums(table, now_ms, slot).usage.cpu_ns += ns;
    }

    /// A request has ended, of these classes, that took `cpu_ns` nanoseconds of CPU; `usage` is what is new.
    #[inline]
    pub fn finish(
        &mut self,
        table: &Table,
        now_ms: u64,
        slot: Slot,
        usage: &Usage,
        classes: Classes,
        cpu_ns: u64,
    ) {
        let sums = self.sums(table, now_ms, slot);
        sums.usage = sums.usage.plus(usage);
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
    #[cold]
    #[inline(never)]
    fn settle(&mut self, table: &Table, now_ms: u64) {
        if let Some(slot) = self.slot {
            table.account(slot).add(now_ms, &core::mem::take(&mut self.usage));
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
        Add(usize, u64),
        Finish(usize, Outcome),
        Settle,
    }

    proptest! {
        #![proptest_config(cases())]

        /// More accounts than places, so that some share one.
        #[test]
        fn what_is_settled_is_what_was_added(
            steps in prop::collection::vec(prop_oneof![
                4 => (0usize..40, 0u64..1 << 30).prop_map(|(at, n)| Step::Add(at, n)),
                4 => (0usize..40, outcomes()).prop_map(|(at, outcome)| Step::Finish(at, outcome)),
                1 => Just(Step::Settle),
            ], 0..200),
        ) {
            let region = Region::new(128 * 1024);
            let table = region.table().unwrap();
            let mut spare = Spare::default();
            let slots: Vec<Slot> = (0..40u8).map(|n| table.find_or_insert(&[n], &mut spare).slot).collect();
            let mut unsettled = Unsettled::default();
            let mut expected: BTreeMap<usize, (Usage, Count)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add(at, n) => {
                        let usage = Usage { cpu_ns: n / 2, wakeups: 1, sent_bytes: n + 1, received_bytes: n + 2 };
                        unsettled.add(&table, 5_000, slots[at], &usage);
                        unsettled.charge(&table, 5_000, slots[at], n);
                        let sum = &mut expected.entry(at).or_default().0;
                        *sum = sum.plus(&Usage { cpu_ns: n / 2 + n, ..usage });
                    }
                    Step::Finish(at, outcome) => {
                        unsettled.finish(&table, 5_000, slots[at], &Usage::default(), outcome.classes(), outcome.cpu_ns);
                        let count = &mut expected.entry(at).or_default().1;
                        count.requests += 1;
                        count.cpu_ns += outcome.cpu_ns;
                    }
                    Step::Settle => unsettled.settle(&table, 5_000),
                }
            }
            unsettled.settle(&table, 5_000);
            for (at, slot) in slots.into_iter().enumerate() {
                let (usage, count) = expected.remove(&at).unwrap_or_default();
                let snapshot = table.account(slot).snapshot(5_000, 0);
                prop_assert_eq!(snapshot.usage, usage);
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
            unsettled.finish(&table, 0, slot, &Usage::default(), outcome.classes(), outcome.cpu_ns);
        }
        assert_eq!(table.account(slot).snapshot(0, 0).responses, [0, 2, 0, 1, 0], "the last one not yet");
        unsettled.settle(&table, 0);
        unsettled.settle(&table, 0);
        assert_eq!(table.account(slot).snapshot(0, 0).responses, [0, 3, 0, 1, 0]);
    }
}
