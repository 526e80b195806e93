//! Unit and property tests.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::account::{CacheStatus, Outcome, Usage};
use crate::key;
use crate::table::Spare;
use crate::table::{Error, Table};
use crate::testing::{Region, cases, documented};
use core::sync::atomic::Ordering::Relaxed;
use formats::line::{FIELDS, FIELDS_IN_ORDER};
use std::io;

thread_local! {
    /// after so many steps the writer dies
    static FUSE: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Killed;

fn is_last_step() -> bool {
    FUSE.with(|fuse| match fuse.get() {
        Some(0) => true,
        Some(steps) => {
            fuse.set(Some(steps - 1));
            false
        }
        None => false,
    })
}

pub(super) fn step() {
    if is_last_step() {
        resume_unwind(Box::new(Killed));
    }
}

/// Runs a writer that is killed after so many steps; none if it was.
fn killed_after<T>(steps: Option<u64>, writer: impl FnOnce() -> T) -> Option<T> {
    FUSE.with(|fuse| fuse.set(steps));
    let result = catch_unwind(AssertUnwindSafe(writer));
    FUSE.with(|fuse| fuse.set(None));
    match result {
        Ok(value) => Some(value),
        Err(reason) if reason.is::<Killed>() => None,
        Err(reason) => resume_unwind(reason),
    }
}

/// A file as writers see it.
#[derive(Debug, Clone)]
struct Disk {
    id: u64,
    bytes: Vec<u8>,
    /// it is full after so many more bytes
    room: usize,
    is_regular: bool,
    is_readable: bool,
    writes: u32,
}

struct Open<'a>(&'a RefCell<Disk>);

