//! Divides one amount into parts that add up to it.

use num_bigint::BigUint;

/// Divides a total in proportion to the weights. Each part is rounded down, and each unit that is left goes
/// to one of the parts with the largest remainders. Of equal remainders, the first one wins. A weight of 0
/// gets nothing. The parts add up to the total.
pub fn divide(total: &BigUint, weights: &[BigUint]) -> Vec<BigUint> {
    let sum: BigUint = weights.iter().sum();
    if sum == BigUint::ZERO {
        return vec![BigUint::ZERO; weights.len()];
    }
    let mut left = total.clone();
    let mut remainders = Vec::with_capacity(weights.len());
    let mut parts: Vec<BigUint> = weights
        .iter()
        .enumerate()
        .map(|(at, weight)| {
            let product = weight * total;
            let part = &product / &sum;
            left -= &part;
            remainders.push((product % &sum, at));
            part
        })
        .collect();
    // the units that are left are fewer than the remainders above 0
    remainders.sort_by(|(a, first), (b, second)| b.cmp(a).then(first.cmp(second)));
    for (_, at) in remainders {
        if left == BigUint::ZERO {
            break;
        }
        if let Some(part) = parts.get_mut(at) {
            *part += 1u8;
            left -= 1u8;
        }
    }
    parts
}

/// The same with quantities.
pub fn divide_quantity(total: u128, weights: &[u128]) -> Vec<u128> {
    let weights: Vec<BigUint> = weights.iter().map(|weight| BigUint::from(*weight)).collect();
    // a part is at most the total
    divide(&total.into(), &weights).iter().map(|part| u128::try_from(part).unwrap_or(total)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_remainders_are_served_in_order_and_nothing_gets_nothing() {
        assert_eq!(divide_quantity(2, &[1, 1, 0, 1]), [1, 1, 0, 0]);
        assert_eq!(divide_quantity(10, &[1, 2, 3]), [2, 3, 5]);
        assert_eq!(divide_quantity(0, &[0, 0]), [0, 0]);
        assert_eq!(divide_quantity(5, &[]), []);
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole_and_are_next_to_their_proportion(
            total: u32, weights in prop::collection::vec(0u32..1000, 1..20),
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let wide: Vec<BigUint> = weights.iter().map(|weight| (*weight).into()).collect();
            let parts = divide(&total.into(), &wide);
            prop_assert_eq!(parts.iter().sum::<BigUint>(), total.into());
            let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (part, weight) in parts.iter().zip(weights) {
                let (part, exact) = (u128::try_from(part).unwrap() * sum, u128::from(weight) * u128::from(total));
                prop_assert!(part.abs_diff(exact) < sum);
            }
        }
    }
}
