//! The same traffic under several plans.

use std::io::{self, Write};

use anyhow::bail;
use num_bigint::BigUint;
use serde_json::json;

use crate::billing::book::Accounts;
use crate::billing::charge::Charged;
use crate::billing::decimal::{Rounding, grouped, power_of_ten, with_point};
use crate::billing::parts::divide;
use crate::billing::plan::Plan;
use crate::output::{Cell, CellValue, Column, Format, Layout, Rows, Visibility};
use crate::time;

/// The order of the rows.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComparisonSort {
    /// increase from the first plan to the last, largest first
    #[default]
    Change,
    /// the same, in percent
    Percent,
    /// amount under the first plan, largest first
    Amount,
    /// name
    Domain,
}

/// The choice of rows, and their form.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// the amounts of each plan are multiplied so that all come to the same
    pub is_equal_revenue: bool,
    /// the number of domains with rows
    pub top: usize,
    /// which are first
    pub sort: ComparisonSort,
    /// how it is written
    pub format: Format,
}

/// The amounts of domains under several plans.
pub struct Comparison<'a> {
    plans: &'a [Plan],
    accounts: &'a Accounts,
    /// decimals of all amounts, those of the plan with the most
    decimals: u32,
    /// by plan, then by domain
    amounts: Vec<Vec<BigUint>>,
    /// by plan
    totals: Vec<BigUint>,
    /// by plan, before amounts were multiplied
    true_totals: Vec<BigUint>,
}

impl<'a> Comparison<'a> {
    /// Applies the plans. They have the same currency.
    pub fn new(plans: &'a [Plan], accounts: &'a Accounts, is_equal_revenue: bool) -> anyhow::Result<Self> {
        let decimals = plans.iter().map(|plan| plan.decimals).max().unwrap_or(0);
        let mut amounts: Vec<Vec<BigUint>> = Vec::new();
        for plan in plans {
            let mut sums = vec![BigUint::ZERO; accounts.domains.len()];
            for period in accounts.periods() {
                let charged = Charged::new(plan, accounts, period);
                for (domain, sum) in sums.iter_mut().enumerate() {
                    *sum += charged.total(domain).unwrap_or_default();
                }
            }
            let scale = power_of_ten(decimals - plan.decimals);
            sums.iter_mut().for_each(|sum| *sum *= &scale);
            amounts.push(sums);
        }
        let true_totals: Vec<BigUint> = amounts.iter().map(|amounts| amounts.iter().sum()).collect();
        let mut totals = true_totals.clone();
        if let Some(wanted) = true_totals.first().filter(|_| is_equal_revenue) {
            for ((amounts, total), plan) in amounts.iter_mut().zip(&mut totals).zip(plans) {
                if *total == BigUint::ZERO && *wanted != BigUint::ZERO {
                    bail!(
                        "nothing is charged under the plan \"{}\": --equal-revenue cannot scale it",
                        plan.name
                    );
                }
                *amounts = divide(wanted, amounts);
                total.clone_from(wanted);
            }
        }
        Ok(Self { plans, accounts, decimals, amounts, totals, true_totals })
    }

    fn amount(&self, plan: usize, domain: usize) -> BigUint {
        self.amounts.get(plan).and_then(|amounts| amounts.get(domain)).cloned().unwrap_or_default()
    }

    fn row(&self, domain: usize) -> Vec<BigUint> {
        (0..self.plans.len()).map(|plan| self.amount(plan, domain)).collect()
    }
}

/// More or less than something.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    is_less: bool,
    by: BigUint,
}

impl Change {
    fn between(before: &BigUint, after: &BigUint) -> Self {
        match after >= before {
            true => Self { is_less: false, by: after - before },
            false => Self { is_less: true, by: before - after },
        }
    }

    fn sign(&self) -> &'static str {
        match (self.by == BigUint::ZERO, self.is_less) {
            (true, _) => "",
            (_, true) => "-",
            (_, false) => "+",
        }
    }

    fn cell(&self, number: &str) -> Cell<'static> {
        let value = CellValue::Exact(format!("{}{number}", self.sign().trim_start_matches('+')));
        Cell { value, shown: format!("{}{}", self.sign(), grouped(number)).into() }
    }
}

/// A share; none if the whole is zero.
fn ratio(part: &BigUint, whole: &BigUint, decimals: u32) -> Option<String> {
    let round = || Rounding::HalfUp.round(&(part * power_of_ten(decimals)), whole);
    (*whole != BigUint::ZERO).then(|| with_point(&round(), decimals))
}

