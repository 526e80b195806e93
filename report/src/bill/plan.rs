//! Price plans: what they say, and the files that they are.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use num_bigint::BigUint;

use super::decimal::{Decimal, Rounding};
use super::measure::{Measure, Unit};
use super::reader;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// each domain has its own
    #[default]
    Domain,
    /// all domains together have one
    Account,
}

/// How tiers are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

const MAX_FILE_BYTES: u64 = 1 << 20;

impl Plan {
    /// Whether a domain pays something for a period, and not only for what it used.
    pub fn has_fees(&self) -> bool {
        self.base_fee != BigUint::ZERO || self.minimum != BigUint::ZERO
    }

    /// Reads a plan's file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        if path.is_dir() {
            bail!("{}: it is a directory; a plan is a TOML file", name());
        }
        let mut bytes = Vec::new();
        let file = File::open(path).with_context(name)?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(name)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            bail!("{}: it is longer than 1 MiB; a plan is a small TOML file", name());
        }
        let Ok(text) = String::from_utf8(bytes) else {
            bail!("{}: it is no text in UTF-8; a plan is a TOML file", name());
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&text, &stem).map_err(|message| anyhow!("{}:{message}", path.display()))
    }

    /// Reads a plan. An error begins with the number of the line.
    pub fn parse(text: &str, stem: &str) -> Result<Self, String> {
        reader::parse(text, stem)
    }
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
            ("name = \"All of it\"\n", "", "1: the plan has no \"name\""),
            ("\"EUR\"", "\"€ & more\"", "3: invalid \"currency\" \"€ & more\""),
            ("decimals = 3", "decimals = 10", "4: invalid \"decimals\" 10: it is a whole number from 0 to 9"),
            ("decimals = 3", "decimals = 2", "7: invalid \"minimum\" 2.125: EUR has at most 2 decimals"),
            (
                "decimals = 3",
                "decimal = 3",
                "4: unknown field \"decimal\" of the plan: did you mean \"decimals\"?",
            ),
            ("half-even", "down", "5: invalid \"rounding\" \"down\": allowed are \"half-up\", \"half-even\""),
            ("1.5", "-1.5", "6: invalid \"base_fee\" \"-1.5\": it is a number from 0 on"),
            ("1.5", "nan", "6: invalid \"base_fee\" \"nan\""),
            ("1.5", "[1]", "6: invalid \"base_fee\": a list is no number"),
            ("\"2.125\"", "\"two\"", "7: invalid \"minimum\" \"two\""),
            (
                "\"requests\"",
                "\"request\"",
                "11: invalid \"measure\" \"request\": did you mean \"requests\"? Allowed are \"requests\", \"executions\",",
            ),
            ("name = \"Requests\"", "name = \"CPU\"", "18: there are two items \"CPU\""),
            ("name = \"Requests\"", "name = \" \"", "10: invalid \"name\""),
            ("name = \"Requests\"", "nom = \"Requests\"", "10: unknown field \"nom\" of the item: "),
            ("per = 1_000_000", "per = 0", "12: invalid \"per\""),
            ("per = 1_000_000", "per = 1.5", "12: invalid \"per\""),
            (
                "free = 500000",
                "free = 0.5",
                "13: invalid \"free\" 0.5: it is finer than what \"request\" is counted in",
            ),
            (
                "free = 500000",
                "free = 1e40",
                "13: invalid \"free\" 10000000000000000000000000000000000000000: it is too much",
            ),
            ("rate = 0.40\n", "", "9: the item \"Requests\" has no \"rate\", and no \"tier\""),
            ("rate = 0.40", "rate = 0.40\ntiers = \"volume\"", "15: \"tiers\" says how tiers are meant"),
            ("rate = 0.40", "idle_rate = 0.40\nrate = 1", "14: \"idle_rate\" is for"),
            ("rate = 0.40", "percentile = 95\nrate = 1", "14: \"percentile\" and \"rule\" are for"),
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
            ("tier = [", "rate = 1\ntier = [", "24: an item has a rate, or tiers"),
            ("up_to = 10, ", "", "24: only the last tier has no \"up_to\""),
            ("{ rate = 0.05 }", "{ rate = 0.05, up_to = 20 }", "24: the last tier has no end"),
            (
                "{ rate = 0.05 }",
                "{ up_to = 10, rate = 1 }, { rate = 0.05 }",
                "24: invalid \"up_to\" 10: it is not above that of the tier before",
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