impl Append for Open<'_> {
    fn about(&mut self) -> io::Result<About> {
        let disk = self.0.borrow();
        let size = if disk.is_regular { disk.bytes.len() as u64 } else { 0 };
        Ok(About { id: [1, disk.id], size, is_regular: disk.is_regular })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.0.borrow_mut();
        disk.writes += 1;
        let fits = bytes.len().min(disk.room);
        // the system calls end early for a process that is killed
        for part in [0, fits / 3, fits.saturating_sub(1), fits] {
            if is_last_step() {
                disk.bytes.extend_from_slice(&bytes[..part]);
                resume_unwind(Box::new(Killed));
            }
        }
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.bytes.extend_from_slice(&bytes[..fits]);
        disk.room -= fits;
        Ok(fits)
    }

    fn cut(&mut self, size: u64) -> io::Result<()> {
        step();
        self.0.borrow_mut().bytes.truncate(size as usize);
        Ok(())
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let disk = self.0.borrow();
        if !disk.is_readable || !disk.is_regular {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let rest = &disk.bytes[at as usize..];
        // as slow as can be
        let count = rest.len().min(bytes.len()).min(1000);
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

fn new_disk(id: u64) -> RefCell<Disk> {
    let room = usize::MAX;
    RefCell::new(Disk { id, bytes: Vec::new(), room, is_regular: true, is_readable: true, writes: 0 })
}

/// A table and the ledger of one log.
struct Zone {
    table: Table,
    ledger: Ledger,
    /// counts the parts: each has a time of its own
    parts: Cell<u64>,
    _regions: [Region; 2],
}

const ZONE_BYTES: usize = 40_000;

/// Of what is tried at every step, Miri gets a part.
const STEP: usize = if cfg!(miri) { 97 } else { 1 };

fn zeroed_region(bytes: usize) -> Region {
    let region = Region::new(bytes);
    // SAFETY: all of it is ours.
    unsafe { region.base().write_bytes(0, bytes) };
    region
}

fn new_zone() -> Zone {
    let (accounts, region) = (Region::new(ZONE_BYTES), zeroed_region(region_bytes(ZONE_BYTES)));
    let table = accounts.table().unwrap();
    // SAFETY: the region is aligned, zero and ours; it lives as long as the zone.
    let ledger = unsafe { Ledger::create(region.base(), region.bytes(), &table, 0, 1000) }.unwrap();
    Zone { table, ledger, parts: Cell::new(0), _regions: [accounts, region] }
}

impl Zone {
    fn count(&self, key: &[u8], n: u64) {
        let found = self.table.find_or_insert(key, &mut Spare::default());
        let account = self.table.account(found.slot);
        account.add(n, &Usage { cpu_ns: n, wakeups: 1, sent_bytes: 2 * n, received_bytes: n / 3 });
        account.finish(&Outcome {
            status: n % 700,
            cache: CacheStatus::None,
            connection_order: 1,
            response_bytes: n,
            cpu_ns: n,
        });
        let billing = account.billing();
        let [duration_ns, active_ms, .., memory_byte_ms] = billing.counters();
        // parts of a millisecond
        duration_ns.fetch_add(n * 300_007, Relaxed);
        active_ms.fetch_add(n, Relaxed);
        memory_byte_ms.fetch_add(5 * n, Relaxed);
        billing.judge(n, n);
        billing.judge(n / 2, n);
        if n.is_multiple_of(5) {
            account.count_refused(n.is_multiple_of(2));
        }
    }

    fn part(&self, batch_bytes: usize) -> Part {
        self.parts.set(self.parts.get() + 1);
        let n = self.parts.get();
        Part::new(&format!("part {n}"), 1000 + n * 1000, "edge-1", "zone", batch_bytes)
    }

    fn write(&self, batch_bytes: usize, disks: &[&RefCell<Disk>]) -> io::Result<Written> {
        let mut files: Vec<Open> = disks.iter().map(|disk| Open(disk)).collect();
        let mut all: Vec<&mut dyn Append> = files.iter_mut().map(|file| file as &mut dyn Append).collect();
        self.ledger.resolve(&self.table, &mut all)?;
        self.ledger.write_part(&self.table, 0, &self.part(batch_bytes), all.pop().unwrap())
    }

    /// All lines of these files, one after the other, are whole, their sums are the counters, and the highest of
    /// their peaks is the highest there was.
    fn check(&self, disks: &[&RefCell<Disk>]) -> Result<(), String> {
        let mut sums: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut peaks: BTreeMap<String, u64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for disk in disks {
            let text = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
            if !text.is_empty() && !text.ends_with('\n') {
                return Err(format!("the last line is torn: {text}"));
            }
            for line in text.lines().filter(|line| *line != "another") {
                let line: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
                let key = line["key"].as_str().unwrap().to_string();
                if !seen.insert((line["time"].to_string(), key.clone())) {
                    return Err(format!("written twice: {line}"));
                }
                let peak = peaks.entry(key.clone()).or_default();
                *peak = line["peak_cpu_ns"].as_u64().unwrap().max(*peak);
                let sums = sums.entry(key).or_insert(vec![0; FIELDS + 1]);
                for (sum, name) in sums.iter_mut().zip(names()) {
                    *sum += line.get(name).map_or(0, |value| value.as_u64().unwrap());
                }
            }
        }
        let mut counters = BTreeMap::new();
        let mut highest = BTreeMap::new();
        for slot in self.table.slots() {
            let account = self.table.account(slot);
            let Reading(fields) = Reading::of(account);
            let requests = fields[formats::line::RESPONSES].iter().sum();
            if requests > 0 {
                let key = key::display(self.table.key(slot)).into_owned();
                highest.insert(key.clone(), account.billing().read().peak_cpu_ns);
                counters.insert(key, [&[requests], &fields[..]].concat());
            }
        }
        if sums != counters {
            Err(format!("lines {sums:?}\ncounters {counters:?}"))
        } else if peaks != highest {
            Err(format!("peaks {peaks:?}, highest {highest:?}"))
        } else {
            Ok(())
        }
    }
}

/// Of the requests and of each field.
fn names() -> impl Iterator<Item = &'static str> {
    ["requests"].into_iter().chain(FIELDS_IN_ORDER.iter().map(|field| field.name))
}

#[test]
fn a_line_of_odd_bytes_is_at_most_twice_as_long_as_another() {
    let length = |key: &[u8]| {
        let (zone, disk) = (new_zone(), new_disk(1));
        zone.count(key, 200);
        zone.write(BATCH_BYTES, &[&disk]).unwrap();
        disk.borrow().bytes.len()
    };
    let ordinary = length(b"customer-1.example.com");
    for key in [&[0xFF; 255][..], &[1; 255], &[b'"'; 255], &[b'\\'; 255], "\u{202E}".repeat(85).as_bytes()] {
        assert!(length(key) < 2 * ordinary, "{key:?}");
    }
}

#[test]
fn a_line_is_as_the_interface_says() {
    let zone = new_zone();
    let disk = new_disk(1);
    zone.count(b"a\"\xFF\n", 200);
    zone.count(b"a\"\xFF\n", 404);
    assert_eq!(zone.write(BATCH_BYTES, &[&disk]).unwrap().lines, 1);
    let expected = concat!(
        r#"{"time":"part 1","interval_ms":1000,"host":"edge-1","zone":"zone","key":"a\"\\xFF\\x0A","requests":2,"#,
        r#""cpu_ns":604,"wakeups":2,"sent_bytes":1208,"received_bytes":200,"2xx":1,"4xx":1,"5xx":0,"#,
        r#""duration_ms":181,"active_ms":604,"active_seconds":2,"billable_cpu_ns":604,"waived_cpu_ns":302,"#,
        r#""memory_byte_ms":3020,"peak_cpu_ns":404}"#,
        "\n"
    );
    assert_eq!(String::from_utf8(disk.borrow().bytes.clone()).unwrap(), expected);
    // other classes are there if they are not zero
    zone.count(b"b", 101);
    zone.count(b"b", 304);
    zone.count(b"b", 0);
    zone.write(BATCH_BYTES, &[&disk]).unwrap();
    let text = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
    assert!(text.contains(r#""2xx":0,"4xx":0,"5xx":0,"duration_ms":"#), "{text}");
    assert!(text.ends_with("\"peak_cpu_ns\":304,\"1xx\":1,\"3xx\":1,\"other\":1}\n"), "{text}");
    // so are refusals, but for those that only would have been
    zone.count(b"b", 505);
    zone.count(b"b", 500);
    zone.write(BATCH_BYTES, &[&disk]).unwrap();
    let text = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
    assert!(text.ends_with("\"peak_cpu_ns\":505,\"refused\":1}\n"), "{text}");
    zone.check(&[&disk]).unwrap();
}

#[test]
fn each_log_of_a_zone_tells_the_peaks_of_its_own_intervals() {
    let zone = new_zone();
    let region = zeroed_region(region_bytes(ZONE_BYTES));
    zone.count(b"a", 9000);
    // SAFETY: the region is aligned, zero and ours.
    let other = unsafe { Ledger::create(region.base(), region.bytes(), &zone.table, 1, 0) }.unwrap();
    assert_eq!((zone.ledger.log(), other.log()), (0, 1));
    other.forget_peaks(&zone.table);
    let peaks = |ledger: &Ledger| {
        let disk = new_disk(1);
        ledger.write_part(&zone.table, 0, &zone.part(BATCH_BYTES), &mut Open(&disk)).unwrap();
        let text = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
        line["peak_cpu_ns"].as_u64().unwrap()
    };
    zone.count(b"a", 200);
    assert_eq!(peaks(&zone.ledger), 9000);
    zone.count(b"a", 70);
    zone.count(b"a", 50);
    assert_eq!(peaks(&zone.ledger), 70);
    // what was before it is not in it
    assert_eq!(peaks(&other), 200);
    zone.count(b"a", 20);
    assert_eq!((peaks(&zone.ledger), peaks(&other)), (20, 20));
    assert_eq!(zone.table.account(zone.table.find(b"a").unwrap()).billing().read().peak_cpu_ns, 9000);
}

#[test]
fn the_journal_has_room_for_as_many_lines_as_fit_into_a_batch() {
    let zone = new_zone();
    let disk = new_disk(1);
    zone.table
        .account(zone.table.find_or_insert(b"", &mut Spare::default()).slot)
        .add(0, &Usage { wakeups: 1, ..Usage::default() });
    let part = Part::new("2026-01-31T12:00:00.000Z", 1001, "", "a", BATCH_BYTES);
    let written = zone.ledger.write_part(&zone.table, 0, &part, &mut Open(&disk)).unwrap();
    assert_eq!(written.lines, 1);
    let shortest = written.bytes as usize;
    assert!((BATCH_LINES * shortest).abs_diff(BATCH_BYTES) < shortest, "{shortest}");
}

#[test]
fn accounts_that_counted_nothing_have_no_line() {
    let zone = new_zone();
    let disk = new_disk(1);
    zone.count(b"a", 200);
    zone.count(b"b", 200);
    assert_eq!(zone.write(BATCH_BYTES, &[&disk]).unwrap().lines, 2);
    assert_eq!(zone.write(BATCH_BYTES, &[&disk]).unwrap(), Written::default());
    zone.count(b"b", 1);
    zone.table.find_or_insert(b"c", &mut Spare::default());
    assert_eq!(zone.write(BATCH_BYTES, &[&disk]).unwrap().lines, 1);
    zone.check(&[&disk]).unwrap();
    let text = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
    assert!(text.lines().all(|line| line.contains("\"interval_ms\":1000,")), "{text}");
}

#[test]
fn what_was_counted_before_there_was_a_log_is_not_in_it() {
    let zone = new_zone();
    zone.count(b"a", 5);
    let region = zeroed_region(region_bytes(ZONE_BYTES));
    // SAFETY: the region is aligned, zero and ours.
    let ledger = unsafe { Ledger::create(region.base(), region.bytes(), &zone.table, 1, 0) }.unwrap();
    let disk = new_disk(1);
    let part = zone.part(BATCH_BYTES);
    assert_eq!(ledger.write_part(&zone.table, 0, &part, &mut Open(&disk)).unwrap().lines, 0);
    zone.count(b"a", 7);
    let part = zone.part(BATCH_BYTES);
    ledger.write_part(&zone.table, 0, &part, &mut Open(&disk)).unwrap();
    let text = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
    assert!(text.contains("\"requests\":1,\"cpu_ns\":7,"), "{text}");
}

#[test]
fn a_ledger_can_be_opened_again_with_its_own_table_and_no_other() {
    let (one, other) = (new_zone(), Region::new(ZONE_BYTES));
    let bytes = region_bytes(ZONE_BYTES);
    // SAFETY: the region is aligned and there.
    let open = |table: &Table, bytes| unsafe { Ledger::open(one.ledger.base, bytes, table) };
    assert!(open(&one.table, bytes).unwrap().is(&one.ledger));
    // SAFETY: the region is aligned and ours.
    let other = unsafe { Table::create(other.base(), ZONE_BYTES, [7, 7], b"$host") }.unwrap();
    assert_eq!(open(&other, bytes).err(), Some(Error::Foreign));
    assert_eq!(open(&one.table, 1000).err(), Some(Error::Foreign));
    let region = zeroed_region(1000);
    // SAFETY: the region is aligned, zero and ours.
    let small = unsafe { Ledger::create(region.base(), region.bytes(), &one.table, 0, 0) };
    assert_eq!(small.err(), Some(Error::TooSmall));
}

#[test]
fn what_a_log_takes_is_in_the_documentation() {
    documented(
        "sizing.md",
        &format!("(traffic-log.md) | {BASELINE_BYTES} bytes of shared memory, for each account"),
    );
    documented("sizing.md", &format!(", and {} KB for each log |", size_of::<Header>().div_ceil(1000)));
}

#[test]
fn a_batch_is_one_write_of_whole_lines() {
    let zone = new_zone();
    let disk = new_disk(1);
    for n in 0..20 {
        zone.count(format!("key{n}").as_bytes(), 200);
    }
    let line_bytes = {
        let disk = new_disk(2);
        let region = zeroed_region(region_bytes(ZONE_BYTES));
        // SAFETY: the region is aligned, zero and ours.
        let ledger = unsafe { Ledger::create(region.base(), region.bytes(), &zone.table, 1, 0) }.unwrap();
        zone.count(b"key19", 200);
        let part = zone.part(BATCH_BYTES);
        ledger.write_part(&zone.table, 0, &part, &mut Open(&disk)).unwrap().bytes as usize
    };
    zone.write(BATCH_BYTES, &[&disk]).unwrap();
    assert_eq!(disk.borrow().writes, 1);
    (0..20).for_each(|n| zone.count(format!("key{n}").as_bytes(), 200));
    zone.write(5 * line_bytes, &[&disk]).unwrap();
    assert!((5..=6).contains(&disk.borrow().writes), "{}", disk.borrow().writes);
    zone.count(b"key1", 200);
    zone.write(1, &[&disk]).unwrap();
    zone.check(&[&disk]).unwrap();
}

#[test]
fn a_writer_killed_at_any_step_loses_no_line_and_its_successor_writes_none_twice() {
    for is_readable in [true, false] {
        let mut steps = 0;
        loop {
            let zone = new_zone();
            let disk = new_disk(1);
            disk.borrow_mut().is_readable = is_readable;
            (0..5).for_each(|n| zone.count(&[b'a' + n], 200 + u64::from(n)));
            let first = killed_after(Some(steps), || zone.write(400, &[&disk]).unwrap());
            zone.count(b"a", 500);
            // the next one may be killed just as well
            for more in [steps / 2, steps % 7, 3] {
                killed_after(Some(more), || zone.write(400, &[&disk]).unwrap());
            }
            zone.write(400, &[&disk]).unwrap();
            if let Err(reason) = zone.check(&[&disk]) {
                panic!("after {steps} steps: {reason}");
            }
            if first.is_some() {
                break;
            }
            steps += STEP as u64;
        }
        assert!(steps > 80, "{steps}");
    }
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_no_line_stays_torn() {
    for room in (0..900).step_by(STEP) {
        let zone = new_zone();
        let disk = new_disk(1);
        disk.borrow_mut().room = room;
        (0..5).for_each(|n| zone.count(&[b'a' + n], 200 + u64::from(n)));
        if zone.write(400, &[&disk]).is_ok() {
            continue;
        }
        zone.count(b"a", 500);
        assert!(zone.write(400, &[&disk]).is_err());
        // a little room, and then enough
        disk.borrow_mut().room = 30;
        assert!(zone.write(400, &[&disk]).is_err());
        disk.borrow_mut().room = usize::MAX;
        zone.write(400, &[&disk]).unwrap();
        zone.check(&[&disk]).unwrap();
    }
}

#[test]
fn a_line_after_an_error_tells_how_long_it_is() {
    let zone = new_zone();
    let disk = new_disk(1);
    zone.count(b"a", 1);
    disk.borrow_mut().room = 0;
    assert!(zone.write(BATCH_BYTES, &[&disk]).is_err());
    assert!(zone.write(BATCH_BYTES, &[&disk]).is_err());
    disk.borrow_mut().room = usize::MAX;
    zone.write(BATCH_BYTES, &[&disk]).unwrap();
    let text = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
    assert!(text.starts_with("{\"time\":\"part 3\",\"interval_ms\":3000,"), "{text}");
}

#[test]
fn a_full_disk_that_is_cleared_gets_all_that_it_had_not() {
    for room in (0..420).step_by(STEP) {
        let zone = new_zone();
        let disk = new_disk(1);
        (0..3).for_each(|n| zone.count(&[b'a' + n], 200));
        zone.write(BATCH_BYTES, &[&disk]).unwrap();
        let before = disk.borrow().clone();
        (0..3).for_each(|n| zone.count(&[b'a' + n], 200));
        disk.borrow_mut().room = room;
        assert!(zone.write(BATCH_BYTES, &[&disk]).is_err());
        // somebody empties the file, after a copy of its whole lines
        let there = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
        let copy = new_disk(2);
        copy.borrow_mut().bytes = there[..=there.rfind('\n').unwrap()].into();
        assert!(copy.borrow().bytes.len() >= before.bytes.len());
        disk.borrow_mut().bytes.clear();
        disk.borrow_mut().room = usize::MAX;
        zone.write(BATCH_BYTES, &[&disk]).unwrap();
        zone.check(&[&copy, &disk]).unwrap();
    }
}

#[test]
fn what_was_written_before_a_rotation_is_found_in_the_file_of_before() {
    for steps in (0..2000).step_by(STEP) {
        let zone = new_zone();
        let (before, after) = (new_disk(1), new_disk(2));
        (0..3).for_each(|n| zone.count(&[b'a' + n], 200));
        let first = killed_after(Some(steps), || zone.write(400, &[&before]).unwrap());
        zone.count(b"a", 500);
        zone.write(400, &[&before, &after]).unwrap();
        zone.check(&[&before, &after]).unwrap();
        if first.is_some() {
            return;
        }
    }
    panic!("the writer was killed each time");
}

#[test]
fn a_line_that_cannot_be_completed_in_a_file_of_before_goes() {
    for room in (0..700).step_by(STEP) {
        for steps in [1000, 5, 20] {
            let zone = new_zone();
            let (before, after) = (new_disk(1), new_disk(2));
            (0..3).for_each(|n| zone.count(&[b'a' + n], 200));
            before.borrow_mut().room = room;
            let _ = zone.write(400, &[&before]);
            before.borrow_mut().room = room % 50;
            killed_after(Some(steps), || zone.write(400, &[&before, &after]).unwrap());
            zone.write(400, &[&before, &after]).unwrap();
            zone.check(&[&before, &after]).unwrap();
        }
    }
}

#[test]
fn what_others_write_into_the_file_is_no_trouble() {
    for steps in (0..2000).step_by(STEP) {
        let zone = new_zone();
        let disk = new_disk(1);
        (0..3).for_each(|n| zone.count(&[b'a' + n], 200));
        let first = killed_after(Some(steps), || zone.write(BATCH_BYTES, &[&disk]).unwrap());
        let whole = disk.borrow().bytes.last().is_none_or(|&last| last == b'\n');
        if whole {
            disk.borrow_mut().bytes.extend_from_slice(b"another\n");
        }
        zone.write(400, &[&disk]).unwrap();
        zone.check(&[&disk]).unwrap();
        if first.is_some() {
            return;
        }
    }
    panic!("the writer was killed each time");
}

#[test]
fn a_pipe_gets_no_line_twice() {
    for steps in (0..2000).step_by(STEP) {
        let zone = new_zone();
        let disk = new_disk(1);
        disk.borrow_mut().is_regular = false;
        (0..3).for_each(|n| zone.count(&[b'a' + n], 200));
        let first = killed_after(Some(steps), || zone.write(400, &[&disk]).unwrap());
        zone.write(400, &[&disk]).unwrap();
        let text = String::from_utf8(disk.borrow().bytes.clone()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.ends_with('}')).collect();
        let keys: BTreeSet<&str> = lines.iter().map(|line| line.split("\"key\":").nth(1).unwrap()).collect();
        assert_eq!(lines.len(), keys.len(), "{text}");
        if first.is_some() {
            return zone.check(&[&disk]).unwrap();
        }
    }
    panic!("the writer was killed each time");
}

#[test]
fn of_all_that_could_write_one_does_and_only_when_it_is_due() {
    let zone = new_zone();
    let ledger = &zone.ledger;
    let at = |wall_ms, monotonic_ms| Instant { wall_ms, monotonic_ms };
    // done until 1000 on the monotonic clock
    assert!(!ledger.is_due(at(60_100, 1_100), 60_000), "the interval ended when it began");
    assert!(ledger.is_due(at(120_000, 61_000), 60_000));
    let claims = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| ledger.claim(61_000, 62_000))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|&won| won).count()
    });
    assert_eq!(claims, 1);
    assert!(!ledger.claim(61_999, 63_000));
    assert!(ledger.claim(62_000, 63_000), "its claim is over if it is not done by then");
}

