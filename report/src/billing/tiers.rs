//! The price of a quantity by the tiers of an item, and the part charged at each rate.

use std::iter;

use num_bigint::BigUint;

use super::decimal::Decimal;
use super::parts::{divide, divide_quantity};
use super::plan::{Item, Tier, Tiering};

/// The part of a quantity that is charged at the rate of a tier.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    /// in smallest units
    pub quantity: u128,
    /// the quantity above which the tier begins, in smallest units
    pub above: u128,
    /// where it ends, and what a unit costs
    pub tier: &'a Tier,
}

/// The part of an item's line that is charged at the rate of a tier.
#[derive(Debug)]
pub struct TierPart<'a> {
    /// the tier
    pub slice: &'a Slice<'a>,
    /// the quantity that is charged at this rate, in smallest units
    pub charged: u128,
    /// the part of the line's amount
    pub amount: BigUint,
}

/// The price of a quantity, times the item's denominator, and the part charged at each rate.
pub fn price(item: &Item, charged: u128) -> (BigUint, Vec<Slice<'_>>) {
    let ends = item.tiers.iter().map(|tier| tier.up_to.unwrap_or(u128::MAX));
    let begins = iter::once(0).chain(ends.clone());
    let mut slices = Vec::new();
    for ((tier, above), end) in item.tiers.iter().zip(begins).zip(ends) {
        let is_reached = charged > above || slices.is_empty();
        if !is_reached {
            break;
        }
        match item.tiering {
            Tiering::Graduated => {
                slices.push(Slice { quantity: charged.min(end) - above.min(charged), above, tier });
            }
            Tiering::Volume => slices = vec![Slice { quantity: charged, above, tier }],
        }
    }
    let sum = slices.iter().map(|slice| cost(item, slice)).sum();
    (sum, slices)
}

/// A rate times 10^scale. It is whole, since the scale is that of the item's longest rate.
pub fn at_scale(rate: &Decimal, scale: u32) -> BigUint {
    rate.with_decimals(scale).unwrap_or_default()
}

/// The parts of a line by rate, if there are several rates. The parts add up to the line. With the scope
/// account, the line has the same share of each tier.
pub fn parts<'a>(item: &Item, slices: &'a [Slice<'a>], charged: u128, amount: &BigUint) -> Vec<TierPart<'a>> {
    if slices.len() < 2 {
        return Vec::new();
    }
    let quantities: Vec<u128> = slices.iter().map(|slice| slice.quantity).collect();
    let costs: Vec<BigUint> = slices.iter().map(|slice| cost(item, slice)).collect();
    let amounts = divide(amount, &costs);
    let charged = divide_quantity(charged, &quantities);
    let parts = slices.iter().zip(charged).zip(amounts);
    parts.map(|((slice, charged), amount)| TierPart { slice, charged, amount }).collect()
}

fn cost(item: &Item, slice: &Slice<'_>) -> BigUint {
    at_scale(&slice.tier.rate, item.scale) * slice.quantity
}

#[cfg(test)]
mod tests {
    use super::super::reader::parse;
    use super::*;

    #[test]
    fn what_is_charged_at_each_rate_adds_up_to_the_line() {
        let plan = parse(
            "name = \"p\"\ncurrency = \"EUR\"\nitem = [{ name = \"r\", measure = \"requests\",
             tier = [{ up_to = 1, rate = 0.004 }, { up_to = 3, rate = 0.002 }, { rate = 0.001 }] }]",
            "p",
        )
        .unwrap();
        let item = &plan.items[0];
        let (_, slices) = price(item, 5);
        // 0.004, 0.004 and 0.002 are 0.01, and the first has it
        let parts = parts(item, &slices, 5, &1u8.into());
        let found: Vec<(u128, u128, u32)> = parts
            .iter()
            .map(|part| (part.slice.above, part.charged, u32::try_from(&part.amount).unwrap()))
            .collect();
        assert_eq!(found, [(0, 1, 1), (1, 2, 0), (3, 2, 0)]);
        let (_, slices) = price(item, 1);
        assert!(super::parts(item, &slices, 1, &1u8.into()).is_empty(), "one rate needs no rows");
    }
}
