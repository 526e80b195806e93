//! Unit and property tests.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::testing::{Region, cases, killed_after, process};

fn new(region: &Region) -> Workers {
    // SAFETY: the region is aligned, ours, and large enough; it outlives what the tests do with it.
    unsafe { Workers::create(region.base()) }
}

fn totals(n: u64) -> WorkerTotals {
    WorkerTotals {
        wakeups: n,
        charged_ns: n,
        no_request_ns: n,
        loop_ns: n,
        other_ns: n,
        pending_ns: n,
        pool_threads_cpu_ns: n,
        clock_readings: n,
        pool_threads_charged_ns: n,
        uncounted_ns: n,
    }
}

/// The worker totals that remain after their process has ended.
fn retired(n: u64) -> WorkerTotals {
    WorkerTotals { pending_ns: 0, no_request_ns: 2 * n, ..totals(n) }
}

#[test]
fn a_region_that_holds_something_else_is_refused() {
    let region = Region::new(BYTES);
    // SAFETY: the region is aligned, ours, and large enough.
    assert_eq!(unsafe { Workers::open(region.base()) }.err(), Some(Error::Foreign));
    let slot = new(&region).acquire(0, process(1)).unwrap();
    // SAFETY: as above.
    let opened = unsafe { Workers::open(region.base()) }.unwrap();
    opened.publish(slot, &totals(5));
    assert_eq!(opened.living(), [Worker { worker: 0, pid: 1, totals: totals(5) }]);
}

#[test]
fn totals_of_a_worker_that_exits_stay_in_its_sums() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let slot = workers.acquire(3, process(100)).unwrap();
    workers.publish(slot, &totals(7));
    assert_eq!(workers.totals(), [(3, totals(7))]);
    workers.release(slot);
    assert_eq!(workers.living(), []);
    assert_eq!(workers.totals(), [(3, retired(7))]);
}

#[test]
fn the_next_process_of_a_worker_starts_from_zero_and_its_sums_go_on() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    workers.publish(workers.acquire(0, process(100)).unwrap(), &totals(7));
    assert_eq!(workers.reap(process(1), |id| id.pid() != 100), 1);
    assert_eq!(workers.reap(process(1), |id| id.pid() != 100), 0);
    let slot = workers.acquire(0, process(101)).unwrap();
    assert_eq!(workers.living(), [Worker { worker: 0, pid: 101, totals: WorkerTotals::default() }]);
    assert_eq!(workers.totals(), [(0, retired(7))]);
    workers.publish(slot, &totals(1));
    assert_eq!(workers.living(), [Worker { worker: 0, pid: 101, totals: totals(1) }]);
    let expected = WorkerTotals { pending_ns: 1, no_request_ns: 15, ..totals(8) };
    assert_eq!(workers.totals(), [(0, expected)]);
}

#[test]
fn after_a_reload_two_processes_have_the_same_number() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let old = workers.acquire(0, process(100)).unwrap();
    let new = workers.acquire(0, process(101)).unwrap();
    workers.publish(old, &totals(5));
    workers.publish(new, &totals(2));
    assert_eq!(workers.living().iter().map(|w| (w.worker, w.pid)).collect::<Vec<_>>(), [(0, 100), (0, 101)]);
    assert_eq!(workers.totals(), [(0, totals(7))]);
}

#[test]
fn a_process_that_was_taken_for_dead_does_not_disturb_its_successor() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let mistaken = workers.acquire(0, process(100)).unwrap();
    workers.publish(mistaken, &totals(9));
    workers.reap(process(1), |_| false);
    let slot = workers.acquire(0, process(101)).unwrap();
    workers.publish(slot, &totals(1));
    workers.publish(mistaken, &totals(2));
    workers.release(mistaken);
    assert_eq!(workers.living(), [Worker { worker: 0, pid: 101, totals: totals(1) }]);
}

#[test]
fn slots_can_all_be_taken_and_come_free_again_for_the_same_number() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let slots: Vec<WorkerSlot> =
        (0..SLOTS as u32).map(|n| workers.acquire(n / 2, process(1000 + n)).unwrap()).collect();
    assert!(workers.acquire(0, process(1)).is_none());
    assert_eq!(workers.living().len(), SLOTS);
    workers.release(slots[5]);
    assert!(workers.acquire(3, process(1)).is_none(), "its sums are worker 2's");
    assert!(workers.acquire(2, process(1)).is_some());
    assert!(workers.acquire(u32::MAX, process(1)).is_none());
}

