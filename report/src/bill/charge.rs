//! From what was used to money.
//!
//! A quantity is a whole number of smallest units (ns, bytes, ms), a rate is digits / 10^scale for `per` units. So what is charged
//! for an item is one fraction of whole numbers, and it is rounded once, to the smallest unit of money. All sums are sums of what was
//! rounded.

use std::iter;

use num_bigint::BigUint;

use super::book::{Account, Accounts};
use super::decimal::{Decimal, power_of_ten};
use super::measure::Measure;
use super::plan::{Item, Plan, Scope, Tiering};
use crate::domains::line::Member;

/// What a domain has to pay for a period.
#[derive(Debug)]
pub struct Statement<'a> {
    /// items in the order of the plan, then what else there is
    pub lines: Vec<Line<'a>>,
    /// the sum of the lines, in smallest units of money
    pub total: BigUint,
}

/// A line of a statement.
#[derive(Debug)]
pub struct Line<'a> {
    /// what it is for
    pub kind: Kind<'a>,
    /// rounded, in smallest units of money
    pub amount: BigUint,
}

/// What a line is for.
#[derive(Debug)]
pub enum Kind<'a> {
    /// an item
    Item(&'a Item, Quantity<'a>),
    /// its idle part: how much, and what was waived, which is what it would have been charged more if it had not been idle; unknown
    /// where allowance and tiers are the account's
    Idle(&'a Item, u128, Option<BigUint>),
    /// the fee for the period
    BaseFee,
    /// what was missing to the minimum
    Minimum,
}

/// In smallest units.
#[derive(Debug)]
pub struct Quantity<'a> {
    /// as measured
    pub used: u128,
    /// what of it was free
    pub free: u128,
    /// what was charged: the rest, after rounding up
    pub charged: u128,
    /// what was charged at which rate; that of all domains where `scope` is the account
    pub slices: Vec<Slice<'a>>,
}

/// A part of what is charged.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    /// in smallest units
    pub quantity: u128,
    /// what a unit of it costs
    pub rate: &'a Decimal,
}

/// A plan, applied to a period.
pub struct Charged<'a> {
    plan: &'a Plan,
    accounts: &'a Accounts,
    period: u32,
    /// of each item whose allowance and tiers are the account's
    pools: Vec<Option<Pool<'a>>>,
}

/// What all domains have together.
struct Pool<'a> {
    /// by domain, what of the allowance is its part
    free: Vec<u128>,
    charged: u128,
    /// over the item's denominator
    price: BigUint,
    slices: Vec<Slice<'a>>,
}

impl<'a> Charged<'a> {
    /// Applies it.
    pub fn new(plan: &'a Plan, accounts: &'a Accounts, period: u32) -> Self {
        let pool = |item: &'a Item| (item.scope == Scope::Account).then(|| Pool::new(item, accounts, period));
        Self { plan, accounts, period, pools: plan.items.iter().map(pool).collect() }
    }

