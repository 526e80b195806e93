//! `cpu-report bill` and `cpu-report compare` as they are run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

mod common;
use common::{Folder, Ran};

/// A line, with what is not given at nothing. `more` are members that older modules do not log.
fn line(end: &str, seconds: u64, key: &str, [requests, cpu_ms, sent_mb]: [u64; 3], more: &str) -> String {
    let (interval, cpu, sent) = (seconds * 1000, cpu_ms * 1_000_000, sent_mb * 1_000_000);
    format!(
        concat!(
            r#"{{"time":"{end}.000Z","interval_ms":{interval},"host":"edge-1","zone":"domains","key":"{key}""#,
            r#","requests":{requests},"cpu_ns":{cpu},"wakeups":1,"sent_bytes":{sent},"received_bytes":2000000"#,
            r#","2xx":0,"4xx":0,"5xx":0{more}}}"#,
        ),
        end = end,
        interval = interval,
        more = more,
        key = key,
        requests = requests,
        cpu = cpu,
        sent = sent
    ) + "\n"
}

#[allow(clippy::too_many_arguments)]
fn measures(
    duration: u64,
    active: u64,
    active_seconds: u64,
    billable: u64,
    waived: u64,
    memory: u64,
    peak: u64,
) -> String {
    format!(
        concat!(
            r#","duration_ms":{duration},"active_ms":{active},"active_seconds":{active_seconds}"#,
            r#","billable_cpu_ns":{billable},"waived_cpu_ns":{waived},"memory_byte_ms":{memory}"#,
            r#","peak_cpu_ns":{peak}"#,
        ),
        duration = duration,
        active = active,
        active_seconds = active_seconds,
        billable = billable,
        waived = waived,
        memory = memory,
        peak = peak
    )
}

const TIERS: &str = r#"
name = "Traffic and CPU"
currency = "EUR"
base_fee = 1
minimum = 5

[[item]]
name = "Traffic"
measure = "sent"
free = 10
tier = [{ up_to = 100, rate = 0.05 }, { rate = 0.03 }]

[[item]]
name = "CPU time"
measure = "cpu"
unit = "h"
rate = 0.36
"#;

fn january() -> Folder {
    let files = Folder::of(&[]);
    files.file("plan.toml", TIERS);
    let log = [
        line("2026-01-10T12:00:00", 60, "api.example", [500, 7_200_000, 20_000], ""),
        line("2026-01-20T12:00:00", 60, "api.example", [500, 0, 10_000], ""),
        line("2026-01-20T12:00:00", 60, "big.example", [1000, 50_000, 210_000], ""),
    ];
    files.file("log", log.concat());
    files
}

#[test]
fn a_statement_is_as_computed_by_hand() {
    // api: 30 GB, of which 10 are free: 20 · 0.05 = 1.00; 7200 s are 2 h: 2 · 0.36 = 0.72; with the fee 2.72,
    // which is 2.28 below 5 big: 210 GB, of which 10 are free: 100 · 0.05 + 100 · 0.03 = 8.00; 50 s are
    // 50 / 3600 h: 0.005, rounded to 0.01; 9.01
    assert_eq!(
        january().run(&["bill", "--plan", "plan.toml", "log"]).fine(),
        "\
Traffic and CPU, 2026-01-10T11:59:00Z to 2026-01-20T12:00:00Z, zone domains, EUR

domain       item                    used  free  charged  rate                              amount
-----------  -----------------  ---------  ----  -------  --------------------------------  ------
big.example  Traffic               210 GB    10      200  100 at 0.05, 100 at 0.03; per GB    8.00
             CPU time           0.01389 h     0  0.01389  0.36 per h                          0.01
             base fee                                                                         1.00
             total                                                                            9.01
-----------  -----------------  ---------  ----  -------  --------------------------------  ------
api.example  Traffic                30 GB    10       20  0.05 per GB                         1.00
             CPU time                 2 h     0        2  0.36 per h                          0.72
             base fee                                                                         1.00
             up to the minimum                            at least 5.00                       2.28
             total                                                                            5.00
-----------  -----------------  ---------  ----  -------  --------------------------------  ------
all          Traffic               240 GB    20      220                                      9.00
             CPU time             2.014 h     0    2.014                                      0.73
             base fee                                                                         2.00
             up to the minimum                                                                2.28
             total                                                                           14.01
"
    );
}

