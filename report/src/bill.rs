//! `cpu-report bill`: what domains have to pay by a price plan.

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
What each domain has to pay by a price plan: a statement with a line for each of the plan's items, which says what was used, what of it \
was free, what was charged at which rate, and what that comes to. It is read from traffic logs, the files that `request_cpu_log` \
writes, or with --prometheus from the counters of a fleet.";

const NOTES: &str = r#"Plans:
  A plan is a TOML file. Numbers are taken as they are written, 0.02 as well as "0.02", and are never floats.

    name = "Traffic and CPU time"
    currency = "EUR"
    decimals = 2             # of money; 2 if it is left out
    rounding = "half-up"     # of each line; or "half-even"
    base_fee = 5             # for each domain and period that it used; left out, there is none
    minimum = 10             # what a domain pays at least in such a period

    [[item]]
    name = "CPU time"
    measure = "cpu"
    unit = "h"               # of "free", "up_to", "round_up" and the rate
    per = 1                  # the rate is for so many units
    free = 0.5               # in each period
    scope = "domain"         # each domain has its own free allowance and tiers; "account": all have them together
    round_up = 0.001         # what a domain used in the period is rounded up to a multiple of it
    tiers = "graduated"      # each tier's part at its rate; "volume": all at the rate that was reached
    tier = [{ up_to = 100, rate = 0.40 }, { rate = 0.30 }]    # or rate = 0.40

  measure                   units (first: the usual one)     needs, of the traffic log
  requests                  request                          requests
  executions                execution                        requests
  cpu                       s, ms, min, h                    cpu_ns
  sent, received            GB (10^9), byte, kB … KiB …      sent_bytes, received_bytes
  traffic                   as these                         both
  duration                  s, ms, min, h                    duration_ms: of all requests, each for itself
  active_interval           s, ms, min, h                    active_ms: with at least one request in flight
  active_seconds            s, ms, min, h                    active_seconds, active_ms; idle_rate
  billable_cpu              s, ms, min, h                    billable_cpu_ns, waived_cpu_ns; idle_rate
  gb_seconds                GB-s, MB-s, GB-h, GiB-s          memory_byte_ms
  peak_cores                core                             peak_cpu_ns: the most CPU of a second on one server
  percentile_cores          core                             cpu_ns; percentile = 95, rule
  percentile_sent, …_received, …_traffic
                            Mbit/s, kbit/s, Gbit/s           bytes; percentile = 95, rule

  What is idle is a line of its own: the CPU of seconds below the threshold, or the time with requests in flight that is in no active \
second. It is charged at "idle_rate"; without one it is waived, and the line says what it would have cost.
  A percentile is of slots of five minutes (12:00, 12:05, …) of the period, as far as the bill is of it. A slot without lines is a \
sample of 0, one that is cut by the time's end is a sample as any other. rule = "nearest-rank": the sample at ⌈0.95 N⌉, which is the \
highest after 5 % of them, rounded down, were thrown away. rule = "discard-up": the number thrown away is rounded up. \
In a month of 30 days the two are the same.
  The order is: what was used in the period, rounded up ("round_up"), without what is free
  ("free"), by the tiers. So tiers begin above the allowance, and rounded - free = charged.
  With scope = "account", all domains of the bill are the account: choose them with --domain. What
  each domain used is rounded up, and added up. The account has the allowance and the tiers, and
  pays one price, rounded once. The allowance and the price are divided in proportion to what each
  domain used, after rounding up, so that the parts add up: each part is rounded down, and units
  that are left go to the largest remainders, of equal ones to the first name. Idle amounts and
  what is waived are divided in the same way by what was idle.

Arithmetic:
  Quantities are whole numbers of ns, ms and bytes, rates are decimals, and all is computed
  without a rest. Only the amount of a line is rounded, once, to the money's decimals: "half-up"
  takes what is just between to the higher, "half-even" to the even amount. Totals are sums of
  rounded lines, so that a statement adds up. Quantities in tables, and in the columns used,
  rounded, free and charged of CSV and JSON, are rounded to be read; the columns "…_exact" are
  what is charged by, in smallest units. Money and quantities are strings in JSON.