/// The same in percent.
fn percent(part: &BigUint, whole: &BigUint, decimals: u32) -> Option<String> {
    ratio(&(part * 100u8), whole, decimals)
}

/// The names of the columns of each plan.
pub struct PlanNames(Vec<[String; 4]>);

impl PlanNames {
    /// Of these plans.
    pub fn of(plans: &[Plan]) -> Self {
        let of = |plan: &Plan| {
            ["amount", "share_percent", "change", "change_percent"]
                .map(|what| format!("{}_{what}", plan.stem))
        };
        Self(plans.iter().map(of).collect())
    }
}

/// The columns of a comparison. A table of many plans has shares and changes in money only if it is asked for
/// a wide one.
pub fn columns<'a>(names: &'a PlanNames, plans: &'a [Plan]) -> Vec<Column<'a>> {
    let place = if plans.len() <= 3 { Visibility::Everywhere } else { Visibility::Wide };
    let mut columns = vec![Column::text("row", "row").at(Visibility::Data), Column::name("domain", "domain")];
    for (at, ([amount, share, change, in_percent], plan)) in names.0.iter().zip(plans).enumerate() {
        columns.push(Column::number(amount, plan.name.as_str()).rank(if at == 0 { 1 } else { 2 }));
        columns.push(Column::number(share, "share").rank(5).at(place));
        if at > 0 {
            columns.push(Column::number(change, "change").rank(4).at(place));
            columns.push(Column::number(in_percent, "%").rank(3));
        }
    }
    // files of several months can be joined
    columns
        .extend(["zone", "currency", "from", "to"].map(|name| Column::text(name, name).at(Visibility::Data)));
    columns
}

/// Writes a row for each domain.
pub fn write<W: Write>(
    wanted: &CompareOptions,
    comparison: &Comparison<'_>,
    mut out: W,
    layout: &Layout,
) -> io::Result<()> {
    let Comparison { plans, accounts, .. } = comparison;
    let Some(first) = plans.first() else { return Ok(()) };
    let (from, to) = accounts.range;
    let zone = accounts.zone.as_deref().unwrap_or("-");
    let factor = |plan: usize| ratio(comparison.totals.get(plan)?, comparison.true_totals.get(plan)?, 4);
    match wanted.format {
        Format::Table => {
            let currency = &first.currency;
            let head = format!("{} to {}, zone {zone}, {currency}", time::format(from), time::format(to));
            layout.write_text(&mut out, &head)?;
            for (at, plan) in plans.iter().enumerate().skip(1).filter(|_| wanted.is_equal_revenue) {
                let factor = factor(at).unwrap_or_else(|| "1".to_owned());
                let text = format!(
                    "\"{}\" times {factor}, so that it comes to the same as \"{}\"",
                    plan.name, first.name
                );
                layout.write_text(&mut out, &text)?;
            }
            writeln!(out)?;
        }
        Format::Json => {
            let of = |(at, plan): (usize, &Plan)| {
                let total =
                    comparison.true_totals.get(at).map(|total| with_point(total, comparison.decimals));
                json!({ "name": plan.name, "column": plan.stem, "total": total })
            };
            let head = json!({
                "version": 2, "plans": plans.iter().enumerate().map(of).collect::<Vec<_>>(), "currency": first.currency,
                "equal_revenue": wanted.is_equal_revenue, "zone": accounts.zone,
                "from": time::format(from), "to": time::format(to), "by": accounts.period.name(),
            });
            write!(out, "{},\"rows\":", head.to_string().trim_end_matches('}'))?;
        }
        Format::Csv => {}
    }
    let names = PlanNames::of(plans);
    let mut rows = Rows::new(wanted.format, &columns(&names, plans), &mut out, layout)?;
    self::rows(wanted, comparison, &mut rows)?;
    rows.finish()?;
    if wanted.format == Format::Json {
        writeln!(out, "}}")?;
    }
    out.flush()
}

