//! `cpu-report factors` as it is run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use roxmltree::Document;
use serde_json::Value;

mod common;
use common::Folder;

/// A folder with this as `access.log`.
fn logs_of(content: impl AsRef<[u8]>) -> Folder {
    let logs = Folder::of(&["factors"]);
    logs.file("access.log", content);
    logs
}

/// The rows in JSON, each as its figure, group, name, requests, CPU per request and CPU per GB.
#[track_caller]
fn rows_of(logs: &Folder, arguments: &[&str]) -> Vec<(String, String, String, u64, f64, f64)> {
    rows(&logs.run(&[arguments, &["--format", "json"]].concat()).fine())
}

fn rows(out: &str) -> Vec<(String, String, String, u64, f64, f64)> {
    let all: Value = serde_json::from_str(out).unwrap();
    let rows = all["rows"].as_array().unwrap().iter().map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| row[name].as_f64().unwrap_or_default();
        let requests = row["requests"].as_u64().unwrap();
        let mean = number("cpu_seconds_per_request");
        (text("figure"), text("group"), text("name"), requests, mean, number("cpu_seconds_per_gb"))
    });
    rows.collect()
}

fn row(
    figure: &str,
    group: &str,
    name: &str,
    requests: u64,
    mean: f64,
    per_gb: f64,
) -> (String, String, String, u64, f64, f64) {
    (figure.to_owned(), group.to_owned(), name.to_owned(), requests, mean, per_gb)
}

/// Two connections with each kind of key, and one without TLS.
const LOG: &str = "\
rsa.example / 200 900 0.001 0.002000000 1 - TLSv1.3 RSA .
rsa.example / 200 900 0.000 0.000100000 2 - TLSv1.3 RSA .
rsa.example / 200 900 0.001 0.001000000 1 - TLSv1.3 RSA r
ec.example / 200 900 0.000 0.000900000 1 - TLSv1.3 ECDSA .
ec.example / 200 900 0.000 0.000700000 1 - TLSv1.3 ECDSA .
ec.example / 200 900 0.000 0.000100000 5 - TLSv1.3 ECDSA .
files.example /a 200 5000000 0.000 0.004000000 1 MISS - - -
files.example /a 200 5000000 0.000 0.001000000 2 HIT - - -
";

#[test]
fn the_figures_are_those_of_a_calculation_by_hand() {
    let rows = rows_of(&logs_of(LOG), &["access.log"]);
    assert_eq!(
        rows,
        [
            row("order", "ECDSA", "1", 2, 0.0008, 0.0),
            row("order", "ECDSA", "4+", 1, 0.0001, 0.0),
            row("order", "RSA", "1", 1, 0.002, 0.0),
            row("order", "RSA", "2", 1, 0.0001, 0.0),
            row("order", "RSA, resumed", "1", 1, 0.001, 0.0),
            row("order", "no TLS", "1", 1, 0.004, 0.0),
            row("order", "no TLS", "2", 1, 0.001, 0.0),
            row("cache", "", "HIT", 1, 0.001, 0.0),
            row("cache", "", "MISS", 1, 0.004, 0.0),
            // 4.8 ms of 6
            row("cache", "", "NONE", 6, 0.0008, 0.0),
            row("size", "", "1k", 6, 0.0008, 0.0),
            row("size", "", "16m", 2, 0.0025, 0.0),
            // 3.1 ms by 2,700 bytes, 1.7 ms by as many, 5 ms by 10 MB
            row("domain", "", "rsa.example", 3, 3.1e-3 / 3.0, 3.1e6 / 2700.0),
            row("domain", "", "ec.example", 3, 1.7e-3 / 3.0, 1.7e6 / 2700.0),
            row("domain", "", "files.example", 2, 0.0025, 0.5),
        ]
    );
}

#[test]
fn tables_mark_figures_of_too_few_requests() {
    let logs = logs_of(LOG);
    let out = logs.run(&["--figure", "cache,domain", "--min-requests", "3", "access.log"]).fine();
    // of the six: deviations' squares 2.48 ms², so 1.96 * sqrt(2.48 / 5 / 6) = 0.5635 ms
    let expected = "\
CPU per request, by cache status

cache status  requests  CPU time  CPU/request    ± 95 %       p50      p95      p99
------------  --------  --------  -----------  --------  --------  -------  -------  ---
HIT                  1   1.00 ms      1.00 ms         -   1.00 ms  1.00 ms  1.00 ms  few
MISS                 1   4.00 ms      4.00 ms         -   4.01 ms  4.01 ms  4.01 ms  few
NONE                 6   4.80 ms     800.0 µs  563.5 µs  700.4 µs  2.01 ms  2.01 ms
  few: fewer than 3 requests, so the value is uncertain

CPU seconds per GB, by domain

domain         requests     GB  CPU time  CPU/request  CPU s/GB   ± 95 %
-------------  --------  -----  --------  -----------  --------  -------  ---
rsa.example           3  0.000   3.10 ms      1.03 ms   1148.15  1195.00
ec.example            3  0.000   1.70 ms     566.7 µs    629.63   523.46
files.example         2  0.010   5.00 ms      2.50 ms      0.50     0.59  few
  few: fewer than 3 requests, so the value is uncertain
";
    assert_eq!(out, expected);
}

