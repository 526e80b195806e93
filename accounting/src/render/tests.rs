//! Tests of both formats with the same accounts.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::atomic::Ordering::Relaxed;

use formats::counters::Unit;
use proptest::prelude::*;
use serde_json::Value;

use super::negotiate::Format;
use super::*;
use crate::account::{CLASSES, CPU_BOUNDS_NS, CacheStatus, Handshake, Outcome, Usage};
use crate::billing::{Signal, Span, WINDOWS};
use crate::in_flight::InFlight;
use crate::key;
use crate::key::Cut;
use crate::limit::{Limit, LimitId, parse_cores};
use crate::table::Spare;
use crate::table::{Slot, Table};
use crate::testing::{Region, appended, cases, process, totals};
use crate::worker_totals::WorkerTotals;
use crate::workers::Worker;

const NOW_MS: u64 = 1_000_000;

fn outcome() -> Outcome {
    Outcome {
        status: 200,
        cache: CacheStatus::None,
        connection_order: 1,
        response_bytes: 100,
        cpu_ns: 15_000,
    }
}

fn usage() -> Usage {
    Usage { cpu_ns: 1_500_000_001, wakeups: 7, sent_bytes: 3_000_000_000, received_bytes: 500 }
}

fn status(zones: Vec<Zone>) -> Status {
    Status {
        version: "0.1.0",
        nginx_version: "1.28.3",
        time: "2026-01-31T12:00:00.000Z".to_owned(),
        clock: "thread",
        max_error_ns: 0,
        workers: vec![Worker { worker: 0, pid: 4711, totals: totals() }],
        worker_totals: vec![(0, totals()), (1, WorkerTotals::default())],
        zones,
        detail: Detail::Full,
    }
}

fn zone(name: &str, table: Table) -> Zone {
    Zone { name: name.to_owned(), size_bytes: 65_536, table, only: None }
}

/// The whole answer as text.
fn written(status: Status, format: Format) -> String {
    let mut answer = Answer::new(status, format);
    let mut out = Vec::new();
    while answer.write_some(NOW_MS, &mut out) {}
    String::from_utf8(out).unwrap()
}

fn as_json(status: Status) -> String {
    written(status, Format::Json)
}

fn as_text(status: Status) -> String {
    written(status, Format::Prometheus)
}

/// One account of the key `example.com` with one request, and an overflow account without any.
fn one_request(region: &Region) -> Table {
    let table = region.table().unwrap();
    let slot = table.find_or_insert(b"example.com", &mut Spare::default()).slot;
    table.account(slot).add(NOW_MS, &usage());
    table.account(slot).finish(&outcome());
    table.account(slot).count_handshake(&Handshake { resumed: true, cpu_ns: 14_000 });
    let billing = table.account(slot).billing();
    let [duration_ns, active_ms, .., memory_byte_ms] = billing.counters();
    for (counter, n) in [(duration_ns, 1_234_999_999), (active_ms, 987), (memory_byte_ms, 2_500_000_001)] {
        counter.store(n, Relaxed);
    }
    // A full second of the CPU above has ended, since no thread uses more than one core.
    billing.judge(400_000_000, 10_000_000);
    billing.judge(99, 10_000_000);
    table
}

