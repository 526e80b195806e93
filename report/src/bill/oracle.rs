//! Bills against an oracle: what the documentation says, computed a second time in another way, with
//! fractions of whole numbers.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use num_bigint::BigUint;
use proptest::prelude::*;

use super::statement::{self, StatementOptions, StatementSort};
use crate::billing::book::{Book, Needs, Period, Used};
use crate::billing::parse_plan;
use crate::output::{Format, Layout};
use crate::traffic::Member;

/// A measure with the properties that the oracle needs.
#[derive(Clone, Copy, Debug)]
enum What {
    Requests,
    CpuMs,
    Kilobytes,
    Billable,
    ActiveSeconds,
}

impl What {
    const ALL: [Self; 5] =
        [Self::Requests, Self::CpuMs, Self::Kilobytes, Self::Billable, Self::ActiveSeconds];

    /// The measure, the unit and smallest units in it.
    fn names(self) -> (&'static str, &'static str, u64) {
        match self {
            Self::Requests => ("requests", "request", 1),
            Self::CpuMs => ("cpu", "ms", 1_000_000),
            Self::Kilobytes => ("sent", "kB", 1000),
            Self::Billable => ("billable_cpu", "s", 1_000_000_000),
            Self::ActiveSeconds => ("active_seconds", "s", 1000),
        }
    }

    fn has_idle(self) -> bool {
        matches!(self, Self::Billable | Self::ActiveSeconds)
    }

