//! Unit and property tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;

use super::region::*;
use super::*;
use crate::account::{Charges, Usage};
use crate::key::*;
use crate::limit::*;
use crate::limit::{Apart, Share, parse_cores};
use crate::testing::AtomicU64;
use crate::testing::{Region, cases, killed_after};
use core::mem::size_of;
use core::num::NonZeroU64;

fn keys_of(table: &Table) -> Vec<Vec<u8>> {
    table.slots().into_iter().map(|slot| table.key(slot).to_vec()).collect()
}

#[test]
fn a_new_table_has_an_overflow_account_and_no_other() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    assert_eq!(table.slots(), [Slot::OVERFLOW]);
    assert_eq!(table.key(Slot::OVERFLOW), OVERFLOW_KEY);
    assert_eq!(table.find(OVERFLOW_KEY), Some(Slot::OVERFLOW));
    assert_eq!(table.find(b""), None);
    assert!(table.account(Slot::OVERFLOW).is_untouched(table.epoch()));
    let fill = table.fill();
    assert_eq!((fill.accounts, fill.overflowed, fill.cut), (0, 0, 0));
    assert!(fill.used_bytes < 2 * ACCOUNT_BYTES as u64 + 2048 + 16 * u64::from(fill.capacity));
}

#[test]
fn a_real_key_of_the_overflow_accounts_name_is_counted_there() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let found = table.find_or_insert(b"*", &mut Spare::default());
    assert_eq!(found, Found { slot: Slot::OVERFLOW, overflowed: false });
    assert_eq!(table.fill().accounts, 0);
}

#[test]
fn keys_may_be_empty_and_have_any_bytes() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let keys: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a", b"A", b"a\0", b"\xFF\xFE", b"**"];
    let slots: BTreeSet<Slot> = keys.iter().map(|key| table.find_or_insert(key, &mut spare).slot).collect();
    assert_eq!(slots.len(), keys.len());
    for key in keys {
        let slot = table.find(key).unwrap();
        assert_eq!(table.key(slot), key);
        assert_eq!(table.find_or_insert(key, &mut spare), Found { slot, overflowed: false });
    }
    assert_eq!(table.fill().accounts, keys.len() as u32);
}

#[test]
fn a_long_key_is_cut() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let long = [b'k'; 1000];
    let slot = table.find_or_insert(&long[..255], &mut spare).slot;
    for len in [256, 257, 511, 512, 1000] {
        assert_eq!(table.find_or_insert(&long[..len], &mut spare).slot, slot, "{len}");
        assert_eq!(table.find(&long[..len]), Some(slot), "{len}");
    }
    assert_eq!(table.key(slot), &long[..255]);
    assert_ne!(table.find_or_insert(&long[..254], &mut spare).slot, slot);
}

#[test]
fn a_full_table_still_finds_its_keys_and_sends_new_ones_to_the_overflow_account() {
    let region = Region::new(20_000);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let capacity = table.fill().capacity;
    let key = |n: u32| format!("host-{n}.example").into_bytes();
    let slots: Vec<Slot> = (0..capacity).map(|n| table.find_or_insert(&key(n), &mut spare).slot).collect();
    assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), capacity as usize);
    assert!(!slots.contains(&Slot::OVERFLOW));
    for n in capacity..capacity + 100 {
        let found = table.find_or_insert(&key(n), &mut spare);
        assert_eq!(found, Found { slot: Slot::OVERFLOW, overflowed: true });
        assert_eq!(table.find(&key(n)), None);
    }
    for n in 0..capacity {
        let slot = slots[n as usize];
        assert_eq!(table.find_or_insert(&key(n), &mut spare), Found { slot, overflowed: false });
    }
    let fill = table.fill();
    assert_eq!(fill.accounts, capacity);
    assert!(fill.used_bytes <= 20_000);
    assert_eq!(fill.overflowed, 0, "the caller counts requests, not look-ups");
    table.count_overflowed();
    table.count_cut();
    assert_eq!((table.fill().overflowed, table.fill().cut), (1, 1));
}

