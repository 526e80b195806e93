//! `cpu-report bill`: the price of each domain's usage by a price plan.

#[cfg(test)]
mod oracle;
mod row;
mod statement;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::billing::source::{Read, Source};
use crate::billing::{self, read_plan};
use crate::output;

const ABOUT: &str = "\
Shows the amount that each domain has to pay by a price plan. A statement has a line for each item of the \
                     plan, with the quantity used, the free part, the charged part, the rate and the \
                     amount. The source is traffic logs, the files that `request_cpu_log` writes, or with \
                     --prometheus the counters of a fleet.";

const NOTES: &str = r#"Plans:
  A plan is a TOML file. Numbers are taken as they are written, 0.02 as well as "0.02". They are never \
floats.

    name = "Traffic and CPU time"
    currency = "EUR"
    decimals = 2            # of money; default 2
    rounding = "half-up"    # of each line; or "half-even"
    base_fee = 5            # for each domain and period with usage;
                            # default none
    minimum = 10            # the least that a domain pays in a period

    [[item]]
    name = "CPU time"
    measure = "cpu"
    unit = "h"              # of free, up_to, round_up and the rate
    per = 1                 # the rate is for this number of units
    free = 0.5              # in each period
    scope = "domain"        # each domain has its own allowance and
                            # tiers; "account": all share them
    round_up = 0.001        # the usage of a domain in the period is
                            # rounded up to a multiple of it
    tiers = "graduated"     # each tier's part at its rate;
                            # "volume": all at the rate reached
    tier = [{ up_to = 100, rate = 0.40 }, { rate = 0.30 }]
                            # or, without tiers: rate = 0.40

  measure              units (the first      members of the traffic log
                       is the default)
  requests             request               requests
  executions           execution             requests
  cpu                  s, ms, min, h         cpu_ns
  sent, received       GB, byte, kB … KiB …  sent_bytes, received_bytes
  traffic              GB, byte, kB … KiB …  both
  duration             s, ms, min, h         duration_ms
  active_interval      s, ms, min, h         active_ms
  active_seconds       s, ms, min, h         active_seconds, active_ms
  billable_cpu         s, ms, min, h         billable_cpu_ns,
                                             waived_cpu_ns
  gb_seconds           GB-s MB-s GB-h GiB-s  memory_byte_ms
  peak_cores           core                  peak_cpu_ns
  percentile_cores     core                  cpu_ns
  percentile_sent      Mbit/s kbit/s Gbit/s  sent_bytes
  percentile_received  Mbit/s kbit/s Gbit/s  received_bytes
  percentile_traffic   Mbit/s kbit/s Gbit/s  both

  A GB is 10^9 bytes. "duration" is the sum of the durations of all requests. "active_interval" is \
the time with at least one request in flight. "peak_cores" is the most CPU of one second on one \
server. The percentiles take percentile = 95 and a rule.
  "active_seconds" and "billable_cpu" have an idle part, which is a line of its own: the time with \
requests in flight that is in no active second, or the CPU of seconds below the threshold. The idle \
part is charged at "idle_rate". Without an "idle_rate" it is waived, and the line shows the waived \
amount.
  A percentile is taken over slots of five minutes (12:00, 12:05, …) of the part of the period that \
the bill covers. A slot without lines is a sample of 0. A slot that is cut by the end of the time is \
a sample like any other. rule = "nearest-rank" takes the sample at ⌈0.95 N⌉: the highest one after \
5 % of the samples, rounded down, are thrown away. rule = "discard-up" rounds the number thrown away \
up. In a month of 30 days both rules give the same sample.
  The steps are: the usage of the period, rounded up ("round_up"), less the allowance ("free"), by the \
tiers. So tiers begin above the allowance, and rounded - free = charged.
  With scope = "account", all domains of the bill are the account: choose them with --domain. The \
usage of each domain is rounded up, and the results are added up. The account has the allowance and \
the tiers, and pays one price, which is rounded once. The allowance and the price are divided among \
the domains in proportion to their rounded usage. Each part is rounded down, and the units that are \
left go to the largest remainders; of equal remainders, the first name gets the unit. So the parts \
add up to the whole. Idle amounts and waived amounts are divided in the same way by the idle usage.

Arithmetic:
  Quantities are whole numbers of ns, ms and bytes. Rates are decimals. Nothing is rounded on the way. \
Only the amount of a line is rounded, once, to the money's decimals. A half goes to the higher \
amount with "half-up", and to the even amount with "half-even". Totals are sums of rounded lines, so \
a statement adds up. Quantities in tables, and in the columns used, rounded, free and charged of CSV \
and JSON, are rounded for reading. The columns "…_exact" are exact, in smallest units, and the \
amount is computed from them. Money and quantities are strings in JSON.

