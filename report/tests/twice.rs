//! Duplicate lines, lines that are broken or missing, and patterns that match nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

mod common;
use common::Folder;

const PLAN: &str =
    "name = \"p\"\ncurrency = \"EUR\"\nitem = [{ name = \"r\", measure = \"requests\", rate = 1 }]";

fn line(minute: u64, host: &str, zone: &str, key: &str, requests: u64) -> String {
    let (hour, minute) = (minute / 60, minute % 60);
    format!(
        concat!(
            r#"{{"time":"2026-01-31T{hour:02}:{minute:02}:00.000Z","interval_ms":60000,"host":"{host}""#,
            r#","zone":"{zone}","key":"{key}","requests":{requests},"cpu_ns":1000000,"wakeups":1"#,
            r#","sent_bytes":1000,"received_bytes":0,"2xx":0,"4xx":0,"5xx":0}}"#,
        ),
        hour = hour,
        minute = minute,
        host = host,
        zone = zone,
        key = key,
        requests = requests
    ) + "\n"
}

/// 20 minutes of one server.
fn log() -> String {
    (1..=20).map(|minute| line(minute, "vm", "domains", "a.test", 10)).collect()
}

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn folder() -> Folder {
    let files = Folder::of(&[]);
    files.file("plan.toml", PLAN);
    files.file("plan2.toml", PLAN);
    files.file("copy.log", log());
    files.file("copy.log.gz", gzip(&log()));
    files
}

const BILL: [&str; 5] = ["bill", "--plan", "plan.toml", "--format", "csv"];
const COMPARE: [&str; 5] = ["compare", "--plans", "plan.toml,plan2.toml", "--format", "csv"];