Rows of CSV and JSON:
  item, idle, base_fee, minimum and total for each domain, rest for the others of --top, all_… for
  all. Columns are the same for every plan. "rate" is a number, for "per" units. Where several
  rates apply, it is empty, and a row "tier" for each rate follows: above tier_from, up to
  tier_up_to. The tiers' charged quantities and amounts add up to the item's; do not add both. Of
  the tiers of an account, each domain has the same part.

Periods:
  Months of the calendar, days, hours or all of the time, in UTC or in --time-zone. Where a clock
  is set there, a day has 23 or 25 hours. Each has allowances, tiers, fees and a minimum of its
  own, all in full also where the time begins or ends within it. Without --from and --to, the time
  is that of all lines, also of domains that are not chosen: from the beginning of the first to the
  end of the last.
  A line counts from `interval_ms` before its `time` to its `time`, evenly: where it spans a
  border, each side gets its part of all numbers, rounded down on the first side; its peak is in
  the period of its end.
  A domain pays the base fee and the minimum of a period if one of its lines tells of requests that
  ended or were in flight (`requests`, `duration_ms` or `active_ms` above 0), and the line begins in
  the period, or covers at least half of it. So a line that is late at midnight costs no second fee.
  A begin counts as at the border if it is before it by at most a twentieth of the line, and at most
  half a second. Lines of older versions do not say what was in flight: there, CPU time or bytes
  count too. With --prometheus, the counters of requests and of active time count.

Prometheus:
  As with `cpu-report domains`: what counters have grown by from each border of five minutes to the next. Counters there are floats of 53 \
bits: CPU is exact to the ns up to 104 days of one counter, and to 1 in 10^15 from then on. "peak_cores" is not there. What was counted \
after the last scrape of an instance that ends is missing.

What is missing:
  A bill needs all of the log. If a file cannot be read, or is named twice (without --duplicates),
  there is none. If lines are broken, there is none either: the first ones are shown, and
  --broken skip leaves them out. A message warns if a server has no lines in whole slots of five
  minutes that are longer than two of its intervals.
  No two lines have the same host, zone, key and time, unless a file is read with a copy of it, or
  two servers have the same name. Such lines are an error, and the first ones are named.
  --duplicates once counts equal lines once; lines that differ are still an error. --duplicates
  count counts each: after a reload that changes the size of a zone, old workers may log such lines
  rightly.
  If lines of a domain do not tell what the plan charges for, as those of older versions do, there is no bill \
either, unless with --missing zero.

Exit status:
  0  fine
  1  a plan or a file could not be read, or something is missing
  2  wrong arguments

Examples:
  cpu-report bill --plan cdn-pro.toml /var/log/nginx/traffic.log*
  cpu-report bill --plan cdn-pro.toml --from 2026-01-01 --to 2026-02-01 --domain '*.example.com' --format csv traffic.log
  cpu-report bill --plan ninety-five-five.toml --prometheus http://localhost:9090 --from 2026-01-01 --to 2026-02-01"#;

/// The arguments of `cpu-report bill`.
#[derive(clap::Args)]
#[command(about = "What each domain has to pay by a price plan", long_about = ABOUT, after_long_help = NOTES)]
pub struct Args {
    /// Traffic logs, plain or compressed (gzip, xz, zstd, bzip2); "-" is standard input
    #[arg(value_name = "FILE", required_unless_present = "prometheus", conflicts_with = "prometheus")]
    files: Vec<PathBuf>,

    /// The price plan
    #[arg(long, visible_alias = "plans", value_name = "PLAN.toml")]
    plan: PathBuf,

    #[command(flatten)]
    source: Source,

    /// So many domains have statements, the others a total together; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    top: usize,

    /// What comes first; also what --top goes by
    #[arg(long, short, default_value = "amount")]
    sort: statement::Sort,

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
    let wanted =
        statement::Wanted { top: output::limit(args.top), sort: args.sort, format: args.output.format };
    statement::write(&wanted, &plan, &accounts, output::stdout(), &args.output.layout())?;
    Ok(status)
}