#[test]
fn csv_has_all_figures_in_one_table() {
    let out = logs_of(LOG).run(&["--format", "csv", "access.log"]).fine();
    let mut lines = out.lines();
    assert_eq!(
        lines.next(),
        Some(
            "figure,group,name,requests,bytes,cpu_seconds,cpu_seconds_per_request,\
             cpu_seconds_per_request_margin,cpu_seconds_p50,cpu_seconds_p95,cpu_seconds_p99,\
             cpu_seconds_per_gb,cpu_seconds_per_gb_margin,is_few,row"
        )
    );
    assert_eq!(lines.clone().count(), 15);
    assert!(lines.next().unwrap().starts_with("order,ECDSA,1,2,,0.0016,0.0008,"));
    assert!(lines.last().unwrap().starts_with("domain,,files.example,2,10000000,0.005,0.0025,,,,,0.5,"));
}

#[test]
fn a_figure_that_the_log_does_not_tell_is_left_out_and_why_is_said() {
    let logs = logs_of("a.example 0.5\nb.example 0.25\na.example -\n");
    let ran = logs.run(&["--log-format", "$host $request_cpu_time", "access.log"]);
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    for message in [
        "1 line is without $request_cpu_ns or $request_cpu_time, and was left out",
        "no figure \"CPU per request, by its order in the connection\": the log has no \
         $connection_requests; add it to the log_format",
        "the log has no $upstream_cache_status; add it to the log_format",
        "the log has no $bytes_sent or $body_bytes_sent; add it",
        "the log has no $server_name or $host and $bytes_sent or $body_bytes_sent; add",
    ] {
        assert!(ran.err.contains(message), "{message}\n{}", ran.err);
    }
    // some lines have it
    let logs =
        logs_of(r#"{"request_cpu_ns":5,"connection_requests":1}"#.to_owned() + "\n{\"request_cpu_ns\":7}\n");
    let ran = logs.run(&["--figure", "order", "access.log"]);
    assert_eq!(ran.status, Some(0));
    assert!(
        ran.err.contains("1 of 2 requests is not in \"CPU per request, by its order in the connection\""),
        "{}",
        ran.err
    );
}

#[test]
fn broken_lines_are_counted_and_shown_and_are_no_failure() {
    let mut content = LOG.as_bytes().to_vec();
    content.extend(b"rubbish\n\xff\xfe\x00\n{\"request_cpu_ns\":\n");
    let logs = logs_of(content);
    let ran = logs.run(&["--figure", "cache", "access.log"]);
    assert_eq!(ran.status, Some(0));
    for message in [
        "access.log:9: \" \" is missing after $host",
        "access.log:11: the line ends before its JSON object does",
        "3 of 11 lines are broken",
    ] {
        assert!(ran.err.contains(message), "{message}\n{}", ran.err);
    }
    assert_eq!(logs.run(&["--strict", "access.log"]).status, Some(1));
    assert_eq!(logs.run(&["access.log", "missing.log"]).status, Some(1));
    logs.file("bad.log", "a\nb\n");
    assert_eq!(logs.run(&["bad.log"]).status, Some(1));
}

#[test]
fn files_of_all_kinds_add_up() {
    let logs = logs_of(LOG);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(LOG.as_bytes()).unwrap();
    logs.file("access.log.1.gz", encoder.finish().unwrap());
    let arguments = ["--figure", "cache", "--format", "json", "access.log", "access.log.1.gz", "-"];
    let ran = logs.run_with(&arguments, LOG.as_bytes());
    assert_eq!(ran.status, Some(0));
    assert!(
        ran.err
            .contains("access.log.1.gz begins with the same lines as access.log, and so does one more file"),
        "{}",
        ran.err
    );
    assert_eq!(
        rows(&ran.out).iter().map(|row| (row.2.as_str(), row.3)).collect::<Vec<_>>(),
        [("HIT", 3), ("MISS", 3), ("NONE", 18)]
    );
}

const COMBINED: &str = r#"10.0.0.1 - - [31/Jan/2026:11:59:59 +0000] "GET / HTTP/1.1" 200 100 "-" "a b" 5000 1
10.0.0.1 - - [31/Jan/2026:13:00:00 +0100] "GET /\x22 HTTP/1.1" 200 100 "-" "\x22" 7000 2
10.0.0.1 - - [31/Jan/2026:12:00:01 +0000] "" 400 0 "-" "-" 9000 3
"#;
const COMBINED_FORMAT: &str = r#"'$remote_addr - $remote_user [$time_local] "$request" '
    '$status $body_bytes_sent "$http_referer" "$http_user_agent" '
    '$request_cpu_ns $connection_requests'"#;

#[test]
fn a_format_is_taken_from_the_command_line_or_from_nginx_conf() {
    let logs = logs_of(COMBINED);
    logs.file("nginx.conf", format!("http {{ # it's\n log_format  cpu {COMBINED_FORMAT};\n}}"));
    let expected =
        [("1", 5e-6), ("2", 7e-6), ("3", 9e-6)].map(|(name, mean)| row("order", "", name, 1, mean, 0.0));
    for format in [
        ["--log-format", COMBINED_FORMAT],
        ["--log-format-from", "nginx.conf:cpu"],
        ["--log-format-from", "nginx.conf"],
    ] {
        assert_eq!(rows_of(&logs, &[&format[..], &["--figure", "order", "access.log"]].concat()), expected);
    }
    for (arguments, message) in [
        (
            ["--log-format-from", "nginx.conf:main"],
            "there is no log_format \"main\" in nginx.conf; there are: cpu",
        ),
        (
            ["--log-format-from", "nginx.conf:combined"],
            "log_format combined has no CPU time; add to nginx.conf: log_format cpu",
        ),
        (["--log-format", "combined"], "\"$http_user_agent\" $request_cpu_time'; access_log"),
        (
            ["--log-format-from", "missing.conf:cpu"],
            "--log-format-from missing.conf:cpu: missing.conf: No such file",
        ),
        (["--log-format-from", "nginx.conf:"], "the name of a log_format is missing"),
        (["--log-format", "$host"], "the log_format has no $request_cpu_ns or $request_cpu_time"),
        (["--log-format", "${host"], "the closing bracket in \"host\" variable is missing"),
        (["--field", "cpus=x"], "invalid role \"cpus\" in \"cpus=x\""),
        (["--figure", "orders"], "invalid value 'orders'"),
        (["--from", "noon"], "expected a time"),
    ] {
        let ran = logs.run(&[&arguments[..], &["access.log"]].concat());
        assert_eq!(ran.status, Some(2), "{arguments:?}");
        assert!(ran.err.contains(message), "{message}\n{}", ran.err);
    }
}

#[test]
fn only_the_time_that_is_asked_for_is_taken() {
    let logs = logs_of(COMBINED);
    let of = |arguments: &[&str]| {
        let all = [arguments, &["--log-format", COMBINED_FORMAT, "--figure", "order", "access.log"]].concat();
        rows_of(&logs, &all).into_iter().map(|row| row.2).collect::<Vec<_>>()
    };
    assert_eq!(of(&["--from", "2026-01-31T12:00:00Z"]), ["2", "3"]);
    assert_eq!(of(&["--to", "2026-01-31T12:00:00Z"]), ["1"]);
    assert_eq!(of(&["--from", "2026-01-31T12:00:00Z", "--to", "2026-01-31T12:00:01Z"]), ["2"]);
    let ran = logs.run(&["--log-format", COMBINED_FORMAT, "--from", "2026-02-01", "access.log"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.err.contains("no request matches --domain, --from and --to"), "{}", ran.err);
    // the demonstration's log has no time
    let ran = logs_of(LOG).run(&["--from", "2026-02-01", "access.log"]);
    assert_eq!(ran.status, Some(1));
    let message = "8 lines are without $msec or $time_iso8601 or $time_local, which --from and --to need, \
                   and were left out";
    assert!(ran.err.contains(message) && !ran.err.contains("broken"), "{}", ran.err);
    assert_eq!(logs_of(LOG).run(&["--strict", "--from", "2026-02-01", "access.log"]).status, Some(1));
    let ran =
        logs_of("{\"request_cpu_ns\":5,\"msec\":\"noon\"}\n").run(&["--from", "2026-02-01", "access.log"]);
    assert!(ran.err.contains("it has no time for --from and --to"), "{}", ran.err);
}

#[test]
fn json_logs_are_read_with_names_of_the_users_own() {
    let lines = [
        concat!(
            r#"{"ts":"2026-01-31T12:00:00+01:00","vhost":"a.example","cpu":"0.001","n":1,"out":2000"#,
            r#","cache":"HIT","pop":"fra"}"#,
        ),
        concat!(
            r#"{"ts":"2026-01-31T12:00:00+01:00","vhost":"b.example","cpu":"0.003","n":2,"#,
            r#""out":2000,"cache":null,"pop":"\u0041\"<&"}"#
        ),
    ];
    let fields = ["domain=vhost", "cpu=cpu", "order=n", "bytes=out", "cache=cache", "time=ts"];
    let mut arguments: Vec<&str> = fields.iter().flat_map(|field| ["--field", field]).collect();
    arguments.extend(["--split", "pop", "--from", "2026-01-31T11:00:00Z", "access.log"]);
    let rows = rows_of(&logs_of(lines.join("\n")), &arguments);
    assert_eq!(
        rows,
        [
            row("order", "A\"<&", "2", 1, 0.003, 0.0),
            row("order", "fra", "1", 1, 0.001, 0.0),
            row("cache", "", "HIT", 1, 0.001, 0.0),
            row("cache", "", "NONE", 1, 0.003, 0.0),
            row("size", "", "4k", 2, 0.002, 0.0),
            row("domain", "", "b.example", 1, 0.003, 1500.0),
            row("domain", "", "a.example", 1, 0.001, 500.0),
        ]
    );
}

#[test]
fn bytes_that_are_not_utf8_are_no_fault_of_a_json_log() {
    let line =
        b"{\"host\":\"a\xff\",\"http_user_agent\":\"\xc3\",\"bytes_sent\":1000,\"request_cpu_ns\":1000}\n";
    let rows = rows_of(&logs_of(line), &["--figure", "domain", "access.log"]);
    assert_eq!(rows, [row("domain", "", "a\u{fffd}", 1, 1e-6, 1.0)]);
}

#[test]
fn domains_are_selected_and_summed_and_none_is_lost() {
    let many: String = (0..500)
        .map(|n| format!("d{}.example / 200 1000 0.001 0.000{:06} 1\n", n % 50, 1000 * (n % 50 + 1)))
        .collect();
    let logs = logs_of(many);
    let of = |arguments: &[&str]| {
        let all = [&["--figure", "domain"], arguments, &["--format", "json", "access.log"]].concat();
        rows(&logs.run(&all).out)
    };
    let names = |arguments: &[&str]| of(arguments).into_iter().map(|row| (row.2, row.3)).collect::<Vec<_>>();
    let named = |name: &str, requests| (name.to_owned(), requests);
    assert_eq!(names(&["--domain", "D4[89].*"]), [named("d49.example", 10), named("d48.example", 10)]);
    assert_eq!(names(&["--top", "1"]), [named("d49.example", 10), named("all others", 490)]);
    assert_eq!(of(&["--top", "0"]).len(), 50);
    let capped = of(&["--top", "0", "--max-domains", "7"]);
    assert_eq!(capped.len(), 8);
    assert_eq!(capped.iter().map(|row| row.3).sum::<u64>(), 500);
    assert!(capped[..7].iter().all(|row| row.3 == 10), "those that are told apart are exact");
}

#[test]
fn figures_are_well_formed_and_have_the_counts() {
    let mut content = LOG.repeat(40);
    content.push_str("<b>&\"\\x01\\xC3\\xA9' / 200 9 0.1 0.5 2 <x>&\\x1B - - -\n");
    let logs = logs_of(content);
    let ran = logs.run(&["--svg", "to/figures", "access.log"]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    let texts = |name: &str| {
        let svg = std::fs::read_to_string(logs.path().join("to/figures").join(name)).unwrap();
        let document = Document::parse(&svg).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(document.root_element().tag_name().name(), "svg");
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        texts.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect::<Vec<_>>()
    };
    for (name, expected) in [
        ("order.svg", vec!["RSA, resumed", "no TLS", "1st request", "4th and later", "80", "2 ms", "800 µs"]),
        ("cache.svg", vec!["HIT", "NONE", "240", "40", "1 !"]),
        ("size.svg", vec!["≤ 1k", "≤ 16m", "241 requests"]),
        ("domain.svg", vec!["files.example", "0.5", "80 requests", "1 requests !", "<b>&\"\\x01é'"]),
    ] {
        let texts = texts(name);
        for text in expected {
            let is_there =
                texts.iter().any(|found| found == text || (text == "241 requests" && found == "241"));
            assert!(is_there, "{name}: {text}: {texts:?}");
        }
    }
    // a folder that cannot be made
    let ran = logs.run(&["--svg", "access.log/x", "access.log"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.err.contains("access.log/x"), "{}", ran.err);
}

#[test]
fn the_lines_of_subrequests_are_left_out_and_counted() {
    let json = |uri: &str, cpu: u64, sub: &str| {
        format!("{{\"uri\":\"{uri}\",\"request_cpu_ns\":{cpu},\"connection_requests\":1{sub}}}\n")
    };
    let logs = logs_of(
        json("/one", 145_000, ",\"request_cpu_subrequest\":\"1\"")
            + &json("/two", 189_000, ",\"request_cpu_subrequest\":1")
            + &json("/page", 234_000, ",\"request_cpu_subrequest\":\"0\"")
            + &json("/old", 100_000, ""),
    );
    let ran = logs.run(&["--figure", "order", "--format", "json", "access.log"]);
    assert_eq!(rows(&ran.out), [row("order", "", "1", 2, 167e-6, 0.0)]);
    assert_eq!(
        ran.err,
        "cpu-report: 2 lines are of subrequests ($request_cpu_subrequest is 1), and were left out: the line \
         of the main request includes their CPU\n"
    );
    let line = "a.example / 200 900 0.001 0.002000000 1 - TLSv1.3 RSA . ";
    let logs = logs_of(format!("{line}0\n{line}1\n{line}- more\n"));
    let ran = logs.run(&["--figure", "order", "--format", "json", "access.log"]);
    assert_eq!(rows(&ran.out), [row("order", "RSA", "1", 2, 0.002, 0.0)]);
    assert!(ran.err.contains("1 line is of a subrequest ($request_cpu_subrequest is 1), and was left out"));
}

#[test]
fn json_that_nginx_escaped_by_default_is_read_with_advice() {
    let logs = logs_of(
        "{\"request_cpu_ns\":5000,\"connection_requests\":1,\"ua\":\"\\x22bot\\x22\"}\n\x20{\"\
         request_cpu_ns\":7000,\"connection_requests\":1,\"bytes_sent\":-,\"t\":}\n{\"request_cpu_ns\":-,\"\
         connection_requests\":1}\n{\"request_cpu_ns\":,\"connection_requests\":1}\n[\n{\"request_cpu_ns\":\
         9000,\"connection_requests\":1},\n]\n",
    );
    let ran = logs.run(&["--figure", "order", "--format", "json", "access.log"]);
    assert_eq!(rows(&ran.out), [row("order", "", "1", 3, 7e-6, 0.0)], "{}", ran.err);
    for message in [
        "1 line is not valid JSON, but was read: values with \\x22",
        "escape=json",
        "3 lines are not valid JSON, but were read: values without quotes",
        "1 line is not valid JSON, but was read: a comma at the end",
        "2 lines are without $request_cpu_ns or $request_cpu_time, and were left out",
        "access.log:5: a JSON array is not a log line; jq -c '.[]' FILE",
        "2 of 7 lines are broken, and were skipped",
    ] {
        assert!(ran.err.contains(message), "{message}\n{}", ran.err);
    }
    for parser in ["column", "expected", "EOF", "invalid escape"] {
        assert!(!ran.err.contains(parser), "{parser}\n{}", ran.err);
    }
}

#[test]
fn lines_of_other_logs_are_named_with_help() {
    let combined = r#"10.0.0.1 - - [31/Jan/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "curl""#;
    let logs = logs_of(format!("{combined}\n{combined} \"-\"\n2026/01/31 12:00:00 [error] 1#1: x\n"));
    let ran = logs.run(&["access.log"]);
    assert_eq!(ran.status, Some(1));
    for message in [
        "access.log:1: the line is of log_format combined, which has no $request_cpu_time",
        "access.log:2: the line is of log_format main of nginx.org",
        "access.log:3: the line is of an error log",
        "add to nginx.conf: log_format cpu '$remote_addr - $remote_user [$time_local]",
        "\"$http_user_agent\" $request_cpu_time'; access_log",
    ] {
        assert!(ran.err.contains(message), "{message}\n{}", ran.err);
    }
    let traffic =
        r#"{"time":"2026-01-31T12:00:00Z","interval_ms":1000,"zone":"z","key":"a","requests":1,"cpu_ns":5}"#;
    for options in [
        &[][..],
        &["--field", "cpu=nope"],
        &["--field", "cpu_ns=cpu_ns", "--field", "order=requests"],
        &["--field", "order=key"],
        &["--from", "2026-01-31"],
        &["--log-format", "$host $request_cpu_time"],
    ] {
        let ran = logs_of(traffic).run(&[options, &["access.log"]].concat());
        assert_eq!((ran.status, ran.out.as_str()), (Some(1), ""), "{options:?} {}", ran.err);
        assert!(
            ran.err.contains("1 line of a traffic log; cpu-report domains reads"),
            "{options:?} {}",
            ran.err
        );
        assert!(!ran.err.contains("broken"), "{}", ran.err);
    }
    let ran = logs_of(format!("a.example:443 {combined}\n")).run(&["access.log"]);
    assert!(ran.err.contains("log format after a host and port") && !ran.err.contains("cpu '$remote_addr"));
    assert!(
        ran.err.contains("log_format cpu '$host:$server_port $remote_addr - $remote_user ["),
        "{}",
        ran.err
    );
}

#[test]
fn a_variable_that_no_line_has_is_an_error_that_names_those_there_are() {
    let json = "{\"request_cpu_ns\":5,\"connection_requests\":1,\"pop\":\"fra\"}\n";
    for (content, known) in [
        (json, "lines have request_cpu_ns, connection_requests, pop\n"),
        (LOG, "lines have host, request_uri, status, bytes_sent, "),
    ] {
        for (option, value) in
            [("--split", "nope"), ("--by", "$nope"), ("--field", "cpu=nope"), ("--field", "order=nope")]
        {
            let ran = logs_of(content).run(&[option, value, "access.log"]);
            assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{option} {value}: {}", ran.err);
            assert!(
                ran.err.contains("no line has $nope, which --") && ran.err.contains(known),
                "{}",
                ran.err
            );
        }
    }
    for (option, value) in [("--split", "nope"), ("--by", "nope"), ("--field", "order=nope")] {
        let ran = logs_of(COMBINED).run(&["--log-format", COMBINED_FORMAT, option, value, "access.log"]);
        assert_eq!(ran.status, Some(2), "{option}: {}", ran.err);
        assert!(ran.err.contains("the log_format has no $nope, which --"), "{}", ran.err);
    }
}

#[test]
fn requests_are_added_up_by_any_variable() {
    let logs = logs_of(COMBINED);
    let by = |variable: &str, more: &[&str]| {
        let all = [&["--log-format", COMBINED_FORMAT, "--by", variable], more, &["access.log"]].concat();
        let ran = logs.run(&[&all[..], &["--format", "json"]].concat());
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        let is_note = |line: &str| line.contains(" is taken from $request") || line.contains("told apart");
        assert!(ran.err.lines().all(is_note), "{}", ran.err);
        rows(&ran.out)
    };
    let value = |variable: &str, name: &str, requests, mean| row("by", variable, name, requests, mean, 0.0);
    assert_eq!(by("status", &[]), [value("status", "200", 2, 6e-6), value("status", "400", 1, 9e-6)]);
    assert_eq!(
        by("request_method", &[]),
        [value("request_method", "GET", 2, 6e-6), value("request_method", "-", 1, 9e-6)]
    );
    let uris = [("-", 9e-6), ("/\"", 7e-6), ("/", 5e-6)].map(|(name, mean)| value("uri", name, 1, mean));
    assert_eq!(by("$uri", &[]), uris);
    let top = [value("uri", "-", 1, 9e-6), value("uri", "all others", 2, 6e-6)];
    assert_eq!(by("uri", &["--top", "1"]), top);
    let capped = by("uri", &["--max-values", "1"]);
    assert_eq!(capped.iter().map(|row| row.3).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(by("status", &["--figure", "order"]).len(), 5);

    let table = logs_of(LOG).run(&["--by", "uri", "--min-requests", "1", "--svg", ".", "access.log"]);
    let expected = "\
CPU per request, by $uri

uri  requests  CPU time   share  CPU/request   ± 95 %       p50      p95      p99
---  --------  --------  ------  -----------  -------  --------  -------  -------
/a          2   5.00 ms  51.0 %      2.50 ms  2.94 ms   1.00 ms  3.99 ms  3.99 ms
/           6   4.80 ms  49.0 %     800.0 µs  563.5 µs  698.4 µs  1.99 ms  1.99 ms
";
    assert!(table.out.starts_with("CPU per request, by $uri\n"), "{}", table.out);
    for part in ["share", "51.0 %", "49.0 %", "800.0 µs", "563.5 µs"] {
        assert!(expected.contains(part) && table.out.contains(part), "{}", table.out);
    }
    assert_eq!(table.err, "cpu-report: drawn: ./by.svg\n");
}

#[test]
fn lines_that_look_like_one_request_are_said() {
    let line = |id: &str, more: &str| {
        format!("{{\"request_cpu_ns\":5,\"connection_requests\":1,\"request_id\":\"{id}\"{more}}}\n")
    };
    let ran =
        logs_of(line("a", "") + &line("b", "") + &line("a", "")).run(&["--figure", "order", "access.log"]);
    assert!(ran.err.contains("1 line with the $request_id of a line shortly before"), "{}", ran.err);
    let sub = ",\"request_cpu_subrequest\":0";
    let logs = logs_of(line("a", sub) + &line("a", sub));
    logs.run(&["--figure", "order", "--min-requests", "1", "access.log"]).fine();
}

#[test]
fn a_name_is_the_same_however_it_was_written() {
    // by escape=default a letter has eight bytes: these differ behind the 255th
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| if byte > 126 { format!("\\x{byte:02X}") } else { char::from(byte).to_string() })
            .collect()
    };
    let names = ["/каталог/товары/обувь/женская/зимняя/сапоги", "/каталог/товары/обувь/женская/зимняя/туфли"];
    let logs = logs_of(names.map(|name| format!("{} 0.001 100\n", escaped(name))).concat());
    let format = "$uri $request_cpu_time $bytes_sent";
    let out = logs.run(&["--by", "uri", "--log-format", format, "--format", "csv", "access.log"]).fine();
    assert!(names.iter().all(|name| out.contains(&format!(",{name},1,"))), "{out}");
    let json = [r#""/caf\u00e9""#, r#""/café""#, r#""a\/b""#, r#""a/b""#];
    let logs = logs_of(
        json.map(|name| format!("{{\"u\":{name},\"request_cpu_ns\":5,\"host\":{name},\"bytes_sent\":9}}\n"))
            .concat(),
    );
    let out = logs.run(&["--by", "u", "--format", "csv", "access.log"]).fine();
    assert!(out.contains(",/café,2,") && out.contains(",a/b,2,"), "{out}");
    let of = |pattern: &str| {
        logs.run(&["--figure", "domain", "--format", "csv", "--domain", pattern, "access.log"]).fine()
    };
    assert!(of("/CAFÉ").contains(",/café,2,"), "a pattern is of names as they are shown");
}

#[test]
fn a_figure_is_drawn_whatever_clients_call_themselves() {
    let logs = logs_of("{\"a\":\"x\u{FFFF}\u{FFFE}<&\u{1}\",\"request_cpu_ns\":7200000000000}\n");
    let ran = logs.run(&["--by", "a", "--svg", "figures", "--format", "csv", "access.log"]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    let svg = std::fs::read_to_string(logs.path().join("figures/by.svg")).unwrap();
    roxmltree::Document::parse(&svg).unwrap();
    assert!(!svg.contains(['\u{FFFF}', '\u{FFFE}', '\u{1}']));
}

#[test]
fn percentiles_have_no_upper_bound() {
    let line = "{\"request_cpu_time\":7200.5,\"connection_requests\":1}\n".repeat(3);
    let out = logs_of(line).run(&["--figure", "order", "--format", "json", "access.log"]).fine();
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let p99 = json["rows"][0]["cpu_seconds_p99"].as_f64().unwrap();
    assert!((p99 / 7200.5 - 1.0).abs() < 0.01, "{p99}");
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    let logs = logs_of(LOG);
    for options in [
        &["--field", "cpu=a", "--field", "cpu=b"][..],
        &["--field", "cpu=status", "--field", "cpu_ns=x"],
        &["--field", "cipher=status", "--split", "host"],
    ] {
        let ran = logs.run(&[options, &["access.log"]].concat());
        assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
        assert!(
            ran.err.contains("only one of them") || ran.err.contains("exclude each other"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_value_with_the_name_of_the_sum_of_others_is_distinguished() {
    let names = ["all others", "a", "b", "c"];
    let lines: String = names.map(|name| format!("{{\"u\":\"{name}\",\"request_cpu_ns\":5}}\n")).concat();
    let logs = logs_of(lines);
    let arguments = ["--by", "u", "--top", "2", "--columns", "name,row", "--svg", ".", "access.log"];
    let csv = logs.run(&[&arguments[..], &["--format", "csv"]].concat());
    assert_eq!(csv.out, "name,row\na,value\nall others,value\nall others,rest\n");
    let table = logs.run(&["--by", "u", "--top", "2", "access.log"]).fine();
    assert!(table.contains("\n\"all others\" ") && table.contains("\nall others "), "{table}");
    assert!(!table.contains("rest"), "{table}");
    let svg = std::fs::read_to_string(logs.path().join("by.svg")).unwrap().replace("&quot;", "\"");
    assert!(svg.contains("\n\"all others\"\n") && svg.contains("\nall others\n"), "{svg}");
    // any of the three forms of a time may be in a variable of the user's own
    for time in ["1769860800.123", "2026-01-31T12:00:00+00:00", "31/Jan/2026:12:00:00 +0000"] {
        let logs = logs_of(format!("{{\"ts\":\"{time}\",\"u\":\"a\",\"request_cpu_ns\":5}}\n"));
        let arguments =
            ["--by", "u", "--field", "time=ts", "--from", "2026-01-31", "--to", "2026-02-01", "access.log"];
        assert_eq!(rows_of(&logs, &arguments).len(), 1, "{time}");
    }
}

#[test]
fn there_is_one_sum_of_groups_and_of_statuses_and_the_bound_is_said() {
    let line = |name: &str| {
        format!(
            "{{\"u\":\"{name}\",\"request_cpu_ns\":5,\"connection_requests\":1,\"upstream_cache_status\":\"\
             {name}\"}}\n"
        )
    };
    let early: String = (0..64).map(|n| line(&format!("g{n:02}"))).collect();
    let logs = logs_of(early + &line("late").repeat(100) + &line("others"));
    let ran = logs.run(&["--split", "u", "--format", "json", "--figure", "order,cache,order", "access.log"]);
    let rows = rows(&ran.out);
    let count = |figure: &str| rows.iter().filter(|row| row.0 == figure).count();
    assert_eq!((count("order"), count("cache")), (6, 65));
    for row in
        [row("order", "all others", "1", 160, 5e-9, 0.0), row("cache", "", "all others", 101, 5e-9, 0.0)]
    {
        assert!(rows.contains(&row), "{rows:?}");
    }
    for message in [
        "59 groups with fewer requests are among \"all others\"",
        "no more than 64 groups are told apart while reading",
        "no more than 64 cache statuses are told apart while reading",
    ] {
        assert_eq!(ran.err.matches(message).count(), 1, "{message}\n{}", ran.err);
    }
}

#[test]
fn parts_of_a_request_are_taken_from_any_variable_that_has_them() {
    let logs = logs_of("{\"request_cpu_ns\":5,\"request_uri\":\"/a?b\",\"connection_requests\":0}\n");
    let ran = logs.run(&["--by", "URI", "--format", "csv", "--columns", "name,requests", "access.log"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "name,requests\n/a,1\n"), "{}", ran.err);
    assert_eq!(ran.err.lines().filter(|line| line.ends_with("$URI is taken from $request_uri")).count(), 1);
    let ran = logs.run(&["--by", "request_method", "access.log"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("no line has $request_method or $request, which --by asks for"), "{}", ran.err);
    let ran = logs.run(&["--figure", "order", "access.log"]);
    assert!(ran.err.contains("1 request has 0 as $connection_requests, which counts from 1"), "{}", ran.err);
    assert!(!ran.err.contains("does not tell"), "{}", ran.err);
}

#[test]
fn only_variables_that_lines_have_are_named_and_not_too_many() {
    let ran = logs_of("a.example / 200 900 0.001 0.002 1\n").run(&["--split", "tls_key", "access.log"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.err.contains("request_cpu_time, connection_requests\n"), "{}", ran.err);
    let many: String = (0..30).map(|n| format!(",\"m{n}\":1")).collect();
    let ran = logs_of(format!("{{\"request_cpu_ns\":5{many}}}\n")).run(&["--split", "nope", "access.log"]);
    assert!(ran.err.contains("m18 and 11 more\n"), "{}", ran.err);
}

#[test]
fn a_cpu_time_of_more_than_31_years_is_none() {
    let logs = logs_of("{\"request_cpu_ns\":1000000000000000001,\"connection_requests\":1}\n");
    let ran = logs.run(&["--figure", "order", "access.log"]);
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.err.contains("\"1000000000000000001\" is not a valid CPU time in nanoseconds"),
        "{}",
        ran.err
    );
}

#[test]
fn the_last_of_members_with_the_same_name_counts() {
    let logs = logs_of("{\"request_cpu_ns\":5,\"connection_requests\":1,\"request_cpu_ns\":7}\n".repeat(2));
    assert_eq!(rows_of(&logs, &["--figure", "order", "access.log"]), [row("order", "", "1", 2, 7e-9, 0.0)]);
}

#[test]
fn json_that_is_no_log_line_is_named_with_help() {
    for (line, message) in [
        ("[{\"a\":1},", "jq -c '.[]' FILE"),
        ("{\"a\":1}]", "jq -c '.[]' FILE"),
        ("[1]", "jq -c '.[]' FILE"),
        (" [ {", "jq -c '.[]' FILE"),
        ("[\"a\", 1]", "jq -c '.[]' FILE"),
        ("null", "the line is a JSON value, but not an object"),
        ("\"x\"", "the line is a JSON value, but not an object"),
        ("5,", "the line is a JSON value, but not an object"),
    ] {
        let ran = logs_of(line).run(&["access.log"]);
        assert_eq!(ran.status, Some(1));
        assert!(ran.err.contains(message), "{line} {}", ran.err);
    }
    // a host in brackets is none
    let ran = logs_of("[2001:db8::1] / 200 900 0.001 0.002 1\n").run(&["--figure", "domain", "access.log"]);
    assert!(ran.out.contains("[2001:db8::1]"), "{}", ran.err);
    let object = |more: &str| format!("{{\"request_cpu_ns\":5,\"connection_requests\":1{more}\n");
    let ran = logs_of(object(",\"a\":\"x\ty\"}") + &object(",}")).run(&["--figure", "order", "access.log"]);
    for message in ["1 line is not valid JSON, but was read: tabs or other", "a comma before the last \"}\""]
    {
        assert!(ran.err.contains(message) && !ran.err.contains("x22"), "{}", ran.err);
    }
}

#[test]
fn wrong_numbers_and_missing_files_are_reported_in_plain_words() {
    let logs = logs_of(LOG);
    for option in ["--min-requests", "--top", "--max-values", "--max-domains"] {
        for value in ["x", "1.5", "", "99999999999999999999"] {
            let ran = logs.run(&[option, value, "access.log"]);
            assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""));
            let message = format!("invalid value '{value}' for '{option} <N>': it must be a whole number");
            assert!(ran.err.contains(&message) && !ran.err.contains("digit"), "{}", ran.err);
        }
    }
    for arguments in [&["missing.log"][..], &["--log-format-from", "missing.conf", "access.log"]] {
        let ran = logs.run(arguments);
        assert!(
            ran.err.contains("No such file or directory\n") && !ran.err.contains("os error"),
            "{}",
            ran.err
        );
    }
}

#[cfg(unix)]
#[test]
fn a_configuration_may_come_through_a_pipe() {
    let logs = logs_of(COMBINED);
    let conf = format!("log_format cpu {COMBINED_FORMAT};");
    for place in ["/dev/stdin", "/dev/stdin:cpu"] {
        let ran =
            logs.run_with(&["--log-format-from", place, "--figure", "order", "access.log"], conf.as_bytes());
        assert_eq!(ran.status, Some(0), "{place}: {}", ran.err);
    }
    let ran = logs.run(&["--log-format-from", ".:cpu", "access.log"]);
    assert!(ran.err.contains("it is a folder") && ran.status == Some(2), "{}", ran.err);
}
