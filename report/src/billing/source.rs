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

/// The arguments.
#[derive(clap::Args)]
pub struct Source {
    #[command(flatten)]
    pub scrape: Scrape,

    /// The billing period. Each period has its own free allowances, tiers and fees
    #[arg(long, default_value = "month")]
    pub by: Period,

    #[command(flatten)]
    pub range: Range,

    #[command(flatten)]
    pub filter: Filter,

    /// How to treat lines without a member that the plan needs
    #[arg(long, default_value = "error")]
    pub missing: Missing,

    /// The most domains that a bill can have
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = crate::output::whole::<usize>)]
    pub max_domains: usize,

    /// How to treat lines of the same host, zone, domain and time
    #[arg(long, value_name = "WHAT", default_value = "error")]
    pub duplicates: Duplicates,

    #[command(flatten)]
    pub input: input::Options,
}

/// How to treat lines without a member that the plan needs.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// write no bill, and name the missing member and its lines
    Error,
    /// take the member for 0, and show a message
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
    /// Ends the command, or shows the message and goes on, as `--missing` says.
    pub fn missing(&self, what: &str) -> anyhow::Result<()> {
        match self.missing {
            Missing::Error => bail!("{what}; there is no bill (--missing zero takes it for 0)"),
            Missing::Zero => complain(&format!("{what}; it is taken for 0 and not charged")),
        }
        Ok(())
    }
}

/// The item and the plan that need a member.
pub fn blame(plans: &[Plan], member: Member) -> String {
    let of = |plan: &Plan| {
        let item = plan.items.iter().find(|item| item.measure.members().contains(&member))?;
        Some(format!("the item \"{}\" of the plan \"{}\"", item.name, plan.name))
    };
    plans.iter().find_map(of).unwrap_or_else(|| "nothing".to_owned())
}

/// These grow while requests are in flight, or when one ends.
pub const SERVED: [Member; 3] = [Member::Requests, Member::Duration, Member::Active];
