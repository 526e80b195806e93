//! The layout of help texts.
//!
//! Notes below the options have indented lines. clap would continue a broken line at the left edge, so lines
//! are broken here.

use clap::Command;
use textwrap::{Options, WordSplitter};
use unicode_width::UnicodeWidthStr;

use crate::output::style;

/// The least width of a column that is broken.
const LEAST_COLUMN: usize = 16;

/// The command with help texts that fit the terminal, in characters that it can show.
pub fn formatted(command: Command) -> Command {
    let width = style::help_width();
    in_plain_characters(with_usages(with_notes(command, width), width)).term_width(width)
}

/// With notes in lines of this width.
pub fn with_notes(command: Command, width: usize) -> Command {
    command.mut_subcommands(|command| {
        let notes = command.get_after_long_help().map(|notes| lines(&notes.to_string(), width));
        let short = command.get_after_help().map(|notes| lines(&notes.to_string(), width));
        let command = notes.into_iter().fold(command, |command, notes| command.after_long_help(notes));
        short.into_iter().fold(command, |command, notes| command.after_help(notes))
    })
}

/// With usages that fit this width. clap leaves one that is too long in one line.
fn with_usages(command: Command, width: usize) -> Command {
    const TITLE: &str = "Usage: ";
    let mut built = command.clone();
    built.build();
    let mut usages = built.get_subcommands_mut().map(|one| {
        let usage = one.render_usage().to_string();
        (one.get_name().to_owned(), usage.trim_start_matches(TITLE).trim().to_owned())
    });
    let is_long = |usage: &str| TITLE.len() + usage.width() > width;
    let long: Vec<(String, String)> = usages.by_ref().filter(|(_, usage)| is_long(usage)).collect();
    let next = " ".repeat(TITLE.len());
    let wrap = Options::new(width).initial_indent(&next).subsequent_indent(&next);
    let wrap = wrap.word_splitter(WordSplitter::NoHyphenation);
    long.into_iter().fold(command, |command, (name, usage)| {
        // "help" is clap's own, and cannot be changed
        if command.find_subcommand(&name).is_none() {
            return command;
        }
        let usage = textwrap::fill(&usage, &wrap).trim_start().to_owned();
        command.mut_subcommand(name, |one| one.override_usage(usage))
    })
}

fn in_plain_characters(command: Command) -> Command {
    if style::is_utf8() {
        return command;
    }
    let plain = |text: &clap::builder::StyledStr| style::plain(&text.to_string()).into_owned();
    command.mut_subcommands(|command| {
        let about = command.get_long_about().map(plain);
        let notes = command.get_after_long_help().map(plain);
        let command = about.into_iter().fold(command, |command, about| command.long_about(about));
        let command = notes.into_iter().fold(command, |command, notes| command.after_long_help(notes));
        command.mut_args(|arg| {
            let help = arg.get_help().map(plain);
            help.into_iter().fold(arg, |arg, help| arg.help(help))
        })
    })
}

/// Breaks each line. It continues below its text, or below its last column.
///
/// A backslash at the end of a line joins it with the next line.
fn lines(text: &str, width: usize) -> String {
    let text = text.replace("\\\n", "");
    let broken: Vec<String> = text.lines().map(|line| broken(line, width)).collect();
    broken.join("\n")
}

fn broken(line: &str, width: usize) -> String {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    // columns have two blanks or more between them
    let column = text.trim_end().rfind("  ").map(|gap| {
        let cell = text.get(gap..).unwrap_or_default().trim_start();
        (text.len() - cell.len(), cell)
    });
    let far = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        indent + before.width()
    };
    let (hang, mark) = match column {
        Some((at, cell)) if far(at) + LEAST_COLUMN <= width => {
            (far(at), if cell.starts_with('#') { "# " } else { "" })
        }
        _ if text.starts_with("cpu-report ") || text.contains(" | ") => (indent + 4, ""),
        _ => (indent, ""),
    };
    let least = |indent: usize| " ".repeat(indent.min(width.saturating_sub(LEAST_COLUMN).max(width / 2)));
    let indents = [least(indent), least(hang) + mark];
    let [first, next] = &indents;
    let wrap = Options::new(width).initial_indent(first).subsequent_indent(next);
    let room = width.saturating_sub(next.width());
    let whole = if text.starts_with("cpu-report ") { quotes_whole(text, room) } else { text.to_owned() };
    textwrap::fill(&whole, wrap.word_splitter(WordSplitter::NoHyphenation)).replace(HELD, " ")
}

/// Stands for a blank at which a line is not broken.
const HELD: char = '\u{A0}';

/// A command with its texts in single quotes held together, if they fit this width.
fn quotes_whole(command: &str, width: usize) -> String {
    let parts = command.split('\'').enumerate().map(|(at, part)| match at % 2 {
        1 if part.width() + 2 <= width => part.replace(' ', &HELD.to_string()),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_where_its_text_began() {
        assert_eq!(lines("  one two three", 10), "  one two\n  three");
        assert_eq!(lines("Head:\n\n  one", 10), "Head:\n\n  one");
        assert_eq!(lines("  one \\\ntwo three", 10), "  one two\n  three");
        assert_eq!(lines("  cpu   one two three four five", 26), "  cpu   one two three four\n        five");
        assert_eq!(
            lines("  a = 1   # one two three four", 27),
            "  a = 1   # one two three\n          # four"
        );
        assert_eq!(lines("  cpu-report domains one two", 20), "  cpu-report domains\n      one two");
    }

    #[test]
    fn a_text_in_quotes_is_not_broken_where_it_fits() {
        let command = "  cpu-report a --format 'b c d' e";
        assert_eq!(lines(command, 26), "  cpu-report a --format\n      'b c d' e");
        assert_eq!(lines(command, 12), "  cpu-report\n      a\n      --form\n      at 'b\n      c d' e");
    }
}
