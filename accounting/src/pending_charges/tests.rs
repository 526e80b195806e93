//! Unit and property tests.

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
    Flush,
}

fn shares() -> impl Strategy<Value = Share> {
    prop_oneof![
        4 => Just(Share::Used),
        2 => (0u8..4).prop_map(Share::Checked),
        1 => Just(Share::Refused),
        1 => Just(Share::RefusedDryRun),
    ]
}

/// The place of the sum that CPU of each share is added to: of no limit, of each bucket, and of refused requests.
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
    fn flushed_charges_are_the_added_ones(
        steps in prop::collection::vec(prop_oneof![
            4 => (0usize..40, 0u64..1 << 30, shares()).prop_map(|(at, n, share)| Step::Add(at, n, share)),
            4 => (0usize..40, outcomes(), shares()).prop_map(|(at, outcome, share)| Step::Finish(at, outcome, share)),
            1 => Just(Step::Flush),
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
        let mut pending = PendingCharges::default();
        let mut expected: BTreeMap<usize, (Usage, Count, [u64; 3 + MAX_BUCKETS])> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Add(at, n, share) => {
                    let usage = Usage { cpu_ns: n / 2, wakeups: 1, sent_bytes: n + 1, received_bytes: n + 2 };
                    pending.add(&table, 5_000 * MS, slots[at], share, &usage);
                    pending.charge(&table, 5_000 * MS, slots[at], share, n);
                    let (sum, _, by_share) = expected.entry(at).or_default();
                    *sum = sum.plus(&Usage { cpu_ns: n / 2 + n, ..usage });
                    by_share[place_of(share)] += n / 2 + n;
                }
                Step::Finish(at, outcome, share) => {
                    let usage = Usage { cpu_ns: 1, ..Usage::default() };
                    pending.finish(&table, 5_000 * MS, slots[at], share, &ended(usage, &outcome));
                    let (sum, count, by_share) = expected.entry(at).or_default();
                    *sum = sum.plus(&usage);
                    by_share[place_of(share)] += 1;
                    count.requests += 1;
                    count.cpu_ns += outcome.cpu_ns;
                }
                Step::Flush => pending.flush(&table, 5_000 * MS),
            }
        }
        for (at, &slot) in slots.iter().enumerate() {
            let by_share = expected.get(&at).map_or([0; 3 + MAX_BUCKETS], |(_, _, by_share)| *by_share);
            for (bucket, limit) in limits.iter().enumerate() {
                let pending_ns = |place| {
                    assert_eq!(place, bucket);
                    pending.pending_ns(slot, place)
                };
                // there is no burst, so all missing CPU is debt
                let checked = table.check(slot, 5_000, limit, pending_ns, |_| true, &mut spare);
                let debt_ns = checked.result.map_or_else(NonZeroU64::get, |_| 0);
                prop_assert_eq!(debt_ns, by_share[0] + by_share[1 + bucket]);
            }
        }
        pending.flush(&table, 5_000 * MS);
        for (at, slot) in slots.into_iter().enumerate() {
            let (usage, count, by_share) = expected.remove(&at).unwrap_or_default();
            let snapshot = table.account(slot).snapshot(5_000, 0);
            prop_assert_eq!(snapshot.usage, usage);
            prop_assert_eq!(snapshot.refused.map(|count| count.cpu_ns).to_vec(), by_share[1 + MAX_BUCKETS..].to_vec());
            prop_assert!((0..MAX_BUCKETS).all(|bucket| pending.pending_ns(slot, bucket) == 0));
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
    let mut pending = PendingCharges::default();
    for status in [200, 200, 404, 200] {
        let outcome = Outcome {
            status,
            cache: crate::account::CacheStatus::None,
            connection_order: 1,
            response_bytes: 1,
            cpu_ns: 1,
        };
        pending.finish(&table, 0, slot, Share::Used, &ended(Usage::default(), &outcome));
    }
    assert_eq!(table.account(slot).snapshot(0, 0).responses, [0, 2, 0, 1, 0], "the last one not yet");
    pending.flush(&table, 0);
    pending.flush(&table, 0);
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
    let mut pending = PendingCharges::default();
    let mut finish = |from_us: u64, to_us: u64| {
        let span = Span { from_ns: from_us * 1_000, to_ns: to_us * 1_000, bytes: 4_096 };
        pending.finish(
            &table,
            span.to_ns,
            slot,
            Share::Used,
            &Ended { span, ..ended(Usage::default(), &outcome) },
        );
        pending.flush(&table, span.to_ns);
        table.account(slot).billing().read()
    };
    let billing = finish(5_000_100, 5_000_300);
    assert_eq!((billing.duration_ns, billing.active_ms), (200_000, 1));
    assert_eq!(billing.memory_byte_ms, 4_096 / 5);
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
    let mut pending = PendingCharges::default();
    for (from_us, to_us) in [(10_000, 10_100), (11_099, 11_200), (15_000, 15_001), (14_000, 15_900)] {
        let ended = Ended {
            usage: Usage::default(),
            classes: Classes::default(),
            cpu_ns: 0,
            span: Span { from_ns: from_us * 1_000, to_ns: to_us * 1_000, bytes: 0 },
        };
        pending.finish(&table, 0, slot, Share::Used, &ended);
    }
    pending.flush(&table, 16 * MS);
    assert_eq!(table.account(slot).billing().read().active_ms, 4, "10, 11, 14 and 15");
}