    /// The usage, and the idle part of it.
    fn of(self, usage: &DrawnUsage) -> (u64, u64) {
        match self {
            Self::Requests => (usage.requests, 0),
            Self::CpuMs => (usage.cpu, 0),
            Self::Kilobytes => (usage.sent, 0),
            Self::Billable => (usage.cpu / 3, usage.cpu - usage.cpu / 3),
            Self::ActiveSeconds => {
                let active = usage.active_seconds * 1000;
                (active, usage.active_ms.saturating_sub(active))
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct DrawnUsage {
    requests: u64,
    cpu: u64,
    sent: u64,
    active_ms: u64,
    active_seconds: u64,
}

/// An item with random values. Rates are in 10^-4 of the currency; quantities are in thousandths of a
/// unit, of requests whole.
#[derive(Clone, Debug)]
struct Item {
    what: What,
    is_account: bool,
    is_volume: bool,
    per: u64,
    free: u64,
    round_up: u64,
    /// the size of each tier, and its rate
    tiers: Vec<(u64, u64)>,
    idle_rate: u64,
}

#[derive(Clone, Debug)]
struct Case {
    decimals: u32,
    is_half_even: bool,
    base_fee: u64,
    minimum: u64,
    items: Vec<Item>,
    usages: Vec<DrawnUsage>,
}

fn item() -> impl Strategy<Value = Item> {
    let rate = prop_oneof![Just(0u64), 1u64..60, 1u64..2_000_000];
    (
        (prop::sample::select(&What::ALL[..]), prop::bool::weighted(0.7), any::<bool>()),
        prop_oneof![Just(1u64), 1u64..2000],
        prop_oneof![Just(0u64), 0u64..30, 0u64..60_000],
        prop_oneof![Just(0u64), 1u64..12, 1u64..5000],
        prop::collection::vec((prop_oneof![1u64..10, 1u64..20_000], rate.clone()), 1..4),
        rate,
    )
        .prop_map(|((what, is_account, is_volume), per, free, round_up, tiers, idle_rate)| Item {
            what,
            is_account,
            is_volume,
            per,
            free,
            round_up,
            tiers,
            idle_rate,
        })
}

fn case() -> impl Strategy<Value = Case> {
    let number = || prop_oneof![Just(0u64), 0u64..10, 0u64..3000, 0u64..5_000_000_000];
    let usage = (number(), number(), number(), number(), 0u64..40).prop_map(
        |(requests, cpu, sent, active_ms, active_seconds)| DrawnUsage {
            requests,
            cpu,
            sent,
            active_ms,
            active_seconds,
        },
    );
    (
        0u32..7,
        any::<bool>(),
        prop_oneof![Just(0u64), 0u64..500],
        prop_oneof![Just(0u64), 0u64..2000],
        prop::collection::vec(item(), 1..4),
        prop::collection::vec(usage, 1..8),
    )
        .prop_map(|(decimals, is_half_even, base_fee, minimum, items, usages)| Case {
            decimals,
            is_half_even,
            base_fee,
            minimum,
            items,
            usages,
        })
}

impl Item {
    /// Smallest units in the unit of quantities.
    fn step(&self) -> u64 {
        match self.what {
            What::Requests => 1,
            what => what.names().2 / 1000,
        }
    }

    /// A quantity in the form of a plan.
    fn quantity(&self, steps: u64) -> String {
        match self.what {
            What::Requests => steps.to_string(),
            // the smallest step of bytes is a byte
            _ => format!("{}.{:03}", steps / 1000, steps % 1000),
        }
    }

    fn toml(&self, at: usize) -> String {
        let (measure, unit, _) = self.what.names();
        let rate = |rate: u64| format!("{}.{:04}", rate / 10_000, rate % 10_000);
        let mut toml = format!(
            "[[item]]\nname = \"item {at}\"\nmeasure = \"{measure}\"\nunit = \"{unit}\"\nper = {}\n",
            self.per
        );
        let _ = writeln!(toml, "scope = \"{}\"", if self.is_account { "account" } else { "domain" });
        let _ = writeln!(toml, "free = {}", self.quantity(self.free));
        if self.round_up > 0 {
            let _ = writeln!(toml, "round_up = {}", self.quantity(self.round_up));
        }
        if self.what.has_idle() && self.idle_rate > 0 {
            let _ = writeln!(toml, "idle_rate = {}", rate(self.idle_rate));
        }
        match self.tiers.as_slice() {
            [(_, only)] => {
                let _ = writeln!(toml, "rate = {}", rate(*only));
            }
            tiers => {
                let _ = writeln!(toml, "tiers = \"{}\"", if self.is_volume { "volume" } else { "graduated" });
                let mut end = 0;
                for (at, (more, money)) in tiers.iter().enumerate() {
                    end += more;
                    let up_to = if at + 1 < tiers.len() {
                        format!("up_to = {}\n", self.quantity(end))
                    } else {
                        String::new()
                    };
                    let _ = write!(toml, "[[item.tier]]\n{up_to}rate = {}\n", rate(*money));
                }
            }
        }
        toml
    }

    fn rounded(&self, used: u64) -> u64 {
        match self.round_up * self.step() {
            0 => used,
            to => used.div_ceil(to) * to,
        }
    }

    /// The quantity that is charged at each rate: the tier's number, its quantity and rate.
    fn by_tier(&self, charged: u64) -> Vec<(u64, u64)> {
        let mut left = charged;
        let mut end = 0;
        let mut found = Vec::new();
        for (at, (more, rate)) in self.tiers.iter().enumerate() {
            end += more * self.step();
            let is_last = at + 1 == self.tiers.len();
            if self.is_volume {
                if is_last || charged <= end {
                    return vec![(charged, *rate)];
                }
                continue;
            }
            let taken = if is_last { left } else { left.min(more * self.step()) };
            if taken > 0 || at == 0 {
                found.push((taken, *rate));
            }
            left -= taken;
        }
        found
    }

    /// The price of a quantity in smallest units of money.
    fn price(&self, case: &Case, charged: u64) -> BigUint {
        let tiers = self.by_tier(charged);
        case.rounded(self, tiers.iter().map(|(quantity, rate)| BigUint::from(*quantity) * *rate).sum())
    }
}

impl Case {
    fn toml(&self) -> String {
        let rounding = if self.is_half_even { "half-even" } else { "half-up" };
        let money = |number: u64| {
            let scale = 10u64.pow(self.decimals);
            match self.decimals {
                0 => number.to_string(),
                decimals => {
                    format!("{}.{:0width$}", number / scale, number % scale, width = decimals as usize)
                }
            }
        };
        let items: String = self.items.iter().enumerate().map(|(at, item)| item.toml(at)).collect();
        format!(
            "name = \"drawn\"\ncurrency = \"EUR\"\ndecimals = {}\nrounding = \"{rounding}\"\nbase_fee = \
             {}\nminimum = {}\n{items}",
            self.decimals,
            money(self.base_fee),
            money(self.minimum),
        )
    }

    /// From quantity times rate to smallest units of money: rates are of 10^-4, for so many units.
    fn rounded(&self, item: &Item, product: BigUint) -> BigUint {
        let above = product * 10u64.pow(self.decimals);
        let below = BigUint::from(item.what.names().2) * item.per * 10_000u64;
        // the number of halves decides
        let halves = &above * 2u8 / &below;
        let is_half = &above * 2u8 % &below == BigUint::ZERO && &halves % 2u8 == BigUint::from(1u8);
        let whole = &halves / 2u8;
        match (is_half, self.is_half_even) {
            (true, true) => &whole + &whole % 2u8,
            _ => (halves + 1u8) / 2u8,
        }
    }
}

/// The largest remainders, one at a time.
fn shares(total: &BigUint, weights: &[u64]) -> Vec<BigUint> {
    let sum: BigUint = weights.iter().map(|weight| BigUint::from(*weight)).sum();
    if sum == BigUint::ZERO {
        return vec![BigUint::ZERO; weights.len()];
    }
    let mut parts: Vec<BigUint> = weights.iter().map(|weight| total * *weight / &sum).collect();
    let mut rests: Vec<BigUint> = weights.iter().map(|weight| total * *weight % &sum).collect();
    while parts.iter().sum::<BigUint>() < *total {
        let most = rests.iter().max().cloned().unwrap();
        let at = rests.iter().position(|rest| *rest == most).unwrap();
        parts[at] += 1u8;
        rests[at] = BigUint::ZERO;
    }
    parts
}

/// A line of a domain's statement: row, item, used, rounded, free, charged, amount, waived.
type Expected = (String, String, [String; 4], BigUint, Option<BigUint>);

fn expected(case: &Case) -> Vec<Vec<Expected>> {
    let mut statements: Vec<Vec<Expected>> = vec![Vec::new(); case.usages.len()];
    for (at, item) in case.items.iter().enumerate() {
        let name = format!("item {at}");
        let free = item.free * item.step();
        let used: Vec<(u64, u64)> = case.usages.iter().map(|usage| item.what.of(usage)).collect();
        let rounded: Vec<u64> = used.iter().map(|(used, _)| item.rounded(*used)).collect();
        let with_idle: Vec<u64> = used.iter().map(|(used, idle)| item.rounded(used + idle)).collect();
        // groups with one price: all domains together, or each domain
        let groups: Vec<Vec<usize>> = match item.is_account {
            true => vec![(0..used.len()).collect()],
            false => (0..used.len()).map(|domain| vec![domain]).collect(),
        };
        for group in groups {
            let of = |numbers: &[u64]| group.iter().map(|domain| numbers[*domain]).collect::<Vec<u64>>();
            let (weights, idle) =
                (of(&rounded), of(&used.iter().map(|(_, idle)| *idle).collect::<Vec<u64>>()));
            let all: u64 = weights.iter().sum();
            let given = free.min(all);
            let price = item.price(case, all - given);
            let idle_price =
                case.rounded(item, idle.iter().map(|idle| BigUint::from(*idle) * item.idle_rate).sum());
            let all_with_idle: u64 = of(&with_idle).iter().sum();
            let worth = item.price(case, all_with_idle.saturating_sub(free));
            let paid = &price + &idle_price;
            let waived = if worth > paid { worth - paid } else { BigUint::ZERO };
            let frees = shares(&given.into(), &weights);
            let amounts = shares(&price, &weights);
            let (idle_amounts, waiveds) = (shares(&idle_price, &idle), shares(&waived, &idle));
            for (place, domain) in group.iter().enumerate() {
                let free = u64::try_from(&frees[place]).unwrap();
                let quantities = [used[*domain].0, weights[place], free, weights[place] - free];
                statements[*domain].push((
                    "item".into(),
                    name.clone(),
                    quantities.map(|number| number.to_string()),
                    amounts[place].clone(),
                    None,
                ));
                if item.what.has_idle() {
                    let charged = if item.idle_rate == 0 { 0 } else { idle[place] };
                    let quantities =
                        [idle[place].to_string(), String::new(), String::new(), charged.to_string()];
                    statements[*domain].push((
                        "idle".into(),
                        name.clone(),
                        quantities,
                        idle_amounts[place].clone(),
                        Some(waiveds[place].clone()),
                    ));
                }
            }
        }
    }
    for statement in &mut statements {
        let fee = |row: &str, item: &str, amount: BigUint| {
            (row.to_owned(), item.to_owned(), <[String; 4]>::default(), amount, None)
        };
        if case.base_fee > 0 {
            statement.push(fee("base_fee", "base fee", case.base_fee.into()));
        }
        let total: BigUint = statement.iter().map(|line| &line.3).sum();
        if total < case.minimum.into() {
            statement.push(fee("minimum", "up to the minimum", BigUint::from(case.minimum) - total));
        }
    }
    statements
}

/// Money in the form of CSV.
fn money(amount: &BigUint, decimals: u32) -> String {
    let text = format!("{amount:0>width$}", width = decimals as usize + 1);
    let (whole, fraction) = text.split_at(text.len() - decimals as usize);
    if decimals == 0 { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

fn without_point(amount: &str) -> BigUint {
    amount.replace('.', "").parse().unwrap()
}

type Row = HashMap<String, String>;

fn bill(case: &Case, top: usize) -> Vec<Row> {
    let plan = parse_plan(&case.toml(), "drawn").unwrap();
    let book = Book::new(Needs::of(std::slice::from_ref(&plan)), Period::Total, (None, None), 1000);
    // the order of lines is not that of names
    for (at, usage) in case.usages.iter().enumerate().rev() {
        let mut used = Used::default();
        used[Member::Requests as usize] = usage.requests;
        used[Member::Cpu as usize] = usage.cpu;
        used[Member::Sent as usize] = usage.sent;
        (used[Member::Billable as usize], used[Member::Waived as usize]) = What::Billable.of(usage);
        used[Member::Active as usize] = usage.active_ms;
        used[Member::ActiveSeconds as usize] = usage.active_seconds;
        book.add(&format!("{at:02}"), (0, 1000), &used, true);
    }
    let accounts = book.into_accounts((0, 1000)).unwrap();
    let wanted = StatementOptions { top, sort: StatementSort::Domain, format: Format::Csv };
    let mut csv = Vec::new();
    statement::write(&wanted, &plan, &accounts, &mut csv, &Layout::default()).unwrap();
    csv::Reader::from_reader(csv.as_slice()).deserialize().map(Result::unwrap).collect()
}

fn check(case: &Case) {
    let rows = bill(case, usize::MAX);
    let statements = expected(case);
    let mut lines: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row["domain"].is_empty()) {
        lines.entry(&row["domain"]).or_default().push(row);
    }
    let mut all = BigUint::ZERO;
    for (domain, statement) in statements.iter().enumerate() {
        let found = &lines[format!("{domain:02}").as_str()];
        let plain: Vec<&&Row> =
            found.iter().filter(|row| !matches!(row["row"].as_str(), "tier" | "total")).collect();
        assert_eq!(plain.len(), statement.len());
        let mut total = BigUint::ZERO;
        for (row, (kind, item, quantities, amount, waived)) in plain.iter().zip(statement) {
            assert_eq!((&row["row"], &row["item"]), (kind, item));
            let exact = ["used_exact", "rounded_exact", "free_exact", "charged_exact"]
                .map(|column| row[column].clone());
            assert_eq!(exact, *quantities, "{kind} {item}");
            assert_eq!(row["amount"], money(amount, case.decimals), "{kind} {item}");
            let waived = waived.as_ref().map(|waived| money(waived, case.decimals)).unwrap_or_default();
            assert_eq!(row["waived"], waived, "{kind} {item}");
            total += amount;
        }
        let row = found.iter().find(|row| row["row"] == "total").unwrap();
        assert_eq!(row["amount"], money(&total, case.decimals));
        all += total;
        tiers(case, found);
    }
    let grand = rows.iter().find(|row| row["row"] == "all_total").unwrap();
    assert_eq!(grand["amount"], money(&all, case.decimals));
    let sum = |rows: &[Row], kinds: &[&str]| -> BigUint {
        let of = rows.iter().filter(|row| kinds.contains(&row["row"].as_str()));
        of.map(|row| without_point(&row["amount"])).sum()
    };
    assert_eq!(sum(&rows, &["all_item", "all_idle", "all_base_fee", "all_minimum"]), all);
    let short = bill(case, case.usages.len() / 2);
    assert_eq!(sum(&short, &["total", "rest"]), all);
}

/// The rows of tiers add up to the item's row, and have its rates; where there are none, the item has the
/// only rate.
fn tiers(case: &Case, rows: &[&Row]) {
    for (at, item) in case.items.iter().enumerate() {
        let name = format!("item {at}");
        let of = |kind: &str| {
            let rows = rows.iter().filter(|row| row["row"] == kind && row["item"] == name);
            rows.copied().collect::<Vec<&Row>>()
        };
        let (line, tiers) = (of("item")[0], of("tier"));
        let rates = |rates: &[u64]| -> Vec<String> {
            rates.iter().map(|rate| format!("{}.{:04}", rate / 10_000, rate % 10_000)).collect()
        };
        let own: u64 = line["charged_exact"].parse().unwrap();
        let charged = match item.is_account {
            false => own,
            true => {
                let used = case.usages.iter().map(|usage| item.rounded(item.what.of(usage).0));
                used.sum::<u64>().saturating_sub(item.free * item.step())
            }
        };
        let slices = item.by_tier(charged);
        let wanted = rates(&slices.iter().map(|(_, rate)| *rate).collect::<Vec<_>>());
        if wanted.len() == 1 {
            assert!(tiers.is_empty());
            assert_eq!(line["rate"], wanted[0]);
            continue;
        }
        assert_eq!(line["rate"], "");
        assert_eq!(tiers.iter().map(|row| row["rate"].clone()).collect::<Vec<_>>(), wanted);
        let sum = |column: &str| tiers.iter().map(|row| without_point(&row[column])).sum::<BigUint>();
        assert_eq!(sum("amount"), without_point(&line["amount"]));
        assert_eq!(sum("charged_exact"), own.into());
        if !item.is_account {
            let quantities: Vec<String> = slices.iter().map(|(quantity, _)| quantity.to_string()).collect();
            assert_eq!(tiers.iter().map(|row| row["charged_exact"].clone()).collect::<Vec<_>>(), quantities);
        }
    }
}

proptest! {
    #[test]
    fn a_bill_agrees_with_the_documentation(case in case()) {
        check(&case);
    }
}
