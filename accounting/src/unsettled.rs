//! What one worker has for its accounts and has not added to them yet.
//!
//! An atomic addition takes as long as some twenty plain ones, and a request needs more than a dozen. So what the requests of
//! an account bring in one turn of the event loop is summed up in the worker's own memory first, and added when the turn ends.

use crate::account::{Classes, Count, Settlement, Usage, cpu_bucket};
use crate::limit::{Apart, Share};
use crate::measures::{Held, Span};
use crate::table::{Slot, Table};

/// A millisecond in nanoseconds.
const MS: u64 = 1_000_000;

/// Accounts that are summed up at the same time. A worker that serves more of them in one turn adds more often.
const PLACES: usize = 16;

/// Sums for one account.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    /// none: there is nothing
    slot: Option<Slot>,
    usage: Usage,
    /// there is something in `apart`
    has_apart: bool,
    /// the part of the CPU that not all limits count
    apart: Apart,
    /// requests that ended, all of the same classes
    classes: Classes,
    ended: Count,
    /// and those of the same bucket of CPU, which changes more often
    bucket: u8,
    in_bucket: u64,
    held: Held,
    /// when requests that were never known to be in flight were, in nanoseconds; the second is 0 if none was
    span: (u64, u64),
    /// this millisecond of this account is known to be active: its start in nanoseconds
    known: (Slot, u64),
}

/// A request that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// what is new of it
    pub usage: Usage,
    /// where it belongs
    pub classes: Classes,
    /// nanoseconds of CPU of the whole request
    pub cpu_ns: u64,
    /// its time, but for what it was in flight, as [`crate::in_flight::InFlight`] knows it
    pub span: Span,
}

/// One worker's sums for the accounts of one table.
#[derive(Debug, Default)]
pub struct Unsettled {
    /// which places hold something, as bits
    used: u32,
    /// what was less than a byte for a millisecond, whosoever it was
    carry: u64,
    // an account has one place, and shares it with others
    places: [Sums; PLACES],
}

impl Unsettled {
    /// The sums for this account.
    #[inline]
    fn sums(&mut self, table: &Table, now_ns: u64, slot: Slot) -> &mut Sums {
        let at = slot.index() % PLACES;
        let sums = &mut self.places[at];
        if sums.slot != Some(slot) {
            sums.settle(table, now_ns, &mut self.carry);
            sums.slot = Some(slot);
            self.used |= 1 << at;
        }
        sums
    }

    /// A request has used this. `now_ns` is the time of the clock that all workers share, in nanoseconds.
    #[inline]
    pub fn add(&mut self, table: &Table, now_ns: u64, slot: Slot, share: Share, usage: &Usage) {
        self.sums(table, now_ns, slot).add(share, usage);
    }

    /// What came after a request's log line has used `ns` nanoseconds of CPU.
    #[inline]
    pub fn charge(&mut self, table: &Table, now_ns: u64, slot: Slot, share: Share, ns: u64) {
        let sums = self.sums(table, now_ns, slot);
        sums.usage.cpu_ns += ns;
        sums.set_apart(share, ns);
    }

    /// What a bucket of an account has not got yet, in nanoseconds of CPU; by its place.
    #[inline]
    pub fn ahead_ns(&self, slot: Slot, bucket: usize) -> i64 {
        let sums = &self.places[slot.index() % PLACES];
        if sums.slot != Some(slot) {
            return 0;
        }
        sums.apart.counted_ns(bucket, sums.usage.cpu_ns)
    }

    /// What was charged before to a bucket of an account is charged as use now, or was not used.
    pub fn give_back(&mut self, table: &Table, now_ns: u64, slot: Slot, bucket: u8, ns: u64) {
        let sums = self.sums(table, now_ns, slot);
        sums.has_apart = true;
        sums.apart.give_back(bucket, ns);
    }

    /// Requests in flight have held this since it was last told.
    #[inline]
    pub fn hold(&mut self, table: &Table, now_ns: u64, slot: Slot, held: &Held) {
        let sums = self.sums(table, now_ns, slot);
        sums.held = sums.held.plus(held);
    }

    /// A request has ended.
    #[inline]
    pub fn finish(&mut self, table: &Table, now_ns: u64, slot: Slot, share: Share, ended: &Ended) {
        let sums = self.sums(table, now_ns, slot);
        let &Ended { ref usage, classes, cpu_ns, ref span } = ended;
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
        if span.to_ns > span.from_ns {
            sums.held = sums.held.plus(&span.held());
            sums.extend(table, slot, span);
        }
    }

