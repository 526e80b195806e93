//! The arguments that choose a Prometheus and what is read from it, of all commands that can.

use super::client::{self, Prometheus};
use super::matcher::Matcher;
use crate::output::{Wrong, complain};
use crate::time::{self, By, DAY_MS, Millis, Range, SLOT_MS, slot};
use crate::traffic::Duplicates;

/// The arguments.
#[derive(clap::Args)]
pub struct Scrape {
    /// Take the counters of the fleet from the Prometheus at this address instead
    #[arg(long, value_name = "URL", value_parser = client::parse_url)]
    prometheus: Option<String>,

    /// For Prometheus: a header such as "Authorization: Bearer …", or "@FILE" with such lines. May be repeated
    #[arg(long, value_name = "HEADER", requires = "prometheus", value_parser = client::parse_header)]
    header: Vec<String>,

    /// For Prometheus: only series of which this is true, such as job=nginx; also with !=, =~ and !~. May be repeated
    #[arg(long = "match", value_name = "LABEL=VALUE", requires = "prometheus", value_parser = Matcher::parse)]
    matchers: Vec<Matcher>,
}

impl Scrape {
    /// The address; none if traffic logs are to be read. Options that mean nothing then are refused, so that nobody
    /// believes that they were heeded: clap waives `requires` where there are files, which exclude `--prometheus`.
    pub fn url(&self) -> Result<Option<&str>, Wrong> {
        let others = [("--header", self.header.is_empty()), ("--match", self.matchers.is_empty())];
        match (&self.prometheus, others.iter().find(|(_, is_empty)| !is_empty)) {
            (None, Some((option, _))) => {
                Err(Wrong(format!("{option} is for --prometheus, which is not there")))
            }
            (url, _) => Ok(url.as_deref()),
        }
    }

    /// The server at the address, and the borders of slots that its counters are read at.
    pub fn open(
        &self,
        url: &str,
        range: &Range,
        duplicates: Duplicates,
    ) -> anyhow::Result<(Prometheus, (Millis, Millis))> {
        if duplicates == Duplicates::Once {
            let why = "series have no equal lines. Choose series with --match";
            return Err(Wrong(format!("--duplicates once is for traffic logs: {why}")).into());
        }
        Ok((Prometheus::new(url, &self.header, &self.matchers)?, borders(range)?))
    }
}

/// Says what is to be said of the borders. Without times, they are those of the day until now.
fn borders(range: &Range) -> Result<(Millis, Millis), Wrong> {
    let border = |time| By::FiveMinutes.bounds(slot(time)).0;
    let end = range.to.map_or_else(|| border(time::now()), |to| border(to + SLOT_MS - 1));
    let begin = border(range.from.unwrap_or(end - DAY_MS).max(0));
    if begin >= end {
        return Err(Wrong("--from is not before now".to_owned()));
    }
    for (name, wanted, border) in [("--from", range.from, begin), ("--to", range.to, end)] {
        if wanted.is_some_and(|wanted| wanted != border) {
            complain(&format!("{name} is taken for {}, the border of five minutes", time::format(border)));
        }
    }
    Ok((begin, end))
}
