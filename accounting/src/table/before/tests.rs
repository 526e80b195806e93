//! Tables of other releases.
//!
//! `tests/layout` has files named after the magic number of tables. `.counters` lists where the counters are in the
//! memory of an account. `.region` is the memory of a table that the first build with that number has made.
//! `RECORD_GOLDEN=1 cargo test golden` appends counters to the list, and writes files that are not there yet.

use std::path::PathBuf;

use formats::counters::{COUNTERS as TABLE, cell};

use super::super::layout::{MAGIC, layout, plan_for};
use super::super::lookup::{Spare, entry};
use super::super::region::hash_of_text;
use super::*;
use crate::account::{Account, COUNTERS};
use crate::key::OVERFLOW_KEY;
use crate::state::copy_before;
use crate::testing::Region;

const BYTES: usize = 200_000;

/// Different numbers in all cells; seconds that were judged have all CPU.
fn example(n: u64) -> Totals {
    let mut totals = Totals(core::array::from_fn(|at| 1000 * n + at as u64));
    for (name, ns) in [("cpu_ns", 1_000_000), ("billable_cpu_ns", 400_000), ("waived_cpu_ns", 600_000)] {
        totals.0[cell(name)] = ns;
    }
    totals
}

/// The same totals, as a release with so many appended counters knows them.
fn known(mut totals: Totals, appended: usize) -> Totals {
    let missing = Account::APPENDED.saturating_sub(appended);
    totals.0[COUNTERS - missing..].fill(0);
    totals
}

/// A table with accounts `1.test`, `2.test` and so on.
fn filled(region: &Region, accounts: u64) -> Table {
    let table = region.table().unwrap();
    for n in 1..=accounts {
        let slot = table.find_or_insert(format!("{n}.test").as_bytes(), &mut Spare::default()).slot;
        table.account(slot).restore(&example(n));
    }
    table.count_overflowed();
    table.count_cut();
    table
}

/// Copies a table into a region as another release would have made it. Memory that it does not use is not zero.
fn remake(from: &Table, region: &Region, key_text: &[u8], magic: u64, appended: usize) {
    let places = if magic == MAGIC_WITHOUT_PROCESSES { 0 } else { processes(region.bytes()) };
    let (records, buckets_log2) = plan_for(region.bytes(), places, record_bytes(appended)).unwrap();
    let mut table = region.table().unwrap();
    (table.records, table.buckets_log2, table.processes) = (records, buckets_log2, places as u32);
    // SAFETY: the region is ours, and has a header; `plan_for` has made room for the buckets.
    unsafe {
        let header = region.base().cast::<Header>().as_mut();
        (header.magic, header.layout) = (magic, layout(appended));
        (header.records, header.buckets_log2) = (records, buckets_log2);
        header.key_text = hash_of_text(key_text);
        table.bucket_base().write_bytes(0, 1 << buckets_log2);
    }
    table.count_overflowed();
    table.count_cut();
    let remade = TableBefore { table, appended };
    for slot in from.slots() {
        let key = from.key(slot);
        let both = [appended, Account::APPENDED].into_iter().min().unwrap_or_default();
        let common = Account::APPENDED_AT + both * size_of::<AtomicU64>();
        // SAFETY: both records are ours, and have room for what is written.
        unsafe {
            let record = remade.record_at(slot);
            record.write_bytes(0xEE, record_bytes(appended));
            record.copy_from_nonoverlapping(from.record_at(slot).cast(), common);
            let len_at = record.add(account_bytes(appended));
            len_at.write(key.len() as u8);
            len_at.add(1).copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        }
        if key != OVERFLOW_KEY {
            let hash = table.hash(key);
            let free = table.probe(hash).find(|bucket| bucket.load(Relaxed) == 0).unwrap();
            free.store(entry(hash, slot), Relaxed);
        }
    }
}

fn open(region: &Region, key_text: &[u8]) -> Result<TableBefore, Error> {
    // SAFETY: the region is readable, and outlives the table.
    unsafe { Table::open_before(region.base(), region.bytes(), key_text) }
}

fn open_today(region: &Region) -> Result<Table, Error> {
    // SAFETY: as above.
    unsafe { Table::open(region.base(), region.bytes(), b"$host") }
}

fn accounts_are_copied(magic: u64, appended: usize) {
    const ACCOUNTS: u64 = if cfg!(miri) { 3 } else { 20 };
    let (source, region, to) = (Region::new(BYTES), Region::new(BYTES), Region::new(BYTES));
    remake(&filled(&source, ACCOUNTS), &region, b"$host", magic, appended);
    assert_eq!(open_today(&region).err(), Some(Error::Foreign));
    assert_eq!(open(&region, b"$uri").err(), Some(Error::OtherKey));
    let table = to.table().unwrap();
    let restored = copy_before(&open(&region, b"$host").unwrap(), &table);
    assert_eq!((restored.accounts as u64, restored.overflowed), (ACCOUNTS, 0), "{appended}");
    for n in 1..=ACCOUNTS {
        let slot = table.find(format!("{n}.test").as_bytes()).unwrap();
        assert_eq!(table.account(slot).totals(), known(example(n), appended), "{appended}");
    }
    assert_eq!((table.fill().overflowed, table.fill().cut), (1, 1));
}

#[test]
fn accounts_of_the_releases_before_are_copied() {
    [MAGIC_BEFORE, MAGIC_WITHOUT_PROCESSES].into_iter().for_each(|magic| accounts_are_copied(magic, 0));
}