#[test]
fn of_all_that_could_save_one_does_and_only_when_it_is_due() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    assert!(!table.claim_save(u64::MAX - 1, u64::MAX), "nothing is saved where nobody said so");
    table.set_save_due(100);
    assert!(!table.claim_save(99, 160));
    let claims = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| table.claim_save(100, 160))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|&won| won).count()
    });
    assert_eq!((claims, table.save_due_ms()), (1, 160));
}

#[test]
fn a_time_that_was_wrong_does_not_stop_saving() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    table.set_save_due(1 << 50);
    assert!(table.claim_save(100, 60_100));
    assert!(
        !table.claim_save(100, 60_100) && !table.claim_save(0, 60_000),
        "a worker that is a little behind"
    );
}

#[test]
fn a_region_of_the_version_before_is_refused() {
    let region = Region::new(65_536);
    region.table().unwrap();
    // SAFETY: the header is there, and nobody else looks at it now.
    unsafe {
        let magic = &raw mut (*region.base().cast::<Header>().as_ptr()).magic;
        magic.write(MAGIC_BEFORE);
    }
    // SAFETY: the region is aligned and ours.
    let opened = unsafe { Table::open(region.base(), region.bytes(), b"$host") };
    assert_eq!(opened.err(), Some(Error::Foreign));
}

fn limit(name: &str, cores: &[u8]) -> Limit {
    Limit::new(LimitId::of(name.as_bytes()), parse_cores(cores).unwrap(), Some(0), None)
}

/// The bucket of a check, and the debt.
fn check(table: &Table, slot: Slot, now_ms: u64, limit: &Limit, spare: &mut Spare) -> (u8, u64) {
    let checked = table.check(slot, now_ms, limit, |_| 0, |_| true, spare);
    (checked.bucket, checked.result.map_or_else(NonZeroU64::get, |_| 0))
}

const MS: u64 = 1_000_000;

fn use_cpu(table: &Table, slot: Slot, now_ms: u64, share: Share, ns: u64) {
    let mut apart = Apart::default();
    apart.add(share, ns);
    let usage = Usage { cpu_ns: ns, ..Usage::default() };
    table.account(slot).add_charges_apart(
        table,
        now_ms,
        &Charges { usage, ..Charges::default() },
        Some(&apart),
    );
}

#[test]
fn each_limit_of_an_account_has_a_bucket() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let slot = table.find_or_insert(b"key", &mut spare).slot;
    let names = ["a", "b", "c", "d"];
    let limits = names.map(|name| limit(name, b"0.5"));
    let mut debts = |now_ms| limits.map(|limit| check(&table, slot, now_ms, &limit, &mut spare).1);
    assert_eq!(debts(1_000), [0; 4]);
    use_cpu(&table, slot, 1_000, Share::Checked(2), 50 * MS);
    assert_eq!(debts(1_000), [0, 0, 50 * MS, 0], "what a limit has checked is its own");
    use_cpu(&table, slot, 1_000, Share::Used, 20 * MS);
    assert_eq!(debts(1_000), [20, 20, 70, 20].map(|ms| ms * MS), "what none has checked is all of theirs");
    use_cpu(&table, slot, 1_000, Share::Refused, 20 * MS);
    assert_eq!(debts(1_020), [10, 10, 60, 10].map(|ms| ms * MS), "what was refused is nobody's");
    assert_eq!(table.account(slot).limit(&table, 1_020).unwrap().debt_ns, 60 * MS, "the largest is shown");
    check(&table, slot, 1_100, &limits[1], &mut spare);
    assert_eq!(
        table.account(slot).limit(&table, 1_100).unwrap().debt_ns,
        0,
        "of those that were checked last"
    );
    assert!(table.is_in_debt(slot, 1_139, |_| 0) && !table.is_in_debt(slot, 1_140, |_| 0));
    // another binary, or another worker
    // SAFETY: the region is aligned and ours.
    let again = unsafe { Table::open(region.base(), region.bytes(), b"$host") }.unwrap();
    for (n, limit) in limits.iter().enumerate() {
        assert_eq!(usize::from(check(&again, slot, 1_020, limit, &mut spare).0), n);
    }
}

