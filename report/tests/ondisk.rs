//! Logs as they lie on disk: compressed, with marks and NULs, and files that are no logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

mod common;
use common::Folder;

const PLAN: &str =
    "name = \"p\"\ncurrency = \"EUR\"\nitem = [{ name = \"r\", measure = \"requests\", rate = 1 }]";

const DOMAINS: [&str; 3] = ["domains", "--format", "csv"];
const BILL: [&str; 5] = ["bill", "--plan", "plan.toml", "--format", "csv"];

fn line(minute: u64, requests: u64) -> String {
    format!(
        concat!(
            r#"{{"time":"2026-01-31T12:{minute:02}:00.000Z","interval_ms":60000,"host":"vm","zone":"domains""#,
            r#","key":"a.test","requests":{requests},"cpu_ns":1000000,"wakeups":1,"sent_bytes":1000"#,
            r#","received_bytes":0,"2xx":0,"4xx":0,"5xx":0}}"#,
        ),
        minute = minute,
        requests = requests
    ) + "\n"
}

fn log() -> String {
    (1..=20).map(|minute| line(minute, 10)).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The log, compressed by the tool of each name.
fn packed() -> [(&'static str, Vec<u8>); 4] {
    [
        ("gzip", gzip(log().as_bytes())),
        ("xz", include_bytes!("packed/traffic.log.xz").to_vec()),
        ("zstd", include_bytes!("packed/traffic.log.zst").to_vec()),
        ("bzip2", include_bytes!("packed/traffic.log.bz2").to_vec()),
    ]
}

fn folder() -> Folder {
    let files = Folder::of(&[]);
    files.file("plan.toml", PLAN);
    files.file("plain.log", log());
    files
}

#[track_caller]
fn reads_as_the_plain_log(content: &[u8], note: &str) {
    let files = folder();
    files.file("a.log", content);
    for command in [&DOMAINS[..], &BILL[..]] {
        let right = files.run(&[command, &["plain.log"]].concat()).fine();
        let ran = files.run(&[command, &["a.log"]].concat());
        assert_eq!((ran.status, ran.err.as_str(), ran.out), (Some(0), note, right));
    }
}

#[test]
fn a_compressed_log_reads_as_the_plain_one_also_from_standard_input() {
    let files = folder();
    let right = files.run(&[&DOMAINS[..], &["plain.log"]].concat()).fine();
    for (_, content) in packed() {
        reads_as_the_plain_log(&content, "");
        assert_eq!(files.run_with(&[&DOMAINS[..], &["-"]].concat(), &content).fine(), right);
    }
}

#[test]
fn zeros_after_and_between_compressed_parts_are_no_data() {
    for (_, content) in packed() {
        for zeros in [1, 512, 300_000] {
            reads_as_the_plain_log(&[&content[..], &vec![0; zeros]].concat(), "");
        }
    }
    let halves = log();
    let (first, second) = halves.split_at(halves.len() / 2);
    reads_as_the_plain_log(&[gzip(first.as_bytes()), vec![0; 1000], gzip(second.as_bytes())].concat(), "");
}

#[test]
fn parts_of_any_compression_may_follow_each_other() {
    let files = folder();
    let parts = packed().map(|(_, part)| part).concat();
    files.file("a.log", parts);
    files.file("four.log", log().repeat(4));
    let read = |name| files.run(&[&DOMAINS[..], &["--duplicates", "count", name]].concat());
    assert_eq!(read("a.log").out, read("four.log").out);
    // frames of zstd that have no text
    let skipped = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], include_bytes!("packed/traffic.log.zst")].concat();
    reads_as_the_plain_log(&skipped, "");
    let last = [include_bytes!("packed/traffic.log.zst"), &b"\x5f\x2a\x4d\x18\x03\0\0\0abc"[..]].concat();
    reads_as_the_plain_log(&last, "");
}

#[test]
fn no_bill_is_made_of_compressed_data_that_break_off_or_are_followed_by_others() {
    let files = folder();
    for (name, content) in packed() {
        files.file("cut.log", &content[..content.len() - 3]);
        files.run(&[&BILL[..], &["cut.log"]].concat()).fails(&format!("the {name} data are incomplete"));
        files.file("more.log", [&content[..], b"other"].concat());
        let ran = files.run(&[&BILL[..], &["more.log"]].concat());
        ran.fails(&format!("other data follow the {name} data and are not read; use: {name} -dc more.log |"));
    }
    let mut sum = gzip(log().as_bytes());
    let at = sum.len() - 5;
    sum[at] ^= 1;
    files.file("sum.log", sum);
    files.run(&[&BILL[..], &["sum.log"]].concat()).fails("the gzip data are damaged");
}