/// The rows of CSV by their names.
fn rows(csv: &str) -> Vec<std::collections::HashMap<String, String>> {
    csv::Reader::from_reader(csv.as_bytes()).deserialize().map(Result::unwrap).collect()
}

/// Period, row, domain, item and amount of rows of these kinds.
fn amounts(csv: &str, kinds: &[&str]) -> Vec<String> {
    let of = |row: &std::collections::HashMap<String, String>| {
        format!("{} {} {} {}", &row["from"][..10], row["domain"], row["item"], row["amount"])
    };
    rows(csv).iter().filter(|row| kinds.contains(&row["row"].as_str())).map(of).collect()
}

fn cents(amount: &str) -> i64 {
    amount.replace('.', "").parse().unwrap()
}

#[test]
fn csv_and_json_hold_the_same_and_add_up() {
    let files = january();
    for more in [&[][..], &["--top", "1"], &["--by", "day", "--sort", "domain"], &["--by", "total"]] {
        let run =
            |format| files.run(&[&["bill", "--plan", "plan.toml", "log", "--format", format], more].concat());
        let csv = run("csv").fine();
        let json: Value = serde_json::from_str(&run("json").fine()).unwrap();
        let rows = rows(&csv);
        let objects = json["rows"].as_array().unwrap();
        assert_eq!(rows.len(), objects.len());
        for (row, object) in rows.iter().zip(objects) {
            assert_eq!(row.len(), object.as_object().unwrap().len());
            for (name, field) in row {
                // what is exact is a string
                assert_eq!(object[name].as_str().unwrap_or(""), field, "{name}");
            }
        }
        let sum = |kinds: &[&str]| -> i64 {
            rows.iter()
                .filter(|row| kinds.contains(&row["row"].as_str()))
                .map(|row| cents(&row["amount"]))
                .sum()
        };
        let total = cents(json["total"].as_str().unwrap());
        assert_eq!(sum(&["item", "base_fee", "minimum", "rest"]), total, "{more:?}");
        assert_eq!(sum(&["total", "rest"]), total);
        assert_eq!(sum(&["all_item", "all_base_fee", "all_minimum"]), total);
        assert_eq!(sum(&["all_total"]), total);
    }
}

#[test]
fn each_month_has_an_allowance_of_its_own_and_a_line_over_midnight_is_divided() {
    let files = Folder::of(&[]);
    files.file(
        "plan.toml",
        "name = \"p\"\ncurrency = \"EUR\"\nitem = [{ name = \"r\", measure = \"requests\", free = 100, rate \
         = 1 }]",
    );
    let log = [
        // 2024 is a leap year: February has a 29th
        line("2024-02-29T23:59:00", 60, "a.example", [150, 0, 0], ""),
        // half an hour on either side: 100 and 100
        line("2024-03-01T00:30:00", 3600, "a.example", [200, 0, 0], ""),
        line("2024-03-31T12:00:00", 60, "a.example", [50, 0, 0], ""),
    ];
    files.file("log", log.concat());
    let run = |more: &[&str]| {
        let out = files.run(&[&["bill", "--plan", "plan.toml", "log", "--format", "csv"], more].concat());
        amounts(&out.fine(), &["item"])
    };
    // 250 - 100 and 150 - 100
    assert_eq!(run(&[]), ["2024-02-29 a.example r 150.00", "2024-03-01 a.example r 50.00"]);
    // 400 - 100
    assert_eq!(run(&["--by", "total"]), ["2024-02-29 a.example r 300.00"]);
    assert_eq!(
        run(&["--by", "day"]),
        ["2024-02-29 a.example r 150.00", "2024-03-01 a.example r 0.00", "2024-03-31 a.example r 0.00"]
    );
    // from 00:00 to 00:30 there are 100, which are free
    assert_eq!(run(&["--from", "2024-03-01", "--to", "2024-03-01T00:30:00Z"]).len(), 1);
}