Rows of CSV and JSON:
  The rows are item, idle, base_fee, minimum and total for each domain, rest for the others of --top, \
and all_… for all. The columns are the same for every plan. "rate" is a number, for "per" units. If \
several rates apply, "rate" is empty, and a row "tier" for each rate follows: above tier_from, up to \
tier_up_to. The charged quantities and amounts of the tiers add up to the item's; do not add both. \
Each domain has the same part of the tiers of an account.

Periods:
  Periods are months of the calendar, days, hours, or all of the time, in UTC or in --time-zone. A day \
has 23 or 25 hours if the clock is set on it. Each period has allowances, tiers, fees and a minimum \
of its own, all in full, even if the time covers only a part of it. Without --from and --to, the \
time is that of all lines, including lines of other domains: from the begin of the first line to the \
end of the last.
  A line counts from `interval_ms` before its `time` to its `time`, evenly. If the line spans a \
border, each side gets its part of all numbers, rounded down on the first side. The peak of a line \
is in the period of the line's end.
  A domain pays the base fee and the minimum of a period if one of its lines tells of requests that \
ended or were in flight (`requests`, `duration_ms` or `active_ms` above 0), and the line begins in \
the period, or covers at least half of it. So a line that is late at midnight costs no second fee. \
A begin counts as at the border if it is before it by at most a twentieth of the line, and at most \
half a second. Lines of older versions do not tell of requests in flight. For them, CPU time or \
bytes count too. With --prometheus, the counters of requests and of active time count.

Prometheus:
  Usage is read as by `cpu-report domains`: it is the growth of counters from one border of five \
minutes to the next. Counters in Prometheus are floats of 53 bits: CPU is exact to the ns up to 104 \
days of one counter, and to 1 in 10^15 above. "peak_cores" is not available. Usage after the last \
scrape of an instance that ends is missing.

Missing data:
  A bill needs the whole log. There is no bill if a file cannot be read, or is named twice (without \
--duplicates). There is no bill if lines are broken: the first ones are shown, and --broken skip \
leaves them out. A message warns if a server has no lines in whole slots of five minutes that are \
longer than two of its intervals.
  No two lines have the same host, zone, key and time, unless a file is read with a copy of it, or \
two servers have the same name. Such lines are an error, and the first ones are named. \
--duplicates once counts equal lines once; lines that differ are still an error. --duplicates \
count counts each: after a reload that changes the size of a zone, old workers may log such lines \
rightly.
  There is no bill if lines lack a member that the plan needs, as lines of older versions do. \
--missing zero takes missing members for 0.

Exit status:
  0  success
  1  a plan or a file could not be read, or data are missing
  2  wrong arguments

Examples:
  cpu-report bill --plan cdn-pro.toml /var/log/nginx/traffic.log*
  cpu-report bill --plan cdn-pro.toml --month 2026-01 --domain '*.example.com' --format csv traffic.log
  cpu-report bill --plan ninety-five-five.toml --prometheus http://localhost:9090 --from 2026-01-01 --to 2026-02-01"#;

/// The arguments of `cpu-report bill`.
#[derive(clap::Args)]
#[command(
    about = "Show the amount that each domain has to pay by a price plan",
    long_about = ABOUT,
    after_long_help = NOTES
)]
pub struct Args {
    /// Traffic logs, plain or compressed (gzip, xz, zstd, bzip2); "-" is standard input
    #[arg(value_name = "FILE", required_unless_present = "prometheus", conflicts_with = "prometheus")]
    files: Vec<PathBuf>,

    /// The price plan
    #[arg(long, visible_alias = "plans", value_name = "PLAN.toml")]
    plan: PathBuf,

    #[command(flatten)]
    source: Source,

    /// Show statements of this number of domains, and one total for the others; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    top: usize,

    /// The figure that statements are sorted by; --top also goes by it
    #[arg(long, short, default_value = "amount")]
    sort: statement::StatementSort,

    #[command(flatten)]
    output: output::Options,
}

/// Runs `cpu-report bill`.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.output.check(&row::COLUMNS)?;
    let plan = read_plan(&args.plan)?;
    let (accounts, status) =
        match billing::read(&args.source, &args.files, std::slice::from_ref(&plan), args.output.raw)? {
            Read::Accounts(accounts, status) => (accounts, status),
            Read::Failed(status) => return Ok(status),
        };
    let wanted = statement::StatementOptions {
        top: output::limit(args.top),
        sort: args.sort,
        format: args.output.format,
    };
    statement::write(&wanted, &plan, &accounts, output::stdout(), &args.output.layout())?;
    Ok(status)
}
