//! `cpu-report domains` as it is run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

mod common;
use common::Folder;

const COMMAND: &[&str] = &["domains"];

/// A line, with what is not given at its usual value.
fn line(
    end: &str,
    seconds: f64,
    host: &str,
    zone: &str,
    key: &str,
    [requests, cpu_ms, sent_mb]: [u64; 3],
) -> String {
    let (interval, cpu, sent) = ((seconds * 1e3) as u64, cpu_ms * 1_000_000, sent_mb * 1_000_000);
    let key = serde_json::to_string(key).unwrap();
    format!(
        concat!(
            r#"{{"time":"2026-01-31T{end}.000Z","interval_ms":{interval},"host":"{host}","zone":"{zone}""#,
            r#","key":{key},"requests":{requests},"cpu_ns":{cpu},"wakeups":1,"sent_bytes":{sent}"#,
            r#","received_bytes":0,"2xx":0,"4xx":1,"5xx":2}}"#,
        ),
        end = end,
        interval = interval,
        host = host,
        zone = zone,
        key = key,
        requests = requests,
        cpu = cpu,
        sent = sent
    ) + "\n"
}

/// From 12:00 to 15:20, which are 40 slots of five minutes.
fn logs() -> Folder {
    let logs = Folder::of(COMMAND);
    let edge_1 = [
        line("12:05:00", 300.0, "edge-1", "domains", "api.example", [100, 900_000, 500]),
        line("12:05:00", 300.0, "edge-1", "domains", "www.example", [1000, 30_000, 6000]),
        line("12:10:00", 300.0, "edge-1", "domains", "api.example", [100, 600_000, 500]),
        // a minute of each slot
        line("13:01:00", 120.0, "edge-1", "domains", "www.example", [500, 12_000, 4000]),
        line("15:20:00", 60.0, "edge-1", "domains", "old.example", [0, 1, 0]),
    ];
    let edge_2 = [
        line("12:05:00", 300.0, "edge-2", "domains", "api.example", [50, 600_000, 1000]),
        line("12:30:00", 300.0, "edge-2", "domains", "api.example", [50, 300_000, 0]),
        line("15:20:00", 60.0, "edge-2", "domains", "api.example", [700, 60_000, 3000]),
    ];
    logs.file("edge-1", edge_1.concat());
    let mut gzip =
        GzEncoder::new(File::create(logs.path().join("edge-2.gz")).unwrap(), Compression::default());
    gzip.write_all(edge_2.concat().as_bytes()).unwrap();
    gzip.finish().unwrap();
    logs
}

const FILES: [&str; 2] = ["edge-1", "edge-2.gz"];

fn with<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &FILES].concat()
}

#[test]
fn the_table_is_as_computed_by_hand() {
    // api: 2460 s in 12,000 s; slots of 5, 2, 1 and 0.2 cores, so the third highest of 40, which is the 95th
    // percentile, is of 1
    assert_eq!(
        logs().run(&with(&[])).fine(),
        "\
2026-01-31T12:00:00Z to 2026-01-31T15:20:00Z, zone domains

domain       requests      GB    CPU time   cores    peak    95 %  CPU/request  CPU s/GB    4xx    5xx
-----------  --------  ------  ----------  ------  ------  ------  -----------  --------  -----  -----
api.example     1,000   5.000  2460.000 s  0.2050  5.0000  1.0000       2.46 s    492.00  0.5 %  1.0 %
www.example     1,500  10.000    42.000 s  0.0035  0.1000  0.0200     28.00 ms      4.20  0.1 %  0.3 %
old.example         0   0.000     0.001 s  0.0000  0.0000  0.0000            -         -      -      -
-----------  --------  ------  ----------  ------  ------  ------  -----------  --------  -----  -----
all             2,500  15.000  2502.001 s  0.2085  5.1000  1.0000       1.00 s    166.80  0.3 %  0.6 %
"
    );
}

