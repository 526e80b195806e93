//! What an item costs where its allowance and tiers are the account's: it has one price, of which each domain pays a
//! part.

use num_bigint::BigUint;

use super::book::Accounts;
use super::parts::{divide, divide_quantity};
use super::plan::{Item, Plan};
use super::quantity::{denominator, idle, round_up, used};
use super::tiers::{Slice, at_scale, price};

/// The parts of all domains, by domain.
pub struct Pool<'a> {
    free: Vec<u128>,
    amounts: Vec<BigUint>,
    /// this and the next are empty where nothing can be idle
    idle_amounts: Vec<BigUint>,
    waived: Vec<BigUint>,
    /// of the account
    pub slices: Vec<Slice<'a>>,
}

/// What a domain has of it.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// of the allowance
    pub free: u128,
    /// of the price
    pub amount: BigUint,
    /// of the price of what was idle
    pub idle_amount: BigUint,
    /// of what was waived
    pub waived: BigUint,
}

impl<'a> Pool<'a> {
    /// Divides what the account has and pays in proportion to what each domain used, after rounding up.
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
