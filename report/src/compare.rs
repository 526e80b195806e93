//! `cpu-report compare`: the price of each domain's usage by several price plans.

mod comparison;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::billing::source::{Read, Source};
use crate::billing::{self, read_plan};
use crate::output::{self, Wrong};
use comparison::Comparison;

const ABOUT: &str = "\
Shows the amounts that each domain has to pay for the same traffic by several price plans. Each domain has a \
                     row with its amount under each plan, its share of the total, and the difference to the \
                     first plan. With --equal-revenue, the plans are scaled to the same total: the \
                     difference is then the amount that one domain pays more because others pay less.";

const NOTES: &str = "\
For plans, periods, arithmetic and missing data, see `cpu-report bill --help`. All plans need the same \
                     currency. The amounts are those of the statements, added up over the periods. With \
                     more than two plans, --sort uses the last one. A table of more than three plans shows \
                     only amounts and percents; CSV and JSON show all.

With --equal-revenue, the total of the first plan is divided among the domains in proportion to their \
                     amounts under each plan. The unit is the smallest unit of money, and the largest \
                     remainders get the units that are left. The parts add up to the total exactly.

Examples:
  cpu-report compare --plans traffic-only.toml,cdn-pro.toml --equal-revenue traffic.log
  cpu-report compare --plans requests.toml --plans active-interval.toml --format csv traffic.log
  cpu-report compare --plans nginx-conf/plans/*.toml traffic.log";

/// The arguments of `cpu-report compare`.
#[derive(clap::Args)]
#[command(
    about = "Compare the amounts that each domain has to pay by several price plans",
    long_about = ABOUT,
    after_long_help = NOTES
)]
pub struct Args {
    /// Traffic logs, plain or compressed (gzip, xz, zstd, bzip2); "-" is standard input. Files that end in
    /// .toml are plans
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Price plans, separated by commas or spaces, or repeated. The others are compared with the first
    #[arg(long, visible_alias = "plan", value_name = "PLAN.toml", required = true)]
    plans: Vec<String>,

    #[command(flatten)]
    source: Source,

    /// Scale the plans to the total of the first
    #[arg(long)]
    equal_revenue: bool,

    /// Show rows for this number of domains, and one row for the others; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    top: usize,

    /// The figure that rows are sorted by; --top also goes by it
    #[arg(long, short, default_value = "change")]
    sort: comparison::ComparisonSort,

    #[command(flatten)]
    output: output::Options,
}

/// Runs `cpu-report compare`.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // a shell expands --plans *.toml to one argument of the option and further arguments without an option
    let (more, files): (Vec<PathBuf>, Vec<PathBuf>) =
        args.files.iter().cloned().partition(|file| file.extension().is_some_and(|end| end == "toml"));
    let named = args.plans.iter().flat_map(|plans| paths(plans));
    let paths: Vec<PathBuf> = named.chain(more).collect();
    if paths.len() < 2 {
        return Err(Wrong("--plans needs at least two plans".to_owned()).into());
    }
    if files.is_empty() != args.source.scrape.url()?.is_some() {
        return Err(Wrong("either traffic logs or --prometheus is needed".to_owned()).into());
    }
    let plans = paths.iter().map(|path| read_plan(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut stems = HashSet::new();
    if let [first, others @ ..] = plans.as_slice()
        && let Some(plan) = others.iter().find(|plan| plan.currency != first.currency)
    {
        let (name, first_name) = (&plan.name, &first.name);
        let (currency, first) = (&plan.currency, &first.currency);
        return Err(Wrong(format!(
            "the plan \"{name}\" is in {currency}, and \"{first_name}\" in {first}: compare needs one \
             currency"
        ))
        .into());
    }
    if let Some(plan) = plans.iter().find(|plan| !stems.insert(&plan.stem)) {
        return Err(Wrong(format!(
            "two plans are called {}.toml, so their columns would have the same name",
            plan.stem
        ))
        .into());
    }
    let names = comparison::PlanNames::of(&plans);
    args.output.check(&comparison::columns(&names, &plans))?;
    let (accounts, status) = match billing::read(&args.source, &files, &plans, args.output.raw)? {
        Read::Accounts(accounts, status) => (accounts, status),
        Read::Failed(status) => return Ok(status),
    };
    let comparison = Comparison::new(&plans, &accounts, args.equal_revenue)?;
    let wanted = comparison::CompareOptions {
        is_equal_revenue: args.equal_revenue,
        top: output::limit(args.top),
        sort: args.sort,
        format: args.output.format,
    };
    comparison::write(&wanted, &comparison, output::stdout(), &args.output.layout())?;
    Ok(status)
}

/// Names separated by commas or spaces, unless the text is the name of an existing file.
fn paths(argument: &str) -> Vec<PathBuf> {
    if Path::new(argument).exists() {
        return vec![argument.into()];
    }
    argument
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect()
}