fn rows<W: Write>(
    wanted: &CompareOptions,
    comparison: &Comparison<'_>,
    rows: &mut Rows<'_, W>,
) -> io::Result<()> {
    let plans = comparison.plans.len();
    let last = plans.saturating_sub(1);
    let mut order: Vec<usize> = (0..comparison.accounts.domains.len()).collect();
    let change = |domain: usize| (comparison.amount(0, domain), comparison.amount(last, domain));
    match wanted.sort {
        ComparisonSort::Domain => {}
        ComparisonSort::Amount => {
            order.sort_by_cached_key(|domain| std::cmp::Reverse(comparison.amount(0, *domain)))
        }
        // the largest increase comes first, the largest decrease last
        ComparisonSort::Change => order.sort_by_cached_key(|domain| {
            let (before, after) = change(*domain);
            let change = Change::between(&before, &after);
            match change.is_less {
                false => (0, std::cmp::Reverse(change.by), BigUint::ZERO),
                true => (1, std::cmp::Reverse(BigUint::ZERO), change.by),
            }
        }),
        ComparisonSort::Percent => order.sort_by(|a, b| {
            let ((a_before, a_after), (b_before, b_after)) = (change(*a), change(*b));
            // after / before, without a division; from nothing to something it is without end, and from
            // nothing to nothing 1
            let one = |before, after| {
                if before == after { (BigUint::from(1u8), BigUint::from(1u8)) } else { (before, after) }
            };
            let ((a_before, a_after), (b_before, b_after)) = (one(a_before, a_after), one(b_before, b_after));
            (b_after * a_before).cmp(&(a_after * b_before))
        }),
    }
    let (listed, others) = order.split_at(order.len().min(wanted.top));
    for domain in listed {
        let name = comparison.accounts.domains.get(*domain).map_or("", |(name, _)| name);
        row(comparison, rows, ("domain", Some(name), name), &comparison.row(*domain))?;
    }
    if !others.is_empty() {
        let mut rest = vec![BigUint::ZERO; plans];
        for domain in others {
            rest.iter_mut().enumerate().for_each(|(plan, sum)| *sum += comparison.amount(plan, *domain));
        }
        let title = match others.len() {
            1 => "rest (1 domain)".to_owned(),
            n => format!("rest ({n} domains)"),
        };
        row(comparison, rows, ("rest", None, &title), &rest)?;
    }
    if !order.is_empty() {
        rows.rule()?;
    }
    row(comparison, rows, ("all", None, "all"), &comparison.totals)
}

fn row<W: Write>(
    comparison: &Comparison<'_>,
    rows: &mut Rows<'_, W>,
    (kind, name, title): (&'static str, Option<&str>, &str),
    amounts: &[BigUint],
) -> io::Result<()> {
    let mut cells = Vec::with_capacity(2 + 4 * amounts.len());
    cells.push(Cell::text(kind));
    cells.push(match name {
        Some(name) => Cell::domain(name),
        None => Cell { value: CellValue::Nothing, shown: title.to_owned().into() },
    });
    let empty = BigUint::ZERO;
    let before = amounts.first().unwrap_or(&empty);
    for (plan, (amount, total)) in amounts.iter().zip(&comparison.totals).enumerate() {
        let number = with_point(amount, comparison.decimals);
        cells.push(Cell { shown: grouped(&number).into(), value: CellValue::Exact(number) });
        cells.push(match percent(amount, total, 1) {
            Some(share) => Cell { shown: format!("{share} %").into(), value: CellValue::Exact(share) },
            None => Cell::nothing(),
        });
        if plan > 0 {
            let change = Change::between(before, amount);
            cells.push(change.cell(&with_point(&change.by, comparison.decimals)));
            cells.push(match percent(&change.by, before, 1) {
                Some(percent) => {
                    let cell = change.cell(&percent);
                    Cell { shown: format!("{} %", cell.shown).into(), ..cell }
                }
                None => Cell::nothing(),
            });
        }
    }
    let (from, to) = comparison.accounts.range;
    cells.extend([
        comparison.accounts.zone.clone().map_or_else(Cell::nothing, Cell::text),
        comparison.plans.first().map_or_else(Cell::nothing, |plan| Cell::text(plan.currency.clone())),
        Cell::text(time::format(from)),
        Cell::text(time::format(to)),
    ]);
    rows.row(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_signs() {
        let cell = |before: u32, after: u32| {
            let change = Change::between(&before.into(), &after.into());
            let cell = change.cell(&with_point(&change.by, 2));
            (cell.shown.into_owned(), cell.value)
        };
        let exact = |text: &str| CellValue::Exact(text.to_owned());
        assert_eq!(cell(100, 250_000), ("+2,499.00".to_owned(), exact("2499.00")));
        assert_eq!(cell(250, 100), ("-1.50".to_owned(), exact("-1.50")));
        assert_eq!(cell(100, 100), ("0.00".to_owned(), exact("0.00")));
        assert_eq!(percent(&1u8.into(), &3u8.into(), 1), Some("33.3".to_owned()));
        assert_eq!(percent(&1u8.into(), &BigUint::ZERO, 1), None);
    }
}