#[test]
fn no_bill_is_made_of_a_log_and_its_copy() {
    let files = folder();
    for command in [BILL, COMPARE] {
        let ran = files.run(&[&command[..], &["copy.log", "copy.log.gz"]].concat());
        assert_eq!((ran.status, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        assert!(ran.err.contains("copy.log:1 and copy.log.gz:1 are equal"), "{}", ran.err);
        assert!(ran.err.contains("20 lines are duplicates"), "{}", ran.err);
        assert!(ran.err.contains("--duplicates once"), "{}", ran.err);
    }
}

#[test]
fn equal_lines_are_counted_once_or_each_where_that_is_asked_for() {
    let files = folder();
    let alone = files.run(&[&BILL[..], &["copy.log"]].concat()).fine();
    let both = |duplicates| {
        files.run(&[&BILL[..], &["copy.log.gz", "copy.log", "--duplicates", duplicates]].concat())
    };
    let once = both("once");
    assert_eq!((once.status, once.out), (Some(0), alone));
    assert!(once.err.contains("20 lines are duplicates: equal lines are counted once"), "{}", once.err);
    let each = both("count");
    assert_eq!(each.status, Some(0));
    assert!(each.out.contains(",400.00,"), "{}", each.out);
    assert!(each.err.contains("20 lines are duplicates, and each is counted"), "{}", each.err);
}

#[test]
fn a_line_is_a_duplicate_within_a_file_and_on_standard_input_too() {
    let files = folder();
    files.file("both", log().repeat(2));
    files.run(&[&BILL[..], &["both"]].concat()).fails("both:1 and both:21 are equal");
    let ran = files.run_with(&[&BILL[..], &["-"]].concat(), log().repeat(2).as_bytes());
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.err.contains("standard input:21 has the host, zone, key and time of a line before it"),
        "{}",
        ran.err
    );
    let ran =
        files.run_with(&[&BILL[..], &["-", "--duplicates", "once"]].concat(), log().repeat(3).as_bytes());
    assert_eq!(ran.out, files.run(&[&BILL[..], &["copy.log"]].concat()).fine());
}

#[test]
fn two_servers_of_one_name_are_an_error_also_where_equal_lines_are_counted_once() {
    let files = folder();
    files.file("other", line(7, "vm", "domains", "a.test", 11));
    for more in [&[][..], &["--duplicates", "once"]] {
        let ran = files.run(&[&BILL[..], &["copy.log", "other"], more].concat());
        assert_eq!((ran.status, ran.out.as_str()), (Some(1), ""));
        assert!(ran.err.contains("copy.log:7 and other:1 differ: they are of two series"), "{}", ran.err);
        assert!(ran.err.contains("1 line is a duplicate"), "{}", ran.err);
    }
    let ran = files.run(&[&BILL[..], &["copy.log", "other", "--duplicates", "count"]].concat());
    assert!(ran.status == Some(0) && ran.out.contains(",211.00,"), "{ran:?}");
}

#[test]
fn lines_of_other_hosts_zones_keys_and_times_are_no_duplicates() {
    let files = folder();
    let others = [
        line(1, "vm2", "domains", "a.test", 10),
        line(1, "vm", "paths", "a.test", 10),
        line(1, "vm", "domains", "b.test", 10),
        line(1, "vm", "domains", "a.test", 10).replace(":00.000Z", ":00.001Z"),
    ];
    files.file("others", others.concat());
    let ran = files.run(&["domains", "copy.log", "others"]);
    assert!(ran.status == Some(0) && !ran.err.contains("duplicate"), "{}", ran.err);
    // of what is not asked for, nothing is compared
    for more in [&["--domain", "b.test"][..], &["--host", "vm2"], &["--from", "2026-01-31T01:00:00Z"]] {
        let ran = files
            .run(&[&BILL[..], &["copy.log", "copy.log.gz", "others", "--zone", "domains"], more].concat());
        assert!(ran.status == Some(0) && !ran.err.contains("duplicate"), "{more:?}: {}", ran.err);
    }
}

#[test]
fn a_table_says_in_one_line_that_lines_are_duplicates() {
    let files = folder();
    let ran = files.run(&["domains", "copy.log", "copy.log.gz", "--format", "csv"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.out.contains("a.test,400,"), "{}", ran.out);
    let said: Vec<&str> = ran.err.lines().collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("20 lines are duplicates") && said[0].contains("copy.log:1 and copy.log.gz:1"),
        "{said:?}"
    );
    let alone = files.run(&["domains", "copy.log", "--format", "csv"]).fine();
    let once = files.run(&["domains", "copy.log", "copy.log.gz", "--format", "csv", "--duplicates", "once"]);
    assert_eq!(once.out, alone);
    files
        .run(&["domains", "copy.log", "copy.log.gz", "--duplicates", "error"])
        .fails("20 lines are duplicates");
    let ran = files.run(&["domains", "copy.log", "copy.log.gz", "--max-domains", "0"]);
    assert!(ran.err.contains("were not compared"), "{}", ran.err);
}

#[test]
fn no_bill_is_made_of_broken_lines_unless_they_are_to_be_skipped() {
    let files = folder();
    files.file("torn", log() + "{\"time\":");
    for command in [BILL, COMPARE] {
        for more in [&[][..], &["--strict"], &["--broken", "error"]] {
            let ran = files.run(&[&command[..], &["torn"], more].concat());
            assert_eq!((ran.status, ran.out.as_str()), (Some(1), ""));
            assert!(ran.err.contains("torn:21: "), "{}", ran.err);
            assert!(
                ran.err.contains("1 of 21 lines is broken") && ran.err.contains("--broken skip"),
                "{}",
                ran.err
            );
        }
        let ran = files.run(&[&command[..], &["torn", "--broken", "skip"]].concat());
        assert_eq!(ran.out, files.run(&[&command[..], &["copy.log"]].concat()).fine());
        assert!(ran.err.contains("1 of 21 lines is broken, and was skipped"), "{}", ran.err);
    }
    assert_eq!(files.run(&["domains", "torn"]).status, Some(0));
    assert_eq!(files.run(&["domains", "torn", "--broken", "error"]).status, Some(1));
    assert_eq!(files.run(&["domains", "torn", "--broken", "skip", "--strict"]).status, Some(2));
}

#[test]
fn a_gap_of_a_host_is_reported() {
    let files = folder();
    let minutes = |host: &str, minutes: &[u64]| -> String {
        minutes.iter().map(|minute| line(*minute, host, "domains", "a.test", 10)).collect()
    };
    let all: Vec<u64> = (1..=60).collect();
    files.file("whole", minutes("edge-1", &all));
    files.file("hole", minutes("edge-2", &[&all[..12], &all[40..]].concat()));
    files.file("late", minutes("edge-3", &all[30..]));
    let bill = files.command(&[&BILL[..], &["whole", "hole", "late"]].concat()).output().unwrap();
    let said = String::from_utf8(bill.stderr).unwrap();
    assert_eq!(bill.status.code(), Some(0));
    assert!(said.contains("no lines of edge-2 from 2026-01-31T00:15:00Z to 2026-01-31T00:40:00Z"), "{said}");
    assert!(said.contains("no lines of edge-3 from 2026-01-31T00:00:00Z to 2026-01-31T00:30:00Z"), "{said}");
    assert!(said.contains("a server without requests writes no lines") && !said.contains("edge-1"), "{said}");
    let domains = files.command(&["domains", "whole", "hole", "late"]).output().unwrap();
    let said = String::from_utf8(domains.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("edge-3") && said.contains("1 more host"), "{said}");
    // what one server lacks is no matter where others are asked for
    let chosen = files.command(&["domains", "whole", "hole", "--host", "edge-1"]).output().unwrap();
    assert_eq!(String::from_utf8(chosen.stderr).unwrap(), "");
}

#[test]
fn a_pattern_that_matches_nothing_is_reported_with_existing_names() {
    let files = folder();
    for command in [
        &["domains", "copy.log"][..],
        &[&BILL[..], &["copy.log"]].concat(),
        &[&COMPARE[..], &["copy.log"]].concat(),
    ] {
        for format in ["csv", "json", "table"] {
            for (option, wanted) in [
                ("--zone", "no zone matches --zone \"typo\": there is \"domains\""),
                ("--host", "no host matches --host \"typo\": there is \"vm\""),
            ] {
                let arguments: Vec<&str> = command
                    .iter()
                    .copied()
                    .filter(|argument| !["--format", "csv"].contains(argument))
                    .collect();
                let ran = files.run(&[&arguments[..], &["--format", format, option, "typo"]].concat());
                assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
                assert!(ran.err.contains(wanted), "{}", ran.err);
            }
        }
        let ran = files.run(&[command, &["--domain", "typo", "--domain", "A.*"]].concat());
        assert_eq!(ran.status, Some(0));
        assert!(
            ran.err.contains("no domain matches --domain \"typo\"") && !ran.err.contains("A.*"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_name_is_a_pattern_of_itself_and_case_is_no_matter() {
    let files = folder();
    files.file("names", ["[2001:db8::1]", "café.test"].map(|key| line(1, "vm", "domains", key, 5)).concat());
    for (pattern, name) in [("[2001:DB8::1]", "[2001:db8::1]"), ("CAFÉ.*", "café.test")] {
        let out = files.run(&["domains", "names", "-d", pattern, "--format", "csv"]).fine();
        assert!(out.contains(name) && out.lines().count() == 3, "{out}");
    }
    let ran = files.run(&["domains", "names", "-d", "[a"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.err.contains("\"[[]\""), "{}", ran.err);
}

#[test]
fn sums_of_requests_do_not_end_at_2_to_the_64th() {
    let files = folder();
    files.file("big", [1, 2].map(|minute| line(minute, "vm", "domains", "a.test", u64::MAX)).concat());
    // 2 · (2^64 - 1)
    let csv = files.run(&["domains", "big", "--format", "csv"]).fine();
    assert!(csv.contains("a.test,36893488147419103230,"), "{csv}");
    let json = files.run(&["domains", "big", "--format", "json"]).fine();
    assert!(json.contains("\"requests\":36893488147419103230,"), "{json}");
    let table = files.run(&["domains", "big"]).fine();
    assert!(table.contains("36,893,488,147,419,103,230"), "{table}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lines of several hosts, zones and keys in several files, of which some stand in another place too.
    #[test]
    fn duplicate_lines_agree_with_an_oracle(
        lines in prop::collection::btree_set((1u64..30, 0usize..3, 0usize..4), 1..60),
        copies in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3), 0..20),
        files_of in prop::collection::vec(0usize..3, 60),
        is_turned: bool,
        blank_lines in prop_oneof![Just(0usize), Just(1_200_000)],
    ) {
        let text = |(minute, host, key): &(u64, usize, usize)| {
            line(*minute, ["", "h1", "h2"][*host], "domains", ["a", "b", "c", "[d]"][*key], 1 + minute % 7)
        };
        let mut contents = [String::new(), String::new(), String::new()];
        let all: Vec<_> = lines.iter().collect();
        for (line, file) in all.iter().zip(&files_of) {
            contents[*file] += &text(line);
        }
        let alone = contents.clone();
        for (at, (line, file)) in copies.iter().enumerate() {
            // so that lines are in several blocks
            if at < 2 {
                contents[*file] += &"\n".repeat(blank_lines);
            }
            contents[*file] += &text(all[line.index(all.len())]);
        }
        if is_turned {
            contents = contents.map(|content| content.lines().rev().map(|line| format!("{line}\n")).collect());
        }
        let files = folder();
        for (at, (content, alone)) in contents.iter().zip(&alone).enumerate() {
            files.file(&format!("all{at}"), content);
            files.file(&format!("alone{at}"), alone);
        }
        let with = |names: [&'static str; 3], more: &[&'static str]| files.run(&[&BILL[..], &names, more].concat());
        let names = ["all0", "all1", "all2"];
        let wanted = with(["alone0", "alone1", "alone2"], &["--duplicates", "once"]).fine();
        let once = with(names, &["--duplicates", "once"]);
        prop_assert_eq!(once.out, wanted);
        let ran = with(names, &[]);
        match copies.len() {
            0 => prop_assert_eq!(ran.status, Some(0)),
            n => {
                let many = format!("{n} lines are duplicates");
                let said = if n == 1 { "1 line is a duplicate".to_owned() } else { many };
                prop_assert!(ran.status == Some(1) && ran.err.contains(&format!("{said}, so")), "{}", ran.err);
            }
        }
    }
}

#[test]
fn an_access_log_and_its_copy_are_reported() {
    let files = Folder::of(&["factors"]);
    let lines = |from: u32| -> String {
        (from..from + 100).map(|n| format!("a.test /{n} 200 100 0.001 0.000{n:03}000 1\n")).collect()
    };
    files.file("a", lines(0));
    files.file("b", lines(100));
    files.file("copy", lines(0));
    let told = |names: &[&str]| {
        let ran = files.run(names);
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        ran.err.lines().filter(|line| line.contains("begins with the same lines as")).count()
    };
    assert_eq!(told(&["a", "b"]), 0);
    assert_eq!(told(&["a", "b", "copy"]), 1);
    // that is said otherwise
    assert_eq!(told(&["a", "b", "a"]), 0);
}
