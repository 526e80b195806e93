//! The rows of a statement, as a person reads them in a table, and as programs read them in CSV and JSON.

use num_bigint::BigUint;

use super::book::Accounts;
use super::charge::Quantity;
use super::decimal::{Decimal, grouped, in_unit, shown, with_point};
use super::plan::{Item, Plan, Scope, Tiering};
use super::tiers::Slice;
use crate::domains::time;
use crate::output::{Cell, Column, Value};

/// A row without its amount.
#[derive(Default)]
pub struct Row<'a> {
    /// in CSV and JSON, what the row is of
    pub kind: &'static str,
    /// none in rows that are of no domain, or of several
    pub domain: Option<&'a str>,
    /// of a row in a table that is of no domain, or of several
    pub title: &'a str,
    /// of its domain, this row is the first one
    pub is_first: bool,
    /// its name, or what else the amount is for
    pub item: Option<&'a str>,
    /// the item
    pub of: Option<&'a Item>,
    /// in smallest units
    pub quantities: Quantities,
    /// where there is one
    pub rate: Option<&'a Decimal>,
    /// in a table, what stands in the column of rates
    pub note: Option<String>,
    /// in a row of a tier
    pub tier: Option<&'a Slice<'a>>,
    /// what was not charged for
    pub waived: Option<BigUint>,
}

/// In smallest units; what is not there is empty.
#[derive(Clone, Copy, Default)]
pub struct Quantities {
    /// as measured
    pub used: Option<u128>,
    /// rounded up
    pub rounded: Option<u128>,
    /// of that
    pub free: Option<u128>,
    /// the rest
    pub charged: Option<u128>,
}

impl Quantities {
    /// Adds others, of which each may be missing.
    pub fn add(&mut self, more: Self) {
        let pairs = [
            (&mut self.used, more.used),
            (&mut self.rounded, more.rounded),
            (&mut self.free, more.free),
            (&mut self.charged, more.charged),
        ];
        for (sum, more) in pairs {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        }
    }
}

/// Decimals of quantities in CSV and JSON, which have the exact number in smallest units beside.
const DECIMALS: u32 = 12;

