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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::book::{Book, Needs, Period, Used};
    use super::*;

    fn plan(items: &str) -> Plan {
        let head = "name = \"plan\"\ncurrency = \"EUR\"\n";
        Plan::parse(&format!("{head}{items}"), "plan").unwrap()
    }

    fn accounts(plan: &Plan, used: &[(&str, &[(Member, u64)])]) -> Accounts {
        let book = Book::new(Needs::of(std::slice::from_ref(plan)), Period::Total, (None, None), 1000);
        for (name, numbers) in used {
            let mut used = Used::default();
            numbers.iter().for_each(|(member, number)| used[*member as usize] = *number);
            book.add(name, (0, 1000), &used);
        }
        book.into_accounts((0, 300_000)).unwrap()
    }

    /// The amounts of a domain's lines in smallest units of money.
    fn amounts(plan: &Plan, accounts: &Accounts, domain: usize) -> Vec<u64> {
        let statement = Charged::new(plan, accounts, 0).statement(domain).unwrap();
        statement.lines.iter().map(|line| u64::try_from(&line.amount).unwrap()).collect()
    }

    fn requests(plan: &Plan, requests: u64) -> u64 {
        amounts(plan, &accounts(plan, &[("a", &[(Member::Requests, requests)])]), 0)[0]
    }

    #[test]
    fn graduated_tiers_charge_each_slice_at_its_rate() {
        let plan = plan(
            "decimals = 0\nitem = [{ name = \"r\", measure = \"requests\", free = 5,
             tier = [{ up_to = 10, rate = 7 }, { up_to = 20, rate = 3 }, { rate = 1 }] }]",
        );
        // up to 5 nothing; up to 15 seven each; up to 25 three each; then one
        for (number, amount) in
            [(0, 0), (5, 0), (6, 7), (15, 70), (16, 73), (25, 100), (26, 101), (1000, 100 + 975)]
        {
            assert_eq!(requests(&plan, number), amount, "{number}");
        }
    }

    #[test]
    fn volume_tiers_charge_all_at_the_rate_that_was_reached() {
        let plan = plan(
            "decimals = 0\nitem = [{ name = \"r\", measure = \"requests\", free = 5, tiers = \"volume\",
             tier = [{ up_to = 10, rate = 7 }, { rate = 3 }] }]",
        );
        // ten that are charged are in the first tier, eleven are not
        for (number, amount) in [(5, 0), (6, 7), (15, 70), (16, 33), (105, 300)] {
            assert_eq!(requests(&plan, number), amount, "{number}");
        }
    }

    #[test]
    fn a_half_is_rounded_as_the_plan_says() {
        let of = |rounding: &str, number: u64| {
            let item = "item = [{ name = \"r\", measure = \"requests\", rate = 0.001 }]";
            requests(&plan(&format!("rounding = \"{rounding}\"\n{item}")), number)
        };
        // 0.004, 0.005, 0.006, 0.014, 0.015, 0.025
        let numbers = [4, 5, 6, 14, 15, 25];
        assert_eq!(numbers.map(|number| of("half-up", number)), [0, 1, 1, 1, 2, 3]);
        assert_eq!(numbers.map(|number| of("half-even", number)), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn a_third_of_an_hour_is_exact() {
        // 1 ns less than 50 s, at 0.36 an hour, is less than half a cent; 50 s are half a cent
        let plan = plan("item = [{ name = \"c\", measure = \"cpu\", unit = \"h\", rate = 0.36 }]");
        let of = |ns| amounts(&plan, &accounts(&plan, &[("a", &[(Member::Cpu, ns)])]), 0)[0];
        assert_eq!((of(49_999_999_999), of(50_000_000_000)), (0, 1));
    }

    #[test]
    fn a_quantity_is_rounded_up_before_the_allowance() {
        let plan = plan(
            "item = [{ name = \"d\", measure = \"active_interval\", unit = \"s\", round_up = 0.1, free = 1, rate = 1 }]",
        );
        // 1.001 s count as 1.1 s, of which 1 s is free; 1 s is 1 s
        for (ms, cents) in [(1000, 0), (1001, 10), (1100, 10), (1101, 20)] {
            assert_eq!(
                amounts(&plan, &accounts(&plan, &[("a", &[(Member::Active, ms)])]), 0)[0],
                cents,
                "{ms}"
            );
        }
    }

    #[test]
    fn what_is_idle_is_waived_or_charged_at_its_rate() {
        let used: &[(&str, &[(Member, u64)])] =
            &[("a", &[(Member::Billable, 20_000_000_000), (Member::Waived, 5_000_000_000)])];
        let item = "name = \"c\", measure = \"billable_cpu\", rate = 0.10, free = 22";
        let plan_of = |more: &str| plan(&format!("item = [{{ {item} {more} }}]"));
        let waived = |plan: &Plan| {
            let accounts = accounts(plan, used);
            let statement = Charged::new(plan, &accounts, 0).statement(0).unwrap();
            let [_, Line { kind: Kind::Idle(_, idle, waived), .. }] = statement.lines.as_slice() else {
                panic!()
            };
            (*idle, u64::try_from(waived.clone().unwrap()).unwrap())
        };
        // 20 s are free; 25 s would be 3 s at 0.10
        let plan = plan_of("");
        assert_eq!(amounts(&plan, &accounts(&plan, used), 0), [0, 0]);
        assert_eq!(waived(&plan), (5_000_000_000, 30));
        // 5 s at 0.02 are 0.10, which is 0.20 less
        let plan = plan_of(", idle_rate = 0.02");
        assert_eq!(amounts(&plan, &accounts(&plan, used), 0), [0, 10]);
        assert_eq!(waived(&plan), (5_000_000_000, 20));
    }

    #[test]
    fn open_seconds_that_are_not_active_are_idle() {
        let plan = plan("item = [{ name = \"s\", measure = \"active_seconds\", rate = 1, idle_rate = 0.1 }]");
        // an hour open, of which 60 s were active: 3540 s idle
        let used = accounts(&plan, &[("a", &[(Member::Active, 3_600_000), (Member::ActiveSeconds, 60)])]);
        assert_eq!(amounts(&plan, &used, 0), [6_000, 35_400]);
        // an active second counts whole, also if it was open for 10 ms
        let used = accounts(&plan, &[("a", &[(Member::Active, 10), (Member::ActiveSeconds, 1)])]);
        assert_eq!(amounts(&plan, &used, 0), [100, 0]);
    }

    #[test]
    fn an_account_shares_allowance_and_tiers() {
        let plan = plan(
            "item = [{ name = \"r\", measure = \"requests\", scope = \"account\", free = 100,
             tier = [{ up_to = 200, rate = 0.10 }, { rate = 0.05 }] }]",
        );
        let used = accounts(
            &plan,
            &[
                ("a", &[(Member::Requests, 600)]),
                ("b", &[(Member::Requests, 300)]),
                ("c", &[(Member::Requests, 100)]),
            ],
        );
        // 900 are charged: 200 at 0.10 and 700 at 0.05 are 55.00, of which each pays its part
        let lines = [0, 1, 2].map(|domain| amounts(&plan, &used, domain)[0]);
        assert_eq!(lines, [3300, 1650, 550]);
        let free = [0, 1, 2].map(|domain| {
            let statement = Charged::new(&plan, &used, 0).statement(domain).unwrap();
            let Kind::Item(_, quantity) = &statement.lines[0].kind else { panic!() };
            (quantity.free, quantity.charged)
        });
        assert_eq!(free, [(60, 540), (30, 270), (10, 90)]);
    }

    #[test]
    fn fees_and_the_minimum_are_lines() {
        let plan =
            plan("base_fee = 1\nminimum = 3.50\nitem = [{ name = \"r\", measure = \"requests\", rate = 1 }]");
        let of = |number| amounts(&plan, &accounts(&plan, &[("a", &[(Member::Requests, number)])]), 0);
        assert_eq!(of(1), [100, 100, 150]);
        assert_eq!(of(3), [300, 100], "it is above the minimum");
    }

    #[test]
    fn what_is_not_there_in_a_percentile_is_nothing() {
        // 20 slots, of which the second highest is charged
        let plan = plan("item = [{ name = \"p\", measure = \"percentile_cores\", rate = 1 }]");
        let of = |slots: &[i64]| {
            let book = Book::new(Needs::of(std::slice::from_ref(&plan)), Period::Total, (None, None), 1);
            for slot in slots {
                let mut used = Used::default();
                // slot / 10 cores
                used[Member::Cpu as usize] = 30_000_000_000 * *slot as u64;
                book.add("a", (slot * 300_000, (slot + 1) * 300_000), &used);
            }
            let accounts = book.into_accounts((0, 20 * 300_000)).unwrap();
            amounts(&plan, &accounts, 0)[0]
        };
        assert_eq!(of(&[19]), 0, "one slot in twenty is thrown away");
        assert_eq!(of(&[3, 19]), 30);
        assert_eq!(of(&(0..20).collect::<Vec<_>>()), 180);
    }

    proptest! {
        #[test]
        fn lines_add_up_to_the_total_and_domains_to_the_account(
            numbers in prop::collection::vec(any::<[u64; 3]>(), 1..20), free: u32, rate in 0u32..100_000, first in 1u64.., decimals in 0u32..6,
            scope in prop::sample::select(&["domain", "account"][..]), rounding in prop::sample::select(&["half-up", "half-even"][..]),
            tiers in prop::sample::select(&["graduated", "volume"][..]),
        ) {
            let plan = plan(&format!(
                "decimals = {decimals}\nrounding = \"{rounding}\"\nminimum = 7\nbase_fee = 3\nitem = [
                 {{ name = \"r\", measure = \"requests\", per = 1000, free = {free}, scope = \"{scope}\", tiers = \"{tiers}\",
                    tier = [{{ up_to = \"{first}\", rate = {rate}e-4 }}, {{ rate = {rate}e-7 }}] }},
                 {{ name = \"c\", measure = \"billable_cpu\", unit = \"h\", rate = {rate}e-5, scope = \"{scope}\" }}]"
            ));
            let names: Vec<String> = (0..numbers.len()).map(|n| format!("{n:02}")).collect();
            let used: Vec<_> = numbers.iter().map(|[r, b, w]| [(Member::Requests, *r), (Member::Billable, *b), (Member::Waived, *w)]).collect();
            let used: Vec<(&str, &[(Member, u64)])> = names.iter().map(String::as_str).zip(used.iter().map(|used| &used[..])).collect();
            let accounts = accounts(&plan, &used);
            let charged = Charged::new(&plan, &accounts, 0);
            let (mut free_given, mut all) = (0, BigUint::ZERO);
            for domain in 0..numbers.len() {
                let statement = charged.statement(domain).unwrap();
                prop_assert_eq!(statement.lines.iter().map(|line| &line.amount).sum::<BigUint>(), statement.total.clone());
                prop_assert!(statement.total >= plan.minimum);
                let Kind::Item(_, quantity) = &statement.lines[0].kind else { panic!() };
                prop_assert_eq!(quantity.free + quantity.charged, quantity.used);
                free_given += quantity.free;
                all += &statement.lines[0].amount;
            }
            if scope == "account" {
                let sum: u128 = numbers.iter().map(|numbers| u128::from(numbers[0])).sum();
                prop_assert_eq!(free_given, u128::from(free).min(sum));
                // each line is rounded by a half at most
                let item = &plan.items[0];
                let exact = price(item, sum - free_given).0;
                let paid = all * charged.denominator(item);
                let apart = if paid > exact { paid - exact } else { exact - paid };
                prop_assert!(apart * 2u8 <= charged.denominator(item) * numbers.len());
            }
        }

        #[test]
        fn graduated_tiers_never_jump_and_never_fall(ends in prop::collection::btree_set(1u64..1_000_000, 1..5), rates in prop::array::uniform6(0u32..1000), at in 0usize..5, near in 0u64..1_000_000) {
            let ends: Vec<u64> = ends.into_iter().collect();
            let mut tiers: Vec<String> = ends.iter().zip(rates).map(|(end, rate)| format!("{{ up_to = {end}, rate = {rate}e-3 }}")).collect();
            tiers.push(format!("{{ rate = {}e-3 }}", rates[5]));
            let plan = plan(&format!("item = [{{ name = \"r\", measure = \"requests\", tier = [{}] }}]", tiers.join(", ")));
            let item = &plan.items[0];
            let of = |number: u64| price(item, number.into()).0;
            let dearest = BigUint::from(*rates.iter().max().unwrap());
            // at the borders, and somewhere
            for number in [ends[at.min(ends.len() - 1)], near] {
                let (before, after) = (of(number), of(number + 1));
                prop_assert!(after >= before && &after - &before <= &dearest * 10u8.pow(item.scale - 3), "{number}");
            }
        }
    }
}