#[test]
fn a_limit_beyond_the_fourth_takes_over_a_full_bucket_or_shares_the_last_one() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let slot = table.find_or_insert(b"key", &mut spare).slot;
    for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        assert_eq!(check(&table, slot, 1_000, &limit(name, b"0.5"), &mut spare), (n as u8, 0));
        use_cpu(&table, slot, 1_000, Share::Checked(n as u8), 50 * MS * (n as u64 + 1));
    }
    let more = limit("e", b"0.1");
    assert_eq!(check(&table, slot, 1_000, &more, &mut spare), (3, 200 * MS), "the last one is shared");
    assert_eq!(check(&table, slot, 1_100, &more, &mut spare), (0, 0), "the first one is full by now");
    assert_eq!(check(&table, slot, 1_100, &limit("a", b"0.5"), &mut spare).0, 0, "and is taken again");
    // limits that are not used any more give their buckets to others, before new ones are made
    let slot = table.find_or_insert(b"reloaded", &mut spare).slot;
    for n in 0..100 {
        let now_ms = 1_000_000 * (n + 1);
        assert_eq!(check(&table, slot, now_ms, &limit(&n.to_string(), b"0.5"), &mut spare), (0, 0));
        use_cpu(&table, slot, now_ms, Share::Used, 50 * MS);
    }
}

#[test]
fn a_limit_that_was_changed_goes_on_with_the_debt() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let slot = table.find_or_insert(b"key", &mut spare).slot;
    let (kept, before, after) = (limit("a", b"0.5"), limit("b", b"0.5"), limit("c", b"0.1"));
    for limit in [&kept, &before] {
        check(&table, slot, 1_000, limit, &mut spare);
        use_cpu(&table, slot, 1_000, Share::Used, 50 * MS);
    }
    let is_configured = |id| id == LimitId::of(b"a") || id == LimitId::of(b"c");
    let checked = table.check(slot, 1_000, &after, |_| 0, is_configured, &mut spare);
    assert_eq!((checked.bucket, checked.result.unwrap_err().get()), (1, 50 * MS));
    assert_eq!(check(&table, slot, 1_000, &kept, &mut spare), (0, 100 * MS));
}

#[test]
fn buckets_take_slots_and_share_the_first_one_where_there_are_none() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let capacity = table.fill().capacity as usize;
    let mut slots: Vec<Slot> = (0..30u8).map(|n| table.find_or_insert(&[n], &mut spare).slot).collect();
    for &slot in &slots {
        for (n, name) in ["a", "b"].into_iter().enumerate() {
            assert_eq!(check(&table, slot, 1_000, &limit(name, b"0.5"), &mut spare).0, n as u8);
            use_cpu(&table, slot, 1_000, Share::Checked(n as u8), MS);
        }
    }
    // the first place of a slot is not used
    let per_slot = BUCKETS_PER_SLOT as usize - 1;
    let taken = 30usize.div_ceil(per_slot);
    let rest = (0..capacity)
        .filter(|n| !table.find_or_insert(format!("more {n}").as_bytes(), &mut spare).overflowed);
    assert_eq!(rest.count(), capacity - 30 - taken);
    slots.truncate(20);
    for &slot in &slots {
        for name in ["c", "d"] {
            check(&table, slot, 1_000, &limit(name, b"0.5"), &mut spare);
            use_cpu(&table, slot, 1_000, Share::Used, MS);
        }
    }
    let places: Vec<usize> =
        slots.iter().map(|&slot| table.account(slot).buckets(Some(&table)).count()).collect();
    let free = taken * per_slot - 30;
    assert_eq!(places.iter().sum::<usize>(), 2 * 20 + free.min(2 * 20), "{places:?}");
    let slot = slots[19];
    assert_eq!(
        check(&table, slot, 1_000, &limit("e", b"0.5"), &mut spare).0,
        1,
        "without room the last one is shared"
    );
}