#[test]
fn a_day_has_24_hours_wherever_the_bill_is_written() {
    let files = Folder::of(&[]);
    files.file(
        "plan.toml",
        "name = \"p\"\ncurrency = \"EUR\"\nitem = [{ name = \"c\", measure = \"percentile_cores\", rate = \
         1000 }]",
    );
    // in Berlin, 2026-03-29 has 23 hours and 2026-10-25 has 25. Of 288 samples 14 are thrown away: of 15 that
    // are 1, one is left; of 276 it would be 13, of 300 it would be 15
    let samples = |day: &str| -> String {
        (0..15).map(|n| line(&format!("{day}T12:{:02}:00", 4 * n), 240, "a.example", [0, 0, 0], "")).collect()
    };
    let filled = |day: &str| {
        samples(day)
            + &(0..15)
                .map(|n| {
                    line(
                        &format!("{day}T{:02}:{:02}:00", 13 + n / 12, 5 * (n % 12)),
                        300,
                        "a.example",
                        [0, 300_000, 0],
                        "",
                    )
                })
                .collect::<String>()
    };
    files.file("log", filled("2026-03-29") + &filled("2026-10-25"));
    for by in ["day", "month"] {
        let arguments = [
            "bill",
            "--plan",
            "plan.toml",
            "log",
            "--format",
            "csv",
            "--by",
            by,
            "--from",
            "2026-03-29",
            "--to",
            "2026-10-26",
        ];
        let out = ["UTC", "Europe/Berlin"]
            .map(|zone| Ran::new(files.command(&arguments).env("TZ", zone).output().unwrap()).out);
        assert_eq!(out[0], out[1]);
        if by == "day" {
            assert_eq!(
                amounts(&out[0], &["item"]),
                ["2026-03-29 a.example c 1000.00", "2026-10-25 a.example c 1000.00"]
            );
        }
    }
}

#[test]
fn numbers_that_no_float_holds_are_charged_to_the_cent() {
    let files = Folder::of(&[]);
    let plan = |rate: &str| {
        files.file(
            "plan.toml",
            format!(
                "name = \"p\"\ncurrency = \"EUR\"\nitem = [{{ name = \"r\", measure = \"requests\", rate = \
                 {rate} }}]"
            ),
        );
        let out =
            files.run(&["bill", "--plan", "plan.toml", "log", "--by", "total", "--format", "csv"]).fine();
        let rows = rows(&out);
        let row = rows.iter().find(|row| row["row"] == "item").unwrap();
        (row["used_exact"].clone(), row["amount"].clone())
    };
    let two = |number: u64| {
        let lines = ["1", "2"]
            .map(|minute| line(&format!("2026-01-01T00:0{minute}:00"), 60, "a", [number, 0, 0], ""));
        files.file("log", lines.concat())
    };
    two(500_000_000_000);
    // 10^12 · 2 · 10^-7
    assert_eq!(plan("0.0000002"), ("1000000000000".into(), "200000.00".into()));
    assert_eq!(plan("2e-7"), ("1000000000000".into(), "200000.00".into()));
    two(u64::MAX);
    // 2 · (2^64 - 1) · 2 · 10^-7 = 7378697629483.8206...
    assert_eq!(plan("0.0000002"), ("36893488147419103230".into(), "7378697629483.82".into()));
    // 2 · (2^64 - 1) · 0.1
    assert_eq!(plan("0.1"), ("36893488147419103230".into(), "3689348814741910323.00".into()));
    // 0.29 · 100 is less than 29 as a float
    two(50);
    assert_eq!(plan("0.29").1, "29.00");
    assert_eq!(plan("0.0000499999999999999999999").1, "0.00");
    assert_eq!(plan("0.00005").1, "0.01");
}

/// Lines with all members, of a.example and b.example.
fn measured() -> Folder {
    let files = Folder::of(&[]);
    let log = [
        // 10 min with 30 min of duration; 90 s active
        line(
            "2026-01-01T00:10:00",
            600,
            "a.example",
            [2_000_000, 100_000, 0],
            &measures(
                1_800_000,
                600_000,
                90,
                80_000_000_000,
                20_000_000_000,
                700_000_000_000_000,
                900_000_000,
            ),
        ),
        line(
            "2026-01-01T00:20:00",
            600,
            "a.example",
            [1_000_000, 0, 0],
            &measures(200_000, 100_500, 0, 0, 8_000_000_000, 1_000_000_000_000, 1_500_000_000),
        ),
        line(
            "2026-01-01T00:10:00",
            600,
            "b.example",
            [1_000_000, 4000, 0],
            &measures(3_600_000, 600_000, 0, 0, 4_000_000_000, 299_000_000_000_000, 20_000_000),
        ),
    ];
    files.file("log", log.concat());
    files
}

