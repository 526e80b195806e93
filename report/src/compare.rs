//! `cpu-report compare`: what domains have to pay by several price plans.

mod comparison;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::billing::source::{Read, Source};
use crate::billing::{self, read_plan};
use crate::output::{self, Wrong};
use comparison::Comparison;

const ABOUT: &str = "\
What each domain has to pay for the same traffic by several price plans: a row for each domain, with what it comes to under each plan, \
its share of the total, and the difference to the first plan. With --equal-revenue, plans are scaled so that all come to the same: then \
the difference is what one domain pays more because others pay less.";

const NOTES: &str = "\
Plans, periods, arithmetic and what is missing are those of `cpu-report bill`; see `cpu-report bill --help`. The plans need the same \
currency. Amounts are those of the statements, added up over the periods. Where several plans are compared with the first, --sort goes \
by the last of them. A table of more than three plans has amounts and percents alone; CSV and JSON have all.

With --equal-revenue the total of the first plan is divided among the domains in proportion to their amounts under each plan, to the \
smallest unit of money, by largest remainder; the parts add up to the total exactly.

Examples:
  cpu-report compare --plans traffic-only.toml,cdn-pro.toml --equal-revenue traffic.log
  cpu-report compare --plans requests.toml --plans active-interval.toml --format csv traffic.log
  cpu-report compare --plans nginx-conf/plans/*.toml traffic.log";

/// The arguments of `cpu-report compare`.
#[derive(clap::Args)]
#[command(
    about = "What each domain has to pay by several price plans, side by side",
    long_about = ABOUT,
    after_long_help = NOTES
)]
pub struct Args {
    /// Traffic logs, plain or compressed (gzip, xz, zstd, bzip2); "-" is standard input. Files that end in .toml are
    /// plans
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Price plans; several with commas or spaces between, or repeated. The first is what others are compared with
    #[arg(long, visible_alias = "plan", value_name = "PLAN.toml", required = true)]
    plans: Vec<String>,

    #[command(flatten)]
    source: Source,

    /// Scale the plans so that all come to the same total as the first
    #[arg(long)]
    equal_revenue: bool,

    /// So many domains have rows of their own, the others one together; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    top: usize,

    /// What comes first; also what --top goes by
    #[arg(long, short, default_value = "change")]
    sort: comparison::Sort,

    #[command(flatten)]
    output: output::Options,
}

/// Runs `cpu-report compare`.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // a shell turns --plans *.toml into one argument of the option and others of no option
    let (more, files): (Vec<PathBuf>, Vec<PathBuf>) =
        args.files.iter().cloned().partition(|file| file.extension().is_some_and(|end| end == "toml"));
    let named = args.plans.iter().flat_map(|plans| paths(plans));
    let paths: Vec<PathBuf> = named.chain(more).collect();
    if paths.len() < 2 {
        return Err(Wrong("--plans needs two plans at least".to_owned()).into());
    }
    if files.is_empty() != args.source.scrape.url()?.is_some() {
        return Err(Wrong("traffic logs are needed, or --prometheus, and not both".to_owned()).into());
    }
    let plans = paths.iter().map(|path| read_plan(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut stems = HashSet::new();
    if let [first, others @ ..] = plans.as_slice()
        && let Some(plan) = others.iter().find(|plan| plan.currency != first.currency)
    {
        let (name, first_name) = (&plan.name, &first.name);
        let (currency, first) = (&plan.currency, &first.currency);
        return Err(Wrong(format!(
            "the plan \"{name}\" is in {currency}, and \"{first_name}\" in {first}: compare needs one currency"
        ))
        .into());
    }
    if let Some(plan) = plans.iter().find(|plan| !stems.insert(&plan.stem)) {
        return Err(Wrong(format!(
            "two plans are called {}.toml, which is what their columns are called by",
            plan.stem
        ))
        .into());
    }
    let names = comparison::Names::of(&plans);
    args.output.check(&comparison::columns(&names, &plans))?;
    let (accounts, status) = match billing::read(&args.source, &files, &plans, args.output.raw)? {
        Read::Accounts(accounts, status) => (accounts, status),
        Read::Failed(status) => return Ok(status),
    };
    let comparison = Comparison::new(&plans, &accounts, args.equal_revenue)?;
    let wanted = comparison::Wanted {
        is_equal_revenue: args.equal_revenue,
        top: output::limit(args.top),
        sort: args.sort,
        format: args.output.format,
    };
    comparison::write(&wanted, &comparison, output::stdout(), &args.output.layout())?;
    Ok(status)
}

/// Names with commas or spaces between, unless it is the name of a file that is there.
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
