//! `cpu-report` on a terminal: tables that fit, the progress bar, signals, and help texts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use unicode_width::UnicodeWidthStr;

mod common;
use common::Folder;

/// A terminal of so many columns.
struct Terminal {
    master: File,
    slave: File,
}

impl Terminal {
    fn new(columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&slave, Winsize { ws_col: columns, ws_row: 0, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        Self { master: File::from(master), slave }
    }

    fn stdio(&self) -> Stdio {
        self.slave.try_clone().unwrap().into()
    }

    /// What was written to it until nothing has it open.
    fn text(self) -> String {
        let Self { mut master, slave } = self;
        drop(slave);
        let mut text = Vec::new();
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = master.read(&mut bytes) {
            text.extend_from_slice(&bytes[..read]);
        }
        String::from_utf8(text).unwrap()
    }
}

fn in_locale<'c>(command: &'c mut Command, locale: &str) -> &'c mut Command {
    command.env_remove("COLUMNS").env_remove("NO_COLOR").env("TERM", "xterm").env("LC_ALL", locale)
}

/// Standard output on a terminal of so many columns, without colours.
fn shown(folder: &Folder, arguments: &[&str], columns: u16, locale: &str) -> String {
    let terminal = Terminal::new(columns);
    let mut command = folder.command(arguments);
    in_locale(&mut command, locale).env("NO_COLOR", "1").stdout(terminal.stdio()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    let text = terminal.text();
    assert!(child.wait().unwrap().success(), "{text}");
    text.replace("\r\n", "\n")
}

fn line(end: &str, key: &str, requests: u64, cpu_ns: u64) -> String {
    format!(
        concat!(
            r#"{{"time":"{end}","interval_ms":60000,"host":"e","zone":"domains","key":"{key}""#,
            r#","requests":{requests},"cpu_ns":{cpu_ns},"wakeups":1,"sent_bytes":{cpu_ns},"received_bytes":7"#,
            r#","2xx":0,"4xx":1,"5xx":2}}"#,
        ),
        end = end,
        key = key,
        requests = requests,
        cpu_ns = cpu_ns
    ) + "\n"
}

/// A traffic log, plans and an access log.
fn logs() -> Folder {
    let logs = Folder::of(&[]);
    let lines = [
        line(
            "2026-01-31T12:01:00.000Z",
            "shop-0001.with.a.long.name.example.com",
            4_508_387,
            992_999_000_000,
        ),
        line("2026-01-31T12:02:00.030Z", "例え.example.jp", 1000, 12_345_678),
        line("2026-01-31T12:03:00.000Z", "a.example", 10, 1_234),
    ];
    logs.file("log", lines.concat());
    for (name, title, rate) in
        [("a", "Traffic only", "0.02"), ("b", "Traffic and CPU time", "0.01"), ("c", "例え", "0.5")]
    {
        let plan = format!(
            "name = \"{title}\"\ncurrency = \"EUR\"\n[[item]]\nname = \"Traffic\"\nmeasure = \"sent\"\nrate \
             = {rate}\n[[item]]\nname = \"CPU time\"\nmeasure = \"cpu\"\nunit = \"h\"\nfree = 0.001\nrate = \
             {rate}\n"
        );
        logs.file(&format!("{name}.toml"), plan);
    }
    let access = |n: u32| {
        format!(
            "shop-{n}.with.a.long.name.example /x 200 12345 0.010 0.00{n}123 {} HIT TLSv1.3 ECDSA .\n",
            n % 5 + 1
        )
    };
    logs.file("access", (1..9).map(access).collect::<String>());
    logs
}

const COMMANDS: [&[&str]; 5] = [
    &["domains", "log"],
    &["domains", "log", "--by", "hour"],
    &["bill", "--plan", "a.toml", "log"],
    &["compare", "--plans", "a.toml,b.toml,c.toml", "log"],
    &["factors", "access"],
];

#[test]
fn no_line_of_a_table_is_wider_than_the_terminal() {
    let logs = logs();
    for arguments in COMMANDS {
        for columns in [200, 133, 100, 80, 60, 40, 20] {
            for locale in ["C.UTF-8", "C"] {
                let text = shown(&logs, arguments, columns, locale);
                // the time of a row cannot be shorter, and tells rows apart
                if columns == 20 && arguments.contains(&"--by") {
                    continue;
                }
                for line in text.lines() {
                    assert!(
                        line.width() <= usize::from(columns),
                        "{columns} {arguments:?}: {line:?}\n{text}"
                    );
                }
                if locale == "C" {
                    let own: String = text.chars().filter(|c| "…µ±⌈⌉·".contains(*c)).collect();
                    assert_eq!(own, "", "{arguments:?}: {text}");
                }
            }
        }
    }
}

#[test]
fn what_is_left_out_is_said_with_how_to_see_it() {
    let logs = logs();
    let text = shown(&logs, &["domains", "log"], 80, "C.UTF-8");
    let last = text.lines().skip_while(|line| !line.starts_with("not shown")).collect::<Vec<_>>().join(" ");
    assert!(
        last.contains("responses_4xx") && last.ends_with("--wide shows all, --columns chooses"),
        "{text}"
    );
    assert!(text.contains("shop-0001.with.a.long.name.example.com") && text.contains("992.999 s"), "{text}");
    let narrow = shown(&logs, &["domains", "log"], 20, "C.UTF-8");
    assert!(narrow.ends_with("columns: --wide\n") && narrow.contains('…'), "{narrow}");
    assert!(shown(&logs, &["domains", "log"], 20, "C").contains("..."));
    // all of it is as in a pipe
    for more in [&["--wide"][..], &["--columns", "domain,cpu_seconds,responses_5xx,zone"]] {
        let arguments = [&["domains", "log"][..], more].concat();
        let rows = |text: &str| text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
        let on_terminal = shown(&logs, &arguments, 200, "C.UTF-8");
        assert_eq!(rows(&on_terminal), rows(&logs.run(&arguments).fine()));
        let narrow = shown(&logs, &arguments, 40, "C.UTF-8");
        assert!(rows(&narrow).ends_with(&rows(&on_terminal)), "{narrow}");
    }
    // in a pipe, the width does not matter
    let mut piped = logs.command(&["domains", "log"]);
    let output = piped.env("COLUMNS", "20").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), logs.run(&["domains", "log"]).fine());
}

