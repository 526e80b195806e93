//! The names of files after `include`, as `ngx_conf_include` reads them.

use glob::MatchOptions;

/// How patterns match, as with glob(3).
pub const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Whether a name is a pattern. A pattern may match nothing, but a name must be that of a file.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// A pattern in the form of the crate `glob`: two stars are one for glob(3), but folders for the crate.
pub fn for_glob(mut pattern: String) -> String {
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_are_merged() {
        for (pattern, wanted) in [("a/*.conf", "a/*.conf"), ("a/***/b**", "a/*/b*"), ("a?[b]", "a?[b]")] {
            assert!(is_pattern(pattern));
            assert_eq!(for_glob(pattern.to_owned()), wanted);
        }
        assert!(!is_pattern("a/b.conf"));
    }
}
