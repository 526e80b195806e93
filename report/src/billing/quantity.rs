//! What a domain used of an item, in its smallest unit.

use num_bigint::BigUint;

use super::book::{Account, Accounts};
use super::decimal::power_of_ten;
use super::measure::Measure;
use super::plan::{Item, Plan};
use crate::traffic::Member;

/// What a price is to be divided by, so that it is in smallest units of money. A scale is at least the number of its
/// decimals.
pub fn denominator(item: &Item, plan: &Plan) -> BigUint {
    &item.per * item.unit.size * power_of_ten(item.scale.saturating_sub(plan.decimals))
}

/// The next multiple.
pub fn round_up(used: u128, to: u128) -> u128 {
    used.checked_next_multiple_of(to).unwrap_or(used)
}

/// What a domain used of what an item is for.
pub fn used(item: &Item, accounts: &Accounts, account: &Account, period: u32) -> u128 {
    let of = |member| accounts.used(account, period, member);
    match item.measure {
        Measure::ActiveSeconds => of(Member::ActiveSeconds).saturating_mul(1000),
        Measure::BillableCpu => of(Member::Billable),
        measure => match measure.samples() {
            Some(samples) => {
                let (mut values, all) = accounts.samples(account, period, samples);
                let zeros = all.saturating_sub(values.len() as u64);
                // those that are not there come first
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

/// What was idle of it.
pub fn idle(measure: Measure, accounts: &Accounts, account: &Account, period: u32) -> u128 {
    let of = |member| accounts.used(account, period, member);
    match measure {
        Measure::BillableCpu => of(Member::Waived),
        // the time in which something was in flight, but for the seconds that count as active
        Measure::ActiveSeconds => {
            of(Member::Active).saturating_sub(of(Member::ActiveSeconds).saturating_mul(1000))
        }
        _ => 0,
    }
}