    /// Adds all sums to their accounts.
    #[inline]
    pub fn settle(&mut self, table: &Table, now_ns: u64) {
        while self.used != 0 {
            let at = self.used.trailing_zeros() as usize;
            self.used &= self.used - 1;
            self.places[at].settle(table, now_ns, &mut self.carry);
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
        if share != Share::Used {
            self.has_apart = true;
            self.apart.add(share, ns);
        }
    }

    /// One of the requests was in flight in this time.
    #[inline]
    fn extend(&mut self, table: &Table, slot: Slot, span: &Span) {
        if span.from_ns > self.span.1 + MS {
            self.cover(table, slot);
            self.span = (span.from_ns, span.to_ns);
        } else {
            // less than a millisecond after the one before: there is no other one between the two
            self.span = (self.span.0.min(span.from_ns), span.to_ns);
        }
    }

    /// Counts the milliseconds of the span.
    #[cold]
    #[inline(never)]
    fn cover(&mut self, table: &Table, slot: Slot) {
        let (from_ns, to_ns) = core::mem::take(&mut self.span);
        if to_ns != 0 {
            table.account(slot).cover(table, from_ns, to_ns);
            self.known = (slot, to_ns / MS * MS);
        }
    }

    #[cold]
    #[inline(never)]
    fn settle(&mut self, table: &Table, now_ns: u64, carry: &mut u64) {
        if let Some(slot) = self.slot {
            let held = core::mem::take(&mut self.held);
            let settlement = Settlement {
                usage: core::mem::take(&mut self.usage),
                duration_ns: held.duration_ns,
                memory_byte_ms: held.memory.byte_ms(carry),
            };
            if core::mem::take(&mut self.has_apart) {
                let apart = core::mem::take(&mut self.apart);
                table.account(slot).settle_apart(table, now_ns / MS, &settlement, Some(&apart));
            } else {
                table.account(slot).settle(table, now_ns / MS, &settlement);
            }
            let (from_ns, to_ns) = self.span;
            if self.known.0 == slot && from_ns >= self.known.1 && to_ns < self.known.1 + MS {
                self.span = (0, 0);
            } else {
                self.cover(table, slot);
            }
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
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;
    use crate::account::Outcome;
    use crate::account::tests::{add_up, outcomes};
    use crate::limit::{Limit, LimitId, MAX_BUCKETS};
    use crate::table::Spare;
    use crate::testing::{Region, cases};

    #[derive(Debug, Clone)]
    enum Step {
        Add(usize, u64, Share),
        Finish(usize, Outcome, Share),
        Settle,
    }

    fn shares() -> impl Strategy<Value = Share> {
        prop_oneof![
            4 => Just(Share::Used),
            2 => (0u8..4).prop_map(Share::Checked),
            1 => Just(Share::Refused),
            1 => Just(Share::RefusedDryRun),
        ]
    }

    /// What CPU of each share comes to: of no limit, of each bucket's, and of refused requests.
    fn place_of(share: Share) -> usize {
        match share {
            Share::Used => 0,
            Share::Checked(bucket) => 1 + usize::from(bucket),
            Share::Refused => 1 + MAX_BUCKETS,
            Share::RefusedDryRun => 2 + MAX_BUCKETS,
        }
    }

    fn ended(usage: Usage, outcome: &Outcome) -> Ended {
        Ended { usage, classes: outcome.classes(), cpu_ns: outcome.cpu_ns, span: Span::default() }
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
            let limits: [Limit; MAX_BUCKETS] = core::array::from_fn(|n| {
                Limit::new(LimitId::of(&[n as u8]), NonZeroU64::new(1_000_000).unwrap(), Some(0), None)
            });
            for &slot in &slots {
                for (bucket, limit) in limits.iter().enumerate() {
                    let checked = table.check(slot, 5_000, limit, |_| 0, |_| true, &mut spare);
                    prop_assert_eq!((checked.result, usize::from(checked.bucket)), (Ok(0), bucket));
                }
            }
            let mut unsettled = Unsettled::default();
            let mut expected: BTreeMap<usize, (Usage, Count, [u64; 3 + MAX_BUCKETS])> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add(at, n, share) => {
                        let usage = Usage { cpu_ns: n / 2, wakeups: 1, sent_bytes: n + 1, received_bytes: n + 2 };
                        unsettled.add(&table, 5_000 * MS, slots[at], share, &usage);
                        unsettled.charge(&table, 5_000 * MS, slots[at], share, n);
                        let (sum, _, by_share) = expected.entry(at).or_default();
                        *sum = sum.plus(&Usage { cpu_ns: n / 2 + n, ..usage });
                        by_share[place_of(share)] += n / 2 + n;
                    }
                    Step::Finish(at, outcome, share) => {
                        let usage = Usage { cpu_ns: 1, ..Usage::default() };
                        unsettled.finish(&table, 5_000 * MS, slots[at], share, &ended(usage, &outcome));
                        let (sum, count, by_share) = expected.entry(at).or_default();
                        *sum = sum.plus(&usage);
                        by_share[place_of(share)] += 1;
                        count.requests += 1;
                        count.cpu_ns += outcome.cpu_ns;
                    }
                    Step::Settle => unsettled.settle(&table, 5_000 * MS),
                }
            }
            for (at, &slot) in slots.iter().enumerate() {
                let by_share = expected.get(&at).map_or([0; 3 + MAX_BUCKETS], |(_, _, by_share)| *by_share);
                for (bucket, limit) in limits.iter().enumerate() {
                    let ahead_ns = |place| {
                        assert_eq!(place, bucket);
                        unsettled.ahead_ns(slot, place)
                    };
                    // there is no burst, so all of it is debt
                    let debt_ns = table.check(slot, 5_000, limit, ahead_ns, |_| true, &mut spare).result.map_or_else(NonZeroU64::get, |_| 0);
                    prop_assert_eq!(debt_ns, by_share[0] + by_share[1 + bucket]);
                }
            }
            unsettled.settle(&table, 5_000 * MS);
            for (at, slot) in slots.into_iter().enumerate() {
                let (usage, count, by_share) = expected.remove(&at).unwrap_or_default();
                let snapshot = table.account(slot).snapshot(5_000, 0);
                prop_assert_eq!(snapshot.usage, usage);
                prop_assert_eq!(snapshot.refused.map(|count| count.cpu_ns).to_vec(), by_share[1 + MAX_BUCKETS..].to_vec());
                prop_assert!((0..MAX_BUCKETS).all(|bucket| unsettled.ahead_ns(slot, bucket) == 0));
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
            unsettled.finish(&table, 0, slot, Share::Used, &ended(Usage::default(), &outcome));
        }
        assert_eq!(table.account(slot).snapshot(0, 0).responses, [0, 2, 0, 1, 0], "the last one not yet");
        unsettled.settle(&table, 0);
        unsettled.settle(&table, 0);
        assert_eq!(table.account(slot).snapshot(0, 0).responses, [0, 3, 0, 1, 0]);
    }

    #[test]
    fn the_time_of_requests_that_ended_is_in_their_account_when_a_turn_ends() {
        let region = Region::new(64 * 1024);
        let table = region.table().unwrap();
        let slot = table.find_or_insert(b"a", &mut Spare::default()).slot;
        let outcome = Outcome {
            status: 200,
            cache: crate::account::CacheStatus::None,
            connection_order: 1,
            response_bytes: 1,
            cpu_ns: 1,
        };
        let mut unsettled = Unsettled::default();
        let mut finish = |from_us: u64, to_us: u64| {
            let span = Span { from_ns: from_us * 1_000, to_ns: to_us * 1_000, bytes: 4_096 };
            unsettled.finish(
                &table,
                span.to_ns,
                slot,
                Share::Used,
                &Ended { span, ..ended(Usage::default(), &outcome) },
            );
            unsettled.settle(&table, span.to_ns);
            table.account(slot).measures().read()
        };
        let measures = finish(5_000_100, 5_000_300);
        assert_eq!((measures.duration_ns, measures.active_ms), (200_000, 1));
        assert_eq!(measures.memory_byte_ms, 4_096 / 5);
        assert_eq!(finish(5_000_400, 5_000_900).active_ms, 1, "the same millisecond");
        assert_eq!(finish(5_000_900, 5_001_100).active_ms, 2);
        assert_eq!(finish(5_003_500, 5_005_500).active_ms, 5);
        assert_eq!(finish(5_002_999, 5_004_000).active_ms, 6, "one began before");
        assert_eq!(finish(5_004_000, 5_004_000).duration_ns, 3_901_000, "no time at all");
    }

    #[test]
    fn spans_of_one_turn_are_one_if_there_is_no_millisecond_between_them() {
        let region = Region::new(64 * 1024);
        let table = region.table().unwrap();
        let slot = table.find_or_insert(b"a", &mut Spare::default()).slot;
        let mut unsettled = Unsettled::default();
        for (from_us, to_us) in [(10_000, 10_100), (11_099, 11_200), (15_000, 15_001), (14_000, 15_900)] {
            let ended = Ended {
                usage: Usage::default(),
                classes: Classes::default(),
                cpu_ns: 0,
                span: Span { from_ns: from_us * 1_000, to_ns: to_us * 1_000, bytes: 0 },
            };
            unsettled.finish(&table, 0, slot, Share::Used, &ended);
        }
        unsettled.settle(&table, 16 * MS);
        assert_eq!(table.account(slot).measures().read().active_ms, 4, "10, 11, 14 and 15");
    }
}
