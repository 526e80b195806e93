//! Every format, byte for byte as releases before wrote it: see `tests/golden`.
//!
//! `RECORD_GOLDEN=1 cargo test golden` writes the files anew. Do so only when a format is meant to change, and raise
//! `VERSION` in `formats/src/version.rs` first. `versions` has the checksum of all other files for each version.

use std::collections::BTreeSet;
use std::io;

use formats::counters::{COUNTERS, Counter, FAMILIES_IN_ORDER};
use formats::line::MEMBERS_IN_ORDER;

use crate::account::{CacheStatus, Handshake, Outcome, Usage};
use crate::billing::Span;
use crate::in_flight::InFlight;
use crate::limit::{Limit, LimitId, parse_cores};
use crate::render::negotiate::Format;
use crate::render::{Answer, Detail, Status, Zone};
use crate::table::{Spare, Table};
use crate::testing::{Region, process, totals};
use crate::traffic::{About, Append, BATCH_BYTES, Ledger, Part, region_bytes};
use crate::worker_totals::WorkerTotals;
use crate::workers::Worker;

const NOW_MS: u64 = 1_000_000;

/// Accounts that have counted something of everything, and one that has counted next to nothing.
fn fill(table: &Table) {
    let mut in_flight = InFlight::new(Some(process(7)));
    let mut spare = Spare::default();
    for n in 1..=40u64 {
        let key = format!("host-{}.example", n % 3);
        let slot = table.find_or_insert(key.as_bytes(), &mut spare).slot;
        let account = table.account(slot);
        let cpu_ns = 7_001 << (n % 21);
        account.add(
            NOW_MS - 70_000 + n * 1_500,
            &Usage { cpu_ns, wakeups: n, sent_bytes: 1_000_003 * n, received_bytes: 301 * n },
        );
        let from_ns = (NOW_MS - 70_000 + n * 1_500) * 1_000_000;
        let span = Span { from_ns, to_ns: from_ns + n * 21_000_000, bytes: 4096 * n };
        let held = in_flight.enter(table, slot, &span);
        let charges = crate::account::Charges {
            duration_ns: held.duration_ns,
            memory_byte_ms: held.memory.byte_ms(&mut 0),
            ..Default::default()
        };
        account.add_charges(table, NOW_MS - 70_000 + n * 1_500, &charges);
        if n < 38 {
            in_flight.leave(table, slot, span.to_ns, span.bytes);
        }
        account.finish(&Outcome {
            status: [0, 101, 200, 304, 404, 502, 999][n as usize % 7],
            cache: CacheStatus::from_nginx(n as usize % 8),
            connection_order: n % 6,
            response_bytes: 300 << n,
            cpu_ns,
        });
        if n % 5 == 0 {
            account.count_handshake(&Handshake { resumed: n % 2 == 0, cpu_ns: 1000 * n });
        }
        if n % 3 == 1 {
            for (name, cores) in [(&b"one"[..], &b"0.25"[..]), (b"other", b"2")] {
                let max_debt_ms = (name == b"other").then_some(9_000);
                let limit =
                    Limit::new(LimitId::of(name), parse_cores(cores).unwrap(), Some(100), max_debt_ms);
                let _ = table.check(slot, NOW_MS - 500, &limit, |_| 0, |_| true, &mut spare);
            }
            account.count_refused(n % 2 == 0);
            account.add_shares(NOW_MS - 500, &Usage { cpu_ns: 50 * n, ..Usage::default() }, &[n, 3 * n]);
        }
    }
    let slot = table.find_or_insert(b"quiet \"\\\xFF", &mut spare).slot;
    table.account(slot).add(NOW_MS, &Usage { received_bytes: 1, ..Usage::default() });
    table.count_cut();
    table.count_overflowed();
}

struct File(Vec<u8>);