#[test]
fn a_worker_killed_while_it_publishes_shows_its_totals_of_before() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let slot = workers.acquire(0, process(100)).unwrap();
    workers.publish(slot, &totals(1));
    let place = &workers.processes()[slot.at];
    // as far as `publish` came
    let next = place.sequence.load(Relaxed) + 1;
    place.sums[next as usize & 1][1].store(2, Relaxed);
    assert_eq!(workers.living(), [Worker { worker: 0, pid: 100, totals: totals(1) }]);
    assert_eq!(workers.reap(process(1), |_| false), 1);
    assert_eq!(workers.totals(), [(0, retired(1))]);
    let slot = workers.acquire(0, process(101)).unwrap();
    workers.publish(slot, &totals(4));
    assert_eq!(workers.living()[0].totals, totals(4));
}

#[test]
fn a_reader_that_was_overtaken_looks_again() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let slot = workers.acquire(0, process(100)).unwrap();
    workers.publish(slot, &totals(1));
    let place = &workers.processes()[slot.at];
    let sequence = place.sequence.load(Relaxed);
    assert_eq!(place.try_read(0, sequence).unwrap().sums, [1; FIELDS]);
    workers.publish(slot, &totals(2));
    // its copy is the one that is written next
    assert!(place.try_read(0, sequence).is_none());
    workers.publish(slot, &totals(3));
    assert!(place.try_read(0, sequence).is_none());
    assert_eq!(place.read().unwrap().sums, [3; FIELDS]);
}

#[test]
fn a_slot_of_a_worker_that_was_killed_while_it_changed_hands_is_free_again() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let slot = workers.acquire(0, process(100)).unwrap();
    workers.publish(slot, &totals(1));
    workers.processes()[slot.at].holder.store(Holder::Changes(process(102)).word(), Relaxed);
    assert_eq!(workers.living(), []);
    assert_eq!(workers.reap(process(1), |id| id.pid() == 102), 0, "it goes on");
    let next = workers.acquire(0, process(101)).unwrap();
    assert_ne!(next.at, slot.at);
    assert_eq!(workers.reap(process(1), |id| id.pid() != 102), 1);
    assert_eq!(workers.acquire(0, process(103)).unwrap().at, slot.at);
    assert_eq!(workers.totals(), [(0, retired(1))]);
}

/// The work of a worker from start to end, without requests.
fn life(workers: &Workers, own: ProcessId, gone: &[ProcessId]) {
    workers.reap(own, |id| !gone.contains(&id));
    let slot = workers.acquire(0, own).unwrap();
    for n in 1..=2 {
        workers.publish(slot, &totals(n));
    }
    workers.reap(own, |id| !gone.contains(&id));
    workers.release(slot);
}

#[test]
fn whenever_workers_are_killed_their_slots_are_free_again_and_sums_do_not_fall() {
    let region = Region::new(BYTES);
    let mut kills = 0;
    // one after the other, each killed while it cleans up after the one before
    let most = if cfg!(miri) { 4 } else { u32::MAX };
    for first in (0..most).step_by(1) {
        for second in (0..most).step_by(3) {
            let workers = new(&region);
            let old = workers.acquire(0, process(99)).unwrap();
            workers.publish(old, &totals(5));
            let mut gone = vec![process(99)];
            let mut was_killed = [false; 2];
            for (was_killed, (pid, writes)) in was_killed.iter_mut().zip([(100, first), (101, second)]) {
                let total = workers.totals()[0].1.charged_ns;
                *was_killed = killed_after(writes, || life(&workers, process(pid), &gone));
                kills += u32::from(*was_killed);
                gone.push(process(pid));
                assert!(workers.totals()[0].1.charged_ns >= total);
            }
            let counted = workers.totals()[0].1.charged_ns;
            assert!((5..=9).contains(&counted), "{counted}");
            workers.reap(process(1), |id| !gone.contains(&id));
            assert_eq!(workers.totals(), [(0, retired(counted))]);
            let used: Vec<&Process> =
                workers.processes().iter().filter(|p| p.worker.load(Relaxed) != 0).collect();
            assert!(used.iter().all(|p| p.holder.load(Relaxed) == 0), "a slot is not free");
            assert!(used.len() <= 2, "{} slots", used.len());
            if !was_killed[1] {
                break;
            }
        }
        if !killed_after(first, || life(&new(&region), process(100), &[])) {
            break;
        }
    }
    assert!(kills > if cfg!(miri) { 4 } else { 1_000 }, "{kills}");
}