#[test]
fn a_time_that_was_wrong_does_not_stop_the_log() {
    let zone = new_zone();
    let ledger = &zone.ledger;
    let now = Instant { wall_ms: 120_000, monotonic_ms: 61_000 };
    ledger.header().done_ms.store(1 << 50, Relaxed);
    ledger.set_next_try(1 << 50);
    assert!(ledger.is_due(now, 60_000));
    assert!(ledger.claim(61_000, 62_000));
    assert!(!ledger.claim(61_500, 62_500), "it is claimed");
}

#[test]
fn parts_end_at_multiples_of_their_interval() {
    let zone = new_zone();
    let end = |wall_ms, monotonic_ms| zone.ledger.end_of_part(Instant { wall_ms, monotonic_ms }, 60_000);
    assert_eq!(end(120_003, 500_003), Instant { wall_ms: 120_000, monotonic_ms: 500_000 });
    assert_eq!(end(120_500, 500_500), Instant { wall_ms: 120_000, monotonic_ms: 500_000 });
    // too late for that
    assert_eq!(end(120_501, 500_501), Instant { wall_ms: 120_501, monotonic_ms: 500_501 });
    // another part has ended there
    assert_eq!(end(120_100, 1_100), Instant { wall_ms: 120_100, monotonic_ms: 1_100 });
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_happens_between_writers_the_sums_are_the_counters(
        rounds in prop::collection::vec(
            (
                prop::collection::vec((0u8..6, 1u64..1 << 40), 0..5),
                prop::option::of(0u64..120),
                prop::option::weighted(0.3, 0usize..700),
                prop::bool::weighted(0.3),
                300usize..1200,
            ),
            1..if cfg!(miri) { 3 } else { 12 },
        ),
    ) {
        let zone = new_zone();
        let mut disks = vec![new_disk(0)];
        for (counts, steps, room, rotate, batch_bytes) in rounds {
            for (key, n) in counts {
                zone.count(&[b'a' + key], n);
            }
            disks.last().unwrap().borrow_mut().room = room.unwrap_or(usize::MAX);
            let from = disks.len().saturating_sub(2);
            let last: Vec<&RefCell<Disk>> = disks[from..].iter().collect();
            let _ = killed_after(steps, || zone.write(batch_bytes, &last));
            // files are kept until what is in them has been looked at
            if rotate && (disks.len() < 2 || !zone.ledger.is_open()) {
                disks.push(new_disk(disks.len() as u64));
            }
        }
        let from = disks.len().saturating_sub(2);
        disks.last().unwrap().borrow_mut().room = usize::MAX;
        zone.write(BATCH_BYTES, &disks[from..].iter().collect::<Vec<_>>()).unwrap();
        let all: Vec<&RefCell<Disk>> = disks.iter().collect();
        if let Err(reason) = zone.check(&all) {
            prop_assert!(false, "{}", reason);
        }
    }

    #[test]
    fn intervals_are_found_on_any_clock(wall_ms: u64, monotonic_ms: u64, interval_ms in 1000u64..1 << 40) {
        let now = Instant { wall_ms, monotonic_ms };
        let end = now.last_end(interval_ms);
        prop_assert!(end.wall_ms <= wall_ms && wall_ms - end.wall_ms < interval_ms);
        prop_assert_eq!(end.wall_ms % interval_ms, 0);
        prop_assert!(end.monotonic_ms <= monotonic_ms);
        let next_ms = now.next_end_ms(interval_ms);
        prop_assert!((1..=interval_ms).contains(&next_ms));
    }
}