#[test]
fn what_limits_refused_has_a_column_where_there_is_any() {
    let logs = logs();
    let refused = line("12:10:00", 300.0, "edge-1", "domains", "www.example", [500, 1000, 0])
        .replace("\"5xx\":2", "\"5xx\":2,\"refused\":400");
    logs.file("refused", refused);
    let run = |files: &[&'static str]| logs.run(&[&["--format", "csv", "--seconds"], files].concat()).fine();
    // the column is in CSV and JSON always, and in a table where there is something in it
    assert!(
        run(&["edge-1"])
            .lines()
            .all(|row| row.contains(",refused,from,to") || row.contains(",0,2026-01-31T"))
    );
    assert!(!logs.run(&["edge-1"]).fine().contains("refused"));
    let out = run(&["edge-1", "refused"]);
    let last: Vec<(&str, &str)> =
        out.lines().map(|row| (row.split(',').nth(2).unwrap(), row.rsplit(',').nth(2).unwrap())).collect();
    assert_eq!(
        last,
        [
            ("domain", "refused"),
            ("api.example", "0"),
            ("www.example", "400"),
            ("old.example", "0"),
            ("", "400")
        ]
    );
    // of 2,000 requests, and of 2,200
    let table = logs.run(&["edge-1", "refused"]).fine();
    let shares: Vec<&str> = table.lines().filter_map(|row| row.split("  ").last()).map(str::trim).collect();
    assert_eq!(shares[2..], ["refused", "-------", "0.0 %", "20.0 %", "-", "-------", "18.2 %"], "{table}");
    // a zone without any has the column too, as it may be one file with others
    let hours =
        logs.run(&["edge-1", "refused", "--by", "5m", "--format", "csv", "--domain", "www.example"]).fine();
    assert_eq!(
        hours.lines().map(|row| row.rsplit(',').nth(2).unwrap()).collect::<Vec<_>>()[..3],
        ["refused", "0", "400"],
        "{hours}"
    );
}

/// With its highest second, as newer logs have it.
fn with_peak(line: String, ms: u64) -> String {
    let members = format!(",\"duration_ms\":1,\"peak_cpu_ns\":{}}}", ms * 1_000_000);
    line.replace('}', &members)
}

/// Without responses.
fn idle(line: String) -> String {
    line.replace("\"4xx\":1,\"5xx\":2", "\"4xx\":0,\"5xx\":0")
}

/// Two servers, from 12:00 to 13:02.
fn logs_with_peaks() -> Folder {
    let logs = Folder::of(COMMAND);
    let edge_1 = [
        with_peak(line("12:01:00", 60.0, "edge-1", "domains", "a.example", [10, 6000, 1]), 1500),
        // its interval begins a few milliseconds before the hour, as intervals do
        with_peak(line("13:01:00", 60.007, "edge-1", "domains", "a.example", [10, 600, 1]), 4000),
        with_peak(line("13:01:00", 60.0, "edge-1", "domains", "b.example", [10, 60_000, 1]), 2000),
        // what ended before: the second was over only then
        with_peak(idle(line("13:02:00", 60.0, "edge-1", "domains", "c.example", [0, 0, 0])), 30),
    ];
    let edge_2 = [
        with_peak(line("12:01:00", 60.0, "edge-2", "domains", "a.example", [10, 6000, 1]), 2500),
        with_peak(line("12:02:00", 60.0, "edge-2", "domains", "c.example", [1, 20, 0]), 20),
        with_peak(idle(line("12:02:00", 60.0, "edge-2", "domains", "idle.example", [0, 0, 0])), 0),
    ];
    logs.file("edge-1", edge_1.concat());
    logs.file("edge-2", edge_2.concat());
    logs
}

/// Columns of CSV.
fn columns(csv: &str, names: &[&str]) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let places: Vec<usize> =
        names.iter().map(|name| header.iter().position(|title| title == *name).expect(name)).collect();
    let rows = reader.records().map(Result::unwrap);
    rows.map(|row| places.iter().map(|at| &row[*at]).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_highest_second_is_that_of_one_domain_on_one_server() {
    let logs = logs_with_peaks();
    let files = ["edge-1", "edge-2", "--format", "csv"];
    let run = |more: &[&str]| logs.run(&[&files, more].concat()).fine();
    let shown = |out: &str| columns(out, &["row", "domain", "peak_second_cores"]);
    assert_eq!(
        shown(&run(&["--sort", "peak-second", "--top", "2"])),
        ["domain a.example 4", "domain b.example 2", "rest  0.03", "all  4"]
    );
    assert_eq!(shown(&run(&["--host", "edge-2", "--cores", "--domain", "a*"]))[0], "domain a.example 2.5");
    // one that is known to be nothing
    assert_eq!(shown(&run(&["--sort", "domain"]))[3..], ["domain idle.example 0", "all  4"]);
    // it is one of the cores
    assert!(!run(&["--seconds", "--sort", "peak-second"]).contains("peak"));
    let table = logs.run(&["edge-1", "edge-2", "--cores", "--sort", "peak-second"]).fine();
    let row: Vec<&str> = table.lines().nth(4).unwrap().split_whitespace().collect();
    assert_eq!(row[..7], ["a.example", "30", "0.003", "0.0034", "0.0400", "0.0400", "4.0000"], "{table}");
    assert!(table.lines().nth(2).unwrap().contains("  95 %  peak 1s  CPU/request"), "{table}");
}

#[test]
fn the_highest_second_is_in_the_row_of_its_time() {
    let logs = logs_with_peaks();
    let run = |more: &[&str]| logs.run(&[&["edge-1", "edge-2", "--format", "csv"], more].concat()).fine();
    let shown = |out: &str| columns(out, &["domain", "time", "peak_second_cores"]);
    let hours = [
        "a.example 2026-01-31T12:00:00Z 2.5",
        "a.example 2026-01-31T13:00:00Z 4",
        "b.example 2026-01-31T13:00:00Z 2",
        "c.example 2026-01-31T12:00:00Z 0.02",
        "c.example 2026-01-31T13:00:00Z 0.03",
        " 2026-01-31T12:00:00Z 2.5",
        " 2026-01-31T13:00:00Z 4",
    ];
    assert_eq!(shown(&run(&["--by", "hour", "--sort", "domain"])), hours);
    // c.example used nothing after 13:00: without the second there is nothing to show
    let without = run(&["--by", "hour", "--seconds", "--domain", "c.example"]);
    assert_eq!(columns(&without, &["time"]), ["2026-01-31T12:00:00Z"; 2]);
    // the slot of five minutes has no peak, but seconds; that before 13:00 has a few milliseconds of a line
    let slots = shown(&run(&["--by", "5m", "--domain", "a.example"]));
    assert_eq!(
        slots[..3],
        [
            "a.example 2026-01-31T12:00:00Z 2.5",
            "a.example 2026-01-31T12:55:00Z ",
            "a.example 2026-01-31T13:00:00Z 4"
        ]
    );
    assert_eq!(shown(&run(&["--by", "day", "--domain", "a.example"]))[0], "a.example 2026-01-31T00:00:00Z 4");
    assert_eq!(
        shown(&run(&["--by", "month", "--domain", "b.example"]))[0],
        "b.example 2026-01-01T00:00:00Z 2"
    );
}

#[test]
fn the_highest_second_of_a_line_counts_where_it_may_have_been() {
    let logs = logs_with_peaks();
    let peaks = |from: &str, to: &str| {
        let (from, to) = (format!("2026-01-31T{from}Z"), format!("2026-01-31T{to}Z"));
        let arguments =
            ["edge-1", "edge-2", "--format", "csv", "--domain", "a.example", "--from", &from, "--to", &to];
        columns(&logs.run(&arguments).fine(), &["row", "peak_second_cores"])
    };
    assert_eq!(peaks("12:00:00", "12:00:30"), ["domain 2.5", "all 2.5"]);
    assert_eq!(peaks("12:00:30", "12:05:00"), ["domain 2.5", "all 2.5"]);
    assert_eq!(peaks("12:00:00", "13:00:01"), ["domain 4", "all 4"]);
    assert_eq!(peaks("12:00:00", "13:00:00.500"), ["domain 2.5", "all 2.5"]);
}

#[test]
fn where_lines_do_not_tell_the_highest_second_it_is_not_shown_or_said() {
    let logs = logs_with_peaks();
    logs.file("old", line("12:05:00", 60.0, "edge-1", "domains", "old.example", [1, 9_000_000, 1]));
    assert!(!logs.run(&["old", "--by", "hour"]).fine().contains("peak 1s"));
    // files of several months can be put together
    let alone = logs.run(&["old", "--format", "csv"]).fine();
    assert_eq!(columns(&alone, &["domain", "peak_second_cores"]), ["old.example ", " "]);
    let ran = logs.run(&["old", "edge-1", "--format", "csv"]);
    assert_eq!(
        (ran.status, ran.err.as_str()),
        (Some(0), "cpu-report: 1 of 5 lines have no \"peak_cpu_ns\": peak 1s is taken from the others\n")
    );
    let shown = columns(&ran.out, &["domain", "peak_second_cores"]);
    assert_eq!(shown, ["old.example ", "b.example 2", "a.example 4", "c.example 0.03", " 4"]);
    assert!(logs.run(&["old", "edge-1"]).out.lines().nth(4).unwrap().contains("  -  "));
    let json: Value =
        serde_json::from_str(&logs.run(&["old", "edge-1", "--format", "json", "--by", "day"]).out).unwrap();
    assert_eq!(json["rows"][0]["peak_second_cores"], Value::Null);
    assert_eq!(json["rows"][1]["peak_second_cores"], 2.0);
    // where it is not asked for, nothing is missing
    logs.run(&["old", "edge-1", "--seconds"]).fine();
    logs.run(&["old", "edge-1", "--domain", "a.example"]).fine();
    let ran = logs.run(&["old", "--sort", "peak-second"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.err.contains("--sort peak-second: no line has \"peak_cpu_ns\""), "{}", ran.err);
    let ran = logs.run(&["--prometheus", "http://127.0.0.1:9", "--sort", "peak-second"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.err.contains("--sort peak-second: the gauge in Prometheus"), "{}", ran.err);
}

#[test]
fn a_rest_stands_for_the_domains_that_are_not_shown() {
    let out = logs().run(&with(&["--top", "1", "--sort", "gb", "--seconds"])).fine();
    let rows: Vec<&str> = out.lines().skip(4).collect();
    assert_eq!(
        rows,
        [
            "www.example          1,500  10.000    42.000 s     28.00 ms      4.20  0.1 %  0.3 %",
            "rest (2 domains)     1,000   5.000  2460.001 s       2.46 s    492.00  0.6 %  1.2 %",
            "----------------  --------  ------  ----------  -----------  --------  -----  -----",
            "all                  2,500  15.000  2502.001 s       1.00 s    166.80  0.3 %  0.6 %",
        ]
    );
}

#[test]
fn csv_and_json_hold_the_same() {
    let logs = logs();
    for more in [
        &[][..],
        &["--by", "hour"],
        &["--by", "5m", "--top", "1"],
        &["--cores", "--by", "day"],
        &["--by", "month"],
    ] {
        let csv = logs.run(&with(&[&["--format", "csv"], more].concat())).fine();
        let json: Value =
            serde_json::from_str(&logs.run(&with(&[&["--format", "json"], more].concat())).fine()).unwrap();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let names = reader.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let objects = json["rows"].as_array().unwrap();
        assert_eq!(rows.len(), objects.len());
        assert!(!rows.is_empty());
        for (row, object) in rows.iter().zip(objects) {
            assert_eq!(object.as_object().unwrap().len(), names.len());
            for (name, field) in names.iter().zip(row) {
                match &object[name] {
                    Value::Null => assert_eq!(field, "", "{name}"),
                    Value::String(text) => assert_eq!(field, text, "{name}"),
                    // serde_json reads to the last digit but one
                    number => {
                        let (field, number) = (field.parse::<f64>().unwrap(), number.as_f64().unwrap());
                        assert!((field - number).abs() <= 1e-15 * number, "{name}: {field} {number}");
                    }
                }
            }
        }
    }
}

#[test]
fn numbers_for_programs_are_in_base_units() {
    let out = logs().run(&with(&["--format", "csv", "--domain", "API.*"])).fine();
    assert_eq!(
        out,
        "\
zone,row,domain,requests,sent_gb,cpu_seconds,cores,peak_cores,p95_cores,peak_second_cores,\
         cpu_seconds_per_request,cpu_seconds_per_gb,responses_4xx,responses_5xx,refused,from,to
domains,domain,api.example,1000,5,2460,0.205,5,1,,2.46,492,5,10,0,2026-01-31T12:00:00Z,2026-01-31T15:20:00Z
domains,all,,1000,5,2460,0.205,5,1,,2.46,492,5,10,0,2026-01-31T12:00:00Z,2026-01-31T15:20:00Z
"
    );
    let json: Value = serde_json::from_str(&logs().run(&with(&["--format", "json"])).fine()).unwrap();
    assert_eq!(
        (&json["from"], &json["to"]),
        (&"2026-01-31T12:00:00Z".into(), &"2026-01-31T15:20:00Z".into())
    );
    assert_eq!(json["rows"][2]["domain"], "old.example");
    assert_eq!(json["rows"][2]["cpu_seconds_per_request"], Value::Null);
    assert_eq!(json["rows"][3]["row"], "all");
}

#[test]
fn a_line_counts_in_proportion_where_it_spans_a_border() {
    // the line that ends at 13:01 covers two minutes
    let out = logs()
        .run(&with(&["--by", "hour", "--domain", "www.example", "--format", "csv", "--seconds"]))
        .fine();
    let rows: Vec<&str> = out.lines().skip(1).take(2).collect();
    assert_eq!(
        rows,
        [
            "domains,domain,www.example,2026-01-31T12:00:00Z,1250,8,36,0.0288,4.5,1,3,0,2026-01-31T12:00:\
             00Z,2026-01-31T13:00:00Z",
            "domains,domain,www.example,2026-01-31T13:00:00Z,250,2,6,0.024,3,1,1,0,2026-01-31T13:00:00Z,\
             2026-01-31T14:00:00Z",
        ]
    );
    let half = [
        "--from",
        "2026-01-31T13:00:00Z",
        "--to",
        "2026-01-31T13:00:30Z",
        "--domain",
        "www.example",
        "--format",
        "csv",
    ];
    let out = logs().run(&with(&half)).fine();
    assert_eq!(
        out.lines().nth(1),
        Some(
            "domains,domain,www.example,125,1,3,0.1,0.1,0.1,,0.024,3,0,0,0,2026-01-31T13:00:00Z,\
             2026-01-31T13:00:30Z"
        )
    );
}

#[test]
fn the_requested_time_is_half_open_and_uncovered_parts_are_reported() {
    let logs = logs();
    let out = logs
        .run(&with(&["--from", "2026-01-31T12:05:00Z", "--to", "2026-01-31T12:10:00Z", "--format", "csv"]))
        .fine();
    assert_eq!(
        out.lines().nth(1),
        Some(
            "domains,domain,api.example,100,0.5,600,2,2,2,,6,1200,1,2,0,2026-01-31T12:05:00Z,2026-01-31T12:\
             10:00Z"
        ),
        "what ended at 12:05 is not in it, what ended at 12:10 is"
    );
    assert_eq!(out.lines().count(), 3);
    let ran = logs.run(&with(&["--from", "2026-01-31", "--to", "2026-02-01", "--format", "csv"]));
    assert_eq!(ran.status, Some(0));
    assert!(ran.out.contains("api.example,1000,5,2460,0.02847222222222222,5,0,"), "{}", ran.out);
    assert!(ran.err.contains("there are no data for the time before 2026-01-31T12:00:00Z"), "{}", ran.err);
    assert!(ran.err.contains("there are no data for the time after 2026-01-31T15:20:00Z"), "{}", ran.err);
}

#[test]
fn zones_have_tables_of_their_own() {
    let logs = Folder::of(COMMAND);
    let usage = [10, 1000, 1000];
    logs.file(
        "log",
        [
            line("12:05:00", 300.0, "h", "paths", "/a", usage),
            line("12:05:00", 300.0, "h", "domains", "a.example", usage),
        ]
        .concat(),
    );
    let out = logs.run(&["log"]).fine();
    let heads: Vec<&str> = out.lines().filter(|line| line.contains("zone ")).collect();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].ends_with(", zone domains") && heads[1].ends_with(", zone paths"), "{out}");
    let all: Vec<&str> = out.lines().filter(|line| line.starts_with("all ")).collect();
    assert!(all.len() == 2 && all.iter().all(|row| row.contains(" 10 ")), "{out}");
    let csv = logs.run(&["log", "--format", "csv", "--zone", "pa*"]).fine();
    assert_eq!(csv.lines().filter(|row| row.starts_with("paths,")).count(), 2);
    assert_eq!(csv.lines().count(), 3);
}

#[test]
fn hosts_can_be_chosen() {
    let out = logs().run(&with(&["--host", "*-2", "--format", "csv"])).fine();
    assert!(out.contains("domains,all,,800,4,960,"), "{out}");
}

#[test]
fn lines_of_log_collectors_are_read_and_a_part_of_a_line_is_broken() {
    let logs = Folder::of(COMMAND);
    let of = |host: &str| line("12:05:00", 300.0, host, "domains", "a.example", [1, 1000, 1]);
    let line = of("h");
    let docker = |log: &str| {
        let log = serde_json::to_string(log).unwrap();
        format!("{{\"log\":{log},\"stream\":\"stdout\",\"time\":\"2026-01-31T12:05:00.1Z\"}}\n")
    };
    let prefixes =
        ["2026-01-31T12:05:00.1Z stdout F ", "[pod/a/b] ", "nginx-1  | ", "Jan 31 12:05:00 h nginx: "];
    let mut lines: String =
        prefixes.iter().enumerate().map(|(at, prefix)| format!("{prefix}{}", of(&at.to_string()))).collect();
    lines += &docker(&line);
    logs.file("log", lines);
    let out = logs.run(&["log", "--format", "csv"]).fine();
    assert!(out.contains("a.example,5,0.005,5,"), "{out}");
    logs.file("parts", docker(&line[..40]) + "2026-01-31T12:05:00.1Z stdout P {\"time\":\n" + &line);
    let ran = logs.run(&["parts", "--format", "csv"]);
    assert!(ran.out.contains("a.example,1,0.001,1,"), "{}", ran.out);
    assert!(ran.err.contains("2 of 3 lines are broken"), "{}", ran.err);
    assert!(ran.err.contains("use: jq -rj .log FILE | cpu-report"), "{}", ran.err);
}

#[test]
fn broken_lines_are_counted_shown_and_skipped() {
    let logs = logs();
    let good = line("12:05:00", 300.0, "h", "domains", "a.example", [1, 1000, 1]);
    let bad = b"not json\n{\"time\":\"2026-01-31T12:05:00Z\"}\n\xff\xfe\n\n".to_vec();
    let cut = &good.as_bytes()[..40];
    let later = line("12:10:00", 300.0, "h", "domains", "a.example", [1, 1000, 1]);
    logs.file("log", [good.as_bytes(), &bad, later.as_bytes(), cut].concat());
    let ran = logs.run(&["log", "--format", "csv"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.out.contains("a.example,2,0.002,2,"), "{}", ran.out);
    let messages: Vec<&str> = ran.err.lines().collect();
    assert_eq!(messages.len(), 5, "{messages:?}");
    for (message, begin) in messages.iter().zip([
        "log:2: ",
        "log:3: \"interval_ms\" is missing",
        "log:4: ",
        "log:7: the line is incomplete",
        "4 of 6 lines are broken",
    ]) {
        assert!(message.starts_with(&format!("cpu-report: {begin}")), "{message}");
    }
    assert_eq!(logs.run(&["log", "--strict"]).status, Some(1));
    logs.file("bad", bad);
    let ran = logs.run(&["bad"]);
    assert_eq!(ran.status, Some(1), "nothing but broken lines");
    assert!(ran.err.ends_with("the logs contain no lines of this time\n"), "{}", ran.err);
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_others_count() {
    let logs = logs();
    let ran = logs.run(&["missing", "edge-1", "--format", "csv"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.err.starts_with("cpu-report: missing: No such file"), "{}", ran.err);
    assert!(ran.out.contains("api.example,200,"), "{}", ran.out);
    let mut gzip = std::fs::read(logs.path().join("edge-2.gz")).unwrap();
    gzip.truncate(gzip.len() - 9);
    logs.file("cut.gz", gzip);
    assert_eq!(logs.run(&["cut.gz"]).status, Some(1));
}

#[test]
fn a_file_named_twice_is_warned_of() {
    let logs = logs();
    let ran = logs.run(&["edge-1", "./edge-1", "--format", "csv"]);
    assert_eq!(ran.status, Some(0));
    assert_eq!(ran.err, "cpu-report: ./edge-1 is named more than once\n");
}

#[test]
fn standard_input_is_read() {
    let logs = logs();
    for file in FILES {
        let content = std::fs::read(logs.path().join(file)).unwrap();
        let ran = logs.run_with(&["-", "--format", "csv"], &content);
        assert_eq!(ran.fine(), logs.run(&[file, "--format", "csv"]).fine());
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    let logs = logs();
    for arguments in [
        &[][..],
        &["log", "--by", "week"],
        &["log", "--from", "yesterday"],
        &["log", "--from", "2026-02-01", "--to", "2026-01-01"],
        &["log", "--domain", "[a"],
        &["log", "--cores", "--seconds"],
        &["log", "--top", "-1"],
        &["log", "--no-such-thing"],
        &["log", "--columns", "domain,nope"],
        &["log", "--columns", "domain,cores,domain"],
        &["log", "--columns", ""],
        &["log", "--columns", "domain", "--seconds"],
        &["log", "--columns", "domain", "--wide"],
        &["log", "--last", "7"],
        &["log", "--last", "24h", "--from", "-7d"],
        &["log", "--month", "2026-13"],
        &["log", "--month", "2026-01", "--to", "now"],
        &["log", "--time-zone", "Mars/Olympus"],
        &["log", "--from", "2026-01-31T12:00:00+25:00"],
        &["log", "--to", "2026-12-31T23:59:60Z"],
        &["--prometheus", "foo"],
        &["--prometheus", "http://127.0.0.1:9", "--header", "foo"],
    ] {
        let ran = logs.run(arguments);
        assert_eq!(ran.status, Some(2), "{arguments:?}: {ran:?}");
        assert!(!ran.err.is_empty());
    }
}

#[test]
fn nothing_in_the_logs_is_no_failure() {
    let logs = logs();
    logs.file("empty", "");
    let ran = logs.run(&["empty"]);
    assert_eq!(
        (ran.status, ran.err.as_str()),
        (Some(0), "cpu-report: the logs contain no lines of this time\n")
    );
    let ran = logs.run(&with(&["--domain", "nobody.example"]));
    let said = "cpu-report: no domain matches --domain \"nobody.example\"\n";
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), said));
    assert_eq!(ran.out, "2026-01-31T12:00:00Z to 2026-01-31T15:20:00Z: nothing was used\n");
}

#[test]
fn domains_that_are_too_many_are_in_the_rest() {
    let logs = Folder::of(COMMAND);
    let lines: Vec<String> = (0..100)
        .map(|n| line("12:05:00", 300.0, "h", "domains", &format!("{n}.example"), [1, 1000, 1]))
        .collect();
    logs.file("log", lines.concat());
    let ran = logs.run(&["log", "--max-domains", "10", "--format", "csv", "--by", "day"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.err.contains("more than 10 domains"), "{}", ran.err);
    assert_eq!(ran.out.lines().filter(|row| row.starts_with("domains,domain,")).count(), 10);
    assert!(ran.out.contains("domains,rest,,2026-01-31T00:00:00Z,90,0.09,90,"), "{}", ran.out);
    assert!(ran.out.contains("domains,all,,2026-01-31T00:00:00Z,100,0.1,100,"), "{}", ran.out);
}

#[test]
fn a_name_cannot_move_the_cursor() {
    let logs = Folder::of(COMMAND);
    logs.file("log", line("12:05:00", 300.0, "h", "domains", "a\u{1b}[2Jb,\"c\"", [1, 1000, 1]));
    assert!(logs.run(&["log"]).fine().contains("a\\x1B[2Jb,\"c\" "));
    let json: Value = serde_json::from_str(&logs.run(&["log", "--format", "json"]).fine()).unwrap();
    assert_eq!(json["rows"][0]["domain"], "a\\x1B[2Jb,\"c\"");
    assert!(logs.run(&["log", "--format", "csv"]).fine().contains("\"a\\x1B[2Jb,\"\"c\"\"\""));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let logs = Folder::of(COMMAND);
    let lines: Vec<String> = (0..20_000)
        .map(|n| line("12:05:00", 300.0, "h", "domains", &format!("{n}.example"), [1, 1000, 1]))
        .collect();
    logs.file("log", lines.concat());
    let mut child = logs
        .command(&["--format", "csv", "--top", "0", "log"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begin = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut begin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// Keys as an earlier version of the module wrote them, and as the module writes them now.
const SHOWN: [(&str, &str); 3] = [
    ("\u{202E}moc.live", "\\xE2\\x80\\xAEmoc.live"),
    ("ex\u{200B}ample\n", "ex\\xE2\\x80\\x8Bample\\x0A"),
    ("münchen.de", "münchen.de"),
];

#[test]
fn hidden_characters_of_older_logs_are_escaped_in_all_formats() {
    let logs = Folder::of(COMMAND);
    let log = SHOWN.map(|(old, _)| line("12:05:00", 300.0, "edge-1", "d", old, [1, 1000, 1]));
    logs.file("log", log.concat());
    for format in ["table", "csv", "json"] {
        let out = logs.run(&["log", "--format", format]).fine();
        for (_, new) in SHOWN {
            let new = if format == "json" { new.replace('\\', "\\\\") } else { new.to_owned() };
            assert!(out.contains(&new), "{format}: {out}");
        }
        assert!(!out.contains(['\u{202E}', '\u{200B}']), "{format}: {out}");
    }
    // what is asked for as well, in a message
    let none = logs.run(&["no/\u{202E}such", "log"]);
    assert!(none.err.contains("\\xE2\\x80\\xAE") && !none.err.contains('\u{202E}'), "{}", none.err);
}

#[test]
fn a_key_is_the_same_in_older_and_in_newer_logs() {
    let logs = Folder::of(COMMAND);
    let (old, new): (Vec<_>, Vec<_>) = SHOWN.into_iter().unzip();
    let long = ["\\xFF".repeat(255), "\\xFF".repeat(8) + "\\...e79ccc538661a3ce74c2bdc7c3b0efc3"];
    for (name, keys, long) in [("old", old, &long[0]), ("new", new, &long[1])] {
        let keys = keys.into_iter().chain([long.as_str()]);
        logs.file(
            name,
            keys.map(|key| line("12:05:00", 300.0, name, "d", key, [1, 1, 1])).collect::<String>(),
        );
    }
    let out = logs.run(&["old", "new", "--format", "json"]).fine();
    let rows: Value = serde_json::from_str(&out).unwrap();
    let rows: Vec<_> = rows["rows"].as_array().unwrap().iter().filter(|row| row["row"] == "domain").collect();
    assert_eq!(rows.len(), 4, "{out}");
    assert!(rows.iter().all(|row| row["requests"] == 2), "{out}");
}

#[test]
fn a_domain_named_all_is_not_the_row_for_all() {
    let logs = Folder::of(COMMAND);
    let log = ["all", "rest (1 domain)", "\"all\"", "a.test"];
    logs.file("log", log.map(|key| line("12:05:00", 300.0, "edge-1", "d", key, [1, 1, 1])).concat());
    let out = logs.run(&["log"]).fine();
    let count = |start: &str| out.lines().filter(|line| line.starts_with(start)).count();
    for start in ["all  ", "\"all\"  ", "\"rest (1 domain)\"  ", "\"\"all\"\"  ", "a.test  "] {
        assert_eq!(count(start), 1, "{start}: {out}");
    }
    let csv = logs.run(&["log", "--format", "csv"]).fine();
    assert!(csv.contains("d,domain,all,") && csv.contains("d,all,,"), "{csv}");
}

#[test]
fn no_field_of_csv_is_computed_by_a_spreadsheet() {
    let logs = Folder::of(COMMAND);
    let names =
        ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "＝1", "a;=1", "'=1", "\u{1b}[2J=1", "plain.example"];
    let lines: String =
        names.iter().map(|name| line("12:05:00", 300.0, "edge-1", "domains", name, [1, 1, 1])).collect();
    logs.file("log", lines);
    let read = |more: &[&str]| {
        let mut found = columns(&logs.run(&[&["log", "--format", "csv"], more].concat()).fine(), &["domain"]);
        found.retain(|name| !name.is_empty());
        found.sort();
        found
    };
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        names
    };
    let safe =
        ["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)", "'＝1", "a;'=1", "''=1", "\\x1B[2J=1", "plain.example"];
    assert_eq!(read(&[]), sorted(&safe));
    assert_eq!(read(&["--raw"]), sorted(&names));
    // programs read JSON
    let json = |more: &[&str]| {
        let out = logs.run(&[&["log", "--format", "json"], more].concat()).fine();
        let json: Value = serde_json::from_str(&out).unwrap();
        let rows = json["rows"].as_array().unwrap().clone();
        rows.iter().filter_map(|row| row["domain"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert!(json(&[]).contains(&"=HYPERLINK(1)".to_owned()) && json(&[]).contains(&"\\x1B[2J=1".to_owned()));
    assert!(json(&["--raw"]).contains(&"\u{1b}[2J=1".to_owned()));
    // a terminal is never told to do something
    assert!(!logs.run(&["log", "--raw"]).fine().contains('\u{1b}'));
}

#[test]
fn times_can_be_relative_and_without_an_offset() {
    let logs = logs();
    let csv = |more: &[&str]| logs.run(&with(&[&["--format", "csv"], more].concat()));
    let row = |more: &[&str]| {
        let ran = csv(more);
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        columns(&ran.out, &["row", "requests"]).pop()
    };
    let half = row(&["--from", "2026-01-31T12:05:00Z", "--to", "2026-01-31T12:10:00Z"]);
    assert_eq!(half, Some("all 100".to_owned()));
    for (from, to) in
        [("2026-01-31T12:05:00", "2026-01-31 12:10"), ("2026-01-31T12:05", "2026-01-31T13:10:00+01:00")]
    {
        assert_eq!(row(&["--from", from, "--to", to]), half, "{from} {to}");
    }
    let berlin = ["--time-zone", "Europe/Berlin", "--from", "2026-01-31T13:05", "--to", "2026-01-31T13:10"];
    assert_eq!(row(&berlin), half);
    assert_eq!(row(&["--month", "2026-01"]), row(&[]));
    // a line that has ended now
    let end = jiff_now();
    let now = line("12:05:00", 60.0, "edge-1", "domains", "now.example", [7, 1, 1])
        .replace("2026-01-31T12:05:00.000Z", &end);
    logs.file("now", now + &line("12:05:00", 60.0, "edge-1", "domains", "old.example", [9, 1, 1]));
    for arguments in [&["--last", "24h"][..], &["--from", "-7d"], &["--from", "-90m", "--to", "now"]] {
        let ran = logs.run(&[&["now", "--format", "csv"], arguments].concat());
        assert_eq!(
            columns(&ran.out, &["domain", "requests"]),
            ["now.example 7", " 7"],
            "{arguments:?} {}",
            ran.err
        );
    }
}

/// A few seconds ago, as the module writes it.
fn jiff_now() -> String {
    let output =
        std::process::Command::new("date").args(["-u", "-d", "-5 seconds", "+%FT%T.000Z"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn days_are_those_of_the_time_zone() {
    let logs = Folder::of(COMMAND);
    let at = |day: &str, time: &str, requests: u64| {
        line(time, 60.0, "edge-1", "domains", "a.example", [requests, 1, 1]).replace("2026-01-31", day)
    };
    // in Berlin, 25 October has 25 hours: from 22:00 UTC to 23:00 UTC
    let lines = [
        at("2026-10-24", "22:00:00", 1),
        at("2026-10-24", "22:01:00", 2),
        at("2026-10-25", "23:00:00", 4),
        at("2026-10-25", "23:01:00", 8),
    ];
    logs.file("log", lines.concat());
    let days = |zone: &[&str], by: &str| {
        let out = logs.run(&[&["log", "--format", "csv", "--by", by], zone].concat()).fine();
        let rows = columns(&out, &["row", "time", "requests"]);
        rows.into_iter().filter_map(|row| row.strip_prefix("domain ").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(days(&[], "day"), ["2026-10-24T00:00:00Z 3", "2026-10-25T00:00:00Z 12"]);
    let berlin = ["--time-zone", "Europe/Berlin"];
    let expected =
        ["2026-10-24T00:00:00+02:00 1", "2026-10-25T00:00:00+02:00 6", "2026-10-26T00:00:00+01:00 8"];
    assert_eq!(days(&berlin, "day"), expected);
    assert_eq!(days(&berlin, "month"), ["2026-10-01T00:00:00+02:00 15"]);
    // half an hour beside UTC
    let kolkata = days(&["--time-zone", "asia/kolkata"], "hour");
    assert_eq!(kolkata, ["2026-10-25T03:00:00+05:30 3", "2026-10-26T04:00:00+05:30 12"]);
    // slots are those of UTC, and are shown in the zone
    assert_eq!(days(&berlin, "5m")[0], "2026-10-24T23:55:00+02:00 1");
    // what is asked for by day, too
    let out = logs.run(&[
        "log",
        "--format",
        "csv",
        "--time-zone",
        "Europe/Berlin",
        "--from",
        "2026-10-25",
        "--to",
        "2026-10-26",
    ]);
    assert_eq!(columns(&out.out, &["row", "requests"]), ["domain 6", "all 6"]);
}

#[test]
fn times_in_output_have_whole_seconds_or_three_decimals() {
    let logs = Folder::of(COMMAND);
    let odd =
        line("12:05:00", 60.0, "edge-1", "domains", "a.example", [1, 1, 1]).replace("00.000Z", "00.030Z");
    logs.file("log", odd);
    let table = logs.run(&["log"]).fine();
    assert!(table.starts_with("2026-01-31T12:04:00.030Z to 2026-01-31T12:05:00.030Z, "), "{table}");
    // a leap second is no time that Unix has
    let leap = line("23:59:60", 60.0, "edge-1", "domains", "a.example", [1, 1, 1]);
    logs.file("leap", leap);
    let ran = logs.run(&["leap"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.err.contains("2026-01-31T23:59:60.000Z"), "{}", ran.err);
}
