//! Price plans: TOML files.
//!
//! A number is read from the text of the file, so that `rate = 0.02` is two hundredths, and not the float that is next to it.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, anyhow};
use num_bigint::BigUint;
use serde::Deserialize;
use toml::Spanned;

use super::decimal::{Decimal, Rounding};
use super::measure::{Measure, Unit};

/// How money is charged for what was used.
#[derive(Debug)]
pub struct Plan {
    /// for a person
    pub name: String,
    /// for programs: its file's name without `.toml`
    pub stem: String,
    /// three letters, usually
    pub currency: String,
    /// of money: that of the currency's smallest coin
    pub decimals: u32,
    /// of each line
    pub rounding: Rounding,
    /// for each domain and period, in smallest units of money
    pub base_fee: BigUint,
    /// of each domain and period, in smallest units of money
    pub minimum: BigUint,
    /// what is charged for
    pub items: Vec<Item>,
}

/// What is charged for.
#[derive(Debug)]
pub struct Item {
    /// for a person
    pub name: String,
    /// what is charged for
    pub measure: Measure,
    /// of quantities
    pub unit: &'static Unit,
    /// a rate is for so many units
    pub per: BigUint,
    /// in smallest units; what is charged is rounded up to a multiple of it. At least 1
    pub round_up: u128,
    /// in smallest units, in each period: of each domain or of the account
    pub free: u128,
    /// whose allowance and tiers it is
    pub scope: Scope,
    /// how tiers are meant
    pub tiering: Tiering,
    /// at least one; in order, the last without an end
    pub tiers: Vec<Tier>,
    /// decimals that the rates and money have at most, to add up what the rates come to
    pub scale: u32,
    /// for what is idle, where there is such
    pub idle_rate: Decimal,
    /// of percentiles
    pub percentile: Percentile,
}

/// Of what is charged, up to a quantity.
#[derive(Debug)]
pub struct Tier {
    /// the last quantity in it, in smallest units; none for the last tier
    pub up_to: Option<u128>,
    /// money
    pub rate: Decimal,
}

/// Whose allowance and tiers it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// each domain has its own
    #[default]
    Domain,
    /// all domains together have one
    Account,
}

/// How tiers are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tiering {
    /// each tier's part at its rate
    #[default]
    Graduated,
    /// everything at the rate of the tier that was reached
    Volume,
}

/// Which of the samples in order is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentile {
    /// 1 to 100
    pub percent: u8,
    /// where that is not a whole number of samples
    pub rule: Rule,
}

/// How many samples are thrown away where (100 - percent) % of them is not a whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// the whole number below: what is charged is the sample at ⌈percent % of N⌉
    #[default]
    NearestRank,
    /// the whole number above
    DiscardUp,
}

impl Percentile {
    /// The place, from 1 on, of the sample that is charged among so many in order. None without samples.
    pub fn rank(self, samples: u64) -> Option<u64> {
        let (samples, percent) = (u128::from(samples), u128::from(self.percent));
        let rank = match self.rule {
            Rule::NearestRank => (samples * percent).div_ceil(100),
            Rule::DiscardUp => samples.saturating_sub((samples * (100 - percent)).div_ceil(100)).max(1),
        };
        u64::try_from(rank).ok().filter(|_| samples > 0)
    }
}

// ---- as it is written ---------------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlan {
    name: Spanned<String>,
    currency: Spanned<String>,
    decimals: Option<Spanned<i64>>,
    #[serde(default)]
    rounding: Rounding,
    base_fee: Option<Number>,
    minimum: Option<Number>,
    #[serde(default)]
    item: Vec<Spanned<RawItem>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    name: Spanned<String>,
    measure: Spanned<Measure>,
    unit: Option<Spanned<String>>,
    per: Option<Number>,
    rate: Option<Number>,
    free: Option<Number>,
    round_up: Option<Number>,
    scope: Option<Spanned<Scope>>,
    tiers: Option<Spanned<Tiering>>,
    #[serde(default)]
    tier: Vec<Spanned<RawTier>>,
    idle_rate: Option<Number>,
    percentile: Option<Spanned<i64>>,
    rule: Option<Spanned<Rule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTier {
    up_to: Option<Number>,
    rate: Number,
}

/// A whole number, a float or a string. Its text is what counts.
type Number = Spanned<toml::Value>;

/// What is wrong with a plan, and where.
#[derive(Debug)]
struct Wrong {
    message: String,
    span: Range<usize>,
}

