//! From statements to rows.

use std::io::{self, Write};

use num_bigint::BigUint;
use serde_json::json;

use super::book::Accounts;
use super::charge::{Charged, Kind, Line, Quantity, Slice, Statement};
use super::decimal::{grouped, in_unit, shown, with_point};
use super::plan::{Item, Plan, Scope, Tiering};
use crate::domains::time;
use crate::output::{Cell, Column, Format, Layout, Place, Rows, Value};

/// What the statements are sorted by.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// what is to be paid, most first
    #[default]
    Amount,
    /// name
    Domain,
}

/// Which rows are wanted, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// so many domains have statements, the others a total together
    pub top: usize,
    /// which are first
    pub sort: Sort,
    /// how it is written
    pub format: Format,
}

/// Decimals of quantities in CSV and JSON, which have the exact number in smallest units beside.
const DECIMALS: u32 = 12;

/// Writes the statements of all domains.
pub fn write<W: Write>(
    wanted: &Wanted,
    plan: &Plan,
    accounts: &Accounts,
    mut out: W,
    layout: &Layout,
) -> io::Result<()> {
    let zone = accounts.zone.as_deref().unwrap_or("-");
    let mut grand = BigUint::ZERO;
    let periods = accounts.periods();
    if wanted.format == Format::Table {
        let (from, to) = accounts.range;
        let all = format!("{} to {}", time::format(from), time::format(to));
        if periods.is_empty() {
            layout.write_text(&mut out, &format!("{all}: nothing was used"))?;
        }
        for (at, period) in periods.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            let (begin, end) = accounts.period.bounds(*period, accounts.range);
            let (begin, end) = (time::format(begin), time::format(end));
            let head = format!("{}, {begin} to {end}, zone {zone}, {}", plan.name, plan.currency);
            layout.write_text(&mut out, &head)?;
            writeln!(out)?;
            let mut rows = Rows::new(wanted.format, &COLUMNS, &mut out, layout)?;
            grand += Writer { wanted, plan, accounts, period: *period }.period(&mut rows)?;
            rows.finish()?;
        }
        if periods.len() > 1 {
            let total = money(plan, &grand).shown;
            let text = format!("{} periods, {all}: {total} {}", periods.len(), plan.currency);
            writeln!(out)?;
            layout.write_text(&mut out, &text)?;
        }
        return out.flush();
    }
    if wanted.format == Format::Json {
        let (from, to) = accounts.range;
        let head = json!({
            "plan": plan.name, "currency": plan.currency, "decimals": plan.decimals, "rounding": plan.rounding.name(),
            "zone": accounts.zone, "from": time::format(from), "to": time::format(to), "by": accounts.period.name(),
        });
        write!(out, "{},\"rows\":", head.to_string().trim_end_matches('}'))?;
    }
    let mut rows = Rows::new(wanted.format, &COLUMNS, &mut out, layout)?;
    for period in periods {
        grand += Writer { wanted, plan, accounts, period }.period(&mut rows)?;
    }
    rows.finish()?;
    if wanted.format == Format::Json {
        writeln!(out, ",\"total\":\"{}\"}}", with_point(&grand, plan.decimals))?;
    }
    out.flush()
}

const fn text(name: &'static str) -> Column<'static> {
    Column::text(name, name)
}

const fn number(name: &'static str) -> Column<'static> {
    Column::number(name, name)
}

/// The columns; tables have some of them.
pub const COLUMNS: [Column<'static>; 18] = [
    text("from").at(Place::Data),
    text("to").at(Place::Data),
    text("row").at(Place::Data),
    Column::name("domain", "domain"),
    Column::name("item", "item"),
    text("measure").at(Place::Data),
    text("unit").at(Place::Data),
    number("used").rank(2),
    number("free").rank(4),
    number("charged").rank(3),
    text("rate").rank(5),
    number("amount").rank(1),
    number("waived").at(Place::Data),
    text("currency").at(Place::Data),
    text("smallest_unit").at(Place::Data),
    number("used_exact").at(Place::Data),
    number("free_exact").at(Place::Data),
    number("charged_exact").at(Place::Data),
];

struct Writer<'a> {
    wanted: &'a Wanted,
    plan: &'a Plan,
    accounts: &'a Accounts,
    period: u32,
}

/// A row without its amount.
#[derive(Default)]
struct Row<'a> {
    kind: &'static str,
    /// none in rows that are of no domain, or of several
    domain: Option<&'a str>,
    /// of a row in a table that is of no domain, or of several
    title: &'a str,
    /// of its domain, this row is the first one
    is_first: bool,
    item: Option<&'a str>,
    of: Option<&'a Item>,
    /// used, free, charged
    quantities: [Option<u128>; 3],
    rate: Option<String>,
    waived: Option<BigUint>,
}

