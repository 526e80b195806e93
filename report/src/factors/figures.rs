//! The figures: CPU per request by its factors.

use std::borrow::Cow;
use std::cmp::Reverse;

use super::cell::{Cell, Ratio, SmallCell};
use super::fields::Field;
use super::names::FieldNames;
use super::shared::{MAX_GROUPS, MAX_STATUSES};
use super::tally::{FactorSums, ORDERS, Orders, SIZES};
use crate::output::counted;

/// A figure.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// CPU per request, by its order in the connection
    Order,
    /// CPU per request, by cache status
    Cache,
    /// CPU per request, by response size
    Size,
    /// CPU seconds per GB, by domain
    Domain,
    /// CPU per request, by the values of the variable of --by
    #[value(skip)]
    By,
}

impl FigureKind {
    /// All values.
    pub const ALL: [Self; 4] = [Self::Order, Self::Cache, Self::Size, Self::Domain];

    /// As it is asked for, and as files are named.
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Cache => "cache",
            Self::Size => "size",
            Self::Domain => "domain",
            Self::By => "by",
        }
    }

    /// The title above the figure.
    pub fn title(self, names: &FieldNames) -> String {
        match self {
            Self::Order => "CPU per request, by its order in the connection".to_owned(),
            Self::Cache => "CPU per request, by cache status".to_owned(),
            Self::Size => "CPU per request, by response size".to_owned(),
            Self::Domain => "CPU seconds per GB, by domain".to_owned(),
            Self::By => format!("CPU per request, by ${}", names.name(Field::By)),
        }
    }

    /// The fields that a figure needs besides CPU: one of each list.
    fn needs(self) -> &'static [&'static [Field]] {
        match self {
            Self::Order => &[&[Field::Order]],
            Self::Cache => &[&[Field::Cache]],
            Self::Size => &[&[Field::Bytes, Field::BodyBytes]],
            Self::By => &[&[Field::By, Field::RequestUri, Field::Request]],
            Self::Domain => &[&[Field::ServerName, Field::Host], &[Field::Bytes, Field::BodyBytes]],
        }
    }

    /// The variables that the figure is computed from.
    pub fn variables(self, names: &FieldNames) -> String {
        self.needs().iter().map(|fields| names.any_of(fields)).collect::<Vec<_>>().join(" and ")
    }
}

/// A figure with its numbers.
pub struct Figure {
    /// which one
    pub kind: FigureKind,
    /// the title above the figure
    pub title: String,
    /// in the order in which they are shown
    pub bars: Vec<Bar>,
    /// requests of all bars
    pub requests: u64,
    /// notes for the reader
    pub notes: Vec<String>,
}

/// A bar of a figure, and a row of its table.
pub struct Bar {
    /// the group of the requests, if the figure has groups
    pub group: Option<String>,
    /// order, cache status, size or domain
    pub name: String,
    /// how many
    pub requests: u64,
    /// nanoseconds of all requests together
    pub cpu_ns: u64,
    /// bytes of all requests together, if they are known
    pub bytes: Option<u64>,
    /// nanoseconds per request, or seconds per GB
    pub value: f64,
    /// half the width of its 95 % interval
    pub margin: Option<f64>,
    /// nanoseconds that 50, 95 and 99 % of the requests do not exceed
    pub percentiles: Option<[u64; 3]>,
    /// whether there are too few requests to rely on it
    pub is_few: bool,
    /// true if it is the sum of all other bars
    pub is_rest: bool,
}

impl Bar {
    fn rest(self) -> Self {
        Self { is_rest: true, ..self }
    }

    /// Its name in tables and drawings, where a value with the name of the sum is quoted.
    pub fn shown_name(&self) -> Cow<'_, str> {
        self.shown(&self.name)
    }

    /// The name of its group in tables and drawings.
    pub fn shown_group(&self) -> Option<Cow<'_, str>> {
        self.group.as_deref().map(|group| self.shown(group))
    }

    fn shown<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let is_quoted = name.trim() == OTHERS || name.trim() != name || name.starts_with('"');
        if is_quoted && !self.is_rest { format!("\"{name}\"").into() } else { name.into() }
    }
}

/// The options of the figures.
pub struct FigureOptions {
    /// bars of fewer requests are marked
    pub min_requests: u64,
    /// the number of domains with bars of their own
    pub top: usize,
}

