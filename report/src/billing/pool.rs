//! The price of an item with the scope account. The account has one price, and each domain pays a part of it.

use num_bigint::BigUint;

use super::book::Accounts;
use super::parts::{divide, divide_quantity};
use super::plan::{Item, Plan};
use super::quantity::{denominator, idle, round_up, used};
use super::tiers::{Slice, at_scale, price};

/// The parts of all domains, by domain.
pub struct AccountPrice<'a> {
    free: Vec<u128>,
    amounts: Vec<BigUint>,
    /// this and the next list are empty if the metric has no idle part
    idle_amounts: Vec<BigUint>,
    waived: Vec<BigUint>,
    /// the parts of the account's price
    pub slices: Vec<Slice<'a>>,
}

/// The part of a domain.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// the part of the allowance
    pub free: u128,
    /// the part of the price
    pub amount: BigUint,
    /// the part of the price of the idle usage
    pub idle_amount: BigUint,
    /// the part of the waived amount
    pub waived: BigUint,
}

impl<'a> AccountPrice<'a> {
    /// Divides the allowance and the price of the account in proportion to the rounded usage of the domains.
    pub fn new(item: &'a Item, plan: &Plan, accounts: &Accounts, period: u32) -> Self {
        let of_domains = || accounts.domains.iter().map(|(_, account)| account);
        let used: Vec<u128> = of_domains().map(|account| used(item, accounts, account, period)).collect();
        let rounded: Vec<u128> = used.iter().map(|used| round_up(*used, item.round_up)).collect();
        let all = sum(&rounded);
        let free = item.free.min(all);
        let (exact, slices) = price(item, all - free);
        let denominator = denominator(item, plan);
        let amount = plan.rounding.round(&exact, &denominator);
        let mut pool = Self {
            free: divide_quantity(free, &rounded),
            amounts: divide(&amount, &wide(&rounded)),
            idle_amounts: Vec::new(),
            waived: Vec::new(),
            slices,
        };
        if item.measure.has_idle() {
            let idle: Vec<u128> =
                of_domains().map(|account| idle(item.measure, accounts, account, period)).collect();
            let rate = at_scale(&item.idle_rate, item.scale);
            let idle_amount = plan.rounding.round(&(rate * sum(&idle)), &denominator);
            let with_idle: Vec<u128> =
                used.iter().zip(&idle).map(|(used, idle)| round_up(used + idle, item.round_up)).collect();
            let (exact, _) = price(item, sum(&with_idle).saturating_sub(item.free));
            let (more, paid) = (plan.rounding.round(&exact, &denominator), amount + &idle_amount);
            let waived = if more > paid { more - paid } else { BigUint::ZERO };
            let weights = wide(&idle);
            pool.idle_amounts = divide(&idle_amount, &weights);
            pool.waived = divide(&waived, &weights);
        }
        pool
    }

    /// A domain's part.
    pub fn share(&self, domain: usize) -> Share {
        let of = |parts: &[BigUint]| parts.get(domain).cloned().unwrap_or_default();
        Share {
            free: self.free.get(domain).copied().unwrap_or_default(),
            amount: of(&self.amounts),
            idle_amount: of(&self.idle_amounts),
            waived: of(&self.waived),
        }
    }
}

fn wide(numbers: &[u128]) -> Vec<BigUint> {
    numbers.iter().map(|number| BigUint::from(*number)).collect()
}

fn sum(numbers: &[u128]) -> u128 {
    numbers.iter().copied().fold(0, u128::saturating_add)
}