impl<'a> Writer<'a> {
    /// The rows of a period, and what they come to.
    fn period<W: Write>(&self, rows: &mut Rows<'_, W>) -> io::Result<BigUint> {
        let charged = Charged::new(self.plan, self.accounts, self.period);
        let mut order: Vec<(BigUint, usize)> = (0..self.accounts.domains.len())
            .filter_map(|domain| Some((charged.total(domain)?, domain)))
            .collect();
        let total: BigUint = order.iter().map(|(total, _)| total).sum();
        if self.wanted.sort == Sort::Amount {
            // the order within the same is that of the names
            order.sort_by(|(a, _), (b, _)| b.cmp(a));
        }
        let (listed, others) = order.split_at(order.len().min(self.wanted.top));
        let mut sums = Sums::new(self.plan);
        for (at, (_, domain)) in listed.iter().enumerate() {
            let Some(statement) = charged.statement(*domain) else { continue };
            let Some((name, _)) = self.accounts.domains.get(*domain) else { continue };
            if at > 0 {
                rows.rule()?;
            }
            sums.add(&statement);
            self.statement(rows, name, &statement)?;
        }
        if !others.is_empty() {
            let mut rest = BigUint::ZERO;
            for (amount, domain) in others {
                rest += amount;
                charged.statement(*domain).iter().for_each(|statement| sums.add(statement));
            }
            let title = match others.len() {
                1 => "rest (1 domain)".to_owned(),
                n => format!("rest ({n} domains)"),
            };
            if !listed.is_empty() {
                rows.rule()?;
            }
            let row = Row { kind: "rest", title: &title, item: Some("total"), ..Row::default() };
            self.row(rows, row, &rest)?;
        }
        if !order.is_empty() {
            rows.rule()?;
        }
        self.all(rows, &sums, &total)?;
        Ok(total)
    }

    fn statement<W: Write>(
        &self,
        rows: &mut Rows<'_, W>,
        name: &str,
        statement: &Statement<'_>,
    ) -> io::Result<()> {
        let mut is_first = true;
        for line in &statement.lines {
            let row = Row { domain: Some(name), is_first, ..self.line(line) };
            self.row(rows, row, &line.amount)?;
            is_first = false;
        }
        let row = Row { kind: "total", domain: Some(name), is_first, item: Some("total"), ..Row::default() };
        self.row(rows, row, &statement.total)
    }

    fn line<'l>(&self, line: &'l Line<'_>) -> Row<'l> {
        match &line.kind {
            Kind::Item(item, quantity) => Row {
                kind: "item",
                item: Some(&item.name),
                of: Some(item),
                quantities: [quantity.used, quantity.free, quantity.charged].map(Some),
                rate: Some(rate(item, quantity)),
                ..Row::default()
            },
            Kind::Idle(item, idle, waived) => {
                let rate = match (item.idle_rate.is_zero(), waived) {
                    (false, _) => format!("idle: {} per {}", item.idle_rate, unit(item)),
                    (true, Some(waived)) => format!("idle: waived, worth {}", money(self.plan, waived).shown),
                    (true, None) => "idle: waived".to_owned(),
                };
                let charged = if item.idle_rate.is_zero() { 0 } else { *idle };
                Row {
                    kind: "idle",
                    item: Some(&item.name),
                    of: Some(item),
                    quantities: [Some(*idle), None, Some(charged)],
                    rate: Some(rate),
                    waived: waived.clone(),
                    ..Row::default()
                }
            }
            Kind::BaseFee => Row { kind: "base_fee", item: Some("base fee"), ..Row::default() },
            Kind::Minimum => Row {
                kind: "minimum",
                item: Some("up to the minimum"),
                rate: Some(format!("at least {}", money(self.plan, &self.plan.minimum).shown)),
                ..Row::default()
            },
        }
    }

    /// What all domains come to, by item.
    fn all<W: Write>(&self, rows: &mut Rows<'_, W>, sums: &Sums<'_>, total: &BigUint) -> io::Result<()> {
        let mut title = "all";
        for sum in sums.0.iter().filter(|sum| sum.is_there) {
            let quantities = match sum.of.is_none_or(|item| item.measure.is_sum()) {
                true => sum.quantities,
                // what is the highest of each is not that of all
                false => [None; 3],
            };
            let row = Row {
                kind: sum.kind,
                title,
                item: Some(sum.item),
                of: sum.of,
                quantities,
                rate: sum.rate.map(str::to_owned),
                waived: sum.waived.clone(),
                ..Row::default()
            };
            self.row(rows, row, &sum.amount)?;
            title = "";
        }
        let row = Row { kind: "all_total", title, item: Some("total"), ..Row::default() };
        self.row(rows, row, total)
    }

