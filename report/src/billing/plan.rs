//! Price plans: how money is charged for usage.

use num_bigint::BigUint;

use super::decimal::{Decimal, Rounding};
use super::metric::{BillingMetric, Unit};

/// A price plan.
#[derive(Debug)]
pub struct Plan {
    /// for a person
    pub name: String,
    /// for programs: its file's name without `.toml`
    pub stem: String,
    /// three letters, usually
    pub currency: String,
    /// decimals of money, which are those of the smallest coin
    pub decimals: u32,
    /// the rounding of each line
    pub rounding: Rounding,
    /// for each domain and period, in smallest units of money
    pub base_fee: BigUint,
    /// of each domain and period, in smallest units of money
    pub minimum: BigUint,
    /// the thing that is charged
    pub items: Vec<Item>,
}

/// A thing that is charged.
#[derive(Debug)]
pub struct Item {
    /// for a person
    pub name: String,
    /// the thing that is charged
    pub measure: BillingMetric,
    /// the unit of quantities
    pub unit: &'static Unit,
    /// a rate is for this number of units
    pub per: BigUint,
    /// in smallest units: usage is rounded up to a multiple of it. At least 1
    pub round_up: u128,
    /// in smallest units, in each period: of each domain or of the account
    pub free: u128,
    /// the sharing of the allowance and the tiers
    pub scope: Scope,
    /// how tiers are meant
    pub tiering: Tiering,
    /// at least one; in order, the last without an end
    pub tiers: Vec<Tier>,
    /// the most decimals of the rates and of money
    pub scale: u32,
    /// for the idle part, of metrics that have one
    pub idle_rate: Decimal,
    /// the rank, for percentiles
    pub percentile: Percentile,
}

/// A tier.
#[derive(Debug)]
pub struct Tier {
    /// the last quantity in it, in smallest units; none for the last tier
    pub up_to: Option<u128>,
    /// money
    pub rate: Decimal,
}

/// The sharing of the allowance and the tiers.
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
    /// the whole quantity at the rate of the tier that is reached
    Volume,
}

/// The rank of the charged sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentile {
    /// 1 to 100
    pub percent: u8,
    /// the rule for fractions of samples
    pub rule: Rule,
}

/// The rounding of the number of samples that are thrown away, (100 - percent) % of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// rounded down: the sample at ⌈percent % of N⌉ is charged
    #[default]
    NearestRank,
    /// the whole number above
    DiscardUp,
}

impl Percentile {
    /// The rank of the charged sample, from 1, among so many sorted samples. None without samples.
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
    /// Whether the plan has a base fee or a minimum.
    pub fn has_fees(&self) -> bool {
        self.base_fee != BigUint::ZERO || self.minimum != BigUint::ZERO
    }
}
