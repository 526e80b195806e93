//! The arguments that say from where usage is read, of all commands that charge.

use std::process::ExitCode;

use anyhow::bail;

use super::book::{Accounts, Period};
use super::plan::Plan;
use crate::input::{self};
use crate::output::complain;
use crate::prometheus::Scrape;
use crate::select::Filter;
use crate::time::Range;
use crate::traffic::{Duplicates, Member};

/// The arguments that say it, of all commands that charge.
#[derive(clap::Args)]
pub struct Source {
    #[command(flatten)]
    pub scrape: Scrape,

    /// The billing period: each has its own free allowances, tiers and fees
    #[arg(long, default_value = "month")]
    pub by: Period,

    #[command(flatten)]
    pub range: Range,

    #[command(flatten)]
    pub filter: Filter,

    /// What to do where a log does not tell what the plan charges for
    #[arg(long, default_value = "error")]
    pub missing: Missing,

    /// More domains than these are refused
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = crate::output::whole::<usize>)]
    pub max_domains: usize,

    /// What to do with lines of the same host, zone, domain and time
    #[arg(long, value_name = "WHAT", default_value = "error")]
    pub duplicates: Duplicates,

    #[command(flatten)]
    pub input: input::Options,
}

/// What to do where a log does not tell what the plan charges for.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// write no bill, and say what is missing where
    Error,
    /// take it for nothing, which is then not charged, and say so
    Zero,
}

/// What was read.
pub enum Read {
    /// this
    Accounts(Accounts, ExitCode),
    /// what is wrong was said
    Failed(ExitCode),
}

impl Source {
    /// Ends the command, or says what is taken for nothing.
    pub fn missing(&self, what: &str) -> anyhow::Result<()> {
        match self.missing {
            Missing::Error => bail!("{what}; there is no bill (--missing zero takes it for nothing)"),
            Missing::Zero => complain(&format!("{what}; it is taken for nothing, and not charged")),
        }
        Ok(())
    }
}

/// Whose fault it is that a member is needed.
pub fn blame(plans: &[Plan], member: Member) -> String {
    let of = |plan: &Plan| {
        let item = plan.items.iter().find(|item| item.measure.members().contains(&member))?;
        Some(format!("the item \"{}\" of the plan \"{}\"", item.name, plan.name))
    };
    plans.iter().find_map(of).unwrap_or_else(|| "nothing".to_owned())
}

/// These grow while requests are in flight, or when one ends.
pub const SERVED: [Member; 3] = [Member::Requests, Member::Duration, Member::Active];
