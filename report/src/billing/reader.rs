//! Reads a plan from TOML, and explains faults.
//!
//! Numbers are read from the text of the file, so `rate = 0.02` is exactly two hundredths and not the nearest
//! float.

use std::ops::Range;

use num_bigint::BigUint;

use super::decimal::{Decimal, Rounding};
use super::fields::{Fields, Given, PlanFault, document, wrong};
use super::metric::{BillingMetric, Unit};
use super::plan::{Item, Percentile, Plan, Rule, Scope, Tier, Tiering};
use crate::output::counted;

const PLAN: [&str; 7] = ["name", "currency", "decimals", "rounding", "base_fee", "minimum", "item"];
const ITEM: [&str; 13] = [
    "name",
    "measure",
    "unit",
    "per",
    "rate",
    "free",
    "round_up",
    "scope",
    "tiers",
    "tier",
    "idle_rate",
    "percentile",
    "rule",
];
const TIER: [&str; 2] = ["up_to", "rate"];

const ROUNDINGS: [(&str, Rounding); 2] = [("half-up", Rounding::HalfUp), ("half-even", Rounding::HalfEven)];
const SCOPES: [(&str, Scope); 2] = [("domain", Scope::Domain), ("account", Scope::Account)];
const TIERINGS: [(&str, Tiering); 2] = [("graduated", Tiering::Graduated), ("volume", Tiering::Volume)];
const RULES: [(&str, Rule); 2] = [("nearest-rank", Rule::NearestRank), ("discard-up", Rule::DiscardUp)];

/// The largest quantity, in smallest units. It leaves room for sums.
const MAX_QUANTITY: u128 = 10u128.pow(28);

const MAX_NAME_CHARS: usize = 80;

/// Reads a plan. An error begins with the number of the line.
pub fn parse(text: &str, stem: &str) -> Result<Plan, String> {
    // some editors begin a file with a byte order mark
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let place = |span: &Range<usize>| {
        text.get(..span.start).unwrap_or(text).bytes().filter(|byte| *byte == b'\n').count() + 1
    };
    let plan = PlanReader { text }.read(stem);
    plan.map_err(|error| format!("{}: {}", place(&error.span), error.message))
}

struct PlanReader<'a> {
    text: &'a str,
}

