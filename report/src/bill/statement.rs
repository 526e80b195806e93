//! Writes statements as rows.

use std::io::{self, Write};

use num_bigint::BigUint;
use serde_json::json;

use super::row::{self, Quantities, Row, money};
use crate::billing::book::Accounts;
use crate::billing::charge::{Charged, LineKind, Quantity, Statement, StatementLine};
use crate::billing::decimal::with_point;
use crate::billing::plan::{Item, Plan};
use crate::billing::tiers;
use crate::output::{Format, Layout, Rows};
use crate::time;

/// The order of statements.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatementSort {
    /// amount, largest first
    #[default]
    Amount,
    /// name
    Domain,
}

/// The choice of rows, and their form.
#[derive(Clone, Copy, Debug)]
pub struct StatementOptions {
    /// the number of domains with statements; the others have one total
    pub top: usize,
    /// which are first
    pub sort: StatementSort,
    /// how it is written
    pub format: Format,
}

/// Writes the statements of all domains.
pub fn write<W: Write>(
    wanted: &StatementOptions,
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
        let columns = row::columns(plan, wanted.format);
        for (at, period) in periods.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            let (begin, end) = accounts.period.bounds(*period, accounts.range);
            let (begin, end) = (time::format(begin), time::format(end));
            let head = format!("{}, {begin} to {end}, zone {zone}, {}", plan.name, plan.currency);
            layout.write_text(&mut out, &head)?;
            writeln!(out)?;
            let mut rows = Rows::new(wanted.format, &columns, &mut out, layout)?;
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
            "version": 2, "plan": plan.name, "currency": plan.currency, "decimals": plan.decimals,
             "rounding": plan.rounding.name(),
            "zone": accounts.zone, "from": time::format(from), "to": time::format(to), "by": accounts.period.name(),
        });
        write!(out, "{},\"rows\":", head.to_string().trim_end_matches('}'))?;
    }
    let mut rows = Rows::new(wanted.format, &row::columns(plan, wanted.format), &mut out, layout)?;
    for period in periods {
        grand += Writer { wanted, plan, accounts, period }.period(&mut rows)?;
    }
    rows.finish()?;
    if wanted.format == Format::Json {
        writeln!(out, ",\"total\":\"{}\"}}", with_point(&grand, plan.decimals))?;
    }
    out.flush()
}

struct Writer<'a> {
    wanted: &'a StatementOptions,
    plan: &'a Plan,
    accounts: &'a Accounts,
    period: u32,
}