#[test]
fn every_damage_of_one_byte_is_found_or_does_no_harm() {
    let files = folder();
    let right = files.run(&[&BILL[..], &["plain.log"]].concat()).fine();
    for (name, content) in packed() {
        for at in (0..content.len()).step_by(3) {
            let mut damaged = content.clone();
            damaged[at] ^= 1 << (at % 8);
            files.file("a.log", damaged);
            let ran = files.run(&[&BILL[..], &["a.log"]].concat());
            match ran.status {
                Some(0) => assert_eq!(ran.out, right, "{name}, byte {at}: {}", ran.err),
                status => {
                    assert_eq!((status, ran.out.as_str()), (Some(1), ""), "{name}, byte {at}: {}", ran.err)
                }
            }
        }
    }
}

#[test]
fn files_that_are_no_logs_are_named_with_help() {
    let files = folder();
    let text = log();
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let tar = [&b"traffic.log"[..], &[0; 246], b"ustar\0", &[0; 300]].concat();
    let cases: [(Vec<u8>, &str); 9] = [
        (
            b"\x04\x22\x4d\x18\x64\x40\xa7".to_vec(),
            "a.log: this is compressed by lz4; use: lz4 -dc a.log | cpu-report",
        ),
        (b"PK\x03\x04\x14".to_vec(), "a.log: this is a zip archive; use: unzip -p a.log | cpu-report"),
        (tar.clone(), "a.log: this is a tar archive; use: tar -xOf a.log | cpu-report"),
        (
            [b"\xff\xfe", &utf16[..]].concat(),
            "a.log: this is UTF-16 text; use: iconv -f UTF-16 -t UTF-8 a.log |",
        ),
        (utf16, "a.log: this is UTF-16 text; use: iconv -f UTF-16LE -t UTF-8 a.log |"),
        (
            gzip(&gzip(text.as_bytes())),
            "this is compressed twice, by gzip and then by gzip; use: gzip -dc a.log |",
        ),
        (
            gzip(&tar),
            "this is a tar archive compressed by gzip; use: gzip -dc a.log | tar -xOf - | cpu-report",
        ),
        (b"\x7fELF\x02\x01\x01\0".to_vec(), "a.log: this is a program; name the log itself"),
        (
            (0..200_u8).cycle().take(5000).map(|n| n.wrapping_mul(77)).collect(),
            "a.log: this is neither text nor a format",
        ),
    ];
    for (content, message) in cases {
        files.file("a.log", content);
        files.run(&[&BILL[..], &["a.log"]].concat()).fails(message);
    }
    std::fs::create_dir(files.path().join("logs")).unwrap();
    files
        .run(&[&BILL[..], &["logs"]].concat())
        .fails("logs: this is a folder; name its files, such as logs/*");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_line() {
    let marked = format!("\u{feff}{}", log());
    reads_as_the_plain_log(marked.as_bytes(), "");
    reads_as_the_plain_log(&gzip(marked.as_bytes()), "");
    // as after cat of files of which each has one
    let each: String = log().lines().map(|line| format!("\u{feff}{line}\r\n")).collect();
    reads_as_the_plain_log(each.as_bytes(), "");
}

#[test]
fn blanks_around_lines_and_lines_of_blanks_alone_are_fine() {
    let each: String = log().lines().map(|line| format!(" \t{line} \t\n \t \n\r\n")).collect();
    reads_as_the_plain_log(each.as_bytes(), "");
}

#[test]
fn nuls_before_lines_are_skipped_and_reported() {
    let text = log();
    for (nuls, shown) in [(1, "1 NUL byte before line 1 was"), (4096, "4,096 NUL bytes before line 1 were")] {
        let note = format!("cpu-report: a.log: {shown} skipped\n");
        reads_as_the_plain_log(&[&vec![0; nuls][..], text.as_bytes()].concat(), &note);
    }
    // a hole that is longer than a line may be
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let hole = vec![0; 5_000_000];
    let holes = [lines[..6].concat().as_bytes(), &hole, lines[6..].concat().as_bytes()].concat();
    reads_as_the_plain_log(&holes, "cpu-report: a.log: 5,000,000 NUL bytes before line 7 were skipped\n");
    let end = [text.as_bytes(), &hole].concat();
    reads_as_the_plain_log(&end, "cpu-report: a.log: 5,000,000 NUL bytes before line 21 were skipped\n");
    let more = [&[0; 10], lines[..6].concat().as_bytes(), &[0; 20], lines[6..].concat().as_bytes()].concat();
    reads_as_the_plain_log(&more, "cpu-report: a.log: 30 NUL bytes before lines 1 to 7 were skipped\n");
}

#[test]
fn nuls_within_a_line_make_it_a_broken_one() {
    let files = folder();
    files.file("a.log", log().replace("\"wakeups\"", "\0\0\"wakeups\""));
    files.run(&[&BILL[..], &["a.log"]].concat()).fails("20 of 20 lines are broken");
}
