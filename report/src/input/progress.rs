//! Progress on a terminal while logs are read, in one line of any width.

use std::fmt::Write;
use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use indicatif::{
    DecimalBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::files::is_stdin;
use super::options::Options;
use crate::output::style;

/// The assumed width of a terminal that does not report its width.
const USUAL_WIDTH: usize = 80;

/// A bar is not longer than this.
const LONGEST_BAR: usize = 40;

/// For files: bytes, with an estimate where all sizes are known.
pub fn of_files(files: &[PathBuf], options: &Options) -> ProgressBar {
    let size = |file: &PathBuf| match file.metadata() {
        _ if is_stdin(file) => None,
        Ok(metadata) if !metadata.is_file() => None,
        Ok(metadata) => Some(metadata.len()),
        // it will be said later that this one cannot be read
        Err(_) => Some(0),
    };
    match files.iter().map(size).sum::<Option<u64>>() {
        Some(total) => shown(options, || ProgressBar::new(total), bytes),
        None => shown(options, ProgressBar::new_spinner, bytes),
    }
}

/// For anything that has a known length.
pub fn bar(total: u64, options: &Options) -> ProgressBar {
    shown(options, || ProgressBar::new(total), |_| Vec::new())
}

/// A hidden bar if stderr is not a terminal.
fn shown(
    options: &Options,
    new: impl FnOnce() -> ProgressBar,
    texts: fn(&ProgressState) -> Vec<String>,
) -> ProgressBar {
    if options.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = new();
    bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(Screen), 10));
    let write = move |state: &ProgressState, out: &mut dyn Write| {
        let width = width();
        // a line that cannot be written is not shown
        let _ = out.write_str(&line(state, &texts(state), width, style::is_utf8()));
    };
    // the template is constant; if it were wrong, indicatif's default would be used
    if let Ok(style) = ProgressStyle::with_template("{line}") {
        bar.set_style(style.with_key("line", write));
    }
    clear_when_killed(&bar);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn width() -> usize {
    style::width(&io::stderr()).unwrap_or(USUAL_WIDTH)
}

/// Standard error, with the width that this program uses.
#[derive(Debug)]
struct Screen;

impl Screen {
    fn code(&self, count: usize, letter: char) -> io::Result<()> {
        if count > 0 { write!(io::stderr(), "\x1b[{count}{letter}") } else { Ok(()) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        u16::try_from(width().saturating_sub(1)).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.code(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.code(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.code(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.code(columns, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{text}")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        write!(io::stderr(), "{text}")
    }

    fn clear_line(&self) -> io::Result<()> {
        write!(io::stderr(), "\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn bytes(state: &ProgressState) -> Vec<String> {
    let read = DecimalBytes(state.pos());
    let read = match state.len() {
        Some(total) => format!("{read}/{}", DecimalBytes(total)),
        None => read.to_string(),
    };
    vec![read, format!("{}/s", DecimalBytes(state.per_sec() as u64))]
}

fn line(state: &ProgressState, texts: &[String], width: usize, is_utf8: bool) -> String {
    let texts = texts.iter().map(String::as_str);
    match state.len() {
        Some(total) => {
            let fraction = if total == 0 { 1.0 } else { state.pos() as f64 / total as f64 };
            let left = format!("{} left", HumanDuration(state.eta()));
            let percent = format!("{:.0} %", 100.0 * fraction.clamp(0.0, 1.0));
            let texts: Vec<&str> =
                [percent.as_str()].into_iter().chain([left.as_str()]).chain(texts).collect();
            with_bar(fraction, &texts, width, is_utf8)
        }
        None => {
            let elapsed = HumanDuration(state.elapsed()).to_string();
            let texts: Vec<&str> = texts.chain([elapsed.as_str()]).collect();
            that_fit(&texts, width.saturating_sub(1)).join("  ")
        }
    }
}

/// A bar, and as many of the texts as there is room for beside one of some length. One column stays free, so
/// that no terminal begins a new line.
fn with_bar(fraction: f64, texts: &[&str], width: usize, is_utf8: bool) -> String {
    let room = width.saturating_sub(1);
    let fitting = that_fit(texts, room.saturating_sub((room / 3).max(8)));
    let texts = fitting.join("  ");
    let length = room.saturating_sub(texts.chars().count() + 2).min(LONGEST_BAR);
    let (done, open) = if is_utf8 { ("█", "░") } else { ("#", "-") };
    let filled = (fraction.clamp(0.0, 1.0) * length as f64) as usize;
    let bar = done.repeat(filled) + &open.repeat(length.saturating_sub(filled));
    format!("{bar}  {texts}").trim().chars().take(room).collect()
}

/// The first texts that fit beside each other.
fn that_fit<'t>(texts: &[&'t str], room: usize) -> Vec<&'t str> {
    let mut used = 0;
    let fits = |text: &&&str| {
        used += text.chars().count() + 2;
        used <= room + 2
    };
    texts.iter().take_while(fits).copied().collect()
}

/// A signal that ends the program clears the bar first, so that the prompt has a line of its own. The program
/// then dies by the signal, as it does without a bar. A signal that is ignored stays ignored.
fn clear_when_killed(bar: &ProgressBar) {
    let ignored = ignored_signals();
    let signals = [SIGINT, SIGTERM].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let Ok(mut signals) = Signals::new(signals) else { return };
    let bar = bar.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            bar.finish_and_clear();
            let _ = emulate_default_handler(signal);
        }
    });
}

/// A bit for each ignored signal, on Linux; zero elsewhere.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 4] = ["50 %", "3 seconds left", "1.20 GB/2.40 GB", "400.00 MB/s"];

    #[test]
    fn the_line_is_shorter_than_any_terminal() {
        for width in 1..200 {
            for is_utf8 in [true, false] {
                for fraction in [0.0, 0.5, 1.0, 2.0] {
                    let line = with_bar(fraction, &TEXTS, width, is_utf8);
                    assert!(line.chars().count() < width, "{width}: {line}");
                    assert!(is_utf8 || line.is_ascii(), "{line}");
                }
            }
        }
        assert_eq!(with_bar(0.5, &TEXTS, 20, false), "######-------  50 %");
        assert_eq!(with_bar(0.5, &TEXTS, 40, true), "████████░░░░░░░░░  50 %  3 seconds left");
        assert!(with_bar(0.5, &TEXTS, 100, true).ends_with("400.00 MB/s"));
    }
}