#[test]
fn columns_are_chosen_by_their_names_in_all_formats() {
    let logs = logs();
    let columns = ["--columns", "cpu_seconds,domain"];
    let csv = logs.run(&[&["domains", "log", "--format", "csv"], &columns[..]].concat()).fine();
    assert_eq!(csv.lines().next(), Some("cpu_seconds,domain"));
    assert_eq!(csv.lines().nth(1), Some("992.999,shop-0001.with.a.long.name.example.com"));
    let json = logs.run(&[&["domains", "log", "--format", "json"], &columns[..]].concat()).fine();
    assert!(
        json.contains(r#"{"cpu_seconds":992.999,"domain":"shop-0001.with.a.long.name.example.com"}"#),
        "{json}"
    );
    let table = logs.run(&[&["domains", "log"], &columns[..]].concat()).fine();
    assert_eq!(
        table.lines().nth(2).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).as_deref(),
        Some("CPU time domain")
    );
    let bill = logs
        .run(&["bill", "--plans", "a.toml", "log", "--columns", "from,domain,amount", "--format", "csv"])
        .fine();
    assert_eq!(bill.lines().next(), Some("from,domain,amount"));
    let compare = [
        "compare",
        "--plan",
        "a.toml",
        "--plan",
        "b.toml",
        "log",
        "--format",
        "csv",
        "--columns",
        "b_change,domain",
    ];
    assert_eq!(logs.run(&compare).fine().lines().next(), Some("b_change,domain"));
    let factors = logs
        .run(&["factors", "access", "--columns", "figure,name,cpu_seconds_p99", "--figure", "cache"])
        .fine();
    assert!(factors.contains("figure  cache status"), "{factors}");
    for arguments in COMMANDS {
        let ran = logs.run(&[arguments, &["--columns", "domain,nope"]].concat());
        assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""));
        let wanted = if arguments[0] == "factors" {
            "there is no column \"domain\""
        } else {
            "there is no column \"nope\""
        };
        assert!(ran.err.contains(wanted) && ran.err.contains("the columns are "), "{}", ran.err);
    }
}

/// A command that waits for more of its log, with a terminal as its standard error.
fn reading(logs: &Folder, columns: u16, locale: &str) -> (Child, Terminal) {
    let terminal = Terminal::new(columns);
    let mut command = logs.command(&["domains", "-"]);
    in_locale(&mut command, locale).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(terminal.stdio());
    let mut child = command.spawn().unwrap();
    let text = line("2026-01-31T12:01:00.000Z", "a.example", 1, 1);
    child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    (child, terminal)
}