impl PlanReader<'_> {
    fn read(&self, stem: &str) -> Result<Plan, PlanFault> {
        match self.text.trim_start() {
            "" => return wrong(0..0, "the file is empty; a plan has a name, a currency and [[item]]"),
            text if text.starts_with('{') => return wrong(0..0, "this is JSON; a plan is a TOML file"),
            _ => {}
        }
        let document = document(self.text)?;
        let plan = Fields::new(self.text, (document.get_ref(), 0..0), "the plan", &PLAN)?;
        self.plan(&plan, stem)
    }

    fn plan(&self, raw: &Fields<'_>, stem: &str) -> Result<Plan, PlanFault> {
        let name = name(raw)?;
        let decimals = raw.whole("decimals", 0..10)?.map_or(2, |decimals| decimals.value);
        let currency = raw.needed_text("currency")?;
        let is_currency = (1..=8).contains(&currency.value.len())
            && currency.value.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_currency {
            return wrong(
                currency.span,
                format!(
                    "invalid \"currency\" \"{}\": it must be up to 8 letters, such as \"EUR\"",
                    currency.value
                ),
            );
        }
        let currency = currency.value;
        let money = |what: &str| match raw.number(what)? {
            None => Ok(BigUint::ZERO),
            Some(number) => match number.value.with_decimals(decimals) {
                Some(money) => Ok(money),
                None => wrong(
                    number.span,
                    format!(
                        "invalid \"{what}\" {}: {currency} has at most {} in this plan; see \"decimals\"",
                        number.value,
                        counted(decimals.into(), "decimal", "decimals")
                    ),
                ),
            },
        };
        let rounding = raw.choice("rounding", &ROUNDINGS)?.map(|given| given.value).unwrap_or_default();
        let base_fee = money("base_fee")?;
        let minimum = money("minimum")?;
        let tables = raw.tables("item", "[[item]]")?;
        if tables.is_empty() && base_fee == BigUint::ZERO && minimum == BigUint::ZERO {
            return wrong(0..0, "the plan has no [[item]]");
        }
        let mut items: Vec<Item> = Vec::new();
        for table in tables {
            let raw = Fields::new(self.text, table, "the item", &ITEM)?;
            let item = self.item(&raw, decimals)?;
            if items.iter().any(|other| other.name == item.name) {
                let span = raw.text("name")?.map_or(0..0, |name| name.span);
                return wrong(span, format!("there are two items \"{}\"", item.name));
            }
            items.push(item);
        }
        Ok(Plan { name, stem: stem.to_owned(), currency, decimals, rounding, base_fee, minimum, items })
    }

    fn item(&self, raw: &Fields<'_>, decimals: u32) -> Result<Item, PlanFault> {
        let name = name(raw)?;
        let measures = BillingMetric::ALL.map(|measure| (measure.name(), measure));
        let Some(Given { value: measure, .. }) = raw.choice("measure", &measures)? else {
            return raw.missing("measure");
        };
        let unit = unit(raw, measure)?;
        let quantity = |what: &str| raw.number(what)?.map(|number| quantity(&number, unit, what)).transpose();
        let per = match raw.number("per")? {
            None => BigUint::from(1u8),
            Some(number) => match number.value.with_decimals(0) {
                Some(per) if per != BigUint::ZERO => per,
                _ => {
                    return wrong(
                        number.span,
                        format!(
                            "invalid \"per\" {}: it must be a whole number of units, at least 1",
                            number.value
                        ),
                    );
                }
            },
        };
        let round_up = quantity("round_up")?;
        if let Some(Given { span, .. }) = raw.number("round_up")?.filter(|_| round_up == Some(0)) {
            return wrong(
                span,
                "invalid \"round_up\" 0: it must be above 0; leave it out to round nothing up",
            );
        }
        let tiers = self.tiers(raw, &name, unit)?;
        let scope = raw.choice("scope", &SCOPES)?;
        if let Some(Given { span, .. }) =
            scope.clone().filter(|given| given.value == Scope::Account && !measure.is_sum())
        {
            return wrong(
                span,
                format!(
                    "invalid \"scope\" \"account\": the \"{}\" of domains do not add up to the account's",
                    measure.name()
                ),
            );
        }
        let idle_rate = raw.number("idle_rate")?;
        if let Some(Given { span, .. }) = idle_rate.clone().filter(|_| !measure.has_idle()) {
            return wrong(
                span,
                format!(
                    "\"idle_rate\" is for \"billable_cpu\" and \"active_seconds\", and not for \"{}\"",
                    measure.name()
                ),
            );
        }
        let idle_rate = idle_rate.map(|given| given.value).unwrap_or_default();
        let scales = tiers.iter().map(|tier| tier.rate.scale()).chain([idle_rate.scale(), decimals]);
        let scale = scales.max().unwrap_or(decimals);
        Ok(Item {
            name,
            measure,
            unit,
            per,
            round_up: round_up.unwrap_or(1),
            free: quantity("free")?.unwrap_or(0),
            scope: scope.map(|given| given.value).unwrap_or_default(),
            tiering: raw.choice("tiers", &TIERINGS)?.map(|given| given.value).unwrap_or_default(),
            tiers,
            scale,
            idle_rate,
            percentile: percentile(raw, measure)?,
        })
    }

    fn tiers(&self, raw: &Fields<'_>, name: &str, unit: &Unit) -> Result<Vec<Tier>, PlanFault> {
        let tables =
            raw.tables("tier", "[[item.tier]] or tier = [{ up_to = 10, rate = 2 }, { rate = 1 }]")?;
        let rate = raw.number("rate")?;
        if tables.is_empty() {
            if let Some(given) = raw.choice("tiers", &TIERINGS)? {
                return wrong(given.span, "\"tiers\" needs [[item.tier]]");
            }
            return match rate {
                Some(rate) => Ok(vec![Tier { up_to: None, rate: rate.value }]),
                None => {
                    wrong(raw.span.clone(), format!("the item \"{name}\" has no \"rate\", and no \"tier\""))
                }
            };
        }
        if let Some(rate) = rate {
            return wrong(rate.span, "an item has either a rate or tiers with rates");
        }
        let mut tiers: Vec<Tier> = Vec::new();
        let count = tables.len();
        for (at, table) in tables.into_iter().enumerate() {
            let tier = Fields::new(self.text, table, "the tier", &TIER)?;
            let is_last = at + 1 == count;
            let up_to = match tier.number("up_to")? {
                None if is_last => None,
                None => return wrong(tier.span, "only the last tier has no \"up_to\""),
                Some(number) if is_last => {
                    return wrong(number.span, "the last tier has no end: leave \"up_to\" out");
                }
                Some(number) => {
                    let up_to = quantity(&number, unit, "up_to")?;
                    let last = tiers.last().and_then(|tier| tier.up_to).unwrap_or(0);
                    if up_to <= last {
                        let than = if at == 0 { "0" } else { "that of the tier before" };
                        let message = format!("invalid \"up_to\" {}: it must be above {than}", number.value);
                        return wrong(number.span, message);
                    }
                    Some(up_to)
                }
            };
            match tier.number("rate")? {
                Some(rate) => tiers.push(Tier { up_to, rate: rate.value }),
                None => return tier.missing("rate"),
            }
        }
        Ok(tiers)
    }
}