fn items(plan: &str) -> String {
    format!("name = \"p\"\ncurrency = \"EUR\"\nitem = [{plan}]")
}

#[test]
fn every_measure_is_charged_as_computed_by_hand() {
    let files = measured();
    for (item, a, b) in [
        // 2000 s and 3600 s at 0.36 an hour
        ("measure = \"duration\", unit = \"h\", rate = 0.36", &["0.20"][..], &["0.36"][..]),
        // 700.5 s, counted as 701, and 600 s
        ("measure = \"active_interval\", round_up = 1, rate = 1", &["701.00"], &["600.00"]),
        // 90 s, and 610.5 s idle; 0 s, and 600 s idle
        ("measure = \"active_seconds\", rate = 0.10, idle_rate = 0.01", &["9.00", "6.11"], &["0.00", "6.00"]),
        // 80 s; 28 s and 4 s are waived
        ("measure = \"billable_cpu\", rate = 0.01", &["0.80", "0.00"], &["0.00", "0.00"]),
        // 701 GB-s and 299 GB-s
        ("measure = \"gb_seconds\", rate = 0.01", &["7.01"], &["2.99"]),
        // of 1000 GB-s 500 are free: 5.00 for all, of which 3.505 and 1.495 are rounded so that they add up
        ("measure = \"gb_seconds\", rate = 0.01, free = 500, scope = \"account\"", &["3.51"], &["1.49"]),
        ("measure = \"executions\", per = 1_000_000, rate = 0.20, free = 1_000_000", &["0.40"], &["0.00"]),
        // 1.5 cores in the second line; 0.02
        ("measure = \"peak_cores\", rate = 10", &["15.00"], &["0.20"]),
        // four samples, of which all count: 50 s of 300; 2 s of 300
        ("measure = \"percentile_cores\", rate = 6", &["1.00"], &["0.04"]),
        // 50 % of four samples: the second, which is nothing
        ("measure = \"percentile_cores\", percentile = 50, rate = 6", &["0.00"], &["0.00"]),
        // 1 MB in 300 s are 8 / 300 Mbit/s
        ("measure = \"percentile_received\", rate = 300", &["8.00"], &["8.00"]),
        ("measure = \"percentile_traffic\", unit = \"kbit/s\", rate = 0.30", &["8.00"], &["8.00"]),
        // 4 MB and 2 MB
        ("measure = \"received\", unit = \"MB\", rate = 1", &["4.00"], &["2.00"]),
        ("measure = \"traffic\", unit = \"byte\", per = 1_000_000, rate = 1", &["4.00"], &["2.00"]),
    ] {
        files.file("plan.toml", items(&format!("{{ name = \"i\", {item} }}")));
        let out = files.run(&["bill", "--plan", "plan.toml", "log", "--format", "csv", "--sort", "domain"]);
        // the lines are of ten minutes
        assert!(out.err.is_empty() || out.err.contains("some lines cover up to 600 s"), "{}", out.err);
        let found = amounts(&out.out, &["item", "idle"]);
        let wanted: Vec<String> = [("a", a), ("b", b)]
            .iter()
            .flat_map(|(name, amounts)| {
                amounts.iter().map(move |amount| format!("2026-01-01 {name}.example i {amount}"))
            })
            .collect();
        assert_eq!(found, wanted, "{item}");
    }
}

#[test]
fn what_was_waived_is_said() {
    let files = measured();
    files.file("plan.toml", items("{ name = \"Active CPU\", measure = \"billable_cpu\", rate = 0.01 }"));
    let out = files.run(&["bill", "--plan", "plan.toml", "log"]).out;
    let row = out.lines().find(|row| row.contains("waived")).unwrap();
    // 28 s
    assert!(
        row.contains("28 s") && row.contains("idle: waived, worth 0.28") && row.ends_with("0.00"),
        "{row}"
    );
    let csv = files.run(&["bill", "--plan", "plan.toml", "log", "--format", "csv"]).out;
    let rows = rows(&csv);
    let waived: Vec<&str> =
        rows.iter().filter(|row| row["row"] == "idle").map(|row| row["waived"].as_str()).collect();
    assert_eq!(waived, ["0.28", "0.04"]);
}

