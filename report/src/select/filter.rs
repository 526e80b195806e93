//! The choice of domains, zones and servers.

use super::names::Names;
use super::pattern::Pattern;
use crate::output::complain;

/// The chosen names. Without patterns, all names are chosen.
#[derive(clap::Args, Debug, Default)]
pub struct Filter {
    /// Only these domains; "*", "?" and "[…]" as in file names, without regard to case. May be repeated
    #[arg(long, short, value_name = "PATTERN", value_parser = Pattern::parse)]
    pub domain: Vec<Pattern>,

    /// Only these zones; patterns as for --domain
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse)]
    pub zone: Vec<Pattern>,

    /// Only the usage of these servers; patterns as for --domain. With Prometheus, values of the label
    /// "instance"
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse)]
    pub host: Vec<Pattern>,
}

impl Filter {
    /// Whether a domain is chosen.
    pub fn takes_domain(&self, name: &str) -> bool {
        matches(&self.domain, name)
    }

    /// Whether a zone is chosen.
    pub fn takes_zone(&self, name: &str) -> bool {
        matches(&self.zone, name)
    }

    /// Whether a server is chosen.
    pub fn takes_host(&self, name: &str) -> bool {
        matches(&self.host, name)
    }

    /// Whether a domain of a zone on a server is chosen.
    pub fn takes(&self, zone: &str, host: &str, domain: &str) -> bool {
        self.takes_zone(zone) && self.takes_host(host) && self.takes_domain(domain)
    }

    /// Whether a pattern has matched nothing so far.
    pub fn is_unmatched(&self) -> bool {
        let all = [&self.domain, &self.zone, &self.host];
        all.into_iter().flatten().any(|pattern| !pattern.has_matched())
    }

    /// Writes messages about patterns that have matched nothing. Returns false, for wrong arguments, if one
    /// of them is for zones or servers.
    pub fn check(&self, zones: &Names, hosts: &Names) -> bool {
        let mut is_fine = true;
        for (option, patterns, noun, names) in
            [("--zone", &self.zone, "zone", zones), ("--host", &self.host, "host", hosts)]
        {
            // without data, no names are known
            if names.is_empty() {
                continue;
            }
            is_fine &= patterns.iter().all(Pattern::has_matched);
            for pattern in patterns.iter().filter(|pattern| !pattern.has_matched()) {
                let there = names.shown();
                complain(&format!("no {noun} matches {option} \"{}\": there is {there}", pattern.text()));
            }
        }
        if is_fine && !zones.is_empty() {
            for pattern in self.domain.iter().filter(|pattern| !pattern.has_matched()) {
                complain(&format!("no domain matches --domain \"{}\"", pattern.text()));
            }
        }
        is_fine
    }
}

fn matches(patterns: &[Pattern], name: &str) -> bool {
    // patterns without a match so far are always tried, so that unmatched ones are known in the end
    let mut is_taken = patterns.is_empty();
    for pattern in patterns {
        if !is_taken || !pattern.has_matched() {
            is_taken |= pattern.matches(name);
        }
    }
    is_taken
}