fn wrong<T>(span: Range<usize>, message: impl fmt::Display) -> Result<T, Wrong> {
    Err(Wrong { message: message.to_string(), span })
}

const MAX_NAME_CHARS: usize = 80;

impl Plan {
    /// Whether a domain pays something for a period, and not only for what it used.
    pub fn has_fees(&self) -> bool {
        self.base_fee != BigUint::ZERO || self.minimum != BigUint::ZERO
    }

    /// Reads a plan's file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&text, &stem).map_err(|message| anyhow!("{}:{message}", path.display()))
    }

    /// Reads a plan. An error begins with the number of the line.
    pub fn parse(text: &str, stem: &str) -> Result<Self, String> {
        let place = |span: &Range<usize>| {
            text.get(..span.start).unwrap_or(text).bytes().filter(|byte| *byte == b'\n').count() + 1
        };
        let raw: RawPlan = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', " ");
            format!("{}: {message}", place(&error.span().unwrap_or(0..0)))
        })?;
        Reader { text }.plan(raw, stem).map_err(|error| format!("{}: {}", place(&error.span), error.message))
    }
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn plan(&self, raw: RawPlan, stem: &str) -> Result<Plan, Wrong> {
        let decimals = match &raw.decimals {
            None => 2,
            Some(decimals) => match u32::try_from(*decimals.get_ref()) {
                Ok(decimals @ 0..=9) => decimals,
                _ => return wrong(decimals.span(), "invalid \"decimals\": money has 0 to 9"),
            },
        };
        let currency = raw.currency.get_ref();
        if !(1..=8).contains(&currency.len()) || !currency.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return wrong(
                raw.currency.span(),
                format!("invalid currency \"{currency}\": up to 8 letters, such as \"EUR\""),
            );
        }
        let money = |number: &Option<Number>, what: &str| match number {
            None => Ok(BigUint::ZERO),
            Some(number) => match self.decimal(number, what)?.with_decimals(decimals) {
                Some(money) => Ok(money),
                None => wrong(
                    number.span(),
                    format!("invalid \"{what}\": {currency} has {decimals} decimals in this plan"),
                ),
            },
        };
        let base_fee = money(&raw.base_fee, "base_fee")?;
        let minimum = money(&raw.minimum, "minimum")?;
        if raw.item.is_empty() && base_fee == BigUint::ZERO && minimum == BigUint::ZERO {
            return wrong(0..0, "the plan charges for nothing: there is no [[item]]");
        }
        let mut items: Vec<Item> = Vec::new();
        for raw in &raw.item {
            let item = self.item(raw.get_ref(), decimals)?;
            if items.iter().any(|other| other.name == item.name) {
                return wrong(raw.get_ref().name.span(), format!("there are two items \"{}\"", item.name));
            }
            items.push(item);
        }
        Ok(Plan {
            name: name(&raw.name)?,
            stem: stem.to_owned(),
            currency: currency.clone(),
            decimals,
            rounding: raw.rounding,
            base_fee,
            minimum,
            items,
        })
    }

    fn item(&self, raw: &RawItem, decimals: u32) -> Result<Item, Wrong> {
        let measure = *raw.measure.get_ref();
        let units = measure.units();
        let unit = match &raw.unit {
            None => units.first(),
            Some(name) => units.iter().find(|unit| unit.name == name.get_ref()),
        };
        let Some(unit) = unit else {
            let names: Vec<_> = units.iter().map(|unit| format!("\"{}\"", unit.name)).collect();
            let (span, given) = raw.unit.as_ref().map_or((0..0, ""), |unit| (unit.span(), unit.get_ref()));
            return wrong(
                span,
                format!(
                    "invalid unit \"{given}\": the measure \"{}\" has {}",
                    measure.name(),
                    names.join(", ")
                ),
            );
        };
        let quantity = |number: &Option<Number>, what: &str| {
            number.as_ref().map(|number| self.quantity(number, unit, what)).transpose()
        };
        let per = match &raw.per {
            None => BigUint::from(1u8),
            Some(number) => match self.decimal(number, "per")?.with_decimals(0) {
                Some(per) if per != BigUint::ZERO => per,
                _ => return wrong(number.span(), "invalid \"per\": a rate is for a whole number of units"),
            },
        };
        let round_up = quantity(&raw.round_up, "round_up")?.unwrap_or(1);
        if let Some(number) = raw.round_up.as_ref().filter(|_| round_up == 0) {
            return wrong(number.span(), "invalid \"round_up\": it is 0");
        }
        let tiers = self.tiers(raw, unit)?;
        let scope = raw.scope.as_ref().map(|scope| *scope.get_ref()).unwrap_or_default();
        if let Some(given) = raw.scope.as_ref().filter(|_| scope == Scope::Account && !measure.is_sum()) {
            return wrong(
                given.span(),
                format!(
                    "invalid scope: the \"{}\" of domains do not add up to the account's",
                    measure.name()
                ),
            );
        }
        if let Some(given) = raw.idle_rate.as_ref().filter(|_| !measure.has_idle()) {
            return wrong(
                given.span(),
                format!(
                    "\"idle_rate\" is for \"billable_cpu\" and \"active_seconds\", and not for \"{}\"",
                    measure.name()
                ),
            );
        }
        let idle_rate = match &raw.idle_rate {
            Some(number) => self.decimal(number, "idle_rate")?,
            None => Decimal::default(),
        };
        let scales = tiers.iter().map(|tier| tier.rate.scale()).chain([idle_rate.scale(), decimals]);
        let scale = scales.max().unwrap_or(decimals);
        Ok(Item {
            name: name(&raw.name)?,
            measure,
            unit,
            per,
            round_up,
            free: quantity(&raw.free, "free")?.unwrap_or(0),
            scope,
            tiering: raw.tiers.as_ref().map(|tiers| *tiers.get_ref()).unwrap_or_default(),
            tiers,
            scale,
            idle_rate,
            percentile: percentile(raw, measure)?,
        })
    }

    fn tiers(&self, raw: &RawItem, unit: &Unit) -> Result<Vec<Tier>, Wrong> {
        let span = raw.name.span();
        if raw.tier.is_empty() {
            if let Some(given) = &raw.tiers {
                return wrong(
                    given.span(),
                    "\"tiers\" says how tiers are meant, but there is no [[item.tier]]",
                );
            }
            return match &raw.rate {
                Some(rate) => Ok(vec![Tier { up_to: None, rate: self.decimal(rate, "rate")? }]),
                None => wrong(span, format!("the item \"{}\" has no rate", raw.name.get_ref())),
            };
        }
        if let Some(rate) = &raw.rate {
            return wrong(rate.span(), "an item has a rate, or tiers that have rates, and not both");
        }
        let mut tiers: Vec<Tier> = Vec::new();
        for (at, tier) in raw.tier.iter().enumerate() {
            let (tier, span) = (tier.get_ref(), tier.span());
            let is_last = at + 1 == raw.tier.len();
            let up_to = match &tier.up_to {
                None if is_last => None,
                None => return wrong(span, "only the last tier has no \"up_to\""),
                Some(number) if is_last => {
                    return wrong(number.span(), "the last tier has no end: leave \"up_to\" out");
                }
                Some(number) => {
                    let up_to = self.quantity(number, unit, "up_to")?;
                    let last = tiers.last().and_then(|tier| tier.up_to).unwrap_or(0);
                    if up_to <= last {
                        return wrong(
                            number.span(),
                            "invalid \"up_to\": it is not above that of the tier before",
                        );
                    }
                    Some(up_to)
                }
            };
            tiers.push(Tier { up_to, rate: self.decimal(&tier.rate, "rate")? });
        }
        Ok(tiers)
    }

    /// In smallest units.
    fn quantity(&self, number: &Number, unit: &Unit, what: &str) -> Result<u128, Wrong> {
        let quantity = self.decimal(number, what)?.times(&BigUint::from(unit.size));
        match quantity.map(u128::try_from) {
            Some(Ok(quantity)) => Ok(quantity),
            Some(Err(_)) => wrong(number.span(), format!("invalid \"{what}\": it is too much")),
            None => wrong(
                number.span(),
                format!("invalid \"{what}\": it is finer than what \"{}\" is counted in", unit.name),
            ),
        }
    }

    fn decimal(&self, number: &Number, what: &str) -> Result<Decimal, Wrong> {
        let span = number.span();
        let text = match number.get_ref() {
            toml::Value::String(text) => text.as_str(),
            toml::Value::Integer(_) | toml::Value::Float(_) => {
                self.text.get(span.clone()).unwrap_or_default()
            }
            other => {
                return wrong(
                    span,
                    format!("invalid \"{what}\": expected a number, and not {}", kind(other)),
                );
            }
        };
        match Decimal::parse(text) {
            Some(decimal) => Ok(decimal),
            None => wrong(
                span,
                format!("invalid \"{what}\" \"{text}\": expected a number from 0 on, such as 0.02"),
            ),
        }
    }
}

fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a time",
        toml::Value::Array(_) => "an array",
        _ => "a table",
    }
}

fn name(name: &Spanned<String>) -> Result<String, Wrong> {
    let text = name.get_ref();
    let is_fine = !text.trim().is_empty()
        && text.chars().count() <= MAX_NAME_CHARS
        && !text.chars().any(char::is_control);
    match is_fine {
        true => Ok(text.clone()),
        false => {
            wrong(name.span(), format!("invalid name: it is a line of 1 to {MAX_NAME_CHARS} characters"))
        }
    }
}

fn percentile(raw: &RawItem, measure: Measure) -> Result<Percentile, Wrong> {
    let is_percentile = measure.samples().is_some();
    let given = raw.percentile.as_ref().map(Spanned::span).or(raw.rule.as_ref().map(Spanned::span));
    if let Some(span) = given.filter(|_| !is_percentile) {
        return wrong(
            span,
            format!("\"percentile\" and \"rule\" are for percentiles, and not for \"{}\"", measure.name()),
        );
    }
    let percent = match &raw.percentile {
        None => 95,
        Some(percent) => match u8::try_from(*percent.get_ref()) {
            Ok(percent @ 1..=100) => percent,
            _ => return wrong(percent.span(), "invalid \"percentile\": a whole number from 1 to 100"),
        },
    };
    Ok(Percentile { percent, rule: raw.rule.as_ref().map(|rule| *rule.get_ref()).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
name = "All of it"
currency = "EUR"
decimals = 3
rounding = "half-even"
base_fee = 1.5
minimum = "2.125"

[[item]]
name = "Requests"
measure = "requests"
per = 1_000_000
free = 500000
rate = 0.40
scope = "account"

[[item]]
name = "CPU"
measure = "billable_cpu"
unit = "h"
tiers = "volume"
idle_rate = "2e-7"
round_up = 0.1
tier = [{ up_to = 10, rate = "0.10" }, { rate = 0.05 }]

[[item]]
name = "Peak"
measure = "percentile_sent"
unit = "Gbit/s"
percentile = 90
rule = "discard-up"
rate = 100
"#;

    #[test]
    fn a_plan_is_read() {
        let plan = Plan::parse(PLAN, "all").unwrap();
        assert_eq!(
            (plan.name.as_str(), plan.stem.as_str(), plan.currency.as_str()),
            ("All of it", "all", "EUR")
        );
        assert_eq!((plan.decimals, plan.rounding), (3, Rounding::HalfEven));
        assert_eq!((plan.base_fee, plan.minimum), (1500u32.into(), 2125u32.into()));
        let [requests, cpu, peak] = plan.items.as_slice() else { panic!() };
        assert_eq!(
            (requests.free, requests.scope, &requests.per),
            (500_000, Scope::Account, &1_000_000u32.into())
        );
        assert_eq!(requests.tiers[0].rate.to_string(), "0.40", "as it is written, and no float");
        assert_eq!(cpu.round_up, 360_000_000_000);
        assert_eq!((cpu.tiers[0].up_to, cpu.tiers[1].up_to), (Some(36_000_000_000_000), None));
        assert_eq!(
            (cpu.tiering, cpu.scale, cpu.idle_rate.to_string()),
            (Tiering::Volume, 7, "0.0000002".to_owned())
        );
        assert_eq!(peak.percentile, Percentile { percent: 90, rule: Rule::DiscardUp });
        assert_eq!(peak.unit.size, 300 * 125_000_000);
    }

    #[test]
    fn a_plan_that_is_wrong_is_refused_with_the_line() {
        for (from, to, wanted) in [
            ("name = \"All of it\"\n", "", "1: missing field `name`"),
            ("\"EUR\"", "\"€ & more\"", "3: invalid currency \"€ & more\""),
            ("decimals = 3", "decimals = 10", "4: invalid \"decimals\""),
            ("decimals = 3", "decimals = 2", "7: invalid \"minimum\": EUR has 2 decimals"),
            ("decimals = 3", "decimal = 3", "4: unknown field `decimal`"),
            ("half-even", "down", "5: unknown variant `down`"),
            ("1.5", "-1.5", "6: invalid \"base_fee\" \"-1.5\": expected a number from 0 on"),
            ("1.5", "nan", "6: invalid \"base_fee\" \"nan\""),
            ("1.5", "[1]", "6: invalid \"base_fee\": expected a number, and not an array"),
            ("\"2.125\"", "\"two\"", "7: invalid \"minimum\" \"two\""),
            ("\"requests\"", "\"request\"", "11: unknown variant `request`"),
            ("name = \"Requests\"", "name = \"CPU\"", "18: there are two items \"CPU\""),
            ("name = \"Requests\"", "name = \" \"", "10: invalid name"),
            ("name = \"Requests\"", "nom = \"Requests\"", "10: unknown field `nom`"),
            ("per = 1_000_000", "per = 0", "12: invalid \"per\""),
            ("per = 1_000_000", "per = 1.5", "12: invalid \"per\""),
            (
                "free = 500000",
                "free = 0.5",
                "13: invalid \"free\": it is finer than what \"request\" is counted in",
            ),
            ("free = 500000", "free = 1e40", "13: invalid \"free\": it is too much"),
            ("rate = 0.40\n", "", "10: the item \"Requests\" has no rate"),
            ("rate = 0.40", "rate = 0.40\ntiers = \"volume\"", "15: \"tiers\" says how tiers are meant"),
            ("rate = 0.40", "idle_rate = 0.40\nrate = 1", "14: \"idle_rate\" is for"),
            ("rate = 0.40", "percentile = 95\nrate = 1", "14: \"percentile\" and \"rule\" are for"),
            ("scope = \"account\"", "scope = \"all\"", "15: unknown variant `all`"),
            (
                "unit = \"h\"",
                "unit = \"GB\"",
                "20: invalid unit \"GB\": the measure \"billable_cpu\" has \"s\", \"ms\"",
            ),
            ("round_up = 0.1", "round_up = 0", "23: invalid \"round_up\""),
            ("tier = [", "rate = 1\ntier = [", "24: an item has a rate, or tiers"),
            ("up_to = 10, ", "", "24: only the last tier has no \"up_to\""),
            ("{ rate = 0.05 }", "{ rate = 0.05, up_to = 20 }", "24: the last tier has no end"),
            (
                "{ rate = 0.05 }",
                "{ up_to = 10, rate = 1 }, { rate = 0.05 }",
                "24: invalid \"up_to\": it is not above",
            ),
            ("{ rate = 0.05 }", "{ up_too = 10 }", "24: unknown field `up_too`"),
            ("percentile = 90", "percentile = 0", "30: invalid \"percentile\""),
            (
                "percentile = 90",
                "scope = \"account\"",
                "30: invalid scope: the \"percentile_sent\" of domains do not add up",
            ),
            ("[[item]]", "[[item]", "9: "),
        ] {
            assert_eq!(PLAN.matches(from).count().min(1), 1, "{from}");
            let error = Plan::parse(&PLAN.replacen(from, to, 1), "all").unwrap_err();
            assert!(error.starts_with(wanted), "{to}: {error}, and not {wanted}");
        }
        let error = Plan::parse("name = \"a\"\ncurrency = \"EUR\"\n", "a").unwrap_err();
        assert_eq!(error, "1: the plan charges for nothing: there is no [[item]]");
    }

    #[test]
    fn the_sample_that_is_charged_is_that_of_the_rule() {
        let rank = |percent, rule, samples| Percentile { percent, rule }.rank(samples);
        // 30 days of five minutes: 432 of 8640 are thrown away by either rule
        for rule in [Rule::NearestRank, Rule::DiscardUp] {
            assert_eq!(rank(95, rule, 8640), Some(8208));
            assert_eq!(rank(100, rule, 12), Some(12));
            assert_eq!(rank(95, rule, 0), None);
            assert_eq!(rank(95, rule, 1), Some(1));
        }
        // of 28 samples, 5 % are 1.4
        assert_eq!(rank(95, Rule::NearestRank, 28), Some(27));
        assert_eq!(rank(95, Rule::DiscardUp, 28), Some(26));
        // to throw away the number rounded down is the nearest rank
        for samples in 1..2000 {
            assert_eq!(rank(95, Rule::NearestRank, samples), Some(samples - samples * 5 / 100));
        }
    }
}