#[test]
fn a_reader_sees_all_fields_of_the_same_instant_and_sums_never_fall() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let (processes, publications) = if cfg!(miri) { (2, 4) } else { (300, 300) };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for pid in 1..=processes {
                let slot = workers.acquire(0, process(pid)).unwrap();
                for n in 1..=publications {
                    workers.publish(slot, &totals(n));
                }
                if pid % 2 == 0 {
                    workers.release(slot)
                } else {
                    assert_eq!(workers.reap(process(1), |_| false), 1)
                }
            }
            done.store(true, Relaxed);
        });
        let mut last = WorkerTotals::default();
        let mut is_over = false;
        while !is_over {
            // once more after the last one
            is_over = done.load(Relaxed);
            for worker in workers.living() {
                assert_eq!(worker.totals, totals(worker.totals.wakeups), "torn");
            }
            for (_, total) in workers.totals() {
                // pending moves to no_request; nothing else changes
                let decided = WorkerTotals { pending_ns: 0, no_request_ns: total.charged_ns, ..total };
                assert_eq!(decided, WorkerTotals { pending_ns: 0, ..totals(total.wakeups) }, "torn");
                assert!(total.no_request_ns + total.pending_ns <= 2 * total.charged_ns, "torn");
                let now = to_fields(&total);
                let fell = to_fields(&last).iter().zip(now).position(|(&before, now)| now < before);
                assert!(fell.is_none_or(|at| at == PENDING), "{last:?} {total:?}");
                last = total;
            }
        }
    });
    let sum = u64::from(processes) * publications;
    assert_eq!(workers.totals(), [(0, retired(sum))]);
}

#[test]
fn processes_that_begin_at_once_get_different_slots() {
    let region = Region::new(BYTES);
    let workers = new(&region);
    let (threads, rounds) = if cfg!(miri) { (2, 2) } else { (4, 200) };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for n in 1..=rounds {
                    let pid = thread * 10_000 + n;
                    let slot = workers.acquire(thread % 2, process(pid)).unwrap();
                    workers.publish(slot, &totals(1));
                    assert!(workers.living().iter().any(|w| w.pid == pid && w.totals == totals(1)));
                    workers.release(slot);
                }
            });
        }
    });
    let each = u64::from(threads / 2 * rounds);
    assert_eq!(workers.totals(), [(0, retired(each)), (1, retired(each))]);
    let used = workers.processes().iter().filter(|p| p.worker.load(Relaxed) != 0).count();
    assert!(used <= 2 * threads as usize, "{used} slots for {threads} processes at a time");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn sums_are_the_counts_of_all_processes(
        steps in prop::collection::vec((0u32..3, 0u8..4, 1u64..1 << 40), 1..40),
    ) {
        let region = Region::new(BYTES);
        let workers = new(&region);
        let mut slots = [None; 3];
        let mut counted = [0u64; 3];
        for (at, (number, step, ns)) in steps.into_iter().enumerate() {
            let n = number as usize;
            match (step, slots[n]) {
                (0 | 1, None) => slots[n] = Some((workers.acquire(number, process(100 + at as u32)).unwrap(), 0)),
                (0 | 1, Some((slot, ns_before))) => {
                    let totals = WorkerTotals { charged_ns: ns_before + ns, ..WorkerTotals::default() };
                    workers.publish(slot, &totals);
                    counted[n] += ns;
                    slots[n] = Some((slot, ns_before + ns));
                }
                (2, Some((slot, _))) => { workers.release(slot); slots[n] = None }
                (3, Some((slot, _))) => {
                    prop_assert_eq!(workers.reap(process(1), |id| id != slot.process), 1);
                    slots[n] = None;
                }
                _ => {}
            }
            let living: Vec<_> = workers.living().iter().map(|w| (w.worker, w.totals.charged_ns)).collect();
            let expected: Vec<_> =
                (0..3).filter_map(|n| slots[n as usize].map(|(_, charged_ns)| (n, charged_ns))).collect();
            prop_assert_eq!(living, expected);
            for (worker, total) in workers.totals() {
                prop_assert_eq!(total.charged_ns, counted[worker as usize]);
            }
        }
    }
}