    /// What a domain has to pay; None if there was no line of it in the period.
    pub fn statement(&self, domain: usize) -> Option<Statement<'a>> {
        let (_, account) = self.accounts.domains.get(domain)?;
        if !Accounts::is_in(account, self.period) {
            return None;
        }
        let rounding = self.plan.rounding;
        let mut lines = Vec::with_capacity(self.plan.items.len() + 2);
        for (item, pool) in self.plan.items.iter().zip(&self.pools) {
            let used = used(item, self.accounts, account, self.period);
            let billed = round_up(used, item.round_up);
            let denominator = self.denominator(item);
            let (free, slices, price) = match pool {
                Some(pool) => {
                    let free = pool.free.get(domain).copied().unwrap_or(0).min(billed);
                    // its part of what the account has to pay
                    let price = (&pool.price * (billed - free), BigUint::from(pool.charged.max(1)));
                    (free, pool.slices.clone(), price)
                }
                None => {
                    let free = item.free.min(billed);
                    let (price, slices) = price(item, billed - free);
                    (free, slices, (price, BigUint::from(1u8)))
                }
            };
            let amount = rounding.round(&price.0, &(&denominator * price.1));
            let quantity = Quantity { used, free, charged: billed - free, slices };
            lines.push(Line { kind: Kind::Item(item, quantity), amount: amount.clone() });
            if item.measure.has_idle() {
                let idle = idle(item.measure, self.accounts, account, self.period);
                let rate = at_scale(&item.idle_rate, item.scale);
                let idle_amount = rounding.round(&(rate * idle), &denominator);
                let waived = pool.is_none().then(|| {
                    let billed = round_up(used.saturating_add(idle), item.round_up);
                    let (with_idle, _) = self::price(item, billed.saturating_sub(item.free));
                    let more = rounding.round(&with_idle, &denominator);
                    let paid = &amount + &idle_amount;
                    if more > paid { more - paid } else { BigUint::ZERO }
                });
                lines.push(Line { kind: Kind::Idle(item, idle, waived), amount: idle_amount });
            }
        }
        if self.plan.base_fee != BigUint::ZERO {
            lines.push(Line { kind: Kind::BaseFee, amount: self.plan.base_fee.clone() });
        }
        let mut total: BigUint = lines.iter().map(|line| &line.amount).sum();
        if total < self.plan.minimum {
            lines.push(Line { kind: Kind::Minimum, amount: &self.plan.minimum - &total });
            total = self.plan.minimum.clone();
        }
        Some(Statement { lines, total })
    }

    /// What a domain has to pay, as its statement says it.
    pub fn total(&self, domain: usize) -> Option<BigUint> {
        self.statement(domain).map(|statement| statement.total)
    }

    /// What a price is to be divided by, so that it is in smallest units of money. A scale is at least the number of its decimals.
    fn denominator(&self, item: &Item) -> BigUint {
        &item.per * item.unit.size * power_of_ten(item.scale.saturating_sub(self.plan.decimals))
    }
}

impl<'a> Pool<'a> {
    /// The free allowance is divided in proportion to what each used, in the order of the names, so that the parts add up to it.
    fn new(item: &'a Item, accounts: &Accounts, period: u32) -> Self {
        let billed = |account: &Account| round_up(used(item, accounts, account, period), item.round_up);
        let all: u128 =
            accounts.domains.iter().map(|(_, account)| billed(account)).fold(0, u128::saturating_add);
        let free = item.free.min(all);
        let (wide_free, wide_all) = (BigUint::from(free), BigUint::from(all.max(1)));
        let (mut before, mut given) = (BigUint::ZERO, BigUint::ZERO);
        let parts = accounts.domains.iter().map(|(_, account)| {
            before += billed(account);
            let until = &wide_free * &before / &wide_all;
            let part = &until - &given;
            given = until;
            u128::try_from(part).unwrap_or(0)
        });
        let parts = parts.collect();
        let (price, slices) = price(item, all - free);
        Self { free: parts, charged: all - free, price, slices }
    }
}

fn round_up(used: u128, to: u128) -> u128 {
    used.checked_next_multiple_of(to).unwrap_or(used)
}

/// What a domain used of what an item is for.
fn used(item: &Item, accounts: &Accounts, account: &Account, period: u32) -> u128 {
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
fn idle(measure: Measure, accounts: &Accounts, account: &Account, period: u32) -> u128 {
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

/// The price of a quantity, times the item's denominator, and what is charged at which rate.
fn price(item: &Item, charged: u128) -> (BigUint, Vec<Slice<'_>>) {
    let ends = item.tiers.iter().map(|tier| tier.up_to.unwrap_or(u128::MAX));
    let begins = iter::once(0).chain(ends.clone());
    let mut slices = Vec::new();
    for ((tier, begin), end) in item.tiers.iter().zip(begins).zip(ends) {
        let is_reached = charged > begin || slices.is_empty();
        if !is_reached {
            break;
        }
        match item.tiering {
            Tiering::Graduated => {
                slices.push(Slice { quantity: charged.min(end) - begin.min(charged), rate: &tier.rate });
            }
            Tiering::Volume => slices = vec![Slice { quantity: charged, rate: &tier.rate }],
        }
    }
    let sum = slices.iter().map(|slice| at_scale(slice.rate, item.scale) * slice.quantity).sum();
    (sum, slices)
}

/// A rate times 10^scale. The scale is that of the item's longest rate, so that it is whole.
fn at_scale(rate: &Decimal, scale: u32) -> BigUint {
    rate.with_decimals(scale).unwrap_or_default()
}
