//! Texts in CSV that a spreadsheet does not take for formulas.
//!
//! Names come from clients, and a spreadsheet computes a cell that begins with `=`, `+`, `-` or `@`. So a
//! text like that gets an apostrophe in front. OWASP's page on CSV injection asks for that, for the
//! full-width forms of these characters, for tabs and for line ends. Two more places are covered. Blanks may
//! stand before the character. And a spreadsheet may split at semicolons, so a new cell may begin behind any
//! separator within a text. An apostrophe that is there already gets another one, so different texts stay
//! different.

use std::borrow::Cow;

/// A spreadsheet computes a cell that begins with one of these.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// After one of these, a new cell may begin.
const SEPARATORS: [char; 6] = [';', ',', '|', '"', '\t', '\n'];

/// The text with an apostrophe wherever a cell would begin with a formula.
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.contains(FORMULA) && !text.starts_with('\'') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 1);
    let mut may_begin = true;
    for (at, c) in text.char_indices() {
        if may_begin && needs_mark(text.get(at..).unwrap_or_default(), at == 0) {
            out.push('\'');
        }
        out.push(c);
        may_begin = SEPARATORS.contains(&c);
    }
    Cow::Owned(out)
}

/// Whether a cell that begins so gets an apostrophe.
fn needs_mark(cell: &str, is_first: bool) -> bool {
    let unmarked = cell.trim_start_matches('\'');
    let is_marked = unmarked.len() < cell.len();
    let is_blank = |c: char| c.is_whitespace() && !FORMULA.contains(&c);
    (is_first && is_marked) || unmarked.trim_start_matches(is_blank).starts_with(FORMULA)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_a_spreadsheet_would_compute_gets_an_apostrophe() {
        for (text, wanted) in [
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(1)", "'@SUM(1)"),
            ("\tx", "'\tx"),
            ("\rx", "'\rx"),
            ("＝1", "'＝1"),
            ("  =1", "'  =1"),
            ("\u{3000}=1", "'\u{3000}=1"),
            ("a;=1", "a;'=1"),
            ("a\",=1", "a\",'=1"),
            ("'=1", "''=1"),
            ("'a", "''a"),
            ("a-b.example", "a-b.example"),
            ("a=1", "a=1"),
            ("it's", "it's"),
            ("", ""),
        ] {
            assert_eq!(safe(text), wanted, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_cell_begins_with_a_formula_and_texts_stay_different(
            texts in prop::collection::vec("[=+@'; ,a-]{0,6}", 0..50)
        ) {
            let mut seen = HashMap::new();
            for text in &texts {
                let safe = safe(text).into_owned();
                for cell in safe.split(SEPARATORS) {
                    prop_assert!(!cell.trim_start().starts_with(FORMULA), "{text:?}: {safe:?}");
                }
                let before = seen.insert(safe, text);
                prop_assert!(before.is_none_or(|before| before == text), "{text:?} {before:?}");
            }
        }
    }
}
