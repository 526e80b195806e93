//! Computes money from usage.
//!
//! A quantity is a whole number of smallest units (ns, bytes, ms). A rate is digits / 10^scale for `per`
//! units. So the price of an item is one fraction of whole numbers, and it is rounded once, to the smallest
//! unit of money. All sums are sums of rounded amounts. The steps are: usage, rounded up, less the allowance,
//! by the tiers.

use super::book::Accounts;
use super::plan::{Item, Plan, Scope};
use super::pool::{AccountPrice, Share};
use super::quantity::{denominator, idle, round_up, used};
use super::tiers::{Slice, at_scale, price};
use num_bigint::BigUint;

/// The amounts that a domain has to pay for a period.
#[derive(Debug)]
pub struct Statement<'a> {
    /// the items in the order of the plan, then idle parts, fee and minimum
    pub lines: Vec<StatementLine<'a>>,
    /// the sum of the lines, in smallest units of money
    pub total: BigUint,
}

/// A line of a statement.
#[derive(Debug)]
pub struct StatementLine<'a> {
    /// the thing that is charged
    pub kind: LineKind<'a>,
    /// rounded, in smallest units of money
    pub amount: BigUint,
}

/// The thing that a line charges.
#[derive(Debug)]
pub enum LineKind<'a> {
    /// an item
    Item(&'a Item, Quantity<'a>),
    /// the idle part of an item: its quantity, and the waived amount, which is the additional price if the
    /// part had not been idle
    Idle(&'a Item, u128, BigUint),
    /// the fee for the period
    BaseFee,
    /// the difference to the minimum
    Minimum,
}

/// In smallest units.
#[derive(Debug)]
pub struct Quantity<'a> {
    /// as measured
    pub used: u128,
    /// the same, rounded up
    pub rounded: u128,
    /// the free part of it
    pub free: u128,
    /// the charged rest
    pub charged: u128,
    /// the parts charged at each rate; with the scope account, those of all domains
    pub slices: Vec<Slice<'a>>,
}

/// A plan, applied to a period.
pub struct Charged<'a> {
    plan: &'a Plan,
    accounts: &'a Accounts,
    period: u32,
    /// for each item with the scope account
    pools: Vec<Option<AccountPrice<'a>>>,
}