#[test]
fn what_the_log_does_not_tell_is_not_taken_for_nothing() {
    let files = measured();
    let old = line("2026-01-01T00:30:00", 60, "old.example", [5, 0, 0], "");
    let older = line("2026-01-01T00:29:00", 60, "old.example", [5, 0, 0], "");
    files.file("old", older + &old);
    files.file("plan.toml", items("{ name = \"Active\", measure = \"active_interval\", rate = 1 }"));
    let bill = ["bill", "--plan", "plan.toml", "log", "old", "--format", "csv"];
    let ran = files.run(&bill);
    ran.fails(
        "2 lines from old:1 to old:2 have no \"active_ms\", first of the domain old.example; the item \
         \"Active\" of the plan \"p\" needs it",
    );
    let ran = files.run(&[&bill[..], &["--missing", "zero"]].concat());
    assert_eq!(ran.status, Some(0));
    assert!(ran.err.contains("it is taken for 0"), "{}", ran.err);
    assert!(ran.out.contains(",old.example,Active,active_interval,s,0,0,0,"), "{}", ran.out);
    // other domains and other plans do not need it
    assert_eq!(files.run(&[&bill[..], &["--domain", "[ab].example"]].concat()).status, Some(0));
    files.file("plan.toml", items("{ name = \"r\", measure = \"requests\", rate = 1 }"));
    assert_eq!(files.run(&bill).status, Some(0));
}

