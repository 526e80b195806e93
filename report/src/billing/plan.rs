//! Price plans: how money is charged for usage.

use num_bigint::BigUint;

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

impl Plan {
    /// Whether a domain pays something for a period, and not only for what it used.
    pub fn has_fees(&self) -> bool {
        self.base_fee != BigUint::ZERO || self.minimum != BigUint::ZERO
    }
}
