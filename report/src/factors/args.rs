//! The arguments and the help text of `cpu-report factors`.

use std::path::PathBuf;

use super::fields::Field;
use super::figures::FigureKind;
use super::format::{self, LogFormat};
use super::names::field_of_role;
use super::part::RequestPart;
use crate::input;
use crate::output;
use crate::select::Pattern;
use crate::time::Range;

const ABOUT: &str = "\
Shows the factors of the CPU time per request: the order of a request in its connection, the cache status \
                     and the response size; and the CPU seconds per GB (10^9 bytes) of each domain. The \
                     source is access logs with $request_cpu_time or $request_cpu_ns in their log_format.";

const NOTES: &str = "\
Log formats:
  Without --log-format, lines have the log_format of the documentation,
    $host $request_uri $status $bytes_sent $request_time $request_cpu_time $connection_requests
    $upstream_cache_status $ssl_protocol $tls_key $ssl_session_reused $request_cpu_subrequest
  or are JSON objects with members that are named like variables. The last five variables may be missing, \
                     and others may follow. Of JSON members with the same name, the last one counts, as in \
                     jq. With --log-format, lines have that format, and its \"escape=\" applies.

Fields of the figures:
  CPU      $request_cpu_ns or $request_cpu_time
  order    $connection_requests. The figure is split by the kind of key if there is $tls_key (your own \
                     variable, by map) or, up to TLS 1.2, $ssl_cipher; by new and resumed TLS sessions if \
                     there is $ssl_session_reused; or by any variable with --split
  cache    $upstream_cache_status; NONE stands for requests without a cache
  size     $bytes_sent or $body_bytes_sent
  domain   $server_name or $host, and bytes
  by       any variable, with --by; values are cut at 255 bytes, and each takes 0.1 to 2 KB of memory
  A figure is left out, with a message, if the log lacks its fields.
  Up to 64 groups of the figure by order and 64 cache statuses are told apart while reading, and 6 groups \
                     are shown. --max-domains and --max-values limit domains and values of --by. Above a \
                     limit, the choice of rows can differ from run to run; the sums stay right. The others \
                     have one row, \"all others\". In CSV and JSON, the column \"row\" is \"rest\" for that \
                     row, and \"value\" for all other rows. --field takes a field from another variable, or \
                     member of JSON. The roles are cpu (in seconds), cpu_ns, order, cache, bytes, domain, \
                     cipher, session and time.

Subrequests:
  With \"log_subrequest on\", NGINX also writes a line for each subrequest, with the CPU of the whole \
                     request so far. Lines with $request_cpu_subrequest 1 are left out, so that no request \
                     counts twice. Without that variable in the log, such lines cannot be recognised.

Numbers:
  \"± 95 %\" is half the width of the 95 % confidence interval of the mean, for independent requests. \
                     Percentiles are right to 1 %.

Exit status:
  0  success, also if broken lines were skipped (not with --strict)
  1  a file could not be read or written, or all lines are broken, or there is no figure
  2  wrong arguments

Examples:
  cpu-report factors /var/log/nginx/access.log*
  cpu-report factors --figure order --domain '*.example.com' --svg figures/ access.log
  cpu-report factors --log-format '$host [$time_local] \"$request\" $bytes_sent $request_cpu_time' access.log
  cpu-report factors --log-format-from /etc/nginx/nginx.conf:main --from 2026-01-31T12:00:00Z access.log
  cpu-report factors --by uri --top 50 access.log
  cpu-report factors --field cpu=cpu_s --split datacenter --format csv access.json.gz >figures.csv";

/// The arguments of `cpu-report factors`.
#[derive(clap::Args)]
#[command(
    about = "Show the factors of the CPU time per request, from access logs",
    long_about = ABOUT,
    after_long_help = NOTES
)]
pub struct Args {
    /// Access logs, plain or compressed (gzip, xz, zstd, bzip2); "-" is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// The log's log_format as in nginx.conf: the text, or everything after the name
    #[arg(long, value_name = "FORMAT", value_parser = parse_format, help_heading = "Log")]
    pub log_format: Option<LogFormat>,

    /// Take the log_format from a configuration file and the files that it includes. NAME may be missing if
    /// there is one format
    #[arg(long, value_name = "CONF:NAME", conflicts_with = "log_format", help_heading = "Log")]
    pub log_format_from: Option<String>,

    /// Take a field of the figures from this variable, or JSON member. May be repeated
    #[arg(long, value_name = "ROLE=VARIABLE", help_heading = "Log")]
    pub field: Vec<String>,

    /// Only these figures
    #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
    pub figure: Vec<FigureKind>,

    /// Split the figure by order by the values of this variable, instead of by kinds of keys
    #[arg(long, value_name = "VARIABLE")]
    pub split: Option<String>,

    /// Only requests to these domains; "*", "?" and "[…]" as in file names, without regard to case. May be
    /// repeated
    #[arg(long, short, value_name = "PATTERN", value_parser = Pattern::parse)]
    pub domain: Vec<Pattern>,

    /// Show the CPU per request by the values of this variable: request_uri, status, http_user_agent, … The
    /// variables request_method, request_uri and uri (the path) are also taken from $request. Other
    /// figures need --figure
    #[arg(long, value_name = "VARIABLE")]
    pub by: Option<String>,

    #[command(flatten)]
    pub range: Range,

    /// Show rows for this number of domains, or values of --by, those with the most CPU, and one row for the
    /// others; 0 is no limit
    #[arg(long, short = 'n', value_name = "N", default_value_t = 0, value_parser = output::whole::<usize>)]
    pub top: usize,

    /// Mark values of fewer requests than this
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = output::whole::<u64>)]
    pub min_requests: u64,

    #[command(flatten)]
    pub output: output::Options,

    /// Also draw the figures, as order.svg, cache.svg, size.svg, domain.svg and by.svg in this folder.
    /// domain.svg and by.svg have at most 20 bars
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,

    /// Tell this number of domains apart while reading; the others are added up in one row
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = output::whole::<usize>)]
    pub max_domains: usize,

    /// Tell this number of values of --by apart while reading; the others are added up in one row
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = output::whole::<usize>)]
    pub max_values: usize,

    #[command(flatten)]
    pub input: input::Options,
}

impl Args {
    /// The options that need a variable, each with its fields. The log must have one of the fields.
    pub fn asked(&self) -> Vec<(String, Vec<Field>)> {
        let mut asked = Vec::new();
        for role in &self.field {
            asked.extend(field_of_role(role).map(|field| (format!("--field {role}"), vec![field])));
        }
        asked.extend(self.split.is_some().then(|| ("--split".to_owned(), vec![Field::Split])));
        asked.extend(self.by.as_deref().map(|name| {
            let part = RequestPart::of(name.strip_prefix('$').unwrap_or(name));
            ("--by".to_owned(), part.map_or(&[Field::By][..], RequestPart::fields).to_vec())
        }));
        asked
    }

    /// Whether a format is given.
    pub fn has_format(&self) -> bool {
        self.log_format.is_some() || self.log_format_from.is_some()
    }
}

fn parse_format(text: &str) -> Result<LogFormat, format::Error> {
    LogFormat::parse(text)
}