#[test]
fn a_bill_needs_all_of_the_log() {
    let files = january();
    files
        .run(&["bill", "--plan", "plan.toml", "log", "missing"])
        .fails("a bill of a part of the logs would be too low");
    files
        .run(&["bill", "--plan", "plan.toml", "log", "./log"])
        .fails("there is no bill: it would charge for these lines more than once");
    let good = std::fs::read_to_string(files.path().join("log")).unwrap();
    files.file("log", good + "half a li");
    let ran = files.run(&["bill", "--plan", "plan.toml", "log", "--broken", "skip"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.err.contains("log:4: ") && ran.err.contains("1 of 4 lines is broken"), "{}", ran.err);
    files.run(&["bill", "--plan", "plan.toml", "log", "--strict"]).fails("so there is no bill");
}

#[test]
fn a_bill_is_of_one_zone() {
    let files = january();
    let other = line("2026-01-10T12:00:00", 60, "/path", [1, 1, 1], "").replace("\"domains\"", "\"paths\"");
    files.file("paths", other);
    files
        .run(&["bill", "--plan", "plan.toml", "log", "paths"])
        .fails("choose it with --zone (domains, paths)");
    let alone = files.run(&["bill", "--plan", "plan.toml", "log"]).fine();
    assert_eq!(files.run(&["bill", "--plan", "plan.toml", "log", "paths", "--zone", "dom*"]).fine(), alone);
    // nothing of the other zone is asked for
    assert_eq!(
        files.run(&["bill", "--plan", "plan.toml", "log", "paths", "--domain", "*.example"]).fine(),
        alone
    );
    files.run(&["bill", "--plan", "plan.toml", "log", "--max-domains", "1"]).fails("more than 1 domains");
}

#[test]
fn gzip_standard_input_and_many_files_are_the_same() {
    let files = january();
    let log = std::fs::read_to_string(files.path().join("log")).unwrap();
    let whole = files.run(&["bill", "--plan", "plan.toml", "log"]).fine();
    let (first, rest) = log.split_once('\n').unwrap();
    files.file("one", format!("{first}\n"));
    let mut gzip = GzEncoder::new(File::create(files.path().join("two.gz")).unwrap(), Compression::default());
    gzip.write_all(rest.as_bytes()).unwrap();
    gzip.finish().unwrap();
    assert_eq!(files.run(&["bill", "--plan", "plan.toml", "one", "two.gz"]).fine(), whole);
    assert_eq!(files.run_with(&["bill", "--plan", "plan.toml", "-"], log.as_bytes()).fine(), whole);
    let some = files.run(&["bill", "--plan", "plan.toml", "log", "--domain", "API.*"]).fine();
    assert!(some.contains("api.example") && !some.contains("big.example"), "{some}");
}

#[test]
fn a_plan_that_is_wrong_is_named_with_its_line() {
    let files = january();
    files.run(&["bill", "--plan", "none.toml", "log"]).fails("none.toml: No such file");
    files.file("plan.toml", TIERS.replace("rate = 0.36", "rat = 0.36"));
    files
        .run(&["bill", "--plan", "plan.toml", "log"])
        .fails("plan.toml:17: unknown field \"rat\" of the item: did you mean \"rate\"?");
    files.file("plan.toml", TIERS.replace("0.36", "-0.36"));
    files.run(&["bill", "--plan", "plan.toml", "log"]).fails("plan.toml:17: invalid \"rate\" \"-0.36\"");
}

#[test]
fn a_file_that_is_no_plan_is_refused_in_words_of_the_user() {
    let files = january();
    let plan = |name: &str| files.run(&["bill", "--plan", name, "log"]);
    std::fs::create_dir(files.path().join("folder")).unwrap();
    plan("folder").fails("folder: it is a directory; a plan is a TOML file");
    plan("log").fails("log:1: this is JSON; a plan is a TOML file");
    for (content, wanted) in [
        ("", "1: the file is empty"),
        ("\u{feff}\n", "1: the file is empty"),
        ("name = \"p\"\n", "1: the plan has no \"currency\""),
        ("name = 5\n", "1: invalid \"name\": a number is not a text"),
        ("name = \"p\"\nname = \"q\"\n", "2: the field \"name\" is given twice"),
        (
            "name = \"p\"\ncurrency = \"EUR\"\nbase_fee = 0,5\n",
            "3: this line cannot be read: base_fee = 0,5.",
        ),
        (
            "name = \"p\"\ncurrency = \"EUR\"\n[item]\nname = \"r\"\n",
            "3: invalid \"item\": a single table is not a list",
        ),
        (
            "name = \"p\"\r\ncurrency = \"EUR\"\r\nitem = 5",
            "3: invalid \"item\": a number is not a list of tables",
        ),
    ] {
        files.file("other.toml", content);
        plan("other.toml").fails(&format!("other.toml:{wanted}"));
    }
    files.file("other.toml", [0xff, 0xfe]);
    plan("other.toml").fails("it is not UTF-8 text");
    files.file("other.toml", vec![b'#'; 2 << 20]);
    plan("other.toml").fails("it is longer than 1 MiB");
    // editors of other systems write these
    files.file("other.toml", format!("\u{feff}{}", TIERS.replace('\n', "\r\n")));
    assert_eq!(plan("other.toml").fine(), plan("plan.toml").fine());
}

#[test]
fn nothing_in_the_logs_is_no_failure() {
    let files = january();
    files.file("empty", "");
    let ran = files.run(&["bill", "--plan", "plan.toml", "empty"]);
    assert_eq!(
        (ran.status, ran.err.as_str()),
        (Some(0), "cpu-report: the logs contain no lines of this time\n")
    );
    let nobody = |format| {
        let ran =
            files.run(&["bill", "--plan", "plan.toml", "log", "--domain", "nobody", "--format", format]);
        let said = "cpu-report: no domain matches --domain \"nobody\"\n";
        assert_eq!((ran.status, ran.err.as_str()), (Some(0), said));
        ran.out
    };
    assert!(nobody("table").ends_with("nothing was used\n"));
    for format in ["csv", "json"] {
        nobody(format);
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    let files = january();
    for arguments in [
        &["bill", "log"][..],
        &["bill", "--plan", "plan.toml"],
        &["bill", "--plan", "plan.toml", "log", "--by", "year"],
        &["bill", "--plan", "plan.toml", "log", "--from", "2026-02-01", "--to", "2026-01-01"],
        &["bill", "--plan", "plan.toml", "log", "--prometheus", "http://127.0.0.1:1"],
        &["compare", "log"],
        &["compare", "--plans", "plan.toml", "log"],
        &["compare", "--plans", "plan.toml,plan.toml"],
    ] {
        let ran = files.run(arguments);
        assert_eq!(ran.status, Some(2), "{arguments:?}: {ran:?}");
        assert!(!ran.err.is_empty());
    }
}

// ------------------------------------------------------------------------------------------------------

fn two_plans() -> Folder {
    let files = january();
    files.file(
        "traffic.toml",
        items("{ name = \"t\", measure = \"sent\", rate = 0.10 }").replace("\"p\"", "\"Traffic\""),
    );
    files.file(
        "cpu.toml",
        items("{ name = \"c\", measure = \"cpu\", unit = \"h\", rate = 1 }").replace("\"p\"", "\"CPU\""),
    );
    files
}

#[test]
fn a_comparison_is_as_computed_by_hand() {
    let files = two_plans();
    // api: 30 GB at 0.10 are 3.00; 2 h at 1 are 2.00. big: 210 GB are 21.00; 50 s are 0.0138…, 0.01
    assert_eq!(
        files.run(&["compare", "--plans", "traffic.toml,cpu.toml", "log"]).fine(),
        "\
2026-01-10T11:59:00Z to 2026-01-20T12:00:00Z, zone domains, EUR

domain       Traffic    share   CPU    share  change         %
-----------  -------  -------  ----  -------  ------  --------
api.example     3.00   12.5 %  2.00   99.5 %   -1.00  -33.3 %
big.example    21.00   87.5 %  0.01    0.5 %  -20.99  -100.0 %
-----------  -------  -------  ----  -------  ------  --------
all            24.00  100.0 %  2.01  100.0 %  -21.99   -91.6 %
"
        .replace("-33.3 %", " -33.3 %")
    );
    // 24.00 · 200 / 201 = 23.8805…, 24.00 · 1 / 201 = 0.1194…
    assert_eq!(
        files.run(&["compare", "--plans", "traffic.toml cpu.toml", "log", "--equal-revenue"]).fine(),
        "\
2026-01-10T11:59:00Z to 2026-01-20T12:00:00Z, zone domains, EUR
\"CPU\" times 11.9403, so that it comes to the same as \"Traffic\"

domain       Traffic    share    CPU    share  change         %
-----------  -------  -------  -----  -------  ------  --------
api.example     3.00   12.5 %  23.88   99.5 %  +20.88  +696.0 %
big.example    21.00   87.5 %   0.12    0.5 %  -20.88   -99.4 %
-----------  -------  -------  -----  -------  ------  --------
all            24.00  100.0 %  24.00  100.0 %    0.00     0.0 %
"
    );
}

#[test]
fn plans_are_named_in_several_ways() {
    let files = two_plans();
    let wanted = files.run(&["compare", "--plans", "traffic.toml,cpu.toml", "log", "--format", "csv"]).fine();
    for arguments in [
        &["compare", "--plans", "traffic.toml", "--plans", "cpu.toml", "log", "--format", "csv"][..],
        &["compare", "--plans", "traffic.toml", "cpu.toml", "log", "--format", "csv"],
        &["compare", "--plans", "traffic.toml, cpu.toml", "log", "--format", "csv"],
    ] {
        assert_eq!(files.run(arguments).fine(), wanted);
    }
    assert_eq!(
        wanted,
        "\
row,domain,traffic_amount,traffic_share_percent,cpu_amount,cpu_share_percent,cpu_change,cpu_change_percent,\
         zone,currency,from,to
domain,api.example,3.00,12.5,2.00,99.5,-1.00,-33.3,domains,EUR,2026-01-10T11:59:00Z,2026-01-20T12:00:00Z
domain,big.example,21.00,87.5,0.01,0.5,-20.99,-100.0,domains,EUR,2026-01-10T11:59:00Z,2026-01-20T12:00:00Z
all,,24.00,100.0,2.01,100.0,-21.99,-91.6,domains,EUR,2026-01-10T11:59:00Z,2026-01-20T12:00:00Z
"
    );
    let json = files.run(&["compare", "--plans", "traffic.toml,cpu.toml", "log", "--format", "json"]).fine();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"][0]["cpu_change"], "-1.00");
    assert_eq!(json["plans"][1]["total"], "2.01");
    let short = files.run(&["compare", "--plans", "traffic.toml,cpu.toml", "log", "--top", "1"]).fine();
    assert!(short.contains("rest (1 domain)"), "{short}");
}

#[test]
fn plans_that_cannot_be_compared_are_refused() {
    let files = two_plans();
    let free = items("{ name = \"t\", measure = \"sent\", rate = 0 }");
    files.file("free.toml", &free);
    files.file("dollar.toml", free.replace("EUR", "USD"));
    std::fs::create_dir(files.path().join("other")).unwrap();
    files.file("other/cpu.toml", &free);
    let compare = |plans: &str| files.run(&["compare", "--equal-revenue", "--plans", plans, "log"]);
    for (plans, with) in
        [("cpu.toml,dollar.toml", "is in USD"), ("cpu.toml,other/cpu.toml", "two plans are called cpu.toml")]
    {
        let ran = compare(plans);
        assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
        assert!(ran.err.contains(with), "{}", ran.err);
    }
    compare("cpu.toml,free.toml").fails("nothing is charged under the plan \"p\"");
    assert_eq!(compare("free.toml,cpu.toml").status, Some(0), "all come to nothing");
}

#[test]
fn amounts_are_those_of_the_statements_also_where_decimals_differ() {
    let files = two_plans();
    files.file(
        "fine.toml",
        format!("decimals = 4\n{}", items("{ name = \"c\", measure = \"cpu\", unit = \"h\", rate = 1 }")),
    );
    let out = files
        .run(&["compare", "--plans", "cpu.toml,fine.toml", "log", "--format", "csv", "--sort", "domain"])
        .fine();
    // 50 s at 1 an hour
    assert!(out.contains("domain,big.example,0.0100,0.5,0.0139,0.7,0.0039,39.0,"), "{out}");
}

// ----------------------------------------------------------------------------------

#[test]
fn the_examples_are_plans() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nginx-conf/plans");
    let plans: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(plans.len() >= 7);
    let files = measured();
    for plan in &plans {
        let text = std::fs::read_to_string(plan).unwrap();
        assert!(text.contains("The rates are invented"), "{}", plan.display());
        let ran = files.run(&["bill", "--plan", plan.to_str().unwrap(), "log"]);
        assert_eq!(ran.status, Some(0), "{}: {}", plan.display(), ran.err);
    }
    let names: Vec<&str> = plans.iter().map(|plan| plan.to_str().unwrap()).collect();
    let ran = files.run(&[&["compare", "--plans"], names.as_slice(), &["log"]].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.err);
}

#[test]
fn a_domain_named_all_is_not_taken_for_all() {
    let files = Folder::of(&[]);
    files.file("plan.toml", TIERS);
    files.file("other.toml", TIERS);
    files.file(
        "log",
        ["all", "a.test"].map(|key| line("2026-01-10T12:00:00", 60, key, [1, 1, 1], "")).concat(),
    );
    let of_all = |out: &str| out.lines().filter(|line| line.starts_with("all ")).count();
    let quoted = |out: &str| out.lines().filter(|line| line.starts_with("\"all\" ")).count();
    for arguments in
        [&["bill", "--plan", "plan.toml", "log"][..], &["compare", "--plans", "plan.toml,other.toml", "log"]]
    {
        let out = files.run(arguments).out;
        assert_eq!((of_all(&out), quoted(&out)), (1, 1), "{arguments:?}: {out}");
    }
}

#[test]
fn a_billing_period_is_a_month_of_the_time_zone() {
    let files = Folder::of(&[]);
    files.file(
        "plan.toml",
        "name = \"p\"\ncurrency = \"EUR\"\nitem = [{ name = \"r\", measure = \"requests\", free = 100, rate \
         = 1 }]",
    );
    let log = [
        // in Berlin it is February
        line("2026-01-31T23:30:00", 60, "a.example", [150, 0, 0], ""),
        line("2026-02-10T12:00:00", 60, "a.example", [50, 0, 0], ""),
    ];
    files.file("log", log.concat());
    let run = |more: &[&str]| {
        let arguments = [&["bill", "--plans", "plan.toml", "log", "--format", "csv"], more].concat();
        amounts(&files.run(&arguments).fine(), &["item"])
    };
    assert_eq!(run(&[]), ["2026-01-31 a.example r 50.00", "2026-02-01 a.example r 0.00"]);
    let berlin = ["--time-zone", "Europe/Berlin"];
    assert_eq!(run(&berlin), ["2026-02-01 a.example r 100.00"]);
    let february = [&berlin[..], &["--month", "2026-02"]].concat();
    let ran = files.run(&[&["bill", "--plan", "plan.toml", "log"], &february[..]].concat());
    assert!(ran.out.contains("2026-02-01T00:00:00+01:00 to 2026-03-01T00:00:00+01:00"), "{}", ran.out);
    let compare = ["compare", "--plan", "plan.toml", "log"];
    assert_eq!(files.run(&compare).status, Some(2));
}