impl<'a> Writer<'a> {
    /// The rows of a period, and their sum.
    fn period<W: Write>(&self, rows: &mut Rows<'_, W>) -> io::Result<BigUint> {
        let charged = Charged::new(self.plan, self.accounts, self.period);
        let mut order: Vec<(BigUint, usize)> = (0..self.accounts.domains.len())
            .filter_map(|domain| Some((charged.total(domain)?, domain)))
            .collect();
        let total: BigUint = order.iter().map(|(total, _)| total).sum();
        if self.wanted.sort == StatementSort::Amount {
            // equal amounts are sorted by name
            order.sort_by(|(a, _), (b, _)| b.cmp(a));
        }
        let (listed, others) = order.split_at(order.len().min(self.wanted.top));
        let mut sums = StatementSums::new(self.plan);
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
            self.tiers(rows, name, line)?;
        }
        let row = Row { kind: "total", domain: Some(name), is_first, item: Some("total"), ..Row::default() };
        self.row(rows, row, &statement.total)
    }

    /// The rows of an item for several rates. In a table, the item's row shows the rates.
    fn tiers<W: Write>(
        &self,
        rows: &mut Rows<'_, W>,
        name: &str,
        line: &StatementLine<'_>,
    ) -> io::Result<()> {
        let LineKind::Item(item, quantity) = &line.kind else { return Ok(()) };
        if self.wanted.format == Format::Table {
            return Ok(());
        }
        for part in tiers::parts(item, &quantity.slices, quantity.charged, &line.amount) {
            let row = Row {
                kind: "tier",
                domain: Some(name),
                item: Some(&item.name),
                of: Some(item),
                quantities: Quantities { charged: Some(part.charged), ..Quantities::default() },
                rate: Some(&part.slice.tier.rate),
                tier: Some(part.slice),
                ..Row::default()
            };
            self.row(rows, row, &part.amount)?;
        }
        Ok(())
    }

    fn line<'l>(&self, line: &'l StatementLine<'_>) -> Row<'l> {
        match &line.kind {
            LineKind::Item(item, quantity) => Row {
                kind: "item",
                item: Some(&item.name),
                of: Some(item),
                quantities: quantities(quantity),
                rate: match quantity.slices.as_slice() {
                    [only] => Some(&only.tier.rate),
                    _ => None,
                },
                note: Some(row::rates(item, quantity)),
                ..Row::default()
            },
            LineKind::Idle(item, idle, waived) => {
                let note = match item.idle_rate.is_zero() {
                    false => format!("idle: {} per {}", item.idle_rate, row::unit(item)),
                    true => format!("idle: waived, worth {}", money(self.plan, waived).shown),
                };
                let charged = if item.idle_rate.is_zero() { 0 } else { *idle };
                Row {
                    kind: "idle",
                    item: Some(&item.name),
                    of: Some(item),
                    quantities: Quantities {
                        used: Some(*idle),
                        charged: Some(charged),
                        ..Quantities::default()
                    },
                    rate: Some(&item.idle_rate),
                    note: Some(note),
                    waived: Some(waived.clone()),
                    ..Row::default()
                }
            }
            LineKind::BaseFee => Row { kind: "base_fee", item: Some("base fee"), ..Row::default() },
            LineKind::Minimum => Row {
                kind: "minimum",
                item: Some("up to the minimum"),
                note: Some(format!("at least {}", money(self.plan, &self.plan.minimum).shown)),
                ..Row::default()
            },
        }
    }

    /// The sums of all domains, by item.
    fn all<W: Write>(
        &self,
        rows: &mut Rows<'_, W>,
        sums: &StatementSums<'_>,
        total: &BigUint,
    ) -> io::Result<()> {
        let mut title = "all";
        for sum in sums.0.iter().filter(|sum| sum.is_there) {
            let quantities = match sum.of.is_none_or(|item| item.measure.is_sum()) {
                true => sum.quantities,
                // the peak of all domains is not the sum of their peaks
                false => Quantities::default(),
            };
            let row = Row {
                kind: sum.kind,
                title,
                item: Some(sum.item),
                of: sum.of,
                quantities,
                note: sum.note.map(str::to_owned),
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
        rows.row(&row.cells((self.plan, self.accounts, self.period), self.wanted.format, amount))
    }
}

/// The sums of statements, by kind of line.
struct StatementSums<'a>(Vec<Sum<'a>>);

struct Sum<'a> {
    kind: &'static str,
    item: &'a str,
    of: Option<&'a Item>,
    quantities: Quantities,
    note: Option<&'static str>,
    waived: Option<BigUint>,
    amount: BigUint,
    is_there: bool,
}

impl<'a> StatementSums<'a> {
    fn new(plan: &'a Plan) -> Self {
        let sum = |kind, item, of: Option<&'a Item>, note| Sum {
            kind,
            item,
            of,
            quantities: Quantities::default(),
            note,
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
            let none = Quantities::default();
            let (kind, name, quantities, waived) = match &line.kind {
                LineKind::Item(item, quantity) => {
                    ("all_item", item.name.as_str(), self::quantities(quantity), None)
                }
                LineKind::Idle(item, idle, waived) => {
                    let quantities = Quantities { used: Some(*idle), ..none };
                    ("all_idle", item.name.as_str(), quantities, Some(waived))
                }
                LineKind::BaseFee => ("all_base_fee", "base fee", none, None),
                LineKind::Minimum => ("all_minimum", "up to the minimum", none, None),
            };
            let Some(sum) = self.0.iter_mut().find(|sum| sum.kind == kind && sum.item == name) else {
                continue;
            };
            sum.is_there = true;
            sum.amount += &line.amount;
            sum.quantities.add(quantities);
            if let Some(waived) = waived {
                *sum.waived.get_or_insert(BigUint::ZERO) += waived;
            }
        }
    }
}

fn quantities(quantity: &Quantity<'_>) -> Quantities {
    Quantities {
        used: Some(quantity.used),
        rounded: Some(quantity.rounded),
        free: Some(quantity.free),
        charged: Some(quantity.charged),
    }
}
