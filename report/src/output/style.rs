//! The terminal that standard output goes to: its width, whether it has colours, and whether it shows UTF-8.

use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use textwrap::{Options as Wrap, WordSplitter};

/// Characters of this program's own texts that are not ASCII, and their replacements.
const ASCII: [(char, &str); 9] = [
    ('…', "..."),
    ('µ', "u"),
    ('±', "+-"),
    ('⌈', "ceil("),
    ('⌉', ")"),
    ('·', "*"),
    ('–', "-"),
    ('—', "-"),
    ('’', "'"),
];

/// Whether standard output may have colours: on a terminal, unless `NO_COLOR` is set.
pub fn is_styled() -> bool {
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !no_color && !is_dumb
}

/// Columns of a terminal: those of `COLUMNS`, or else those that the terminal tells. None where neither is
/// known, or where this is no terminal.
pub fn width(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if stream.is_terminal() { columns_variable().or_else(|| told_width(stream)) } else { None }
}

/// The width for help texts, which may go to a pager.
pub fn help_width() -> usize {
    columns_variable().or_else(|| told_width(&io::stdout())).unwrap_or(100).min(100)
}

fn columns_variable() -> Option<usize> {
    env::var("COLUMNS").ok()?.trim().parse().ok().filter(|columns| *columns > 0)
}

fn told_width(stream: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Whether UTF-8 can be written. Files and pipes get it always, so that they do not depend on the locale. On
/// a terminal the first of `LC_ALL`, `LC_CTYPE` and `LANG` that is set says it, as for other programs.
pub fn is_utf8() -> bool {
    static IS_UTF8: OnceLock<bool> = OnceLock::new();
    *IS_UTF8.get_or_init(|| {
        let is_terminal = io::stdout().is_terminal() || io::stderr().is_terminal();
        !is_terminal || is_utf8_by(["LC_ALL", "LC_CTYPE", "LANG"].map(env::var_os)).unwrap_or(false)
    })
}

/// The value of the variables, if one of them is set.
fn is_utf8_by(variables: [Option<OsString>; 3]) -> Option<bool> {
    let locale = variables.into_iter().flatten().find(|value| !value.is_empty())?;
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    Some(locale.contains("utf-8") || locale.contains("utf8"))
}

/// A text of this program in characters that can be shown.
pub fn plain(text: &str) -> Cow<'_, str> {
    if is_utf8() { Cow::Borrowed(text) } else { ascii(text) }
}

/// A text of this program in ASCII. Names that other characters are part of keep them.
fn ascii(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| ASCII.iter().any(|(own, _)| *own == c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match ASCII.iter().find(|(own, _)| *own == c) {
            Some((_, shown)) => out.push_str(shown),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Writes a text that stands beside a table, in lines that fit the terminal.
pub fn write_text(out: &mut impl Write, text: &str, width: Option<usize>) -> io::Result<()> {
    let text = plain(text);
    let Some(width) = width else { return writeln!(out, "{text}") };
    let indent = " ".repeat(text.len() - text.trim_start().len());
    let wrap = Wrap::new(width).initial_indent(&indent).subsequent_indent(&indent);
    let wrap = wrap.word_splitter(WordSplitter::NoHyphenation);
    for line in textwrap::wrap(text.trim_start(), wrap) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_says_whether_there_is_utf_8() {
        let by = |all: &str, ctype: &str, lang: &str| {
            is_utf8_by([all, ctype, lang].map(|value| (value != "-").then(|| value.into())))
        };
        assert_eq!(by("-", "-", "-"), None);
        assert_eq!(by("", "", ""), None);
        assert_eq!(by("-", "-", "de_DE.UTF-8"), Some(true));
        assert_eq!(by("C", "de_DE.UTF-8", "de_DE.UTF-8"), Some(false));
        assert_eq!(by("", "en_US.utf8", "C"), Some(true));
        assert_eq!(by("-", "POSIX", "C.UTF-8"), Some(false));
    }

    #[test]
    fn texts_of_this_program_have_a_form_in_ascii() {
        assert_eq!(ascii("1.5 µs ± 2 %"), "1.5 us +- 2 %");
        assert_eq!(ascii("⌈0.95 N⌉ …"), "ceil(0.95 N) ...");
        assert_eq!(ascii("例え.jp"), "例え.jp");
    }

    #[test]
    fn a_text_beside_a_table_fits_the_width() {
        let lines = |text: &str, width| {
            let mut out = Vec::new();
            write_text(&mut out, text, width).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = "2026-01-31T12:00:00Z to 2026-01-31T15:20:00Z, zone domains";
        assert_eq!(lines(text, None), format!("{text}\n"));
        assert_eq!(lines(text, Some(40)), "2026-01-31T12:00:00Z to\n2026-01-31T15:20:00Z, zone domains\n");
        assert!(lines(text, Some(12)).lines().all(|line| line.len() <= 12));
        assert_eq!(lines("  few: less", Some(8)), "  few:\n  less\n");
    }
}
