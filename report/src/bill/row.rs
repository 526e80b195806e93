//! The rows of a statement, in tables for a person, and in CSV and JSON for programs.

use num_bigint::BigUint;

use crate::billing::book::Accounts;
use crate::billing::charge::Quantity;
use crate::billing::decimal::{Decimal, grouped, in_unit, shown, with_point};
use crate::billing::plan::{Item, Plan, Scope, Tiering};
use crate::billing::tiers::Slice;
use crate::output::{Cell, CellValue, Column, Format, Visibility};
use crate::time;

/// A row without its amount.
#[derive(Default)]
pub struct Row<'a> {
    /// the kind of row, in CSV and JSON
    pub kind: &'static str,
    /// none in rows of no domain, or of several domains
    pub domain: Option<&'a str>,
    /// title of a row of no domain, or of several domains, in a table
    pub title: &'a str,
    /// the first row of its domain
    pub is_first: bool,
    /// the item's name, or the name of the fee, the minimum or the total
    pub item: Option<&'a str>,
    /// the item
    pub of: Option<&'a Item>,
    /// in smallest units
    pub quantities: Quantities,
    /// where there is one
    pub rate: Option<&'a Decimal>,
    /// in a table, the text in the column of rates
    pub note: Option<String>,
    /// in a row of a tier
    pub tier: Option<&'a Slice<'a>>,
    /// the amount that was not charged
    pub waived: Option<BigUint>,
}

/// Quantities in smallest units. Each may be missing.
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
    /// Adds other quantities. Each may be missing.
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

/// Decimals of quantities in CSV and JSON. The exact number in smallest units stands beside.
const DECIMALS: u32 = 12;

const fn text(name: &'static str) -> Column<'static> {
    Column::text(name, name)
}

const fn number(name: &'static str) -> Column<'static> {
    Column::number(name, name)
}

/// The columns of CSV and JSON, which are the same for every plan. New columns go at the end.
pub const COLUMNS: [Column<'static>; 25] = [
    text("from").at(Visibility::Data),
    text("to").at(Visibility::Data),
    text("row").at(Visibility::Data),
    Column::name("domain", "domain"),
    Column::name("item", "item"),
    text("measure").at(Visibility::Data),
    text("unit").at(Visibility::Data),
    number("used").rank(2),
    number("free").rank(4),
    number("charged").rank(3),
    number("rate").rank(6),
    number("amount").rank(1),
    number("waived").at(Visibility::Data),
    text("currency").at(Visibility::Data),
    text("smallest_unit").at(Visibility::Data),
    number("used_exact").at(Visibility::Data),
    number("free_exact").at(Visibility::Data),
    number("charged_exact").at(Visibility::Data),
    text("zone").at(Visibility::Data),
    text("plan").at(Visibility::Data),
    number("rounded").rank(5),
    number("rounded_exact").at(Visibility::Data),
    number("per").at(Visibility::Data),
    number("tier_from").at(Visibility::Data),
    number("tier_up_to").at(Visibility::Data),
];

/// The place of the quantities that were used, and of those rounded up.
const USED: usize = 7;
const ROUNDED: usize = 20;

/// The columns of a format. A table shows rounded usage only if the plan rounds usage up.
pub fn columns(plan: &Plan, format: Format) -> Vec<Column<'static>> {
    let place = if plan.items.iter().any(|item| item.round_up > 1) {
        Visibility::Everywhere
    } else {
        Visibility::Data
    };
    let columns = COLUMNS.iter().map(|column| match column.name {
        "rounded" => column.at(place),
        // in a table, it is a text
        "rate" => Column { is_number: format != Format::Table, ..*column },
        _ => *column,
    });
    arranged(columns.collect(), format)
}

fn arranged<T>(mut of_data: Vec<T>, format: Format) -> Vec<T> {
    if format == Format::Table && of_data.len() > ROUNDED {
        let rounded = of_data.remove(ROUNDED);
        of_data.insert(USED + 1, rounded);
    }
    of_data
}

impl Row<'_> {
    /// The cells of [`columns`].
    pub fn cells(
        &self,
        (plan, accounts, period): (&Plan, &Accounts, u32),
        format: Format,
        amount: &BigUint,
    ) -> Vec<Cell<'_>> {
        let (begin, end) = accounts.period.bounds(period, accounts.range);
        let size = self.of.map_or(1, |item| item.unit.size);
        let exact = |number: Option<String>| match number {
            Some(number) => Cell { shown: number.clone().into(), value: CellValue::Exact(number) },
            None => empty(),
        };
        let readable = |quantity: Option<u128>| match quantity {
            Some(quantity) => Cell {
                value: CellValue::Exact(in_unit(quantity, size, DECIMALS)),
                shown: shown(quantity, size).into(),
            },
            None => empty(),
        };
        let whole = |quantity: Option<u128>| exact(quantity.map(|quantity| quantity.to_string()));
        let Quantities { used, rounded, free, charged } = self.quantities;
        let domain = match self.domain {
            Some(name) if self.is_first => Cell::domain(name),
            // in a table, the first of a domain's rows has its name
            Some(name) => Cell { shown: self.title.into(), ..Cell::domain(name) },
            None => Cell { shown: Cell::text(self.title).shown, ..empty() },
        };
        let used_shown = match (used, self.of) {
            (Some(used), Some(item)) => Cell { shown: with_unit(used, item).into(), ..readable(Some(used)) },
            (used, _) => readable(used),
        };
        let rate = Cell {
            shown: self.note.as_deref().unwrap_or_default().to_owned().into(),
            ..exact(self.rate.map(Decimal::to_string))
        };
        // a rate is for this number of units
        let per = self.of.filter(|_| self.domain.is_some()).map(|item| item.per.to_string());
        let cells = vec![
            Cell::text(time::format(begin)),
            Cell::text(time::format(end)),
            Cell::text(self.kind),
            domain,
            maybe(self.item),
            maybe(self.of.map(|item| item.measure.name())),
            maybe(self.of.map(|item| item.unit.name)),
            used_shown,
            readable(free),
            readable(charged),
            rate,
            money(plan, amount),
            self.waived.as_ref().map_or_else(empty, |waived| money(plan, waived)),
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
        ];
        arranged(cells, format)
    }
}

fn empty() -> Cell<'static> {
    Cell { value: CellValue::Nothing, shown: "".into() }
}

fn maybe<'a>(text: Option<impl Into<std::borrow::Cow<'a, str>>>) -> Cell<'a> {
    match text {
        Some(text) => Cell::text(text),
        None => empty(),
    }
}

/// An amount.
pub fn money(plan: &Plan, amount: &BigUint) -> Cell<'static> {
    let number = with_point(amount, plan.decimals);
    Cell { shown: grouped(&number).into(), value: CellValue::Exact(number) }
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

/// The quantity that was charged at each rate.
pub fn rates(item: &Item, quantity: &Quantity<'_>) -> String {
    let per = unit(item);
    let slice =
        |slice: &Slice<'_>| format!("{} at {}", shown(slice.quantity, item.unit.size), slice.tier.rate);
    let mut rate = match (quantity.slices.as_slice(), item.tiers.len()) {
        ([only], 1) => format!("{} per {per}", only.tier.rate),
        // the whole quantity, at the rate of the reached tier
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
