//! Unit and property tests.

use proptest::prelude::*;

use super::*;
use crate::testing::cases;

#[test]
fn without_weight_nothing_is_given_away() {
    let mut pool = Pool { ns: 10, weight: 0 };
    assert_eq!((pool.share(0), pool.share(5)), (0, 0));
    assert_eq!(pool.ns, 10);
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn parts_are_as_the_weights_and_add_up(
        ns in prop_oneof![0u64..1000, any::<u64>()],
        weights in prop::collection::vec(prop_oneof![Just(0u64), 1u64..100, 0u64..1 << 40], 1..50),
    ) {
        let total: u64 = weights.iter().sum();
        let mut pool = Pool { ns, weight: total };
        let mut given = 0;
        for &weight in &weights {
            let part = pool.share(weight);
            given += part;
            if total > 0 {
                let exact = u128::from(ns) * u128::from(weight) / u128::from(total);
                let error = u128::from(part).abs_diff(exact);
                prop_assert!(error <= weights.len() as u128, "{part} instead of {exact}");
            }
        }
        prop_assert_eq!(given + pool.ns, ns);
        prop_assert_eq!(pool.ns, if total > 0 { 0 } else { ns });
    }
}
