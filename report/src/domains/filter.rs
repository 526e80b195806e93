//! Which domains, zones and servers are asked for.

use glob::{MatchOptions, Pattern};

/// Names that are asked for; without patterns, all are.
#[derive(clap::Args, Debug, Default)]
pub struct Filter {
    /// Only these domains; "*", "?" and "[…]" as in file names, upper and lower case are the same. May be repeated
    #[arg(long, short, value_name = "PATTERN")]
    domain: Vec<Pattern>,

    /// Only these zones, likewise
    #[arg(long, value_name = "PATTERN")]
    zone: Vec<Pattern>,

    /// Only what these servers used, likewise; with Prometheus, these values of the label "instance"
    #[arg(long, value_name = "PATTERN")]
    host: Vec<Pattern>,
}

impl Filter {
    /// Whether a domain is asked for.
    pub fn takes_domain(&self, name: &str) -> bool {
        matches(&self.domain, name)
    }

    /// Whether a zone is asked for.
    pub fn takes_zone(&self, name: &str) -> bool {
        matches(&self.zone, name)
    }

    /// Whether a server is asked for.
    pub fn takes_host(&self, name: &str) -> bool {
        matches(&self.host, name)
    }

    /// Whether a domain of a zone on a server is asked for.
    pub fn takes(&self, zone: &str, host: &str, domain: &str) -> bool {
        self.takes_zone(zone) && self.takes_host(host) && self.takes_domain(domain)
    }

    /// The same in PromQL, to be put between the braces of a selector. `[…]` asks for more than it should, so that what comes is to
    /// be looked at again.
    pub fn matchers(&self) -> String {
        let matchers = [("key", &self.domain), ("zone", &self.zone), ("instance", &self.host)];
        let written =
            matchers.iter().filter(|(_, patterns)| !patterns.is_empty()).map(|(label, patterns)| {
                let regexes: Vec<String> = patterns.iter().map(regex).collect();
                format!("{label}=~{}", quoted(&format!("(?is:{})", regexes.join("|"))))
            });
        written.collect::<Vec<_>>().join(",")
    }
}

fn matches(patterns: &[Pattern], name: &str) -> bool {
    const OPTIONS: MatchOptions = MatchOptions {
        case_sensitive: false,
        require_literal_separator: false,
        require_literal_leading_dot: false,
    };
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches_with(name, OPTIONS))
}

/// What the pattern matches, and where it has brackets more than that, in the syntax of RE2.
fn regex(pattern: &Pattern) -> String {
    let mut regex = String::new();
    let mut rest = pattern.as_str().chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => {
                // a bracket that comes first, or after "!", is one of the characters
                let mut inside = rest.clone();
                if inside.clone().next() == Some('!') {
                    inside.next();
                }
                inside.next();
                inside.find(|c| *c == ']');
                rest = inside;
                regex.push('.');
            }
            c if c.is_ascii_punctuation() => regex.extend(['\\', c]),
            c => regex.push(c),
        }
    }
    regex
}

/// A string of PromQL.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(patterns: &[&str]) -> Vec<Pattern> {
        patterns.iter().map(|pattern| Pattern::new(pattern).unwrap()).collect()
    }

    #[test]
    fn patterns_are_those_of_file_names() {
        let taken = |pattern: &str, name: &str| matches(&patterns(&[pattern]), name);
        assert!(taken("*.example", "a.b.EXAMPLE") && !taken("*.example", "example"));
        assert!(taken("*", "") && taken("[*]", "*") && !taken("[*]", "a"));
        assert!(taken("?[!a-c]", "xd") && !taken("?[!a-c]", "xa"));
        assert!(matches(&[], "any") && matches(&patterns(&["a", "b"]), "b"));
    }

    #[test]
    fn matchers_are_those_of_promql() {
        assert_eq!(Filter::default().matchers(), "");
        let filter =
            Filter { domain: patterns(&["*.a-b", "x?[]!]"]), zone: patterns(&["q\"\\"]), host: Vec::new() };
        assert_eq!(filter.matchers(), r#"key=~"(?is:.*\\.a\\-b|x..)",zone=~"(?is:q\\\"\\\\)""#);
    }
}
