//! The arguments and the help text of `cpu-report domains`.

use std::path::PathBuf;

use super::table::Sort;
use crate::input;
use crate::output;
use crate::prometheus::Scrape;
use crate::select::Filter;
use crate::time::{By, Range};
use crate::traffic::Duplicates;

const ABOUT: &str = "\
What each domain used: requests, GB sent (10^9 bytes), CPU time, average cores, their peak and 95th percentile, the cores of the highest second where the logs tell it, CPU time per request \
and per GB, and the share of responses with 4xx and 5xx, and of requests that limits refused, where there are any. It is read from traffic logs, the files that `request_cpu_log` writes, \
or with --prometheus from the counters of a fleet. What several servers used adds up.";

const NOTES: &str = "\
Times:
  Times are UTC, or those of --time-zone; slots of five minutes are always those of UTC.
  A line counts for the time from `interval_ms` before its `time` to its `time`, evenly: where that spans the \
border of two hours, or of --from, each side gets its part in proportion.
  Average cores are CPU time by the time from --from to --to; without these, from the first line's begin to the last line's end. \
Peak and 95 % are of slots of five minutes (12:00, 12:05, …) of that time: the highest, and that which 95 % of all slots do not \
exceed (nearest rank). A slot in which a domain used nothing counts as 0. With --by, they are those of each hour, day or month, \
and times in which a domain used nothing have no row.
  Peak 1s is the CPU of the highest second on one server, of lines with `peak_cpu_ns`; in the rows for all and the rest, that of \
one of their domains. A line tells one that ended in its interval: it counts in each row, and in the time from --from to --to, where \
that has at least a second of the interval, or half of a shorter one. There is none for --prometheus.

Zones:
  A request can be counted in several zones, so each zone has a table of its own, and its own row for all.

Lines that stand twice:
  Lines of the same host, zone, domain and time come from a file and its copy, or from two servers
  of one name. Each is counted, and a message names the first two. --duplicates once counts equal
  lines once; --duplicates error shows no table. A message tells if a server has no lines for some
  time.

Prometheus:
  Asked for are the 24 hours until now, or --from and --to, both at a border of five minutes. What the counters of an instance have \
grown by from one border to the next was used in between. A counter that is lower than before has begun anew; one that has done \
so and is higher again within five minutes is not noticed. Used is what was scraped: what was counted after the last scrape \
of an instance that ends is missing. VictoriaMetrics answers as well.

Memory:
  A log may be larger than memory. For each domain some 250 bytes are kept, and for each five minutes in which it used something \
4 bytes, or 8 where that is more than 4 s of CPU; with --by, up to seven times that for each hour, day or month.

Exit status:
  0  fine, also if broken lines were skipped (not with --strict)
  1  a file could not be read, or all lines are broken, or Prometheus gave no answer
  2  wrong arguments

Examples:
  cpu-report domains /var/log/nginx/traffic.log*
  cpu-report domains --from 2026-01-01 --to 2026-02-01 --top 20 --sort p95 edge-*/traffic.log.gz
  cpu-report domains --by day --domain '*.example.com' --cores --format csv traffic.log >days.csv
  lz4 -dc traffic.log.lz4 | cpu-report domains --format json - | jq '.rows[0]'
  cpu-report domains --prometheus http://localhost:9090 --from 2026-01-01 --to 2026-02-01";

/// The arguments of `cpu-report domains`.
#[derive(clap::Args)]
#[command(about = "What each domain used, from traffic logs or from Prometheus", long_about = ABOUT, after_long_help = NOTES)]
pub struct Args {
    /// Traffic logs, plain or compressed (gzip, xz, zstd, bzip2); "-" is standard input
    #[arg(value_name = "FILE", required_unless_present = "prometheus", conflicts_with = "prometheus")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub scrape: Scrape,

    /// A row for each five minutes, hour, day or month
    #[arg(long)]
    pub by: Option<By>,

    #[command(flatten)]
    pub range: Range,

    #[command(flatten)]
    pub filter: Filter,

    /// So many domains have rows of their own, the others one together; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    pub top: usize,

    /// What comes first; also what --top goes by
    #[arg(long, short, value_name = "FIGURE", default_value = "cpu")]
    pub sort: Sort,

    /// Show cores, and no CPU time
    #[arg(long, conflicts_with = "seconds")]
    pub cores: bool,

    /// Show CPU time, and no cores
    #[arg(long)]
    pub seconds: bool,

    #[command(flatten)]
    pub output: output::Options,

    /// So many domains are told apart while reading; those that come later are added to the rest
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = output::whole::<usize>)]
    pub max_domains: usize,

    /// What to do with lines of the same host, zone, domain and time
    #[arg(long, value_name = "WHAT", default_value = "count")]
    pub duplicates: Duplicates,

    #[command(flatten)]
    pub input: input::Options,
}
