//! Conditions for series, in PromQL.

use crate::select::{Filter, Pattern};

/// The conditions of a filter, to be put between the braces of a selector. `[…]` asks for more than it
/// should, so the answer is to be filtered again.
pub fn matchers(filter: &Filter) -> String {
    let all: [(&str, &[Pattern]); 3] =
        [("key", &filter.domain), ("zone", &filter.zone), ("instance", &filter.host)];
    let written = all.iter().filter(|(_, patterns)| !patterns.is_empty()).map(|(label, patterns)| {
        let regexes: Vec<String> = patterns.iter().map(Pattern::regex).collect();
        format!("{label}=~{}", quoted(&format!("(?is:{})", regexes.join("|"))))
    });
    written.collect::<Vec<_>>().join(",")
}

/// A string of PromQL.
pub fn quoted(text: &str) -> String {
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
        patterns.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect()
    }

    #[test]
    fn matchers_are_those_of_promql() {
        assert_eq!(matchers(&Filter::default()), "");
        let filter =
            Filter { domain: patterns(&["*.a-b", "x?[]!]"]), zone: patterns(&["q\"\\"]), host: Vec::new() };
        assert_eq!(
            matchers(&filter),
            r#"key=~"(?is:.*\\.a\\-b|x..|x\\?\\[\\]\\!\\])",zone=~"(?is:q\\\"\\\\)""#
        );
    }
}