#[test]
fn a_worker_that_is_killed_while_it_makes_a_bucket_leaves_a_limit_that_works() {
    for writes in 0.. {
        let region = Region::new(20_000);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let slot = table.find_or_insert(b"key", &mut spare).slot;
        let both = [limit("a", b"0.5"), limit("b", b"0.5")];
        let was_killed = killed_after(writes, || {
            let mut spare = Spare::default();
            for limit in &both {
                check(&table, slot, 1_000, limit, &mut spare);
            }
        });
        for (n, limit) in both.iter().enumerate() {
            assert_eq!(check(&table, slot, 1_001, limit, &mut spare), (n as u8, 0), "{writes}");
        }
        use_cpu(&table, slot, 1_001, Share::Checked(1), MS);
        assert_eq!(both.map(|limit| check(&table, slot, 1_001, &limit, &mut spare).1), [0, MS], "{writes}");
        if !was_killed {
            return;
        }
    }
}

#[test]
fn buckets_made_by_several_threads_are_there_once_each() {
    let rounds = if cfg!(miri) { 1 } else { 60 };
    for _ in 0..rounds {
        let region = Region::new(65_536);
        let table = region.table().unwrap();
        let slot = table.find_or_insert(b"key", &mut Spare::default()).slot;
        let limits = ["a", "b", "c", "d"].map(|name| limit(name, b"0.5"));
        let seen: Vec<[u8; 4]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|turn| {
                    scope.spawn(move || {
                        let mut spare = Spare::default();
                        let mut places = [0; 4];
                        for n in 0..4 {
                            let at = (n + turn) % 4;
                            places[at] = check(&table, slot, 1_000, &limits[at], &mut spare).0;
                        }
                        places
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|places| *places == seen[0]), "{seen:?}");
        assert_eq!(seen[0].iter().collect::<BTreeSet<_>>().len(), 4);
    }
}

#[test]
fn when_a_table_is_saved_is_in_its_header() {
    // t/state.t writes there, so that it need not wait for a minute
    let at = core::mem::offset_of!(Header, counters) + core::mem::offset_of!(Counters, save_due_ms);
    assert_eq!((at, size_of::<Header>()), (88, 128));
}

#[test]
fn a_region_that_is_too_small_is_refused() {
    let enough = (0..).find(|&bytes| plan(bytes, processes(bytes)).is_some()).unwrap();
    assert!(enough > 2 * ACCOUNT_BYTES && enough < 3 * ACCOUNT_BYTES, "{enough}");
    for bytes in [0, 1, 64, ACCOUNT_BYTES, enough - 1] {
        assert_eq!(Region::new(bytes).table().err(), Some(Error::TooSmall), "{bytes}");
    }
    let region = Region::new(enough);
    let table = region.table().unwrap();
    assert_eq!(table.fill().capacity, 1);
    let mut spare = Spare::default();
    assert!(!table.find_or_insert(b"one", &mut spare).overflowed);
    assert!(table.find_or_insert(b"two", &mut spare).overflowed);
}

#[test]
fn a_table_can_be_opened_again_and_nothing_else_can() {
    let region = Region::new(65_536);
    // SAFETY: the region is aligned and ours.
    let open = |bytes| unsafe { Table::open(region.base(), bytes, b"$host") };
    assert_eq!(open(region.bytes()).err(), Some(Error::Foreign));
    let table = region.table().unwrap();
    let slot = table.find_or_insert(b"key", &mut Spare::default()).slot;
    table.account(slot).add(0, &Usage { wakeups: 3, ..Usage::default() });
    let again = open(region.bytes()).unwrap();
    assert_eq!(again.find(b"key"), Some(slot));
    assert_eq!(again.account(slot).snapshot(0, 1).usage.wakeups, 3);
    assert_eq!(open(region.bytes() / 2).err(), Some(Error::Foreign), "another size");
    assert_eq!(open(100).err(), Some(Error::TooSmall));
    // SAFETY: as above.
    let other_key = unsafe { Table::open(region.base(), region.bytes(), b"$uri") };
    assert_eq!(other_key.err(), Some(Error::OtherKey));
    // another layout
    // SAFETY: the header is there, and nobody else looks at it now.
    unsafe { (&raw mut (*region.base().cast::<Header>().as_ptr()).layout).write(LAYOUT + 1) };
    assert_eq!(open(region.bytes()).err(), Some(Error::Foreign));
}

#[test]
fn errors_can_stand_in_a_log_line() {
    assert_eq!(Error::TooSmall.to_string(), "no account fits into the zone");
    assert_eq!(Error::Foreign.to_string(), "the zone was made by another version of the module");
}

fn listed(table: &Table) -> Vec<Slot> {
    let mut listing = Listing::default();
    while listing.search(table) {}
    let next = |slot: &Slot| listing.first_from(slot.index() + 1);
    let slots: Vec<Slot> = core::iter::successors(listing.first_from(0), next).collect();
    assert_eq!(listing.accounts() as usize, slots.len());
    slots
}

#[test]
fn a_listing_finds_the_accounts_of_many_buckets_in_their_order() {
    let accounts = if cfg!(miri) { 3 } else { 3000 };
    let region = Region::new(4_000 * ACCOUNT_BYTES);
    let table = region.table().unwrap();
    assert!(table.buckets().len() > Listing::BUCKETS_AT_ONCE);
    let mut spare = Spare::default();
    let slots: Vec<Slot> =
        (0..accounts).map(|n: u32| table.find_or_insert(&n.to_le_bytes(), &mut spare).slot).collect();
    assert_eq!(listed(&table), slots);
}

#[test]
fn a_worker_that_dies_before_it_publishes_costs_a_slot_and_nothing_else() {
    let region = Region::new(20_000);
    let table = region.table().unwrap();
    let capacity = table.fill().capacity;
    // it dies right after it took the slot, or after it wrote the record
    let taken = table.take_slot().unwrap();
    let written = table.take_slot().unwrap();
    table.write_record(written, b"half");
    assert_eq!(table.find(b"half"), None);
    assert_eq!(table.slots(), [Slot::OVERFLOW]);
    assert_eq!(table.slot(taken.index()), None);
    assert_eq!(table.slot(written.index()), None);
    assert_eq!(table.fill().accounts, 0);
    let mut spare = Spare::default();
    assert!(!table.find_or_insert(b"half", &mut spare).overflowed);
    let more = (0..capacity).filter(|n| !table.find_or_insert(&n.to_le_bytes(), &mut spare).overflowed);
    assert_eq!(more.count() as u32, capacity - 3);
    assert_eq!(table.slots().len() as u32, capacity - 1);
}

#[test]
fn a_slot_that_was_taken_in_vain_is_used_for_the_next_key() {
    let region = Region::new(20_000);
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let first = table.find_or_insert(b"first", &mut spare).slot;
    let hash = table.hash(b"first");
    let bucket = table.probe(hash).next().unwrap();
    // another worker, which saw the bucket empty and is late
    let taken = table.insert(bucket, hash, b"a longer key of its own", &mut spare);
    assert_eq!(taken, Err(Refused::Taken(entry(hash, first))));
    let slot = spare.0.unwrap();
    assert_ne!(slot, first);
    assert_eq!(table.fill().accounts, 1);
    assert_eq!(table.find_or_insert(b"mine", &mut spare).slot, slot);
    assert_eq!(table.key(slot), b"mine");
    assert!(table.account(slot).is_untouched(1));
    assert!(spare.0.is_none());
}

#[test]
fn keys_of_the_same_hash_have_different_accounts() {
    let region = Region::new(20_000);
    let table = region.table().unwrap();
    let slot = table.find_or_insert(b"one", &mut Spare::default()).slot;
    let hash = table.hash(b"one");
    assert_eq!(table.matches(entry(hash, slot), hash, b"one"), Some(slot));
    assert_eq!(table.matches(entry(hash, slot), hash, b"two"), None);
    assert_eq!(table.matches(entry(hash, slot), hash, b"on"), None);
    assert_eq!(table.matches(entry(!hash, slot), hash, b"one"), None);
}

#[test]
fn slots_are_known_by_their_index() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    let slot = table.find_or_insert(b"key", &mut Spare::default()).slot;
    assert_eq!(table.slot(0), Some(Slot::OVERFLOW));
    assert_eq!(table.slot(slot.index()), Some(slot));
    assert_eq!(table.slot(slot.index() + 1), None);
    assert_eq!(table.slot(usize::MAX), None);
}

