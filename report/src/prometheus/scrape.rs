//! The arguments that choose a Prometheus and its series, of all commands that read one.

use super::client::{self, Prometheus};
use super::matcher::Matcher;
use crate::output::{Wrong, complain};
use crate::time::{self, By, DAY_MS, Millis, Range, SLOT_MS, slot};
use crate::traffic::Duplicates;

/// The arguments.
#[derive(clap::Args)]
pub struct Scrape {
    /// Read the counters of the fleet from the Prometheus at this address, instead of logs
    #[arg(long, value_name = "URL", value_parser = client::parse_url)]
    prometheus: Option<String>,

    /// For Prometheus: a header such as "Authorization: Bearer …", or "@FILE", a file of headers. May be
    /// repeated
    #[arg(long, value_name = "HEADER", requires = "prometheus", value_parser = client::parse_header)]
    header: Vec<String>,

    /// For Prometheus: only series with this label, such as job=nginx; also with !=, =~ and !~. May be
    /// repeated
    #[arg(long = "match", value_name = "LABEL=VALUE", requires = "prometheus", value_parser = Matcher::parse)]
    matchers: Vec<Matcher>,
}

impl Scrape {
    /// The address. None if traffic logs are read; options that need `--prometheus` are then refused. clap
    /// does not enforce `requires` here, because files exclude `--prometheus`.
    pub fn url(&self) -> Result<Option<&str>, Wrong> {
        let others = [("--header", self.header.is_empty()), ("--match", self.matchers.is_empty())];
        match (&self.prometheus, others.iter().find(|(_, is_empty)| !is_empty)) {
            (None, Some((option, _))) => Err(Wrong(format!("{option} needs --prometheus"))),
            (url, _) => Ok(url.as_deref()),
        }
    }

    /// The server at the address, and the time range, whose ends are borders of slots.
    pub fn open(
        &self,
        url: &str,
        range: &Range,
        duplicates: Duplicates,
    ) -> anyhow::Result<(Prometheus, (Millis, Millis))> {
        if duplicates == Duplicates::Once {
            let why = "series have no equal lines. Choose series with --match";
            return Err(Wrong(format!("--duplicates once needs traffic logs: {why}")).into());
        }
        Ok((Prometheus::new(url, &self.header, &self.matchers)?, borders(range)?))
    }
}

/// The time range, rounded to borders of slots. A message tells if an end was rounded. The default is the
/// last 24 hours.
fn borders(range: &Range) -> Result<(Millis, Millis), Wrong> {
    let border = |time| By::FiveMinutes.bounds(slot(time)).0;
    let end = range.to.map_or_else(|| border(time::now()), |to| border(to + SLOT_MS - 1));
    let begin = border(range.from.unwrap_or(end - DAY_MS).max(0));
    if begin >= end {
        return Err(Wrong("--from is not before now".to_owned()));
    }
    for (name, wanted, border) in [("--from", range.from, begin), ("--to", range.to, end)] {
        if wanted.is_some_and(|wanted| wanted != border) {
            complain(&format!("{name} is rounded to {}, a border of five minutes", time::format(border)));
        }
    }
    Ok((begin, end))
}