/// The title of the row of all others.
const OTHERS: &str = "all others";

/// The number of groups with bars of their own.
const SHOWN_GROUPS: usize = 6;

impl FigureOptions {
    /// A figure. None if no line has its fields.
    pub fn figure(&self, kind: FigureKind, tally: &FactorSums, names: &FieldNames) -> Option<Figure> {
        let mut notes = Vec::new();
        let bars = match kind {
            FigureKind::Order => self.orders(tally, &mut notes),
            FigureKind::Cache => self.statuses(tally, &mut notes),
            FigureKind::Size => self.sizes(tally, &mut notes),
            FigureKind::Domain => self.domains(tally, &mut notes),
            FigureKind::By => self.values(tally, names, &mut notes),
        };
        let requests: u64 = bars.iter().map(|bar| bar.requests).sum();
        (requests > 0).then(|| Figure { kind, title: kind.title(names), bars, requests, notes })
    }

    fn orders(&self, tally: &FactorSums, notes: &mut Vec<String>) -> Vec<Bar> {
        let requests = |row: &Orders| row.cells.iter().map(|cell| cell.requests).sum::<u64>();
        let mut rows: Vec<&Orders> = tally.orders.iter().collect();
        rows.sort_by_key(|row| (Reverse(requests(row)), &row.group, row.is_resumed));
        let has_late = tally.other_orders.iter().any(|cell| cell.requests > 0);
        let is_much = rows.len() + usize::from(has_late) > SHOWN_GROUPS;
        let (shown, rest) = rows.split_at(if is_much { SHOWN_GROUPS - 1 } else { rows.len() });
        let mut groups: Vec<(String, Vec<Cell>)> =
            shown.iter().map(|row| (self.group(row), row.cells.to_vec())).collect();
        groups.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut others = tally.other_orders.to_vec();
        for row in rest {
            others.iter_mut().zip(&row.cells).for_each(|(sum, cell)| sum.add(cell));
        }
        if !rest.is_empty() {
            let groups =
                counted(rest.len() as u64, "group with fewer requests is", "groups with fewer requests are");
            notes.push(format!("{groups} among \"{OTHERS}\""));
        }
        if has_late {
            notes.push(format!(
                "no more than {MAX_GROUPS} groups are told apart while reading; those that came later are \
                 among \"{OTHERS}\", also if they are large"
            ));
        }
        let bars = |group: &str, cells: &[Cell]| -> Vec<Bar> {
            let group = Some(group.to_owned()).filter(|group| !group.is_empty());
            let bar = |(name, cell)| self.bar(group.clone(), name, cell);
            ORDERS.into_iter().zip(cells).filter_map(bar).collect()
        };
        let mut all: Vec<Bar> = groups.iter().flat_map(|(group, cells)| bars(group, cells)).collect();
        all.extend(bars(OTHERS, &others).into_iter().map(Bar::rest));
        all
    }

    fn group(&self, row: &Orders) -> String {
        let name = self.text(&row.group);
        match (row.is_resumed, name.is_empty()) {
            (false, _) => name,
            (true, true) => "resumed".to_owned(),
            (true, false) => format!("{name}, resumed"),
        }
    }

    fn statuses(&self, tally: &FactorSums, notes: &mut Vec<String>) -> Vec<Bar> {
        let mut statuses: Vec<_> = tally.statuses.iter().collect();
        // hits first, then misses; other statuses by name
        let place = |name: &[u8]| {
            [&b"HIT"[..], b"STALE", b"UPDATING", b"REVALIDATED", b"EXPIRED", b"MISS", b"BYPASS"]
                .iter()
                .position(|known| *known == name)
                .unwrap_or(usize::MAX)
        };
        statuses.sort_by_key(|(name, _)| (place(name), name));
        let bars = statuses.iter().filter_map(|(name, cell)| self.bar(None, &self.text(name), cell));
        let others = self.bar(None, OTHERS, &tally.other_statuses).map(Bar::rest);
        if others.is_some() {
            notes.push(format!(
                "no more than {MAX_STATUSES} cache statuses are told apart while reading; those that came \
                 later are among \"{OTHERS}\""
            ));
        }
        bars.chain(others).collect()
    }

