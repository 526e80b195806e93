//! Processes that share a table are killed at any instruction, while they make accounts and count.
#![cfg(all(unix, not(miri)))]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;
use request_cpu_accounting::account::Usage;
use request_cpu_accounting::table::{Slot, Spare, Table};

const PROCESSES: usize = 3;

/// Memory that is shared with child processes.
struct Shared(NonNull<u8>, usize);

impl Shared {
    fn new(bytes: usize) -> Shared {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, of no file.
        let at = unsafe { libc::mmap(null_mut(), bytes, access, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Shared(NonNull::new(at.cast()).unwrap(), bytes)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; what points there does not outlive it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), self.1) };
    }
}

/// A process that is killed when it is dropped.
struct Child(libc::pid_t);

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: a child of ours that nobody has waited for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, null_mut(), 0);
        }
    }
}

/// Starts a process that looks up keys for ever, and counts each completed step.
fn start(table: Table, keys: &[Vec<u8>], done: &AtomicU64) -> Child {
    // SAFETY: the child takes no memory and no lock, which the child of a process with threads must not, and never
    // comes back.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        assert!(pid > 0);
        return Child(pid);
    }
    let mut spare = Spare::default();
    loop {
        for key in keys {
            let found = table.find_or_insert(key, &mut spare);
            table.account(found.slot).add(0, &Usage { wakeups: 1, ..Usage::default() });
            done.fetch_add(1, Relaxed);
        }
    }
}

/// Some keys belong to one process, some are shared, some repeat.
fn key(process: usize, n: u64) -> Vec<u8> {
    match n % 4 {
        0 => format!("all {}", n / 4),
        1 => format!("all {}", n % 97),
        _ => format!("process {process}, step {}", n / 2),
    }
    .into_bytes()
}

fn accounts(table: &Table) -> BTreeMap<Vec<u8>, (Slot, u64)> {
    let of = |slot| (table.key(slot).to_vec(), (slot, table.account(slot).usage().wakeups));
    let slots = table.slots();
    let accounts: BTreeMap<_, _> = slots.iter().map(|&slot| of(slot)).collect();
    assert_eq!(accounts.len(), slots.len(), "a key has two accounts");
    accounts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_process_that_is_killed_loses_no_account_and_at_most_the_step_it_was_in(
        kilobytes in 16usize..1_500,
        pauses_us in prop::collection::vec(0u64..1_000, PROCESSES),
    ) {
        let (region, counters) = (Shared::new(kilobytes * 1024), Shared::new(4096));
        // SAFETY: pages are aligned, ours, and mapped until the end of this function; zeros are valid counters.
        let (table, done) = unsafe {
            let done = std::slice::from_raw_parts(counters.0.as_ptr().cast::<AtomicU64>(), PROCESSES);
            (Table::create(region.0, region.1, [3, 4], b"key").unwrap(), done)
        };
        let keys = [0, 1, 2].map(|process| (0..1_000).map(|n| key(process, n)).collect::<Vec<_>>());
        let children: Vec<Child> = keys.iter().zip(done).map(|(keys, done)| start(table, keys, done)).collect();

        let mut before = BTreeMap::new();
        for (child, pause_us) in children.into_iter().zip(pauses_us) {
            std::thread::sleep(Duration::from_micros(pause_us));
            drop(child);
            // accounts that were seen once stay, and continue to count
            let now = accounts(&table);
            for (key, (slot, wakeups)) in &before {
                let (slot_now, wakeups_now) = now[key];
                prop_assert!(*slot == slot_now && *wakeups <= wakeups_now);
            }
            before = now;
        }

        let counted: u64 = before.values().map(|&(_, wakeups)| wakeups).sum();
        let done: u64 = done.iter().map(|done| done.load(Relaxed)).sum();
        prop_assert!(counted >= done && counted <= done + PROCESSES as u64, "{counted} counted, {done} done");
        let asked_for = |key: &Vec<u8>| key == b"*" || keys.iter().any(|keys| keys.contains(key));
        prop_assert!(before.keys().all(asked_for));

        // the table can still be used, and each killed process has lost one slot at most
        let mut spare = Spare::default();
        let free = (0u32..).take_while(|n| !table.find_or_insert(&n.to_le_bytes(), &mut spare).overflowed).count();
        let (used, capacity) = (before.len() - 1, table.fill().capacity as usize);
        prop_assert!(used + free <= capacity && used + free + PROCESSES >= capacity, "{used} + {free} of {capacity}");
        for (key, (slot, _)) in before {
            prop_assert_eq!(table.find(&key), Some(slot));
        }
    }
}