impl Append for File {
    fn about(&mut self) -> io::Result<About> {
        Ok(About { id: [1, 1], size: self.0.len() as u64, is_regular: true })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn cut(&mut self, _size: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read(&mut self, _at: u64, _bytes: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn status(table: Table, detail: Detail, format: Format) -> Vec<u8> {
    let zone = Zone { name: "domains".to_owned(), size_bytes: 65_536, table, only: None };
    let status = Status {
        version: "0.1.0",
        nginx_version: "1.28.3",
        time: "2026-01-31T12:00:00.000Z".to_owned(),
        clock: "thread",
        max_error_ns: 0,
        workers: vec![Worker { worker: 0, pid: 4711, totals: totals() }],
        worker_totals: vec![(0, totals()), (1, WorkerTotals::default())],
        zones: vec![zone],
        detail,
    };
    let mut answer = Answer::new(status, format);
    let mut out = Vec::new();
    while answer.write_some(NOW_MS, &mut out) {}
    out
}

/// A table, and the ledger of a log; the regions must outlive them.
fn zone() -> ([Region; 2], Table, Ledger) {
    let (region, memory) = (Region::new(65_536), Region::new(region_bytes(65_536)));
    let table = region.table().unwrap();
    // SAFETY: all of it is ours.
    unsafe { memory.base().write_bytes(0, memory.bytes()) };
    // SAFETY: the region is aligned, zero and ours; it lives as long as the test.
    let ledger = unsafe { Ledger::create(memory.base(), memory.bytes(), &table, 0, 1000) }.unwrap();
    ([region, memory], table, ledger)
}

/// Every format of the same accounts.
fn written(table: Table, ledger: &Ledger) -> [(&'static str, String); 6] {
    let mut log = File(Vec::new());
    let part = Part::new("2026-01-31T12:01:00.000Z", NOW_MS, "edge-1", "domains", BATCH_BYTES);
    ledger.write_part(&table, NOW_MS, &part, &mut log).unwrap();
    let mut state = Vec::new();
    crate::state::write(&table, b"$host", &mut state).unwrap();
    [
        ("status.json", status(table, Detail::Full, Format::Json)),
        ("status-low.json", status(table, Detail::Low, Format::Json)),
        ("status.prom", status(table, Detail::Full, Format::Prometheus)),
        ("status-low.prom", status(table, Detail::Low, Format::Prometheus)),
        ("traffic.log", log.0),
        ("zone.state", state),
    ]
    .map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap()))
}

#[test]
#[cfg_attr(feature = "example-counter", ignore = "formats have one counter more")]
#[cfg_attr(miri, ignore = "reads files")]
fn every_format_is_byte_for_byte_as_before() {
    let (_regions, table, ledger) = zone();
    fill(&table);
    let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, text) in written(table, &ledger) {
        if std::env::var_os("RECORD_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(folder.join(name)).unwrap(), "{name}");
        if name.ends_with(".json") {
            let document = formats::status::Document::read(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(document.write()).unwrap(), text, "{name}, read and written again");
        }
    }
    check_version(&folder);
}

/// The golden files are those of [`formats::VERSION`], or else that version has to be raised.
fn check_version(folder: &std::path::Path) {
    let mut crc = crc32fast::Hasher::new();
    for name in
        ["status.json", "status-low.json", "status.prom", "status-low.prom", "traffic.log", "zone.state"]
    {
        crc.update(&std::fs::read(folder.join(name)).unwrap());
    }
    let now = format!("{} {:08x}\n", formats::VERSION, crc.finalize());
    let path = folder.join("versions");
    let mut versions = std::fs::read_to_string(&path).unwrap_or_default();
    let last = versions.lines().last().and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0);
    if std::env::var_os("RECORD_GOLDEN").is_some() && last < formats::VERSION {
        versions.push_str(&now);
        std::fs::write(&path, &versions).unwrap();
    }
    assert!(
        versions.ends_with(&now),
        "the files in tests/golden have changed: raise VERSION in formats/src/version.rs, and run \
         RECORD_GOLDEN=1 cargo test golden"
    );
}

#[test]
#[cfg(feature = "example-counter")]
fn a_counter_added_to_the_table_is_in_every_format() {
    let (_regions, table, ledger) = zone();
    let slot = table.find_or_insert(b"example.com", &mut Spare::default()).slot;
    table.account(slot).add_to(formats::counters::row("example_ns"), 1_000_000_042);
    let labels = r#"{zone="domains",key="example.com"}"#;
    let sample = format!("nginx_request_cpu_example_seconds_total{labels} 1.000000042\n");
    let head = "# TYPE nginx_request_cpu_example_seconds_total counter\n";
    for (name, text) in written(table, &ledger) {
        let (first, second) = match name {
            "traffic.log" => (r#","example_ns":1000000042}"#, ""),
            "zone.state" => (r#","example_ns"]}"#, ",1000000042]]\n"),
            "status.prom" | "status-low.prom" => (head, &*sample),
            _ => (r#""example_ns":1000000042"#, ""),
        };
        assert!(text.contains(first) && text.contains(second), "{name}: {text}");
    }
    let mut state = Vec::new();
    crate::state::write(&table, b"$host", &mut state).unwrap();
    let region = Region::new(65_536);
    let restored = region.table().unwrap();
    crate::state::read(&state, b"$host").unwrap().restore(&restored);
    let totals = restored.account(restored.find(b"example.com").unwrap()).totals();
    assert_eq!(totals.row(formats::counters::row("example_ns")), [1_000_000_042]);
}

/// What stands in quotes before a colon, or as a family: the names that a reader knows.
#[test]
fn each_format_has_exactly_the_counters_of_the_table() {
    let (_regions, table, ledger) = zone();
    let slot = table.find_or_insert(b"example.com", &mut Spare::default()).slot;
    let ones = crate::account::Totals([10_000_000_000; crate::account::COUNTERS]);
    table.account(slot).restore(&ones);
    for name in [b"one", b"two"] {
        let limit = Limit::new(LimitId::of(name), parse_cores(b"1").unwrap(), None, None);
        let _ = table.check(slot, NOW_MS, &limit, |_| 0, |_| true, &mut Spare::default());
    }
    let files = std::collections::BTreeMap::from(written(table, &ledger));
    let json = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
    let names = |value: &serde_json::Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let is_low = |counter: &&Counter| counter.detail == Detail::Low;
    let all: BTreeSet<String> = COUNTERS.iter().map(|counter| counter.name.to_owned()).collect();
    let low: BTreeSet<String> =
        COUNTERS.iter().filter(is_low).map(|counter| counter.name.to_owned()).collect();
    for (file, expected) in [("status.json", &all), ("status-low.json", &low)] {
        assert_eq!(
            names(&json(&files[file])["zones"]["domains"]["keys"]["example.com"]),
            *expected,
            "{file}"
        );
    }
    for (file, is_shown) in [("status.prom", true), ("status-low.prom", false)] {
        let heads = files[file].lines().filter_map(|line| line.strip_prefix("# TYPE nginx_request_cpu_"));
        let is_of_account =
            |name: &&str| !["info", "worker_", "zone_"].iter().any(|other| name.starts_with(other));
        let found: Vec<&str> =
            heads.filter_map(|line| line.split(' ').next()).filter(is_of_account).collect();
        let families = FAMILIES_IN_ORDER.iter().filter(|(row, _)| is_shown || is_low(&&COUNTERS[*row]));
        assert_eq!(found, families.map(|(_, family)| family.name).collect::<Vec<_>>(), "{file}");
    }
    let line = names(&json(&files["traffic.log"]));
    let members = MEMBERS_IN_ORDER.iter().map(|member| member.name).chain(formats::line::NAMES);
    assert_eq!(line, members.map(str::to_owned).collect());
    let head = json(files["zone.state"].lines().next().unwrap());
    let columns: Vec<String> = formats::state::columns().into_iter().map(|(name, _)| name).collect();
    assert_eq!(head["counters"], serde_json::json!(columns));
}