const fn text(name: &'static str) -> Column<'static> {
    Column { name, title: name, is_number: false }
}

const fn number(name: &'static str) -> Column<'static> {
    Column { name, title: name, is_number: true }
}

/// The columns of CSV and JSON: the same for every plan. New ones stand at the end.
pub const DATA: [Column<'static>; 25] = [
    text("from"),
    text("to"),
    text("row"),
    text("domain"),
    text("item"),
    text("measure"),
    text("unit"),
    number("used"),
    number("free"),
    number("charged"),
    number("rate"),
    number("amount"),
    number("waived"),
    text("currency"),
    text("smallest_unit"),
    number("used_exact"),
    number("free_exact"),
    number("charged_exact"),
    text("zone"),
    text("plan"),
    number("rounded"),
    number("rounded_exact"),
    number("per"),
    number("tier_from"),
    number("tier_up_to"),
];

/// The columns of a table. Where a plan rounds nothing up, there is nothing to be seen of that.
pub fn table(plan: &Plan) -> Vec<Column<'static>> {
    let mut columns = vec![text("domain"), text("item"), number("used")];
    if has_rounded(plan) {
        columns.push(number("rounded"));
    }
    columns.extend([number("free"), number("charged"), text("rate"), number("amount")]);
    columns
}

fn has_rounded(plan: &Plan) -> bool {
    plan.items.iter().any(|item| item.round_up > 1)
}

impl Row<'_> {
    /// The cells of a table.
    pub fn shown(&self, plan: &Plan, amount: &BigUint) -> Vec<Cell<'_>> {
        let size = self.of.map_or(1, |item| item.unit.size);
        let quantity = |quantity: Option<u128>| maybe(quantity.map(|quantity| shown(quantity, size)));
        let domain = match self.domain.filter(|_| self.is_first) {
            Some(name) => Cell::domain(name),
            None => Cell::text(self.title),
        };
        let used = match (self.quantities.used, self.of) {
            (Some(used), Some(item)) => Cell::text(with_unit(used, item)),
            (used, _) => quantity(used),
        };
        let mut cells = vec![domain, maybe(self.item), used];
        if has_rounded(plan) {
            cells.push(quantity(self.quantities.rounded));
        }
        cells.extend([
            quantity(self.quantities.free),
            quantity(self.quantities.charged),
            maybe(self.note.as_deref()),
            money(plan, amount),
        ]);
        cells
    }

    /// The cells of [`DATA`].
    pub fn data(&self, plan: &Plan, accounts: &Accounts, period: u32, amount: &BigUint) -> [Cell<'_>; 25] {
        let (begin, end) = accounts.period.bounds(period, accounts.range);
        let size = self.of.map_or(1, |item| item.unit.size);
        let exact = |number: Option<String>| match number {
            Some(number) => Cell { value: Value::Exact(number), shown: "".into() },
            None => Cell::nothing(),
        };
        let readable =
            |quantity: Option<u128>| exact(quantity.map(|quantity| in_unit(quantity, size, DECIMALS)));
        let whole = |quantity: Option<u128>| exact(quantity.map(|quantity| quantity.to_string()));
        let Quantities { used, rounded, free, charged } = self.quantities;
        // a rate is for so many units
        let per = self.of.filter(|_| self.domain.is_some()).map(|item| item.per.to_string());
        [
            Cell::text(time::format(begin)),
            Cell::text(time::format(end)),
            Cell::text(self.kind),
            maybe(self.domain),
            maybe(self.item),
            maybe(self.of.map(|item| item.measure.name())),
            maybe(self.of.map(|item| item.unit.name)),
            readable(used),
            readable(free),
            readable(charged),
            exact(self.rate.map(Decimal::to_string)),
            money(plan, amount),
            self.waived.as_ref().map_or_else(Cell::nothing, |waived| money(plan, waived)),
            Cell::text(plan.currency.clone()),
            maybe(self.of.map(|item| item.measure.smallest())),
            whole(used),
            whole(free),
            whole(charged),
            maybe(accounts.zone.clone()),
            Cell::text(plan.name.clone()),
            readable(rounded),
            whole(rounded),
            exact(per),
            readable(self.tier.map(|slice| slice.above)),
            readable(self.tier.and_then(|slice| slice.tier.up_to)),
        ]
    }
}

fn maybe<'a>(text: Option<impl Into<std::borrow::Cow<'a, str>>>) -> Cell<'a> {
    match text {
        Some(text) => Cell::text(text),
        None => Cell { value: Value::Nothing, shown: "".into() },
    }
}

/// An amount.
pub fn money(plan: &Plan, amount: &BigUint) -> Cell<'static> {
    let number = with_point(amount, plan.decimals);
    Cell { shown: grouped(&number).into(), value: Value::Exact(number) }
}

/// A quantity with its unit: `1 request`, `2.5 GB`.
fn with_unit(quantity: u128, item: &Item) -> String {
    let unit = if quantity == item.unit.size { item.unit.name } else { item.unit.plural };
    format!("{} {unit}", shown(quantity, item.unit.size))
}

/// What a rate is for: `GB`, `1,000,000 requests`.
pub fn unit(item: &Item) -> String {
    let per = item.per.to_string();
    if per == "1" { item.unit.name.to_owned() } else { format!("{} {}", grouped(&per), item.unit.plural) }
}

/// What was charged at which rate.
pub fn rates(item: &Item, quantity: &Quantity<'_>) -> String {
    let per = unit(item);
    let slice =
        |slice: &Slice<'_>| format!("{} at {}", shown(slice.quantity, item.unit.size), slice.tier.rate);
    let mut rate = match (quantity.slices.as_slice(), item.tiers.len()) {
        ([only], 1) => format!("{} per {per}", only.tier.rate),
        // all of it, at the rate that was reached
        ([only], _) if item.scope == Scope::Domain || item.tiering == Tiering::Volume => {
            format!("{} per {per}", only.tier.rate)
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