fn unit(raw: &Fields<'_>, measure: BillingMetric) -> Result<&'static Unit, PlanFault> {
    let units = measure.units();
    let given = raw.text("unit")?;
    let unit = match &given {
        None => units.first(),
        Some(given) => units.iter().find(|unit| unit.name == given.value),
    };
    match unit {
        Some(unit) => Ok(unit),
        None => {
            let names: Vec<_> = units.iter().map(|unit| format!("\"{}\"", unit.name)).collect();
            let Given { value, span } =
                given.unwrap_or(Given { value: String::new(), span: raw.span.clone() });
            let measure = measure.name();
            wrong(
                span,
                format!("invalid \"unit\" \"{value}\": the measure \"{measure}\" has {}", names.join(", ")),
            )
        }
    }
}

/// In smallest units.
fn quantity(number: &Given<Decimal>, unit: &Unit, what: &str) -> Result<u128, PlanFault> {
    let given = &number.value;
    let span = number.span.clone();
    match given.times(&BigUint::from(unit.size)).map(u128::try_from) {
        Some(Ok(quantity)) if quantity <= MAX_QUANTITY => Ok(quantity),
        Some(_) => wrong(span, format!("invalid \"{what}\" {given}: it is too large")),
        None => wrong(
            span,
            format!("invalid \"{what}\" {given}: it is finer than the smallest unit of \"{}\"", unit.name),
        ),
    }
}

fn name(raw: &Fields<'_>) -> Result<String, PlanFault> {
    let Given { value: text, span } = raw.needed_text("name")?;
    let is_fine = !text.trim().is_empty()
        && text.chars().count() <= MAX_NAME_CHARS
        && !text.chars().any(char::is_control);
    match is_fine {
        true => Ok(text),
        false => {
            wrong(span, format!("invalid \"name\": it must be one line of 1 to {MAX_NAME_CHARS} characters"))
        }
    }
}

fn percentile(raw: &Fields<'_>, measure: BillingMetric) -> Result<Percentile, PlanFault> {
    let percent = raw.whole("percentile", 1..101)?;
    let rule = raw.choice("rule", &RULES)?;
    let given = percent.as_ref().map(|given| &given.span).or(rule.as_ref().map(|given| &given.span));
    if let Some(span) = given.filter(|_| measure.samples().is_none()) {
        return wrong(
            span.clone(),
            format!("\"percentile\" and \"rule\" are only for percentiles, not for \"{}\"", measure.name()),
        );
    }
    let percent = percent.and_then(|given| u8::try_from(given.value).ok()).unwrap_or(95);
    Ok(Percentile { percent, rule: rule.map(|given| given.value).unwrap_or_default() })
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
        let plan = parse(PLAN, "all").unwrap();
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
            ("name = \"All of it\"\n", "", "1: the plan has no \"name\""),
            ("\"EUR\"", "\"€ & more\"", "3: invalid \"currency\" \"€ & more\""),
            (
                "decimals = 3",
                "decimals = 10",
                "4: invalid \"decimals\" 10: it must be a whole number from 0 to 9",
            ),
            ("decimals = 3", "decimals = 2", "7: invalid \"minimum\" 2.125: EUR has at most 2 decimals"),
            (
                "decimals = 3",
                "decimal = 3",
                "4: unknown field \"decimal\" of the plan: did you mean \"decimals\"?",
            ),
            ("half-even", "down", "5: invalid \"rounding\" \"down\": allowed are \"half-up\", \"half-even\""),
            ("1.5", "-1.5", "6: invalid \"base_fee\" \"-1.5\": it must be a number of at least 0"),
            ("1.5", "nan", "6: invalid \"base_fee\" \"nan\""),
            ("1.5", "[1]", "6: invalid \"base_fee\": a list is not a number"),
            ("\"2.125\"", "\"two\"", "7: invalid \"minimum\" \"two\""),
            (
                "\"requests\"",
                "\"request\"",
                "11: invalid \"measure\" \"request\": did you mean \"requests\"? Allowed are \"requests\", \
                 \"executions\",",
            ),
            ("name = \"Requests\"", "name = \"CPU\"", "18: there are two items \"CPU\""),
            ("name = \"Requests\"", "name = \" \"", "10: invalid \"name\""),
            ("name = \"Requests\"", "nom = \"Requests\"", "10: unknown field \"nom\" of the item: "),
            ("per = 1_000_000", "per = 0", "12: invalid \"per\""),
            ("per = 1_000_000", "per = 1.5", "12: invalid \"per\""),
            (
                "free = 500000",
                "free = 0.5",
                "13: invalid \"free\" 0.5: it is finer than the smallest unit of \"request\"",
            ),
            (
                "free = 500000",
                "free = 1e40",
                "13: invalid \"free\" 10000000000000000000000000000000000000000: it is too large",
            ),
            ("rate = 0.40\n", "", "9: the item \"Requests\" has no \"rate\", and no \"tier\""),
            ("rate = 0.40", "rate = 0.40\ntiers = \"volume\"", "15: \"tiers\" needs [[item.tier]]"),
            ("rate = 0.40", "idle_rate = 0.40\nrate = 1", "14: \"idle_rate\" is for"),
            ("rate = 0.40", "percentile = 95\nrate = 1", "14: \"percentile\" and \"rule\" are only for"),
            (
                "scope = \"account\"",
                "scope = \"all\"",
                "15: invalid \"scope\" \"all\": allowed are \"domain\", \"account\"",
            ),
            (
                "unit = \"h\"",
                "unit = \"GB\"",
                "20: invalid \"unit\" \"GB\": the measure \"billable_cpu\" has \"s\", \"ms\"",
            ),
            ("round_up = 0.1", "round_up = 0", "23: invalid \"round_up\""),
            ("tier = [", "rate = 1\ntier = [", "24: an item has either a rate or tiers"),
            ("up_to = 10, ", "", "24: only the last tier has no \"up_to\""),
            ("{ rate = 0.05 }", "{ rate = 0.05, up_to = 20 }", "24: the last tier has no end"),
            (
                "{ rate = 0.05 }",
                "{ up_to = 10, rate = 1 }, { rate = 0.05 }",
                "24: invalid \"up_to\" 10: it must be above that of the tier before",
            ),
            (
                "{ rate = 0.05 }",
                "{ up_too = 10 }",
                "24: unknown field \"up_too\" of the tier: did you mean \"up_to\"?",
            ),
            ("percentile = 90", "percentile = 0", "30: invalid \"percentile\""),
            (
                "percentile = 90",
                "scope = \"account\"",
                "30: invalid \"scope\" \"account\": the \"percentile_sent\" of domains do not add up",
            ),
            ("[[item]]", "[[item]", "9: this line cannot be read: [[item]. A line is"),
        ] {
            assert_eq!(PLAN.matches(from).count().min(1), 1, "{from}");
            let error = parse(&PLAN.replacen(from, to, 1), "all").unwrap_err();
            assert!(error.starts_with(wanted), "{to}: {error}, and not {wanted}");
        }
        let error = parse("name = \"a\"\ncurrency = \"EUR\"\n", "a").unwrap_err();
        assert_eq!(error, "1: the plan has no [[item]]");
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