impl<'a> Charged<'a> {
    /// Applies it.
    pub fn new(plan: &'a Plan, accounts: &'a Accounts, period: u32) -> Self {
        let pool = |item: &'a Item| {
            (item.scope == Scope::Account).then(|| AccountPrice::new(item, plan, accounts, period))
        };
        Self { plan, accounts, period, pools: plan.items.iter().map(pool).collect() }
    }

    /// The statement of a domain. None if it has no line in the period.
    pub fn statement(&self, domain: usize) -> Option<Statement<'a>> {
        let (_, account) = self.accounts.domains.get(domain)?;
        if !Accounts::is_in(account, self.period) {
            return None;
        }
        let mut lines = Vec::with_capacity(self.plan.items.len() + 2);
        for (item, pool) in self.plan.items.iter().zip(&self.pools) {
            let used = used(item, self.accounts, account, self.period);
            let idle = idle(item.measure, self.accounts, account, self.period);
            let (share, slices) = match pool {
                Some(pool) => (pool.share(domain), pool.slices.clone()),
                None => self.alone(item, used, idle),
            };
            let rounded = round_up(used, item.round_up);
            let free = share.free.min(rounded);
            let quantity = Quantity { used, rounded, free, charged: rounded - free, slices };
            lines.push(StatementLine { kind: LineKind::Item(item, quantity), amount: share.amount });
            if item.measure.has_idle() {
                lines.push(StatementLine {
                    kind: LineKind::Idle(item, idle, share.waived),
                    amount: share.idle_amount,
                });
            }
        }
        let has_fees = Accounts::has_fees(account, self.period);
        if has_fees && self.plan.base_fee != BigUint::ZERO {
            lines.push(StatementLine { kind: LineKind::BaseFee, amount: self.plan.base_fee.clone() });
        }
        let mut total: BigUint = lines.iter().map(|line| &line.amount).sum();
        if has_fees && total < self.plan.minimum {
            lines.push(StatementLine { kind: LineKind::Minimum, amount: &self.plan.minimum - &total });
            total = self.plan.minimum.clone();
        }
        Some(Statement { lines, total })
    }

    /// The total of a domain's statement.
    pub fn total(&self, domain: usize) -> Option<BigUint> {
        self.statement(domain).map(|statement| statement.total)
    }

    /// The price of an item with the scope domain.
    fn alone(&self, item: &'a Item, used: u128, idle: u128) -> (Share, Vec<Slice<'a>>) {
        let denominator = denominator(item, self.plan);
        let round = |price: &BigUint| self.plan.rounding.round(price, &denominator);
        let rounded = round_up(used, item.round_up);
        let free = item.free.min(rounded);
        let (exact, slices) = price(item, rounded - free);
        let mut share = Share { free, amount: round(&exact), ..Share::default() };
        if item.measure.has_idle() {
            share.idle_amount = round(&(at_scale(&item.idle_rate, item.scale) * idle));
            let with_idle = round_up(used.saturating_add(idle), item.round_up);
            let more = round(&price(item, with_idle.saturating_sub(item.free)).0);
            let paid = &share.amount + &share.idle_amount;
            share.waived = if more > paid { more - paid } else { BigUint::ZERO };
        }
        (share, slices)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::book::{Book, Needs, Period, Used};
    use super::super::reader::parse;
    use super::*;
    use crate::traffic::Member;

    fn plan(items: &str) -> Plan {
        let head = "name = \"plan\"\ncurrency = \"EUR\"\n";
        parse(&format!("{head}{items}"), "plan").unwrap()
    }

    fn accounts(plan: &Plan, used: &[(&str, &[(Member, u64)])]) -> Accounts {
        let book = Book::new(Needs::of(std::slice::from_ref(plan)), Period::Total, (None, None), 1000);
        for (name, numbers) in used {
            let mut used = Used::default();
            numbers.iter().for_each(|(member, number)| used[*member as usize] = *number);
            book.add(name, (0, 1000), &used, true);
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
            "item = [{ name = \"d\", measure = \"active_interval\", unit = \"s\", round_up = 0.1, free = 1, \
             rate = 1 }]",
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
            let [_, StatementLine { kind: LineKind::Idle(_, idle, waived), .. }] = statement.lines.as_slice()
            else {
                panic!()
            };
            (*idle, u64::try_from(waived.clone()).unwrap())
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
            let LineKind::Item(_, quantity) = &statement.lines[0].kind else { panic!() };
            (quantity.free, quantity.charged)
        });
        assert_eq!(free, [(60, 540), (30, 270), (10, 90)]);
    }

    #[test]
    fn an_account_pays_its_price_once_however_many_domains_it_has() {
        let plan = plan(
            "item = [{ name = \"r\", measure = \"executions\", scope = \"account\", per = 1_000_000,
             free = 500_000, rate = 0.30 }]",
        );
        let sum = |plan: &Plan, domains: usize, requests: u64| -> u64 {
            let names: Vec<String> = (0..domains).map(|n| format!("{n:04}")).collect();
            let numbers = [(Member::Requests, requests)];
            let used: Vec<(&str, &[(Member, u64)])> =
                names.iter().map(|name| (name.as_str(), &numbers[..])).collect();
            let used = accounts(plan, &used);
            let charged = Charged::new(plan, &used, 0);
            (0..domains).map(|domain| u64::try_from(charged.total(domain).unwrap()).unwrap()).sum()
        };
        // 9,500,000 executions at 0.30 a million
        assert_eq!((sum(&plan, 1, 10_000_000), sum(&plan, 1000, 10_000)), (285, 285));
        let plan = self::plan(
            "item = [{ name = \"r\", measure = \"executions\", scope = \"account\", rate = 0.004 }]",
        );
        assert_eq!((sum(&plan, 1000, 1), sum(&plan, 1, 1000)), (400, 400));
    }

    #[test]
    fn what_is_idle_of_an_account_has_one_price_too() {
        let item = "name = \"c\", measure = \"billable_cpu\", rate = 0.01, scope = \"account\"";
        let used: [(&str, &[(Member, u64)]); 3] = [
            ("a", &[(Member::Billable, 0), (Member::Waived, 1_000_000_000)]),
            ("b", &[(Member::Billable, 1_000_000_000), (Member::Waived, 2_000_000_000)]),
            ("c", &[(Member::Billable, 1_000_000_000)]),
        ];
        let lines = |more: &str| {
            let plan = plan(&format!("item = [{{ {item} {more} }}]"));
            let used = accounts(&plan, &used);
            let charged = Charged::new(&plan, &used, 0);
            let line = |domain: usize| {
                let statement = charged.statement(domain).unwrap();
                let [active, StatementLine { kind: LineKind::Idle(_, _, waived), amount }] =
                    statement.lines.as_slice()
                else {
                    panic!()
                };
                [&active.amount, amount, waived].map(|number| u32::try_from(number).unwrap())
            };
            [line(0), line(1), line(2)]
        };
        // 5 s are worth 0.05, of which 2 s are active
        assert_eq!(lines(""), [[0, 0, 1], [1, 0, 2], [1, 0, 0]]);
        // 3 s at 0.004 are 0.012, rounded to 0.01; each for itself 0.00 and 0.01
        assert_eq!(lines(", idle_rate = 0.004"), [[0, 0, 1], [1, 1, 1], [1, 0, 0]]);
    }

    #[test]
    fn what_is_rounded_up_is_free_or_charged() {
        let plan =
            plan("item = [{ name = \"r\", measure = \"requests\", round_up = 4, free = 5, rate = 1 }]");
        let of = |requests| {
            let used = accounts(&plan, &[("a", &[(Member::Requests, requests)])]);
            let statement = Charged::new(&plan, &used, 0).statement(0).unwrap();
            let LineKind::Item(_, quantity) = &statement.lines[0].kind else { panic!() };
            [quantity.used, quantity.rounded, quantity.free, quantity.charged]
        };
        assert_eq!([0, 2, 5].map(of), [[0, 0, 0, 0], [2, 4, 4, 0], [5, 8, 5, 3]]);
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
                book.add("a", (slot * 300_000, (slot + 1) * 300_000), &used, true);
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
            numbers in prop::collection::vec(any::<[u64; 3]>(), 1..20),
            free: u32,
            rate in 0u32..100_000,
            first in 1u64..,
            decimals in 0u32..6,
            scope in prop::sample::select(&["domain", "account"][..]),
            rounding in prop::sample::select(&["half-up", "half-even"][..]),
            tiers in prop::sample::select(&["graduated", "volume"][..]),
        ) {
            let plan = plan(&format!(
                "decimals = {decimals}\nrounding = \"{rounding}\"\nminimum = 7\nbase_fee = 3\nitem = [
                 {{ name = \"r\", measure = \"requests\", per = 1000, free = {free}, scope = \"{scope}\", \
                  tiers = \"{tiers}\",
                    tier = [{{ up_to = \"{first}\", rate = {rate}e-4 }}, {{ rate = {rate}e-7 }}] }},
                 {{ name = \"c\", measure = \"billable_cpu\", unit = \"h\", rate = {rate}e-5, scope = \"{scope}\" }}]"
            ));
            let names: Vec<String> = (0..numbers.len()).map(|n| format!("{n:02}")).collect();
            let used: Vec<_> = numbers
                .iter()
                .map(|[r, b, w]| [(Member::Requests, *r), (Member::Billable, *b), (Member::Waived, *w)])
                .collect();
            let used: Vec<(&str, &[(Member, u64)])> = names
                .iter().map(String::as_str).zip(used.iter().map(|used| &used[..])).collect();
            let accounts = accounts(&plan, &used);
            let charged = Charged::new(&plan, &accounts, 0);
            let (mut free_given, mut all) = (0, BigUint::ZERO);
            for domain in 0..numbers.len() {
                let statement = charged.statement(domain).unwrap();
                prop_assert_eq!(
                    statement.lines.iter().map(|line| &line.amount).sum::<BigUint>(),
                    statement.total.clone(),
                );
                prop_assert!(statement.total >= plan.minimum);
                let LineKind::Item(_, quantity) = &statement.lines[0].kind else { panic!() };
                prop_assert_eq!(quantity.free + quantity.charged, quantity.used);
                free_given += quantity.free;
                all += &statement.lines[0].amount;
            }
            if scope == "account" {
                let sum: u128 = numbers.iter().map(|numbers| u128::from(numbers[0])).sum();
                prop_assert_eq!(free_given, u128::from(free).min(sum));
                let item = &plan.items[0];
                let exact = price(item, sum - free_given).0;
                prop_assert_eq!(all, plan.rounding.round(&exact, &denominator(item, &plan)));
            }
        }

        #[test]
        fn graduated_tiers_never_jump_and_never_fall(
            ends in prop::collection::btree_set(1u64..1_000_000, 1..5),
            rates in prop::array::uniform6(0u32..1000),
            at in 0usize..5,
            near in 0u64..1_000_000,
        ) {
            let ends: Vec<u64> = ends.into_iter().collect();
            let mut tiers: Vec<String> = ends
                .iter().zip(rates).map(|(end, rate)| format!("{{ up_to = {end}, rate = {rate}e-3 }}"))
                .collect();
            tiers.push(format!("{{ rate = {}e-3 }}", rates[5]));
            let tiers = tiers.join(", ");
            let plan = plan(&format!("item = [{{ name = \"r\", measure = \"requests\", tier = [{tiers}] }}]"));
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
