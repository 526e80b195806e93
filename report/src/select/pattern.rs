//! A pattern of names, as in file names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use glob::{MatchOptions, Pattern as Glob};

/// A pattern. It also matches its own text, such as `[2001:db8::1]`. Case does not matter.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    folded: String,
    glob: Glob,
    has_matched: Arc<AtomicBool>,
}

impl Pattern {
    /// Reads an argument.
    pub fn parse(text: &str) -> Result<Self, String> {
        let folded = fold(text);
        let glob = Glob::new(&folded).or_else(|_| Glob::new(text)).map_err(|error| {
            match error.msg.contains("range") {
                true => {
                    "a \"[\" has no \"]\" after it: write \"[[]\" for the character itself, or \"?\" for any \
                     character"
                }
                false => "there are too many \"*\" in a row: one stands for any characters",
            }
            .to_owned()
        })?;
        Ok(Self { text: text.to_owned(), folded, glob, has_matched: Arc::default() })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it has matched a name so far.
    pub fn has_matched(&self) -> bool {
        self.has_matched.load(Ordering::Relaxed)
    }

    /// Whether a name is one of it.
    pub fn matches(&self, name: &str) -> bool {
        const OPTIONS: MatchOptions = MatchOptions {
            case_sensitive: false,
            require_literal_separator: false,
            require_literal_leading_dot: false,
        };
        let matches = if name.is_ascii() {
            self.glob.matches_with(name, OPTIONS) || self.folded.eq_ignore_ascii_case(name)
        } else {
            let name = fold(name);
            self.glob.matches_with(&name, OPTIONS) || self.folded == name
        };
        if matches && !self.has_matched() {
            self.has_matched.store(true, Ordering::Relaxed);
        }
        matches
    }

    /// A regular expression of RE2 that matches at least the same names.
    pub fn regex(&self) -> String {
        if self.text.contains("**") {
            return ".*".to_owned();
        }
        let mut regex = String::new();
        let mut rest = self.text.chars();
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
                c => escape(c, &mut regex),
            }
        }
        if self.text.contains('[') {
            regex.push('|');
            self.text.chars().for_each(|c| escape(c, &mut regex));
        }
        regex
    }
}

fn escape(c: char, regex: &mut String) {
    if c.is_ascii_punctuation() {
        regex.push('\\');
    }
    regex.push(c);
}

/// The same for upper and lower case: character by character, as regular expressions do it.
fn fold(text: &str) -> String {
    fn only(mut chars: impl Iterator<Item = char>) -> Option<char> {
        chars.next().filter(|_| chars.next().is_none())
    }
    let fold = |c: char| {
        let upper = only(c.to_uppercase()).unwrap_or(c);
        only(upper.to_lowercase()).unwrap_or(upper)
    };
    text.chars().map(fold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn patterns_are_those_of_file_names() {
        assert!(taken("*.example", "a.b.EXAMPLE") && !taken("*.example", "example"));
        assert!(taken("*", "") && taken("[*]", "*") && !taken("[*]", "a"));
        assert!(taken("?[!a-c]", "xd") && !taken("?[!a-c]", "xa"));
    }

    #[test]
    fn a_name_is_a_pattern_of_itself() {
        assert!(taken("[2001:db8::1]", "[2001:DB8::1]") && taken("[2001:db8::1]", "8"));
        assert!(!taken("[2001:db8::1]", "[2001:db8::2]"));
    }

    #[test]
    fn upper_and_lower_case_are_the_same_in_all_scripts() {
        assert!(taken("CAFÉ.*", "café.example") && taken("café.*", "CAFÉ.EXAMPLE"));
        assert!(taken("ΣΊΣΥΦΟΣ", "σίσυφος") && taken("[À-Ý]", "é") && taken("?", "É"));
        assert!(!taken("cafe", "café"));
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_refused_in_plain_words() {
        assert!(Pattern::parse("[a").unwrap_err().contains("\"[[]\""));
        assert!(Pattern::parse("***").unwrap_err().contains("one stands for any"));
    }

    #[test]
    fn a_pattern_knows_whether_it_has_matched() {
        let pattern = Pattern::parse("a*").unwrap();
        assert!(!pattern.matches("b") && !pattern.has_matched());
        assert!(pattern.clone().matches("a") && pattern.has_matched());
    }
}
