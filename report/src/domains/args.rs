//! The arguments and the help text of `cpu-report domains`.

use std::path::PathBuf;

use super::table::TableSort;
use crate::input;
use crate::output;
use crate::prometheus::Scrape;
use crate::select::Filter;
use crate::time::{By, Range};
use crate::traffic::Duplicates;

const ABOUT: &str = "\
Shows the usage of each domain: requests, GB sent (10^9 bytes), CPU time, average cores, peak and 95th \
                     percentile of cores, cores of the highest second, CPU time per request and per GB, and \
                     the shares of responses with 4xx and 5xx and of refused requests. The source is \
                     traffic logs, the files that `request_cpu_log` writes, or with --prometheus the \
                     counters of a fleet. The usage of several servers adds up. The highest second and \
                     refused requests are shown only if the source has them.";

const NOTES: &str = "\
Times:
  Times are in UTC, or in the zone of --time-zone. Slots of five minutes are always those of UTC. \
  A line counts from `interval_ms` before its `time` to its `time`, evenly. If the line spans the \
  border of two hours, or of --from, each side gets its part in proportion.
  Average cores are the CPU time divided by the time from --from to --to. Without these options, the \
  time is that from the begin of the first line to the end of the last line.
  Peak and 95 % are taken over slots of five minutes (12:00, 12:05, …) of that time. The peak is the \
  highest slot. The 95th percentile is the value that 95 % of all slots do not exceed (nearest rank). \
  A slot without usage of a domain counts as 0. With --by, peak and 95 % are those of each hour, day \
  or month, and a domain has no row for times without usage.
  Peak 1s is the CPU of the highest second on one server. It needs lines with `peak_cpu_ns`. In the \
  rows for all and the rest, it is the peak of one of their domains. The highest second of a line \
  ended in the line's interval. It counts in each row, and in the time from --from to --to, that has \
  at least a second of the interval, or half of a shorter one. With --prometheus, there is no peak 1s.

Zones:
  A request can be counted in several zones. So each zone has its own table and its own row for all.

Duplicate lines:
  Lines of the same host, zone, domain and time come from a file and its copy, or from two servers \
  of one name. Each is counted, and a message names the first two. --duplicates once counts equal \
  lines once; --duplicates error shows no table. A message tells if a server has no lines for some \
  time.

Prometheus:
  The time is the last 24 hours, or that from --from to --to. Both ends are borders of five minutes. \
  The growth of an instance's counter from one border to the next is the usage between them. A counter \
  that is lower than before has restarted. A restart is not noticed if the counter is higher again \
  within five minutes. Only scraped values count: usage after the last scrape of an instance that ends \
  is missing. VictoriaMetrics answers as well.

Memory:
  A log may be larger than memory. Each domain takes about 250 bytes, and each slot of five minutes \
  with usage takes 4 bytes, or 8 if it has more than 4 s of CPU. With --by, each hour, day or month \
  takes up to seven times that.

Exit status:
  0  success, also if broken lines were skipped (not with --strict)
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
#[command(
    about = "Show the usage of each domain, from traffic logs or from Prometheus",
    long_about = ABOUT,
    after_long_help = NOTES
)]
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

    /// Show rows for this number of domains, and one row for the others; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    pub top: usize,

    /// The figure that rows are sorted by; --top also goes by it
    #[arg(long, short, value_name = "FIGURE", default_value = "cpu")]
    pub sort: TableSort,

    /// Show cores, and no CPU time
    #[arg(long, conflicts_with = "seconds")]
    pub cores: bool,

    /// Show CPU time, and no cores
    #[arg(long)]
    pub seconds: bool,

    #[command(flatten)]
    pub output: output::Options,

    /// Tell this number of domains apart while reading; later ones are added to the rest
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = output::whole::<usize>)]
    pub max_domains: usize,

    /// How to treat lines of the same host, zone, domain and time
    #[arg(long, value_name = "WHAT", default_value = "count")]
    pub duplicates: Duplicates,

    #[command(flatten)]
    pub input: input::Options,
}