    fn sizes(&self, tally: &FactorSums, notes: &mut Vec<String>) -> Vec<Bar> {
        if tally.has_body_sizes {
            notes.push("sizes are those of bodies, without headers".to_owned());
        }
        SIZES.into_iter().zip(&tally.sizes).filter_map(|(name, cell)| self.bar(None, name, cell)).collect()
    }

    fn domains(&self, tally: &FactorSums, notes: &mut Vec<String>) -> Vec<Bar> {
        let mut domains: Vec<(&[u8], &Ratio)> =
            tally.domains.iter().map(|(name, ratio)| (name.as_slice(), ratio)).collect();
        domains.sort_by_key(|(name, ratio)| (Reverse(ratio.cpu_ns), *name));
        let (shown, rest) = domains.split_at(self.top.min(domains.len()));
        let mut bars: Vec<Bar> =
            shown.iter().filter_map(|(name, ratio)| self.ratio(&self.text(name), ratio)).collect();
        // bars without bytes come last
        let value = |bar: &Bar| if bar.value.is_nan() { -1.0 } else { bar.value };
        bars.sort_by(|a, b| value(b).total_cmp(&value(a)).then_with(|| a.name.cmp(&b.name)));
        let mut others = tally.other_domains;
        rest.iter().for_each(|(_, ratio)| others.add(ratio));
        if tally.other_domains.requests > 0 {
            notes.push(format!(
                "{} told apart; the others are among \"{OTHERS}\" (--max-domains)",
                counted(domains.len() as u64, "domain was", "domains were")
            ));
        }
        bars.extend(self.ratio(OTHERS, &others).map(Bar::rest));
        if tally.has_body_sizes {
            notes.push("bytes are those of bodies, without headers".to_owned());
        }
        bars
    }

    fn values(&self, tally: &FactorSums, names: &FieldNames, notes: &mut Vec<String>) -> Vec<Bar> {
        let mut values: Vec<(&Vec<u8>, &SmallCell)> = tally.values.iter().collect();
        values.sort_by_key(|(value, cell)| (Reverse(cell.sums.cpu_ns), *value));
        let (shown, rest) = values.split_at(self.top.min(values.len()));
        let variable = names.name(Field::By);
        let bar = |name: &str, cell: &SmallCell| {
            let bar = self.bar(Some(variable.to_owned()), name, &cell.sums)?;
            Some(Bar { percentiles: cell.spread.percentiles_ns(), ..bar })
        };
        let mut bars: Vec<Bar> =
            shown.iter().filter_map(|(value, cell)| bar(&self.text(value), cell)).collect();
        let mut others = tally.other_values.clone();
        rest.iter().for_each(|(_, cell)| others.add(cell));
        bars.extend(bar(OTHERS, &others).map(Bar::rest));
        if tally.other_values.sums.requests > 0 {
            notes.push(format!(
                "{} told apart; the others are among \"{OTHERS}\" (--max-values)",
                counted(values.len() as u64, "value was", "values were")
            ));
        }
        let sources: Vec<String> =
            tally.derived.iter().map(|field| format!("${}", names.name(field))).collect();
        if !sources.is_empty() {
            notes.push(format!("${variable} is taken from {}", sources.join(" and ")));
        }
        bars
    }

    fn bar(&self, group: Option<String>, name: &str, cell: &Cell) -> Option<Bar> {
        Some(Bar {
            group,
            name: name.to_owned(),
            requests: cell.requests,
            cpu_ns: cell.cpu_ns,
            bytes: None,
            value: cell.mean_ns()?,
            margin: cell.margin_ns(),
            percentiles: cell.percentiles_ns(),
            is_few: cell.requests < self.min_requests,
            is_rest: false,
        })
    }

    /// None without requests; with requests that had no bytes, there is no value.
    fn ratio(&self, name: &str, ratio: &Ratio) -> Option<Bar> {
        (ratio.requests > 0).then(|| Bar {
            group: None,
            name: name.to_owned(),
            requests: ratio.requests,
            cpu_ns: ratio.cpu_ns,
            bytes: Some(ratio.bytes),
            value: ratio.seconds_per_gb().unwrap_or(f64::NAN),
            margin: ratio.margin(),
            percentiles: None,
            is_few: ratio.requests < self.min_requests,
            is_rest: false,
        })
    }

    fn text(&self, name: &[u8]) -> String {
        String::from_utf8_lossy(name).into_owned()
    }
}