    fn row<W: Write>(&self, rows: &mut Rows<'_, W>, row: Row<'_>, amount: &BigUint) -> io::Result<()> {
        let unit_size = row.of.map_or(1, |item| item.unit.size);
        let empty = || Cell { value: Value::Nothing, shown: "".into() };
        // tables have the unit with the first of them
        let quantity = |at: usize, is_with_unit: bool| {
            let Some(quantity) = row.quantities.get(at).copied().flatten() else { return empty() };
            let text = shown(quantity, unit_size);
            let shown = match row.of.filter(|_| is_with_unit) {
                Some(item) => format!("{text} {}", item.unit.plural),
                None => text,
            };
            Cell { value: Value::Exact(in_unit(quantity, unit_size, DECIMALS)), shown: shown.into() }
        };
        let maybe = |text: Option<&str>| text.map_or_else(empty, |text| Cell::text(text.to_owned()));
        let exact = |at: usize| match row.quantities.get(at).copied().flatten() {
            Some(quantity) => {
                Cell { shown: quantity.to_string().into(), value: Value::Exact(quantity.to_string()) }
            }
            None => empty(),
        };
        let domain = match row.domain {
            Some(name) if row.is_first => Cell::domain(name),
            // in a table, the first of a domain's rows has its name
            Some(name) => Cell { shown: row.title.into(), ..Cell::domain(name) },
            None => Cell { shown: Cell::text(row.title).shown, ..empty() },
        };
        let (begin, end) = self.accounts.period.bounds(self.period, self.accounts.range);
        rows.row(&[
            Cell::text(time::format(begin)),
            Cell::text(time::format(end)),
            Cell::text(row.kind),
            domain,
            maybe(row.item),
            maybe(row.of.map(|item| item.measure.name())),
            maybe(row.of.map(|item| item.unit.name)),
            quantity(0, true),
            quantity(1, false),
            quantity(2, false),
            maybe(row.rate.as_deref()),
            money(self.plan, amount),
            row.waived.as_ref().map_or_else(empty, |waived| money(self.plan, waived)),
            Cell::text(self.plan.currency.as_str()),
            maybe(row.of.map(|item| item.measure.smallest())),
            exact(0),
            exact(1),
            exact(2),
        ])
    }
}

/// What statements come to, by what their lines are for.
struct Sums<'a>(Vec<Sum<'a>>);

struct Sum<'a> {
    kind: &'static str,
    item: &'a str,
    of: Option<&'a Item>,
    quantities: [Option<u128>; 3],
    rate: Option<&'static str>,
    waived: Option<BigUint>,
    amount: BigUint,
    is_there: bool,
}

impl<'a> Sums<'a> {
    fn new(plan: &'a Plan) -> Self {
        let sum = |kind, item, of: Option<&'a Item>, rate| Sum {
            kind,
            item,
            of,
            quantities: [None; 3],
            rate,
            waived: None,
            amount: BigUint::ZERO,
            is_there: false,
        };
        let mut sums = Vec::new();
        for item in &plan.items {
            sums.push(sum("all_item", item.name.as_str(), Some(item), None));
            if item.measure.has_idle() {
                sums.push(sum("all_idle", item.name.as_str(), Some(item), Some("idle")));
            }
        }
        sums.push(sum("all_base_fee", "base fee", None, None));
        sums.push(sum("all_minimum", "up to the minimum", None, None));
        Self(sums)
    }

    fn add(&mut self, statement: &Statement<'_>) {
        for line in &statement.lines {
            let (kind, name, quantities, waived) = match &line.kind {
                Kind::Item(item, quantity) => {
                    let quantities = [quantity.used, quantity.free, quantity.charged].map(Some);
                    ("all_item", item.name.as_str(), quantities, None)
                }
                Kind::Idle(item, idle, waived) => {
                    ("all_idle", item.name.as_str(), [Some(*idle), None, None], waived.as_ref())
                }
                Kind::BaseFee => ("all_base_fee", "base fee", [None; 3], None),
                Kind::Minimum => ("all_minimum", "up to the minimum", [None; 3], None),
            };
            let Some(sum) = self.0.iter_mut().find(|sum| sum.kind == kind && sum.item == name) else {
                continue;
            };
            sum.is_there = true;
            sum.amount += &line.amount;
            for (all, more) in sum.quantities.iter_mut().zip(quantities) {
                if let Some(more) = more {
                    *all = Some(all.unwrap_or(0).saturating_add(more));
                }
            }
            if let Some(waived) = waived {
                *sum.waived.get_or_insert(BigUint::ZERO) += waived;
            }
        }
    }
}

/// An amount.
pub fn money(plan: &Plan, amount: &BigUint) -> Cell<'static> {
    let number = with_point(amount, plan.decimals);
    Cell { shown: grouped(&number).into(), value: Value::Exact(number) }
}

/// What a rate is for: `GB`, `1,000,000 requests`.
fn unit(item: &Item) -> String {
    let per = item.per.to_string();
    if per == "1" { item.unit.name.to_owned() } else { format!("{} {}", grouped(&per), item.unit.plural) }
}

fn rate(item: &Item, quantity: &Quantity<'_>) -> String {
    let per = unit(item);
    let slice = |slice: &Slice<'_>| format!("{} at {}", shown(slice.quantity, item.unit.size), slice.rate);
    let mut rate = match (quantity.slices.as_slice(), item.tiers.len()) {
        ([only], 1) => format!("{} per {per}", only.rate),
        // all of it, at the rate that was reached
        ([only], _) if item.scope == Scope::Domain || item.tiering == Tiering::Volume => {
            format!("{} per {per}", only.rate)
        }
        (slices, _) => {
            let slices: Vec<String> = slices.iter().map(slice).collect();
            format!("{}; per {per}", slices.join(", "))
        }
    };
    if item.scope == Scope::Account && item.tiers.len() > 1 {
        rate.push_str(" (of the account)");
    }
    rate
}