#[test]
fn keys_go_where_the_seed_says() {
    let (one, other) = (Region::new(65_536), Region::new(65_536));
    // SAFETY: both are aligned and ours.
    let (one, other) = unsafe {
        (
            Table::create(one.base(), 65_536, [1, 2], b"$host"),
            Table::create(other.base(), 65_536, [1, 3], b"$host"),
        )
    };
    assert_ne!(one.unwrap().hash(b"key"), other.unwrap().hash(b"key"));
}

#[test]
fn accounts_do_not_share_a_cache_line() {
    let region = Region::new(65_536);
    let table = region.table().unwrap();
    assert_eq!(ACCOUNT_BYTES % 64, 0);
    for n in 0..4 {
        assert_eq!(table.record_at(Slot(n)).addr().get() % 64, 0);
    }
}

#[test]
fn keys_inserted_by_several_threads_are_there_once_each() {
    let rounds = if cfg!(miri) { 1 } else { 60 };
    for round in 0..rounds {
        let threads = 4;
        let keys: u32 = if cfg!(miri) { 4 } else { 200 };
        let region = Region::new(if cfg!(miri) { 20_000 } else { 900_000 });
        let table = region.table().unwrap();
        let seen: Mutex<BTreeMap<Vec<u8>, Slot>> = Mutex::default();
        let start = std::sync::Barrier::new(threads);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (seen, start) = (&seen, &start);
                scope.spawn(move || {
                    let mut spare = Spare::default();
                    start.wait();
                    let mut mine = Vec::new();
                    for n in 0..keys {
                        // half of them are this thread's only, half are everybody's
                        let shared = n % 2 == 0;
                        let key = format!("{round} {n} {}", if shared { 0 } else { thread }).into_bytes();
                        let found = table.find_or_insert(&key, &mut spare);
                        assert_eq!(table.key(found.slot), key);
                        table.account(found.slot).add(0, &Usage { wakeups: 1, ..Usage::default() });
                        mine.push((key, found));
                    }
                    let mut seen = seen.lock().unwrap();
                    for (key, found) in mine {
                        assert!(!found.overflowed);
                        let first = *seen.entry(key).or_insert(found.slot);
                        assert_eq!(first, found.slot, "a key has two accounts");
                    }
                });
            }
        });
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.len(), (keys / 2) as usize * (threads + 1));
        assert_eq!(table.fill().accounts as usize, seen.len());
        let listed = keys_of(&table);
        assert_eq!(listed.len(), seen.len() + 1);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
        let wakeups = table.slots().into_iter().map(|slot| table.account(slot).snapshot(0, 1).usage.wakeups);
        assert_eq!(wakeups.sum::<u64>(), u64::from(keys) * threads as u64);
    }
}

