//! Unit and property tests.

use proptest::prelude::*;

use super::*;
use crate::testing::cases;

#[test]
fn what_comes_from_the_connection_is_part_of_the_total() {
    let mut meter = RequestMeter::default();
    meter.take_over(2_000);
    meter.charge(30);
    meter.wake();
    assert_eq!((meter.total_ns(), meter.connection_ns(), meter.wakeups()), (2_030, 2_000, 1));
}

#[test]
fn a_total_that_falls_gives_no_negative_difference() {
    let mut meter = RequestMeter::default();
    assert_eq!(meter.take_usage(100, 10).sent_bytes, 100);
    assert_eq!(meter.take_usage(70, 10).sent_bytes, 0);
    assert_eq!(meter.take_usage(120, 10).sent_bytes, 20, "only what was not taken yet");
}

#[test]
fn usage_is_taken_only_once() {
    let mut meter = RequestMeter::default();
    meter.charge(5);
    meter.wake();
    assert_eq!(meter.finish(1, 2), Usage { cpu_ns: 5, wakeups: 1, sent_bytes: 1, received_bytes: 2 });
    assert_eq!(meter.take_usage(1, 2), Usage { cpu_ns: 5, wakeups: 1, sent_bytes: 1, received_bytes: 2 });
    assert_eq!(meter.take_usage(1, 2), Usage::default());
}

#[derive(Debug, Clone)]
enum Step {
    Charge(u64),
    TakeOver(u64),
    Wake,
    Send(u64),
    Receive(u64),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let amount = 0u64..1 << 40;
    prop_oneof![
        amount.clone().prop_map(Step::Charge),
        amount.clone().prop_map(Step::TakeOver),
        Just(Step::Wake),
        amount.clone().prop_map(Step::Send),
        amount.prop_map(Step::Receive),
        Just(Step::Take),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn taken_usage_adds_up_to_the_totals(steps in prop::collection::vec(step(), 0..100)) {
        let mut meter = RequestMeter::default();
        let (mut taken, mut cpu_ns, mut connection_ns) = (Usage::default(), 0, 0);
        let (mut wakeups, mut sent_bytes, mut received_bytes) = (0, 0, 0);
        for step in steps.into_iter().chain([Step::Take]) {
            match step {
                Step::Charge(ns) => { meter.charge(ns); cpu_ns += ns }
                Step::TakeOver(ns) => { meter.take_over(ns); cpu_ns += ns; connection_ns += ns }
                Step::Wake => { meter.wake(); wakeups += 1 }
                Step::Send(bytes) => sent_bytes += bytes,
                Step::Receive(bytes) => received_bytes += bytes,
                Step::Take => taken = taken.plus(&meter.take_usage(sent_bytes, received_bytes)),
            }
            prop_assert_eq!(meter.total_ns(), cpu_ns);
            prop_assert_eq!(meter.connection_ns(), connection_ns);
            prop_assert_eq!(meter.wakeups(), wakeups);
        }
        prop_assert_eq!(taken, Usage { cpu_ns, wakeups, sent_bytes, received_bytes });
    }
}
