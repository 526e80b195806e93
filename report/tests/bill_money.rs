//! The amounts of `cpu-report bill` where several domains, periods or rates have a part in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use serde_json::Value;

mod common;
use common::Folder;

/// A line of the domain `key`. `more` are members that older modules do not log.
fn line(end: &str, interval_ms: u64, key: &str, [requests, cpu_ns]: [u64; 2], more: &str) -> String {
    format!(
        concat!(
            r#"{{"time":"{end}Z","interval_ms":{interval_ms},"host":"vm","zone":"domains","key":"{key}""#,
            r#","requests":{requests},"cpu_ns":{cpu_ns},"wakeups":1,"sent_bytes":0,"received_bytes":0,"2xx":0"#,
            r#","4xx":0,"5xx":0{more}}}"#,
        ),
        end = end,
        interval_ms = interval_ms,
        more = more,
        key = key,
        requests = requests,
        cpu_ns = cpu_ns
    ) + "\n"
}

fn plan(head: &str, items: &str) -> String {
    format!("name = \"p\"\ncurrency = \"EUR\"\n{head}\nitem = [{items}]")
}

type Row = HashMap<String, String>;

fn rows(csv: &str) -> Vec<Row> {
    csv::Reader::from_reader(csv.as_bytes()).deserialize().map(Result::unwrap).collect()
}

fn bill(files: &Folder, more: &[&str]) -> Vec<Row> {
    let ran = files.run(&[&["bill", "--plan", "plan.toml", "log", "--format", "csv"], more].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    rows(&ran.out)
}

fn cells<'a>(rows: &'a [Row], kind: &str, column: &str) -> Vec<&'a str> {
    rows.iter().filter(|row| row["row"] == kind).map(|row| row[column].as_str()).collect()
}

fn cents(amounts: &[&str]) -> u64 {
    amounts.iter().map(|amount| amount.replace('.', "").parse::<u64>().unwrap()).sum()
}

// -----------------------------------------------------------------------------------------------------

#[test]
fn an_account_of_many_small_domains_pays_as_one_large_domain() {
    let files = Folder::of(&[]);
    let example =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../nginx-conf/plans/consumption.toml"));
    files.file("example.toml", example.unwrap().replace("decimals = 6", "decimals = 2"));
    let memory = r#","memory_byte_ms":0"#;
    let end = "2026-01-10T12:00:00.000";
    let total = |domains: usize, requests: u64, plan: &str| {
        let log: String =
            (0..domains).map(|n| line(end, 5000, &format!("{n:04}.test"), [requests, 0], memory)).collect();
        files.file("log", log);
        let out = files.run(&["bill", "--plan", plan, "log", "--format", "csv"]).fine();
        let rows = rows(&out);
        let items = cents(&cells(&rows, "item", "amount"));
        assert_eq!(items, cents(&cells(&rows, "all_total", "amount")), "the parts add up");
        for top in ["1", "10"] {
            let out = files.run(&["bill", "--plan", plan, "log", "--format", "csv", "--top", top]).fine();
            let rows = self::rows(&out);
            let listed = cents(&cells(&rows, "total", "amount")) + cents(&cells(&rows, "rest", "amount"));
            assert_eq!(listed, items);
        }
        items
    };
    assert_eq!(total(1000, 10_000, "example.toml"), 285);
    assert_eq!(total(1, 10_000_000, "example.toml"), 285);
    files.file(
        "small.toml",
        plan("", "{ name = \"r\", measure = \"executions\", rate = 0.004, scope = \"account\" }"),
    );
    assert_eq!(total(1000, 1, "small.toml"), 400);
}