/// The windows in the form of the interface.
fn windows_of(signals: &[Signal; WINDOWS.len()]) -> String {
    let members = signals.map(|signal| {
        let [in_flight, requests, cores] = [signal.in_flight, signal.requests_per_second, signal.cores]
            .map(|value| serde_json::json!((value * 1e6).round() / 1e6));
        format!(r#"{{"in_flight":{in_flight},"requests_per_second":{requests},"cores":{cores}}}"#)
    });
    format!(r#"{{"6s":{},"60s":{}}}"#, members[0], members[1])
}

#[test]
fn the_json_has_the_members_of_the_interface_in_its_order() {
    let region = Region::new(65_536);
    let table = one_request(&region);
    let fill = table.fill();
    let account = table.account(table.find(b"example.com").unwrap());
    let windows = windows_of(&account.signals(NOW_MS));
    let text = as_json(status(vec![zone("domains", table)]));
    let expected = [
        r#"{"version":"0.1.0","nginx_version":"1.28.3","time":"2026-01-31T12:00:00.000Z","clock":"thread","#,
        r#""max_error_ns":0,"workers":[{"worker":0,"pid":4711,"wakeups":10,"thread_cpu_ns":1000000234,"#,
        r#""charged_ns":1000000000,"uncounted_ns":70,"no_request_ns":200,"loop_ns":30,"other_ns":4,"pool_threads_cpu_ns":6,"#,
        r#""pool_threads_charged_ns":3,"pending_ns":5,"clock_readings":4}],"zones":{"domains":{"size_bytes":65536,"#,
        &format!(r#""used_bytes":{},"capacity":{},"accounts":1,"#, fill.used_bytes, fill.capacity),
        r#""overflowed":0,"cut":0,"keys":{"example.com":{"#,
        r#""requests":1,"responses":{"1xx":0,"2xx":1,"3xx":0,"4xx":0,"5xx":0},"cpu_ns":1500000001,"wakeups":7,"#,
        r#""sent_bytes":3000000000,"received_bytes":500,"in_flight":0,"#,
        r#""cores":{"10s":0.15,"1m":0.025,"5m":0.005},"cpu_seconds_per_gb":0.5,"cpu_ns_per_request":1500000001,"#,
        r#""duration_ms":1234,"active_ms":987,"active_seconds":2,"billable_cpu_ns":1400000000,"waived_cpu_ns":99,"#,
        r#""memory_byte_ms":2500000001,"gb_seconds":0.002500000001,"peak_cores":1.0,"#,
        &format!(r#""windows":{windows},"#),
        r#""by_cache_status":{"NONE":{"requests":1,"cpu_ns":15000}},"#,
        r#""by_connection_order":{"1":{"requests":1,"cpu_ns":15000}},"#,
        r#""by_response_size":{"1k":{"requests":1,"cpu_ns":15000}},"#,
        r#""tls_handshakes":{"resumed":{"handshakes":1,"cpu_ns":14000}},"#,
        r#""by_request_cpu":[{"le_ns":20000,"requests":1}]"#,
        &appended().map(|(_, counter)| format!(r#","{}":0"#, counter.name)).collect::<String>(),
        "}},",
        &format!(r#""windows":{windows}}}}}}}"#),
        "\n",
    ];
    assert_eq!(text, expected.concat());
}

#[test]
fn the_prometheus_text_has_the_families_of_the_interface() {
    let region = Region::new(65_536);
    let table = one_request(&region);
    let capacity = table.fill().capacity;
    let signals = table.account(table.find(b"example.com").unwrap()).signals(NOW_MS);
    let text = as_text(status(vec![zone("domains", table)]));
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut expected = vec![
        r#"nginx_request_cpu_info{version="0.1.0",nginx_version="1.28.3",clock="thread"} 1"#.to_owned(),
        r#"nginx_request_cpu_seconds_total{zone="domains",key="example.com"} 1.500000001"#.to_owned(),
        r#"nginx_request_cpu_requests_total{zone="domains",key="example.com",class="2xx"} 1"#.to_owned(),
        r#"nginx_request_cpu_wakeups_total{zone="domains",key="example.com"} 7"#.to_owned(),
        r#"nginx_request_cpu_sent_bytes_total{zone="domains",key="example.com"} 3000000000"#.to_owned(),
        r#"nginx_request_cpu_received_bytes_total{zone="domains",key="example.com"} 500"#.to_owned(),
        r#"nginx_request_cpu_in_flight{zone="domains",key="example.com"} 0"#.to_owned(),
        r#"nginx_request_cpu_duration_seconds_total{zone="domains",key="example.com"} 1.234"#.to_owned(),
        r#"nginx_request_cpu_active_interval_seconds_total{zone="domains",key="example.com"} 0.987"#
            .to_owned(),
        r#"nginx_request_cpu_active_seconds_total{zone="domains",key="example.com"} 2"#.to_owned(),
        r#"nginx_request_cpu_billable_seconds_total{zone="domains",key="example.com"} 1.400000000"#
            .to_owned(),
        r#"nginx_request_cpu_waived_seconds_total{zone="domains",key="example.com"} 0.000000099"#.to_owned(),
        r#"nginx_request_cpu_memory_byte_seconds_total{zone="domains",key="example.com"} 2500000.001"#
            .to_owned(),
        r#"nginx_request_cpu_peak_cores{zone="domains",key="example.com"} 1.000000000"#.to_owned(),
    ];
    let windows =
        |shows: fn(&Signal) -> f64| formats::classes::WINDOWS.into_iter().zip(signals.each_ref().map(shows));
    for (name, windows) in [
        ("in_flight", windows(|signal| signal.in_flight)),
        ("requests_per_second", windows(|signal| signal.requests_per_second)),
        ("cores", windows(|signal| signal.cores)),
    ] {
        for (window, value) in windows {
            expected.push(format!(
                r#"nginx_request_cpu_window_{name}{{zone="domains",key="example.com",window="{window}"}} {value:.9}"#
            ));
        }
    }
    expected.extend([
        r#"nginx_request_cpu_cache_seconds_total{zone="domains",key="example.com",status="NONE"} 0.000015000"#
            .to_owned(),
        r#"nginx_request_cpu_cache_requests_total{zone="domains",key="example.com",status="NONE"} 1"#.to_owned(),
        r#"nginx_request_cpu_order_seconds_total{zone="domains",key="example.com",order="1"} 0.000015000"#.to_owned(),
        r#"nginx_request_cpu_order_requests_total{zone="domains",key="example.com",order="1"} 1"#.to_owned(),
        r#"nginx_request_cpu_size_seconds_total{zone="domains",key="example.com",size="1k"} 0.000015000"#.to_owned(),
        r#"nginx_request_cpu_size_requests_total{zone="domains",key="example.com",size="1k"} 1"#.to_owned(),
        r#"nginx_request_cpu_tls_handshake_seconds_total{zone="domains",key="example.com",session="resumed"} 0.000014000"#
            .to_owned(),
        r#"nginx_request_cpu_tls_handshakes_total{zone="domains",key="example.com",session="resumed"} 1"#.to_owned(),
    ]);
    let bounds =
        "0.00001 0.00002 0.00005 0.0001 0.0002 0.0005 0.001 0.002 0.005 0.01 0.02 0.05 0.1 0.2 0.5 1 2 5 10";
    for le in bounds.split(' ').chain(["+Inf"]) {
        let count = u64::from(le != "0.00001");
        expected.push(format!(
            r#"nginx_request_cpu_per_request_seconds_bucket{{zone="domains",key="example.com",le="{le}"}} {count}"#
        ));
    }
    for line in [
        r#"per_request_seconds_sum{zone="domains",key="example.com"} 0.000015000"#,
        r#"per_request_seconds_count{zone="domains",key="example.com"} 1"#,
    ] {
        expected.push(format!("nginx_request_cpu_{line}"));
    }
    for (_, counter) in appended() {
        for family in counter.families.iter().flatten() {
            let zero = match counter.unit {
                Unit::Nanoseconds => "0.000000000",
                Unit::Milliseconds | Unit::ByteMilliseconds => "0.000",
                _ => "0",
            };
            let name = family.name;
            expected.push(format!(r#"nginx_request_cpu_{name}{{zone="domains",key="example.com"}} {zero}"#));
        }
    }
    for line in [
        r#"worker_seconds_total{worker="0",owner="charged"} 1.000000000"#,
        r#"worker_seconds_total{worker="0",owner="no_request"} 0.000000200"#,
        r#"worker_seconds_total{worker="0",owner="loop"} 0.000000030"#,
        r#"worker_seconds_total{worker="0",owner="other"} 0.000000004"#,
        r#"worker_seconds_total{worker="0",owner="pool_threads"} 0.000000006"#,
        r#"worker_seconds_total{worker="1",owner="charged"} 0.000000000"#,
        r#"worker_seconds_total{worker="1",owner="no_request"} 0.000000000"#,
        r#"worker_seconds_total{worker="1",owner="loop"} 0.000000000"#,
        r#"worker_seconds_total{worker="1",owner="other"} 0.000000000"#,
        r#"worker_seconds_total{worker="1",owner="pool_threads"} 0.000000000"#,
        r#"worker_uncounted_seconds_total{worker="0"} 0.000000070"#,
        r#"worker_uncounted_seconds_total{worker="1"} 0.000000000"#,
        r#"zone_accounts{zone="domains"} 1"#,
        &format!(r#"zone_capacity{{zone="domains"}} {capacity}"#),
        r#"zone_overflowed_total{zone="domains"} 0"#,
    ] {
        expected.push(format!("nginx_request_cpu_{line}"));
    }
    assert_eq!(samples, expected);
}

/// An account with a limit of 0.25 cores and a debt of 1.4 s from half a second ago, and an account without a limit.
fn limited(region: &Region) -> Table {
    let table = one_request(region);
    let slot = table.find_or_insert(b"limited", &mut Spare::default()).slot;
    let account = table.account(slot);
    let limit = Limit::new(LimitId::of(b"limit"), parse_cores(b"0.25").unwrap(), Some(100), None);
    let check = || table.check(slot, NOW_MS - 500, &limit, |_| 0, |_| true, &mut Spare::default()).result;
    assert_eq!(check(), Ok(0));
    account.add_shares(NOW_MS - 500, &usage(), &[0, 1]);
    let debt_ns = check().unwrap_err().get();
    assert_eq!(debt_ns, 1_400_000_000);
    account.count_refused(false);
    account.count_refused(false);
    account.add_shares(NOW_MS - 500, &usage(), &[1_500_000_001, 0]);
    table
}

#[test]
fn a_limit_is_shown_in_any_detail_where_a_request_was_checked() {
    let region = Region::new(65_536);
    let table = limited(&region);
    let at = |detail| Status { detail, ..status(vec![zone("z", table)]) };
    for detail in [Detail::Full, Detail::Low] {
        let text = as_json(at(detail));
        let member = [
            r#""limit":{"cores":0.25,"burst_ns":100000000,"debt_ns":1275000000,"refused":2,"refused_dry_run":0,"#,
            r#""refused_cpu_ns":1500000001,"refused_dry_run_cpu_ns":1}"#,
        ]
        .concat();
        assert!(text.contains(&member), "{text}");
        assert_eq!(text.matches(r#""limit""#).count(), 1, "{text}");
        let text = as_text(at(detail));
        let samples: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("nginx_request_cpu_limit_")).collect();
        assert_eq!(
            samples,
            [
                r#"cores{zone="z",key="limited"} 0.250000000"#,
                r#"debt_seconds{zone="z",key="limited"} 1.275000000"#,
                r#"refused_requests_total{zone="z",key="limited",dry_run="no"} 2"#,
                r#"refused_requests_total{zone="z",key="limited",dry_run="yes"} 0"#,
                r#"refused_seconds_total{zone="z",key="limited",dry_run="no"} 1.500000001"#,
                r#"refused_seconds_total{zone="z",key="limited",dry_run="yes"} 0.000000001"#,
            ]
        );
    }
}

#[test]
fn refusals_before_a_restart_are_shown_before_the_first_check() {
    let (one, other) = (Region::new(65_536), Region::new(65_536));
    let (before, table) = (limited(&one), other.table().unwrap());
    crate::state::copy(&before, &table);
    assert!(!as_json(status(vec![zone("z", table)])).contains(r#""limit""#), "no limit is known yet");
    let samples = check_text(&as_text(status(vec![zone("z", table)])));
    assert_eq!(value_of(&samples, "limit_refused_requests_total", &[("key", "limited")]), 2.0);
    assert_eq!(value_of(&samples, "limit_refused_seconds_total", &[("key", "limited")]), 1.500_000_001);
    assert!(!samples.iter().any(|(name, ..)| name.ends_with("limit_cores")));
}

/// Accounts of many kinds in two zones: awkward keys, all classes, all cache statuses, overflow.
fn awkward(region: &Region) -> Table {
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let mut keys: Vec<Vec<u8>> =
        ["", "example.com", "a\"b\\c\nd\te\rf", "\\x41", "käse.example", "{}", "a,b=\"c\"", "%s"]
            .map(|key| key.as_bytes().to_vec())
            .to_vec();
    keys.extend([vec![0], vec![0xFF, b'A'], vec![0x1B, b'[', b'2', b'J'], vec![b'k'; 300]]);
    let mut in_flight = InFlight::new(Some(process(1)));
    for (n, key) in keys.iter().enumerate() {
        let slot = table.find_or_insert(key, &mut spare).slot;
        let account = table.account(slot);
        for m in 0..40u64 {
            account.add(NOW_MS, &usage());
            account.finish(&Outcome {
                status: 100 * (m % 7),
                cache: CacheStatus::from_nginx(m as usize % 9),
                connection_order: m % 6,
                response_bytes: 1 << m,
                cpu_ns: 1 << m,
            });
        }
        for _ in 0..n {
            in_flight.enter(&table, slot, &Span::default());
        }
    }
    table.account(Slot::OVERFLOW).add(NOW_MS, &usage());
    table.count_overflowed();
    table
}

#[test]
fn every_key_reads_back_from_the_json() {
    let region = Region::new(65_536);
    let table = awkward(&region);
    let text = as_json(status(vec![zone("domains", table)]));
    let document: Value = serde_json::from_str(&text).unwrap();
    let keys = document["zones"]["domains"]["keys"].as_object().unwrap();
    assert_eq!(keys.len(), table.slots().len());
    for slot in table.slots() {
        let account = &keys[&*crate::key::display(table.key(slot))];
        let snapshot = table.account(slot).snapshot(NOW_MS, table.epoch());
        assert_eq!(account["requests"], snapshot.requests);
        assert_eq!(account["in_flight"], snapshot.in_flight);
    }
}

#[test]
fn json_breakdowns_add_up_to_the_requests() {
    let region = Region::new(65_536);
    let document: Value =
        serde_json::from_str(&as_json(status(vec![zone("domains", awkward(&region))]))).unwrap();
    for (key, account) in document["zones"]["domains"]["keys"].as_object().unwrap() {
        if key == "*" {
            continue;
        }
        for by in ["by_cache_status", "by_connection_order", "by_response_size"] {
            let counts = account[by].as_object().unwrap().values();
            assert_eq!(
                counts.map(|count| count["requests"].as_u64().unwrap()).sum::<u64>(),
                40,
                "{key} {by}"
            );
        }
        let histogram = account["by_request_cpu"].as_array().unwrap();
        let pairs = |at: usize| {
            (histogram[at]["le_ns"].as_u64().unwrap(), histogram[at]["requests"].as_u64().unwrap())
        };
        // 2^0 to 2^13 are below 10,000; 2^34 to 2^39 are above ten seconds
        assert_eq!(pairs(0), (10_000, 14));
        assert_eq!(pairs(histogram.len() - 1), (10_000_000_000, 34));
        assert!((1..histogram.len()).all(|at| pairs(at - 1) < pairs(at)));
    }
}

#[test]
fn what_is_zero_is_left_out_of_the_breakdowns() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let running = table.find_or_insert(b"running", &mut spare).slot;
    table.account(running).add(NOW_MS, &usage());
    let slow = table.find_or_insert(b"slow", &mut spare).slot;
    table.account(slow).finish(&Outcome { cpu_ns: u64::MAX, ..outcome() });
    let two = table.find_or_insert(b"two", &mut spare).slot;
    table.account(two).finish(&Outcome { cpu_ns: 60_000, ..outcome() });
    table.account(two).finish(&Outcome { cpu_ns: 300_000, ..outcome() });

    let document: Value = serde_json::from_str(&as_json(status(vec![zone("z", table)]))).unwrap();
    let keys = document["zones"]["z"]["keys"].as_object().unwrap();
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["running", "slow", "two"], "no untouched overflow account");
    let running = keys["running"].as_object().unwrap();
    assert!(!running.keys().any(|name| name.starts_with("by_")), "{running:?}");
    assert_eq!(running["cpu_ns_per_request"], 0);
    assert!(!keys["slow"].as_object().unwrap().contains_key("by_request_cpu"));
    assert_eq!(keys["slow"]["cpu_seconds_per_gb"], 0.0);
    assert_eq!(
        keys["two"]["by_request_cpu"],
        serde_json::json!([
            { "le_ns": 100_000, "requests": 1 },
            { "le_ns": 200_000, "requests": 1 },
            { "le_ns": 500_000, "requests": 2 },
        ])
    );
}

#[test]
fn low_detail_has_no_breakdowns() {
    let region = Region::new(65_536);
    let table = awkward(&region);
    let low = || Status { detail: Detail::Low, ..status(vec![zone("z", table)]) };
    let text = as_json(low());
    assert!(!text.contains("by_") && !text.contains("windows"), "{text}");
    assert!(text.contains(r#""peak_cores":"#), "{text}");
    let text = as_text(low());
    assert!(!text.contains("_cache_") && !text.contains("_per_request_"), "{text}");
    assert!(!text.contains("_window_") && text.contains("nginx_request_cpu_peak_cores{"), "{text}");
    assert!(text.contains("nginx_request_cpu_requests_total{"));
}

#[test]
fn a_status_without_anything_is_well_formed() {
    let empty = || Status { workers: vec![], worker_totals: vec![], ..status(vec![]) };
    let document: Value = serde_json::from_str(&as_json(empty())).unwrap();
    assert_eq!(document["zones"], serde_json::json!({}));
    assert_eq!(document["workers"], serde_json::json!([]));
    check_text(&as_text(empty()));
}

/// A sample: name, labels, value.
type Sample = (String, Vec<(String, String)>, f64);

/// Reads the text format by its grammar, and checks the rules between lines.
fn check_text(text: &str) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut families: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap().to_owned();
            assert!(lines.next().unwrap().starts_with(&format!("# TYPE {name} ")), "{line}");
            assert!(lines.peek().is_some_and(|next| next.starts_with(&name)), "{name} has no sample");
            assert!(!families.contains(&name), "{name} twice");
            families.push(name);
            continue;
        }
        assert!(seen.insert(line.rsplit_once(' ').unwrap().0.to_owned()), "{line} twice");
        let (name, rest) = line.split_once('{').unwrap();
        assert!(name.starts_with(families.last().unwrap().as_str()), "{line} is not of its family");
        let mut labels = Vec::new();
        let mut chars = rest.chars();
        loop {
            let label: String = chars.by_ref().take_while(|&c| c != '=').collect();
            assert_eq!(chars.next(), Some('"'), "{line}");
            let mut value = String::new();
            loop {
                match chars.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(match chars.next().unwrap() {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        other => panic!("\\{other} in {line}"),
                    }),
                    c => {
                        assert!(!c.is_control() || c == '\t', "{line}");
                        value.push(c);
                    }
                }
            }
            labels.push((label, value));
            match chars.next().unwrap() {
                ',' => {}
                '}' => break,
                other => panic!("{other} in {line}"),
            }
        }
        let value = chars.as_str().strip_prefix(' ').unwrap().parse().unwrap();
        samples.push((name.to_owned(), labels, value));
    }
    samples
}

fn value_of(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |all: &[(String, String)], (n, v): &(&str, &str)| {
        all.iter().any(|(name, value)| name == n && value == v)
    };
    samples
        .iter()
        .filter(|(full, all, _)| {
            full.strip_prefix("nginx_request_cpu_") == Some(name)
                && labels.iter().all(|label| has(all, label))
        })
        .map(|(_, _, value)| value)
        .sum()
}

#[test]
fn the_prometheus_text_is_well_formed_with_any_key() {
    let region = Region::new(65_536);
    let table = awkward(&region);
    let other = Region::new(65_536);
    let other_table = one_request(&other);
    let samples = check_text(&as_text(status(vec![zone("domains", table), zone("a\"b\\c\nd", other_table)])));
    for slot in table.slots() {
        let key = crate::key::display(table.key(slot));
        let labels = [("zone", "domains"), ("key", &*key)];
        let snapshot = table.account(slot).snapshot(NOW_MS, table.epoch());
        assert_eq!(value_of(&samples, "requests_total", &labels), snapshot.requests as f64, "{key}");
        assert_eq!(value_of(&samples, "cache_requests_total", &labels), snapshot.requests as f64);
        assert_eq!(value_of(&samples, "per_request_seconds_count", &labels), snapshot.requests as f64);
        let infinite = [labels[0], labels[1], ("le", "+Inf")];
        assert_eq!(value_of(&samples, "per_request_seconds_bucket", &infinite), snapshot.requests as f64);
        if slot != Slot::OVERFLOW {
            let status_0_and_6 = [labels[0], labels[1], ("class", "other")];
            assert_eq!(value_of(&samples, "requests_total", &status_0_and_6), 11.0);
        }
    }
    assert_eq!(value_of(&samples, "seconds_total", &[("zone", "a\"b\\c\nd")]), 1.500_000_001);
    assert_eq!(value_of(&samples, "zone_overflowed_total", &[("zone", "domains")]), 1.0);
}

#[test]
#[cfg_attr(miri, ignore = "starts a program")]
fn promtool_finds_no_fault() {
    use std::process::{Command, Stdio};

    let region = Region::new(65_536);
    let other = Region::new(65_536);
    let statuses = [
        status(vec![zone("domains", awkward(&region)), zone("a\"b\\c\nd", limited(&other))]),
        Status { workers: vec![], worker_totals: vec![], ..status(vec![]) },
    ];
    for status in statuses {
        let child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("skipped: no promtool (Debian's package prometheus has it)");
                return;
            }
            child => child.unwrap(),
        };
        child.stdin.take().unwrap().write_all(as_text(status).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn counters_are_consistent_while_workers_count() {
    let region = Region::new(65_536);
    let table = one_request(&region);
    let slot = table.find(b"example.com").unwrap();
    let rounds = if cfg!(miri) { 3 } else { 200 };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                table.account(slot).finish(&Outcome {
                    status: 100 * (n % 7),
                    cache: CacheStatus::from_nginx(n as usize % 9),
                    cpu_ns: 1 << (n % 40),
                    ..outcome()
                });
            }
        });
        let mut last: BTreeMap<String, f64> = BTreeMap::new();
        for _ in 0..rounds {
            let samples = check_text(&as_text(status(vec![zone("z", table)])));
            let labels = [("key", "example.com")];
            let infinite = [("key", "example.com"), ("le", "+Inf")];
            assert_eq!(
                value_of(&samples, "per_request_seconds_count", &labels),
                value_of(&samples, "per_request_seconds_bucket", &infinite)
            );
            for (name, labels, value) in
                samples.iter().filter(|(name, ..)| !name.ends_with("in_flight") && !name.contains("_window_"))
            {
                let before = last.insert(format!("{name}{labels:?}"), *value);
                assert!(before.is_none_or(|before| before <= *value), "{name} {labels:?} fell");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Writes an answer in pieces. Each piece grows until it has a number of bytes, or for a number of steps.
fn in_pieces(status: Status, format: Format, pieces: &[(usize, usize)], mut between: impl FnMut()) -> String {
    let mut answer = Answer::new(status, format);
    let (mut all, mut piece) = (Vec::new(), Vec::new());
    for &(bytes, steps) in pieces.iter().cycle() {
        piece.clear();
        let mut more = true;
        for _ in 0..=steps {
            more = more && answer.write_some(NOW_MS, &mut piece);
            if !more || piece.len() > bytes {
                break;
            }
        }
        all.extend_from_slice(&piece);
        if !more {
            break;
        }
        between();
    }
    String::from_utf8(all).unwrap()
}

fn formats() -> impl Strategy<Value = (Format, Detail)> {
    (
        prop_oneof![Just(Format::Json), Just(Format::Prometheus)],
        prop_oneof![Just(Detail::Full), Just(Detail::Low)],
    )
}

fn pieces() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0usize..5_000, 0usize..40), 1..5)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn pieces_of_any_size_make_the_same_answer((format, detail) in formats(), pieces in pieces()) {
        let (one, other) = (Region::new(65_536), Region::new(65_536));
        let tables = [awkward(&one), one_request(&other)];
        let zones = || vec![zone("domains", tables[0]), zone("a\"b\\c\nd", tables[1])];
        let status = || Status { detail, ..status(zones()) };
        prop_assert_eq!(in_pieces(status(), format, &pieces, || ()), written(status(), format));
    }

    #[test]
    fn accounts_that_come_meanwhile_leave_it_whole((format, detail) in formats(), pieces in pieces()) {
        let region = Region::new(65_536);
        let table = awkward(&region);
        let before: Vec<_> = table.slots().into_iter().map(|slot| key::display(table.key(slot)).into_owned()).collect();
        let mut spare = Spare::default();
        let mut n = 0;
        let text = in_pieces(Status { detail, ..status(vec![zone("z", table)]) }, format, &pieces, || {
            n += 1;
            let slot = table.find_or_insert(format!("new-{n}").as_bytes(), &mut spare).slot;
            for slot in [slot, table.slots()[1]] {
                table.account(slot).add(NOW_MS, &usage());
                table.account(slot).finish(&outcome());
            }
        });
        match format {
            Format::Json => {
                let document: Value = serde_json::from_str(&text).unwrap();
                let zone = &document["zones"]["z"];
                let keys = zone["keys"].as_object().unwrap();
                prop_assert_eq!(zone["accounts"].as_u64().unwrap() as usize, keys.len() - 1);
                prop_assert!(before.iter().all(|key| keys.contains_key(key)));
            }
            Format::Prometheus => {
                let samples = check_text(&text);
                for key in &before {
                    let labels = [("zone", "z"), ("key", key.as_str())];
                    prop_assert!(value_of(&samples, "wakeups_total", &labels) > 0.0);
                    if detail == Detail::Full {
                        let infinite = [labels[0], labels[1], ("le", "+Inf")];
                        prop_assert_eq!(
                            value_of(&samples, "per_request_seconds_count", &labels),
                            value_of(&samples, "per_request_seconds_bucket", &infinite)
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_windows_of_a_zone_are_the_sums_of_its_accounts() {
    let (region, other) = (Region::new(65_536), Region::new(65_536));
    let table = awkward(&region);
    let mut sum = [Signal::default(); WINDOWS.len()];
    for slot in table.slots() {
        for (sum, signal) in sum.iter_mut().zip(table.account(slot).signals(NOW_MS)) {
            sum.in_flight += signal.in_flight;
            sum.requests_per_second += signal.requests_per_second;
            sum.cores += signal.cores;
        }
    }
    assert!(sum[1].cores > 0.0);
    let zones = || vec![zone("z", table), zone("empty", other.table().unwrap())];
    let document: Value = serde_json::from_str(&as_json(status(zones()))).unwrap();
    let windows = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(document["zones"]["z"]["windows"], windows(&windows_of(&sum)));
    let none = [Signal::default(); WINDOWS.len()];
    assert_eq!(document["zones"]["empty"]["windows"], windows(&windows_of(&none)));
}

#[test]
fn one_account_can_be_picked_out() {
    let region = Region::new(65_536);
    let table = awkward(&region);
    let only = Only { slot: table.find("käse.example".as_bytes()), shown_as: None };
    let one = || status(vec![Zone { only: Some(only.clone()), ..zone("z", table) }]);
    let document: Value = serde_json::from_str(&as_json(one())).unwrap();
    assert_eq!(document["zones"]["z"]["accounts"], table.fill().accounts);
    let keys: Vec<_> = document["zones"]["z"]["keys"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["käse.example"]);
    assert_eq!(document["zones"]["z"]["windows"], Value::Null, "that of one account is not the zone's");
    let samples = check_text(&as_text(one()));
    let others = samples
        .iter()
        .flat_map(|(_, labels, _)| labels)
        .filter(|(name, value)| name == "key" && value != "käse.example");
    assert_eq!(others.count(), 0);
}

#[test]
fn a_step_is_small() {
    let accounts = if cfg!(miri) { 3 } else { 1000 };
    let region = Region::new(2_000 * accounts + 10_000);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    for n in 0..accounts {
        let slot = table.find_or_insert(format!("{n:0>255}").as_bytes(), &mut spare).slot;
        table.account(slot).finish(&outcome());
    }
    for format in [Format::Json, Format::Prometheus] {
        let mut answer = Answer::new(status(vec![zone("z", table)]), format);
        let (mut out, mut more) = (Vec::new(), true);
        while more {
            out.clear();
            more = answer.write_some(NOW_MS, &mut out);
            assert!(out.len() < 10_000, "{} bytes at once", out.len());
        }
    }
}

#[test]
fn names_of_details_are_those_of_the_directive() {
    assert_eq!(Detail::from_name(b"full"), Some(Detail::Full));
    assert_eq!(Detail::from_name(b"low"), Some(Detail::Low));
    assert_eq!(Detail::from_name(b"Low"), None);
    assert_eq!(Detail::from_name(b""), None);
}

#[test]
fn names_of_windows_are_their_lengths() {
    assert_eq!(formats::classes::WINDOWS.map(str::to_owned), WINDOWS.map(|seconds| format!("{seconds}s")));
}

#[test]
fn names_of_classes_and_bounds_fit_their_counters() {
    let snapshot = Region::new(65_536).table().unwrap().account(Slot::OVERFLOW).snapshot(0, 0);
    assert_eq!(snapshot.responses.len(), CLASSES.len());
    assert_eq!(snapshot.by_request_cpu.len(), CPU_BOUNDS_NS.len() + 1);
}

#[test]
fn an_error_has_the_requested_format() {
    let told = |format| {
        let mut out = Vec::new();
        error(format, "unknown key \"a\\b\"", &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(told(negotiate::Format::Json), "{\"error\":\"unknown key \\\"a\\\\b\\\"\"}\n");
    assert_eq!(told(negotiate::Format::Prometheus), "unknown key \"a\\b\"\n");
}

proptest::proptest! {
    #![proptest_config(crate::testing::cases())]

    #[test]
    fn keys_of_any_bytes_differ_in_both_formats(
        keys in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..30), 1..10),
    ) {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        for key in &keys {
            table.account(table.find_or_insert(key, &mut spare).slot).finish(&outcome());
        }
        let all = || status(vec![zone("domains", table)]);
        let document: Value = serde_json::from_str(&as_json(all())).unwrap();
        let samples = check_text(&as_text(all()));
        for key in &keys {
            let requests = keys.iter().filter(|other| *other == key).count();
            let shown = crate::key::display(key);
            assert_eq!(document["zones"]["domains"]["keys"][&*shown]["requests"], requests);
            assert_eq!(value_of(&samples, "requests_total", &[("key", &*shown)]), requests as f64);
        }
    }
}

/// A table with accounts of these keys. Each account has one request.
fn filled(region: &Region, keys: impl IntoIterator<Item = Vec<u8>>) -> Table {
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    for key in keys {
        table.account(table.find_or_insert(&key, &mut spare).slot).finish(&outcome());
    }
    table
}

#[test]
fn keys_of_odd_bytes_make_an_answer_at_most_twice_as_long() {
    const KEYS: usize = if cfg!(miri) { 2 } else { 60 };
    let lengths = |key: &dyn Fn(usize) -> Vec<u8>| {
        let region = Region::new(1 << 20);
        let table = filled(&region, (0..KEYS).map(key));
        assert_eq!(table.fill().accounts as usize, KEYS);
        [
            (Format::Json, Detail::Full),
            (Format::Json, Detail::Low),
            (Format::Prometheus, Detail::Full),
            (Format::Prometheus, Detail::Low),
        ]
        .map(|(format, detail)| written(Status { detail, ..status(vec![zone("z", table)]) }, format).len())
    };
    let ordinary = lengths(&|n| format!("host-{n:04}.example.com").into_bytes());
    let odd: [&[u8]; 10] = [
        b"\xFF",
        b"\x01",
        b"\"",
        b"\\",
        b"\n",
        "\u{202E}".as_bytes(),
        "\u{200B}".as_bytes(),
        "\u{E0041}".as_bytes(),
        b"\\xFF",
        b"a\xE2\x80",
    ];
    for part in odd {
        for bytes in if cfg!(miri) { &[255][..] } else { &[10, 17, 25, 60, 255] }.iter().copied() {
            let found = lengths(&|n| {
                let mut key = part.repeat(bytes);
                key.truncate(bytes - 4);
                key.extend_from_slice(format!("{n:04}").as_bytes());
                key
            });
            for (found, ordinary) in found.into_iter().zip(ordinary) {
                assert!(found <= 2 * ordinary, "{part:?} in {bytes} bytes: {found} instead of {ordinary}");
            }
        }
    }
}

#[test]
fn an_account_is_found_by_the_shown_form_of_its_key() {
    let odd = vec![0xFF; 255];
    let shown = key::display(&odd).into_owned();
    let region = Region::new(1 << 20);
    let (other_region, empty) = (Region::new(65_536), Region::new(65_536));
    // the shown form of one key is equal to the other key
    let keys = (0..if cfg!(miri) { 40 } else { 200u8 }).map(|n| [&[0xFF; 254][..], &[n]].concat());
    let table = filled(&region, keys.chain([odd.clone(), shown.clone().into_bytes(), b"a".to_vec()]));
    let zones = |asked: &[u8]| {
        [&region, &other_region, &empty]
            .into_iter()
            .zip([Some(table), Some(filled(&other_region, [shown.clone().into_bytes()])), None])
            .enumerate()
            .map(|(n, (region, table))| {
                let table = table.unwrap_or_else(|| region.table().unwrap());
                let only = Only { slot: table.find(asked), shown_as: Cut::new(asked) };
                Zone { only: Some(only), ..zone(&format!("z{n}"), table) }
            })
            .collect::<Vec<_>>()
    };
    let found = |asked: &[u8]| {
        let document: Value = serde_json::from_str(&as_json(status(zones(asked)))).unwrap();
        let mut found = Vec::new();
        for (name, zone) in document["zones"].as_object().unwrap() {
            for (key, account) in zone["keys"].as_object().unwrap() {
                assert_eq!(account["requests"], 1);
                found.push(format!("{name} {key}"));
            }
        }
        found
    };
    assert_eq!(found(&odd), [format!("z0 {shown}")]);
    let looks_like_it = key::display(shown.as_bytes());
    let both = [format!("z0 {looks_like_it}"), format!("z0 {shown}"), format!("z1 {looks_like_it}")];
    assert_eq!(found(shown.as_bytes()), both);
    let samples = check_text(&as_text(status(zones(shown.as_bytes()))));
    assert_eq!(value_of(&samples, "requests_total", &[("zone", "z0"), ("key", &shown)]), 1.0);
}

#[test]
fn a_key_that_is_nowhere_is_an_error() {
    let region = Region::new(65_536);
    let table = filled(&region, [b"a".to_vec()]);
    for format in [Format::Json, Format::Prometheus] {
        let shown = key::display(&[0xFF; 255]).into_owned();
        let only = Only { slot: None, shown_as: Cut::new(shown.as_bytes()) };
        let status = status(vec![Zone { only: Some(only), ..zone("z", table) }]);
        let mut answer = Answer::new(status, format).or_error("unknown key".to_owned());
        let (mut out, mut told) = (Vec::new(), Vec::new());
        while answer.write_some(NOW_MS, &mut out) {}
        assert!(answer.is_missing());
        error(format, "unknown key", &mut told);
        assert_eq!(out, told);
    }
}