#[test]
fn a_table_that_fills_up_under_several_threads_loses_nothing() {
    let rounds = if cfg!(miri) { 1 } else { 60 };
    for round in 0..rounds {
        let threads = 3u32;
        let region = Region::new(if cfg!(miri) { 12_000 } else { 60_000 });
        let table = region.table().unwrap();
        let capacity = table.fill().capacity;
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut spare = Spare::default();
                    for n in 0..capacity {
                        let key =
                            [round, n, if n % 3 == 0 { 0 } else { thread }].map(u32::to_le_bytes).concat();
                        let found = table.find_or_insert(&key, &mut spare);
                        assert_eq!(found.overflowed, found.slot == Slot::OVERFLOW);
                        table.account(found.slot).add(0, &Usage { wakeups: 1, ..Usage::default() });
                    }
                    // a thread that ends with a spare slot has cost that one
                    assert!(spare.0.is_none() || table.fill().accounts < capacity);
                });
            }
        });
        let fill = table.fill();
        assert!(fill.accounts <= capacity && fill.accounts + threads > capacity, "{fill:?}");
        let listed = keys_of(&table);
        assert_eq!(listed.len(), fill.accounts as usize + 1);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
        let wakeups = table.slots().into_iter().map(|slot| table.account(slot).snapshot(0, 1).usage.wakeups);
        assert_eq!(wakeups.sum::<u64>(), u64::from(capacity * threads));
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_plan_never_takes_more_than_there_is(bytes in 0usize..1 << 34, shift in 0u32..34) {
        let bytes = bytes >> shift;
        let Some((records, buckets_log2)) = plan(bytes, processes(bytes)) else {
            prop_assert!(bytes < 3 * size_of::<Record>());
            return Ok(());
        };
        let size = |records: usize, buckets_log2: u32| {
            let words = processes(bytes) + (1usize << buckets_log2);
            size_of::<Header>() + words * size_of::<AtomicU64>() + records * size_of::<Record>()
        };
        prop_assert!(size(records as usize, buckets_log2) <= bytes);
        prop_assert!(2 * u64::from(records) <= 1 << buckets_log2);
        // and wastes less than a record, and what one more would take for its buckets
        let more = records as usize + 1;
        let more_log2 = (2 * more).next_power_of_two().trailing_zeros().max(3);
        prop_assert!(size(more, more_log2) > bytes);
    }

    #[test]
    fn a_table_is_a_map(
        bytes in 6_000usize..30_000,
        keys in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..3),
                prop::collection::vec(0u8..2, 250..260),
                Just(b"*".to_vec()),
            ],
            0..if cfg!(miri) { 12 } else { 60 },
        ),
    ) {
        let region = Region::new(bytes);
        let table = region.table().unwrap();
        let mut spare = Spare::default();
        let capacity = table.fill().capacity as usize;
        let mut model: BTreeMap<Vec<u8>, Slot> = BTreeMap::new();
        model.insert(OVERFLOW_KEY.to_vec(), Slot::OVERFLOW);
        for key in &keys {
            let known = key[..key.len().min(255)].to_vec();
            prop_assert_eq!(table.find(key), model.get(&known).copied());
            let found = table.find_or_insert(key, &mut spare);
            match model.get(&known) {
                Some(&slot) => prop_assert_eq!(found, Found { slot, overflowed: false }),
                None if model.len() > capacity => {
                    prop_assert_eq!(found, Found { slot: Slot::OVERFLOW, overflowed: true });
                }
                None => {
                    prop_assert!(!found.overflowed && !model.values().any(|&slot| slot == found.slot));
                    model.insert(known, found.slot);
                }
            }
        }
        prop_assert_eq!(table.fill().accounts as usize, model.len() - 1);
        prop_assert_eq!(&listed(&table)[..], &table.slots()[1..]);
        prop_assert_eq!(keys_of(&table).into_iter().collect::<BTreeSet<_>>(), model.into_keys().collect());
    }
}