/// What is on the screen after this was written, as far as a progress bar needs it; the most columns that a
/// line had, too.
fn screen(text: &str) -> (Vec<String>, usize) {
    let (mut lines, mut most) = (vec![String::new()], 0);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => lines.last_mut().unwrap().push('\r'),
            '\n' => lines.push(String::new()),
            '\u{1b}' => {
                let code: String =
                    std::iter::from_fn(|| rest.next_if(|c| !c.is_ascii_alphabetic())).collect();
                match (rest.next(), code.as_str()) {
                    (Some('K'), "[2") => *lines.last_mut().unwrap() = String::new(),
                    (Some('A'), _) if lines.len() > 1 => drop(lines.pop()),
                    _ => {}
                }
            }
            c => {
                let line = lines.last_mut().unwrap();
                if line.ends_with('\r') {
                    line.clear();
                }
                line.push(c);
                most = most.max(line.width());
            }
        }
    }
    (lines.into_iter().map(|line| line.trim_end_matches('\r').to_owned()).collect(), most)
}

#[test]
fn a_signal_clears_the_progress_and_ends_the_program() {
    let logs = logs();
    for (signal, name) in [(2, "INT"), (15, "TERM")] {
        for (columns, locale) in [(80, "C.UTF-8"), (40, "C"), (20, "C")] {
            let (mut child, terminal) = reading(&logs, columns, locale);
            thread::sleep(Duration::from_millis(500));
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
            let begin = Instant::now();
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None if begin.elapsed() > Duration::from_secs(20) => panic!("it goes on after {name}"),
                    None => thread::sleep(Duration::from_millis(10)),
                }
            };
            assert_eq!(status.signal(), Some(signal));
            let text = terminal.text();
            let (lines, most) = screen(&text);
            assert_eq!(lines, [""], "{text:?}");
            assert!(most > 0 && most < usize::from(columns), "{columns}: {text:?}");
            assert!(locale != "C" || text.is_ascii(), "{text:?}");
        }
    }
}

#[test]
fn the_progress_of_files_is_one_line_at_any_width() {
    let logs = logs();
    let many = |n| line("2026-01-31T12:01:00.000Z", &format!("{n}.example"), 1, 1);
    let many: String = (0..20_000).map(many).collect();
    logs.file("many", many);
    for columns in [200, 80, 40, 20] {
        for locale in ["C.UTF-8", "C"] {
            for file in ["log", "/dev/null", "none"] {
                let terminal = Terminal::new(columns);
                let mut command = logs.command(&["domains", "many", file]);
                in_locale(&mut command, locale).stdout(Stdio::null()).stderr(terminal.stdio());
                let mut child = command.spawn().unwrap();
                drop(command);
                let text = terminal.text();
                child.wait().unwrap();
                // messages may be of any length, and have lines of their own
                let (lines, most) = screen(&text);
                assert_eq!(lines.last().map(String::as_str), Some(""), "{text:?}");
                assert!(file == "none" || most < usize::from(columns), "{columns}: {text:?}");
                assert!(
                    lines.iter().all(|line| line.is_empty() || line.starts_with("cpu-report: ")),
                    "{text:?}"
                );
            }
        }
    }
}

#[test]
fn nothing_is_drawn_where_it_is_not_wanted() {
    let logs = logs();
    let terminal = Terminal::new(80);
    let mut command = logs.command(&["domains", "--quiet", "log"]);
    in_locale(&mut command, "C.UTF-8").stdout(Stdio::null()).stderr(terminal.stdio());
    let mut child = command.spawn().unwrap();
    drop(command);
    assert_eq!(terminal.text(), "");
    assert!(child.wait().unwrap().success());
    // colours
    for (name, value, is_styled) in
        [("NO_COLOR", "1", false), ("TERM", "dumb", false), ("NO_COLOR", "", true)]
    {
        let terminal = Terminal::new(80);
        let mut command = logs.command(&["domains", "--quiet", "log"]);
        in_locale(&mut command, "C.UTF-8").env(name, value).stdout(terminal.stdio());
        let mut child = command.spawn().unwrap();
        drop(command);
        assert_eq!(terminal.text().contains('\u{1b}'), is_styled, "{name}={value}");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn an_output_that_is_full_is_an_error_and_one_that_is_closed_early_is_none() {
    let logs = logs();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = logs.command(&["domains", "log"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
    let many: String =
        (0..20_000).map(|n| line("2026-01-31T12:01:00.000Z", &format!("{n}.example"), 1, 1)).collect();
    logs.file("many", many);
    let mut child =
        logs.command(&["domains", "many"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