#[test]
fn the_parts_of_an_allowance_add_up_to_it() {
    let files = Folder::of(&[]);
    files.file(
        "plan.toml",
        plan("", "{ name = \"r\", measure = \"requests\", rate = 1, free = 5, scope = \"account\" }"),
    );
    let log = [("a", 3), ("b", 3), ("c", 3), ("d", 0)]
        .map(|(key, requests)| line("2026-01-10T12:00:00.000", 5000, key, [requests, 1], ""));
    files.file("log", log.concat());
    let rows = bill(&files, &["--sort", "domain"]);
    // 5 / 3 each, and the first two get what is left; 4.00 / 3 each
    assert_eq!(cells(&rows, "item", "free"), ["2", "2", "1", "0"]);
    assert_eq!(cells(&rows, "item", "charged"), ["1", "1", "2", "0"]);
    assert_eq!(cells(&rows, "item", "amount"), ["1.34", "1.33", "1.33", "0.00"]);
    assert_eq!(cells(&rows, "all_item", "free"), ["5"]);
    assert_eq!(cells(&rows, "all_item", "charged"), ["4"]);
    // the account is what the bill is of
    let rows = bill(&files, &["--domain", "a"]);
    assert_eq!((cells(&rows, "item", "free"), cells(&rows, "item", "amount")), (vec!["3"], vec!["0.00"]));
}

// -----------------------------------------------------------------------------------------

/// The month or hour, the base fees and what is missing to the minimum, of each period.
fn fees(files: &Folder, more: &[&str]) -> Vec<String> {
    let rows = bill(files, more);
    let fee = |row: &&Row| matches!(row["row"].as_str(), "base_fee" | "minimum");
    rows.iter().filter(fee).map(|row| format!("{} {} {}", row["from"], row["row"], row["amount"])).collect()
}

