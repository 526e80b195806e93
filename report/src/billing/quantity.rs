//! The usage of a domain for an item, in smallest units.

use num_bigint::BigUint;

use super::book::{Accounts, DomainUsage};
use super::decimal::power_of_ten;
use super::metric::BillingMetric;
use super::plan::{Item, Plan};
use crate::traffic::Member;

/// The divisor that turns a price into smallest units of money. A scale is at least the number of decimals of
/// money.
pub fn denominator(item: &Item, plan: &Plan) -> BigUint {
    &item.per * item.unit.size * power_of_ten(item.scale.saturating_sub(plan.decimals))
}

/// The next multiple.
pub fn round_up(used: u128, to: u128) -> u128 {
    used.checked_next_multiple_of(to).unwrap_or(used)
}

/// The usage of a domain for an item.
pub fn used(item: &Item, accounts: &Accounts, account: &DomainUsage, period: u32) -> u128 {
    let of = |member| accounts.used(account, period, member);
    match item.measure {
        BillingMetric::ActiveSeconds => of(Member::ActiveSeconds).saturating_mul(1000),
        BillingMetric::BillableCpu => of(Member::Billable),
        measure => match measure.samples() {
            Some(samples) => {
                let (mut values, all) = accounts.samples(account, period, samples);
                let zeros = all.saturating_sub(values.len() as u64);
                // slots without lines sort first, as 0
                let place = item.percentile.rank(all).and_then(|rank| rank.checked_sub(zeros + 1));
                match place.and_then(|place| usize::try_from(place).ok()) {
                    Some(place) if place < values.len() => *values.select_nth_unstable(place).1,
                    _ => 0,
                }
            }
            None => measure.members().iter().map(|member| of(*member)).fold(0, u128::saturating_add),
        },
    }
}

/// The idle part of the usage.
pub fn idle(measure: BillingMetric, accounts: &Accounts, account: &DomainUsage, period: u32) -> u128 {
    let of = |member| accounts.used(account, period, member);
    match measure {
        BillingMetric::BillableCpu => of(Member::Waived),
        // the time with requests in flight, less the active seconds
        BillingMetric::ActiveSeconds => {
            of(Member::Active).saturating_sub(of(Member::ActiveSeconds).saturating_mul(1000))
        }
        _ => 0,
    }
}
