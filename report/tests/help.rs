//! Help texts, completions and man pages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use unicode_width::UnicodeWidthStr;

mod common;
use common::{Folder, Ran};

const COMMANDS: [&[&str]; 8] =
    [&[], &["domains"], &["bill"], &["compare"], &["factors"], &["check"], &["completions"], &["man"]];

fn help(command: &[&str], flag: &str, width: usize, locale: &str) -> String {
    let files = Folder::of(&[]);
    let mut command = files.command(&[command, &[flag]].concat());
    Ran::new(command.env("COLUMNS", width.to_string()).env("LC_ALL", locale).output().unwrap()).fine()
}

#[test]
fn help_is_not_wider_than_the_terminal_and_is_broken_where_texts_began() {
    for command in COMMANDS {
        for width in [120, 100, 80, 72, 60, 40] {
            for flag in ["--help", "-h"] {
                let text = help(command, flag, width, "C.UTF-8");
                let mut is_in_notes = false;
                for line in text.lines() {
                    assert!(line.width() <= width.min(100), "{command:?} {width}: {line:?}");
                    assert!(!line.ends_with('\\'), "{command:?} {width}: {line:?}");
                    // below the options, all but headings is indented
                    is_in_notes |= ["Times:", "Plans:", "Log formats:"].contains(&line);
                    let is_heading = line.ends_with(':');
                    assert!(
                        !is_in_notes || is_heading || line.is_empty() || line.starts_with("  "),
                        "{line:?}\n{text}"
                    );
                }
            }
        }
    }
}

#[test]
fn shells_understand_their_completions() {
    let files = Folder::of(&[]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = files.run(&["completions", shell]).fine();
        for word in
            ["domains", "compare", "--time-zone", "--columns"].map(|word| word.trim_start_matches('-'))
        {
            assert!(script.contains(word), "{shell}: {word}");
        }
        let path = files.file(shell, &script);
        // where the shell is there, it reads the script without running it
        if let Ok(output) = Command::new(shell).arg("-n").arg(&path).output() {
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert_eq!(files.run(&["completions", "nosuch"]).status, Some(2));
}

#[test]
fn there_is_a_man_page_for_each_command() {
    let files = Folder::of(&[]);
    files.run(&["man", "pages/man1"]).fine();
    for (name, word) in [
        ("cpu-report", "cpu\\-report\\-domains(1)"),
        ("cpu-report-domains", "\\-\\-time\\-zone"),
        ("cpu-report-bill", "half\\-even"),
        ("cpu-report-compare", "\\-\\-equal\\-revenue"),
        ("cpu-report-factors", "\\-\\-log\\-format\\-from"),
        ("cpu-report-check", "\\-\\-nginx"),
        ("cpu-report-completions", "bash"),
        ("cpu-report-man", "DIR"),
    ] {
        let path = files.path().join(format!("pages/man1/{name}.1"));
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(page.contains(".TH ") && page.contains(word), "{name}: {page}");
        // a formatter finds no fault in it, where there is one
        let lint = Command::new("man")
            .args(["--warnings=w", "-l"])
            .arg(&path)
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80")
            .output();
        if let Ok(output) = lint {
            let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!warnings.contains("warning"), "{name}: {warnings}");
        }
    }
    files.file("file", "");
    let ran = files.run(&["man", "file"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.err.starts_with("cpu-report: file: "), "{}", ran.err);
}

#[test]
fn notes_of_man_pages_keep_their_lines_and_columns() {
    let files = Folder::of(&[]);
    files.run(&["man", "."]).fine();
    for name in ["domains", "bill", "compare", "factors"] {
        let page = std::fs::read_to_string(files.path().join(format!("cpu-report-{name}.1"))).unwrap();
        let notes = page.split_once(".SH EXTRA\n.nf\n").unwrap().1;
        let (notes, _) = notes.split_once("\n.fi\n").unwrap();
        assert!(notes.contains("Examples:") && !notes.contains(".SH"), "{name}: {notes}");
    }
    let bill = std::fs::read_to_string(files.path().join("cpu-report-bill.1")).unwrap();
    let table =
        bill.lines().skip_while(|line| !line.starts_with("  measure ")).take_while(|line| !line.is_empty());
    for line in table {
        // each row is one line, and its columns begin below the titles
        let is_row =
            line.get(23..25).is_some_and(|cell| cell.starts_with(|c: char| c.is_alphanumeric() || c == ' '));
        assert!(line.chars().count() <= 80 && is_row && line.get(21..23) == Some("  "), "{line}");
    }
}

#[test]
fn examples_are_not_broken_within_quotes() {
    let text = help(&["factors"], "--help", 80, "C.UTF-8");
    let format = "'$host [$time_local] \"$request\" $bytes_sent $request_cpu_time'";
    assert!(text.contains(format), "{text}");
}

#[test]
fn one_default_of_top_holds_for_all_commands() {
    for command in ["domains", "bill", "compare", "factors"] {
        let text = help(&[command], "--help", 100, "C.UTF-8");
        let top = text.split("--top <N>").nth(1).unwrap();
        let default = top.split("[default: ").nth(1).unwrap();
        assert!(default.starts_with("0]"), "{command}: {top}");
    }
}

#[test]
fn bash_completes_the_options_of_a_command() {
    let files = Folder::of(&[]);
    let script = files.run(&["completions", "bash"]).fine();
    files.file("script", script);
    let ask = "source ./script; COMP_WORDS=(cpu-report domains --ti); COMP_CWORD=2; _cpu__report cpu-report \
               --ti domains; echo \"${COMPREPLY[@]}\"";
    let output =
        std::process::Command::new("bash").args(["-c", ask]).current_dir(files.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--time-zone\n");
}