/// The months in which the domain pays fees.
fn january_and_february(lines: &[String]) -> Vec<String> {
    let files = Folder::of(&[]);
    files.file(
        "plan.toml",
        plan("base_fee = 5\nminimum = 7", "{ name = \"c\", measure = \"cpu\", rate = 0.001 }"),
    );
    // lines of any order, and of two files
    let mut found = Vec::new();
    for reversed in [false, true] {
        let mut lines = lines.to_vec();
        // the time of the bill is the same in all
        for end in
            ["2026-01-01T00:00:05", "2026-02-01T00:00:00", "2026-02-01T00:00:05", "2026-03-01T00:00:00"]
        {
            lines.push(line(&format!("{end}.000"), 5000, "other", [0, 0], ""));
        }
        if reversed {
            lines.reverse();
        }
        files.file("log", lines.concat());
        let of = |from: &str, to: &str| {
            let fees = fees(&files, &["--domain", "a", "--from", from, "--to", to]);
            fees.iter().map(|fee| fee[..7].to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        let whole: Vec<String> = of("2026-01-01", "2026-03-01").into_iter().collect();
        // two bills of a month each say the same
        let mut apart: Vec<String> = of("2026-01-01", "2026-02-01").into_iter().collect();
        apart.extend(of("2026-02-01", "2026-03-01"));
        assert_eq!(apart, whole);
        found.push(whole);
    }
    assert_eq!(found[0], found[1]);
    found.remove(0)
}

#[test]
fn the_late_tail_of_a_month_does_not_begin_the_next() {
    let active = r#","duration_ms":0,"active_ms":0"#;
    let open = r#","duration_ms":5000,"active_ms":5000"#;
    let busy = line("2026-01-31T23:59:55.300", 5000, "a", [10, 50_000], "");
    for (name, lines, wanted) in [
        (
            "late, without requests",
            vec![busy.clone(), line("2026-02-01T00:00:00.300", 5000, "a", [0, 1000], "")],
            &["2026-01"][..],
        ),
        ("ends at midnight", vec![line("2026-02-01T00:00:00.000", 5000, "a", [10, 1000], "")], &["2026-01"]),
        (
            "begins a millisecond before midnight, by the other clock",
            vec![line("2026-02-01T00:00:05.000", 5001, "a", [10, 1000], "")],
            &["2026-02"],
        ),
        ("begins at midnight", vec![line("2026-02-01T00:00:05.000", 5000, "a", [1, 1000], "")], &["2026-02"]),
        (
            "late, with requests",
            vec![line("2026-02-01T00:00:00.300", 5000, "a", [10, 1000], "")],
            &["2026-01"],
        ),
        ("late by seconds", vec![line("2026-02-01T00:00:07.000", 12_000, "a", [0, 1000], "")], &["2026-01"]),
        (
            "CPU of a connection that is closed in the next month",
            vec![busy.clone(), line("2026-02-01T00:01:05.000", 5000, "a", [0, 1000], active)],
            &["2026-01"],
        ),
        (
            "a connection that stays open",
            vec![busy.clone(), line("2026-02-01T00:01:05.000", 5000, "a", [0, 1000], open)],
            &["2026-01", "2026-02"],
        ),
        (
            "CPU of an older version, which does not say what was open",
            vec![line("2026-02-10T00:01:05.000", 5000, "a", [0, 1000], "")],
            &["2026-02"],
        ),
        ("nothing was used", vec![line("2026-02-10T00:01:05.000", 5000, "a", [0, 0], "")], &[]),
    ] {
        assert_eq!(january_and_february(&lines), wanted, "{name}");
    }
}

#[test]
fn a_line_that_covers_a_period_pays_its_fee() {
    let files = Folder::of(&[]);
    files.file("plan.toml", plan("base_fee = 5", "{ name = \"c\", measure = \"cpu\", rate = 1 }"));
    // a part of an hour, two hours, and what is late
    files.file("log", line("2026-01-10T13:00:00.300", 9_000_000, "a", [9, 9], ""));
    let hours = fees(&files, &["--by", "hour"]);
    let hours: Vec<&str> = hours.iter().map(|fee| &fee[11..16]).collect();
    assert_eq!(hours, ["10:30", "11:00", "12:00"]);
    assert_eq!(fees(&files, &["--by", "day"]).len(), 1);
    assert_eq!(fees(&files, &["--by", "total"]).len(), 1);
    assert_eq!(
        cells(&bill(&files, &["--by", "hour"]), "total", "from").len(),
        4,
        "what was used is in all of them"
    );
}

// --------------------------------------------------------------------------------------------------

#[test]
fn a_statement_shows_rounded_quantities() {
    let files = Folder::of(&[]);
    let item = |more: &str| plan("", &format!("{{ name = \"r\", measure = \"requests\", rate = 1 {more} }}"));
    files.file("log", line("2026-01-10T12:00:00.000", 5000, "a", [2, 1], ""));
    files.file("plan.toml", item(", round_up = 4, free = 5"));
    let rows = bill(&files, &[]);
    let columns = ["used", "rounded", "free", "charged"];
    assert_eq!(columns.map(|column| cells(&rows, "item", column)[0]), ["2", "4", "4", "0"]);
    let exact = columns.map(|column| format!("{column}_exact"));
    assert_eq!(exact.map(|column| cells(&rows, "item", &column)[0].to_owned()), ["2", "4", "4", "0"]);
    let table = files.run(&["bill", "--plan", "plan.toml", "log"]).fine();
    let row = |table: &str, begin: &str| {
        let row = table.lines().find(|row| row.starts_with(begin)).unwrap();
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row(&table, "domain"), "domain item used rounded free charged rate amount");
    assert_eq!(row(&table, "a "), "a r 2 requests 4 4 0 1 per request 0.00");
    // nothing is rounded: there is no column
    files.file("plan.toml", item(""));
    let table = files.run(&["bill", "--plan", "plan.toml", "log"]).fine();
    assert_eq!(row(&table, "domain"), "domain item used free charged rate amount");
    files.file("log", line("2026-01-10T12:00:00.000", 5000, "a", [1, 1], ""));
    let table = files.run(&["bill", "--plan", "plan.toml", "log"]).fine();
    assert_eq!(row(&table, "a "), "a r 1 request 0 1 1 per request 1.00");
}

// ---------------------------------------------------------------------------------------------

#[test]
fn every_rate_has_a_row_of_its_own() {
    let files = Folder::of(&[]);
    let tiers = "tier = [{ up_to = 10, rate = 0.100 }, { up_to = 20, rate = 0.05 }, { rate = 2e-3 }]";
    let item = format!("{{ name = \"r\", measure = \"requests\", per = 2, {tiers} }}");
    files.file("plan.toml", plan("", &item));
    files.file("log", line("2026-01-10T12:00:00.000", 5000, "a", [27, 1], ""));
    let rows = bill(&files, &[]);
    let kinds: Vec<&str> = rows.iter().map(|row| row["row"].as_str()).collect();
    assert_eq!(kinds, ["item", "tier", "tier", "tier", "total", "all_item", "all_total"]);
    assert_eq!(cells(&rows, "item", "rate"), [""]);
    assert_eq!(cells(&rows, "tier", "rate"), ["0.100", "0.05", "0.002"]);
    assert_eq!(cells(&rows, "tier", "per"), ["2", "2", "2"]);
    assert_eq!(cells(&rows, "tier", "charged"), ["10", "10", "7"]);
    assert_eq!(cells(&rows, "tier", "tier_from"), ["0", "10", "20"]);
    assert_eq!(cells(&rows, "tier", "tier_up_to"), ["10", "20", ""]);
    // 0.50, 0.25 and 0.007 are 0.757
    assert_eq!(cells(&rows, "item", "amount"), ["0.76"]);
    assert_eq!(cells(&rows, "tier", "amount"), ["0.50", "0.25", "0.01"]);
    // one rate is in the row of the item
    files.file("log", line("2026-01-10T12:00:00.000", 5000, "a", [7, 1], ""));
    let rows = bill(&files, &[]);
    assert_eq!(cells(&rows, "item", "rate"), ["0.100"]);
    assert!(cells(&rows, "tier", "rate").is_empty());
}

#[test]
fn columns_are_the_same_for_every_plan_and_log() {
    let files = Folder::of(&[]);
    files.file("log", line("2026-01-10T12:00:00.000", 5000, "a", [27, 1], ""));
    files.file("none", line("2026-01-10T12:00:00.000", 5000, "b", [0, 0], ""));
    let mut heads = std::collections::BTreeSet::new();
    for item in [
        "rate = 1",
        "rate = 1, round_up = 5, scope = \"account\"",
        "tier = [{ up_to = 1, rate = 1 }, { rate = 2 }]",
    ] {
        files.file(
            "plan.toml",
            plan("base_fee = 1", &format!("{{ name = \"r\", measure = \"requests\", {item} }}")),
        );
        for log in ["log", "none"] {
            for more in [&[][..], &["--domain", "nobody"]] {
                let out =
                    files.run(&[&["bill", "--plan", "plan.toml", log, "--format", "csv"], more].concat());
                assert_eq!(out.status, Some(0), "{}", out.err);
                let out = out.out;
                heads.insert(out.lines().next().unwrap().to_owned());
                for row in rows(&out) {
                    assert_eq!((row["zone"].as_str(), row["plan"].as_str()), ("domains", "p"));
                    for column in [
                        "used",
                        "rounded",
                        "free",
                        "charged",
                        "tier_from",
                        "tier_up_to",
                        "rate",
                        "per",
                        "amount",
                    ] {
                        let cell = &row[column];
                        assert!(cell.is_empty() || cell.parse::<f64>().is_ok(), "{column}: {cell}");
                    }
                }
            }
        }
    }
    assert_eq!(heads.len(), 1);
    let json = files.run(&["bill", "--plan", "plan.toml", "log", "--format", "json"]).fine();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["version"], 2);
    assert_eq!(json["rows"][1]["row"], "tier");
    assert_eq!(json["rows"][1]["rate"], "1");
    assert!(json["rows"][0]["rate"].is_null());
}