#[test]
fn accounts_of_releases_with_fewer_and_more_counters_are_copied() {
    // 32 of them certainly change the size of an account
    let numbers = if cfg!(miri) { 0..=2 } else { 0..=32 };
    for appended in numbers.filter(|&appended| appended != Account::APPENDED) {
        accounts_are_copied(MAGIC, appended);
    }
    assert_ne!(account_bytes(32), size_of::<Account>());
}

#[test]
fn a_table_of_this_release_is_opened_and_not_copied() {
    let region = Region::new(BYTES);
    filled(&region, 1);
    assert!(open_today(&region).is_ok());
    assert_eq!(open(&region, b"$host").err(), Some(Error::Foreign));
}

#[test]
fn a_table_that_cannot_be_understood_is_refused() {
    let (source, region) = (Region::new(BYTES), Region::new(BYTES));
    let source = filled(&source, 1);
    let other = Account::APPENDED + 1;
    let with = |change: fn(&mut Header)| {
        remake(&source, &region, b"$host", MAGIC, other);
        // SAFETY: the region is ours, and has a header.
        change(unsafe { region.base().cast::<Header>().as_mut() });
        open(&region, b"$host").err()
    };
    assert_eq!(with(|_| ()), None);
    let changes: [fn(&mut Header); 9] = [
        |header| header.layout += 64,
        |header| header.layout += 8 << 16,
        |header| header.layout += 1 << 32,
        |header| header.layout = u64::MAX,
        |header| header.layout = 0,
        |header| header.magic += 1,
        |header| header.magic = MAGIC_BEFORE,
        |header| header.records -= 1,
        |header| header.buckets_log2 += 1,
    ];
    for change in changes {
        assert_eq!(with(change), Some(Error::Foreign));
    }
    assert_eq!(open(&Region::new(BYTES), b"$host").err(), Some(Error::Foreign));
    for bytes in [0, 1, 127] {
        assert_eq!(open(&Region::new(bytes), b"$host").err(), Some(Error::TooSmall));
    }
}

#[test]
fn the_layout_tells_the_number_of_appended_counters() {
    assert_eq!(appended(LAYOUT), Some(Account::APPENDED));
    assert_eq!(
        (0..100).map(|n| appended(layout(n)).unwrap()).collect::<Vec<_>>(),
        (0..100).collect::<Vec<_>>()
    );
    assert_eq!((layout(0), appended(LAYOUT_BEFORE)), (LAYOUT_BEFORE, Some(0)));
}

fn recorded(extension: &str) -> PathBuf {
    let magic = String::from_utf8(MAGIC.to_le_bytes().to_vec()).unwrap();
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/layout").join(magic).with_extension(extension)
}

fn records() -> bool {
    std::env::var_os("RECORD_GOLDEN").is_some()
}

/// Releases read the memory of each other by this list, so it may only grow at its end.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn golden_list_of_counters_in_memory_only_grows_at_its_end() {
    let mut rows: Vec<usize> = (0..TABLE.len()).filter(|&row| TABLE[row].shape.cells() > 0).collect();
    rows.sort_by_key(|&row| Account::OFFSETS[row]);
    let line = |&row: &usize| {
        format!("{:4} {:2} {}\n", Account::OFFSETS[row], TABLE[row].shape.cells(), TABLE[row].stored_name)
    };
    let now: String = rows.iter().map(line).collect();
    let list = std::fs::read_to_string(recorded("counters")).unwrap_or_default();
    assert!(
        now.starts_with(&list),
        "counters have other places in memory than in tests/layout: new counters must be [added] at the end of the \
         table; any other change needs another MAGIC in table/layout.rs\n{now}"
    );
    if cfg!(feature = "example-counter") {
        assert!(now.len() > list.len() && now.ends_with(" 1 example_ns\n"), "{now}");
    } else if records() {
        std::fs::write(recorded("counters"), now).unwrap();
    } else {
        assert_eq!(now, list, "run RECORD_GOLDEN=1 cargo test golden");
    }
}

/// The memory was made by a build without appended counters.
#[test]
#[cfg_attr(miri, ignore = "reads files")]
#[cfg_attr(target_endian = "big", ignore = "the memory is of another machine")]
fn golden_memory_of_an_earlier_build_is_taken_over() {
    const ACCOUNTS: u64 = 2;
    if records() && !recorded("region").exists() {
        assert_eq!(Account::APPENDED, 0, "the memory must be that of a build without appended counters");
        let region = Region::new(8192);
        filled(&region, ACCOUNTS);
        // SAFETY: all of it is ours, and was written.
        let memory = unsafe { slice::from_raw_parts(region.base().as_ptr(), region.bytes()) };
        std::fs::write(recorded("region"), memory).unwrap();
    }
    let memory = std::fs::read(recorded("region")).unwrap();
    let (region, to) = (Region::new(memory.len()), Region::new(BYTES));
    // SAFETY: the region is ours, and as large.
    unsafe { region.base().copy_from_nonoverlapping(NonNull::from(&*memory).cast(), memory.len()) };
    let table = if Account::APPENDED == 0 {
        open_today(&region).unwrap()
    } else {
        assert_eq!(open_today(&region).err(), Some(Error::Foreign));
        let table = to.table().unwrap();
        let restored = copy_before(&open(&region, b"$host").unwrap(), &table);
        assert_eq!((restored.accounts as u64, restored.overflowed), (ACCOUNTS, 0));
        table
    };
    for n in 1..=ACCOUNTS {
        let slot = table.find(format!("{n}.test").as_bytes()).unwrap();
        assert_eq!(table.account(slot).totals(), known(example(n), 0));
    }
    assert_eq!((table.fill().accounts as u64, table.fill().overflowed, table.fill().cut), (ACCOUNTS, 1, 1));
}
