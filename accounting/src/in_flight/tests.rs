//! Unit and property tests.

use proptest::prelude::*;

use super::*;
use crate::table::Spare;
use crate::testing::{Region, cases, killed_after, process};

fn table_with(region: &Region, accounts: usize) -> (Table, Vec<Slot>) {
    let table = region.table().unwrap();
    let mut spare = Spare::default();
    let slots = (0..accounts).map(|n| table.find_or_insert(&[n as u8], &mut spare).slot).collect();
    (table, slots)
}

fn worker(pid: usize) -> InFlight {
    InFlight::new(Some(process(pid as u32)))
}

fn read(table: &Table, slot: Slot) -> u32 {
    table.account(slot).in_flight().read(table.epoch())
}

#[test]
fn requests_of_a_killed_worker_are_gone_when_the_others_have_followed() {
    let region = Region::new(65_536);
    let (table, slots) = table_with(&region, 1);
    let (mut killed, mut living) = (worker(1), worker(2));
    killed.enter(&table, slots[0], &Span::default());
    killed.enter(&table, slots[0], &Span::default());
    living.enter(&table, slots[0], &Span::default());
    assert_eq!(read(&table, slots[0]), 3);
    table.next_epoch(0);
    living.follow(&table, 0);
    living.follow(&table, 0);
    assert_eq!(read(&table, slots[0]), 1);
}

#[test]
fn a_request_that_did_not_enter_does_not_leave() {
    let region = Region::new(65_536);
    let (table, slots) = table_with(&region, 1);
    let (mut one, mut other) = (worker(1), worker(2));
    one.enter(&table, slots[0], &Span::default());
    other.leave(&table, slots[0], 0, 0);
    other.leave(&table, Slot::OVERFLOW, 0, 0);
    assert_eq!(read(&table, slots[0]), 1);
}

#[test]
fn a_worker_that_has_not_seen_the_new_epoch_changes_nothing_of_it() {
    let region = Region::new(65_536);
    let (table, slots) = table_with(&region, 1);
    let gauge = table.account(slots[0]).in_flight();
    gauge.update(7, |n| n + 5);
    gauge.update(6, |n| n + 1);
    assert_eq!((gauge.read(7), gauge.read(6)), (5, 0));
    // also when the number of the epoch wraps around
    let gauge = table.account(Slot::OVERFLOW).in_flight();
    gauge.update(u32::MAX, |n| n + 5);
    gauge.update(1, |n| n + 1);
    gauge.update(u32::MAX, |n| n + 1);
    assert_eq!(gauge.read(1), 1);
}

#[test]
fn threads_leave_nothing_behind() {
    let region = Region::new(65_536);
    let (table, slots) = table_with(&region, 3);
    let (threads, rounds) = if cfg!(miri) { (2, 5) } else { (4, 3_000) };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let slots = &slots;
            scope.spawn(move || {
                let mut worker = worker(thread + 1);
                for n in 0..rounds {
                    let slot = slots[(n + thread) % slots.len()];
                    worker.enter(&table, slot, &Span::default());
                    if n % 100 == 0 {
                        table.next_epoch(0);
                    }
                    worker.leave(&table, slot, 0, 0);
                }
                worker.enter(&table, slots[0], &Span::default());
            });
        }
    });
    // an epoch may have ended after a finished thread, which did not follow it any more
    assert!(read(&table, slots[0]) <= threads as u32);
    assert_eq!(read(&table, slots[1]), 0);
    assert_eq!(read(&table, slots[2]), 0);
}

/// Tables of a worker of this configuration, of a worker of an older one, and of a worker of another binary.
const TABLES: usize = 3;

/// The work of a worker in its tables: it looks for dead workers, as at its start and each second, and has requests
/// in flight.
fn life(tables: &[Table], slots: &[Vec<Slot>], pid: u32, gone: &[u32], now_ms: u64) {
    let mut flights: Vec<InFlight> = tables.iter().map(|_| worker(pid as usize)).collect();
    let span = at(now_ms);
    for turn in 0..2 {
        for ((table, slots), flight) in tables.iter().zip(slots).zip(&mut flights) {
            table.reap(now_ms, |id| !gone.contains(&id.pid()));
            flight.stay_registered(table, now_ms * MS);
            for &slot in &slots[turn..] {
                flight.enter(table, slot, &span);
            }
            flight.leave(table, slots[turn], now_ms * MS, 0);
        }
    }
    for (table, flight) in tables.iter().zip(&mut flights) {
        flight.pass(table, now_ms * MS, |_, _| {});
        flight.release(table);
    }
}

#[test]
fn whenever_workers_are_killed_nothing_stays_in_flight() {
    let regions: Vec<Region> = (0..TABLES).map(|_| Region::new(16_384)).collect();
    let (mut kills, mut now_ms) = (0, 1_000_000);
    let most = if cfg!(miri) { 3 } else { u32::MAX };
    for first in 0..most {
        let mut was_killed = true;
        for second in (0..most).step_by(2) {
            let (tables, slots): (Vec<Table>, Vec<Vec<Slot>>) =
                regions.iter().map(|region| table_with(region, 2)).unzip();
            // a living worker that knows the first table only
            let mut living = worker(1);
            living.enter(&tables[0], slots[0][0], &at(now_ms));
            // the second worker finds the first one dead, and may be killed while it reaps
            was_killed = killed_after(first, || life(&tables, &slots, 2, &[], now_ms));
            let again = killed_after(second, || life(&tables[1..], &slots[1..], 3, &[2], now_ms + 10));
            kills += u32::from(was_killed) + u32::from(again);
            for table in &tables {
                table.reap(now_ms + 20, |id| id.pid() == 1);
            }
            living.stay_registered(&tables[0], (now_ms + 20) * MS);
            for (table, slots) in tables.iter().zip(&slots) {
                for &slot in slots {
                    let is_living = slot == slots[0] && core::ptr::eq(table, &tables[0]);
                    assert_eq!(read(table, slot), u32::from(is_living), "{first} {second}");
                    let active_ms = |at_ms: u64| {
                        table.refresh(slot, at_ms);
                        table.account(slot).billing().read().active_ms
                    };
                    let (before_ms, after_ms) = (active_ms(now_ms + 21), active_ms(now_ms + 921));
                    assert_eq!(after_ms - before_ms, if is_living { 900 } else { 0 }, "{first} {second}");
                }
                let all: Vec<ProcessSlot> =
                    (0..128).map_while(|n| table.register().acquire(process(1_000 + n))).collect();
                let taken = usize::from(core::ptr::eq(table, &tables[0]));
                assert_eq!(all.len() + taken, 128, "a place is taken for ever");
            }
            now_ms += 1_000;
            if !again {
                break;
            }
        }
        if !was_killed {
            break;
        }
    }
    assert!(kills > if cfg!(miri) { 3 } else { 400 }, "{kills}");
}

#[test]
fn of_many_that_are_dead_none_stays() {
    let region = Region::new(16_384);
    let (table, slots) = table_with(&region, 1);
    for pid in 1..=128 {
        worker(pid).enter(&table, slots[0], &at(1_000));
    }
    assert_eq!(read(&table, slots[0]), 128);
    assert_eq!(table.reap(1_001, |id| id.pid() == 100), 127);
    worker(129).enter(&table, slots[0], &at(1_000));
    assert_eq!(read(&table, slots[0]), 1);
    assert_eq!(table.reap(1_002, |_| false), 2);
    assert_eq!(read(&table, slots[0]), 0);
}

#[test]
fn a_worker_for_which_a_table_has_no_room_is_in_flight_as_soon_as_it_has() {
    let region = Region::new(16_384);
    let (table, slots) = table_with(&region, 1);
    let others: Vec<ProcessSlot> =
        (0..128).map_while(|n| table.register().acquire(process(100 + n))).collect();
    let mut late = worker(1);
    late.enter(&table, slots[0], &at(1_000));
    late.enter(&table, slots[0], &at(1_000));
    assert!(!late.is_registered());
    assert_eq!(read(&table, slots[0]), 0);
    late.leave(&table, slots[0], 1_001 * MS, 0);
    table.register().release(others[7], process(107));
    late.stay_registered(&table, 1_002 * MS);
    assert!(late.is_registered());
    assert_eq!(read(&table, slots[0]), 1);
    late.leave(&table, slots[0], 1_003 * MS, 0);
    assert_eq!(read(&table, slots[0]), 0);
}

#[test]
fn a_worker_that_was_taken_for_dead_is_in_flight_again_and_can_be_found_dead() {
    let region = Region::new(16_384);
    let (table, slots) = table_with(&region, 1);
    let mut mistaken = worker(1);
    mistaken.enter(&table, slots[0], &at(1_000));
    assert_eq!(table.reap(1_001, |_| false), 1);
    assert_eq!(read(&table, slots[0]), 0);
    mistaken.stay_registered(&table, 1_002 * MS);
    assert_eq!(read(&table, slots[0]), 1);
    assert_eq!(table.reap(1_003, |_| false), 1);
    assert_eq!(read(&table, slots[0]), 0);
}

#[test]
fn a_process_that_is_not_known_is_in_no_gauge() {
    let region = Region::new(16_384);
    let (table, slots) = table_with(&region, 1);
    let mut unknown = InFlight::new(None);
    unknown.enter(&table, slots[0], &at(1_000));
    assert_eq!(read(&table, slots[0]), 0);
    unknown.leave(&table, slots[0], 1_500 * MS, 1_000);
    assert_eq!(read(&table, slots[0]), 0);
    unknown.release(&table);
}

#[test]
fn a_wrong_time_does_not_stop_the_time_of_open_requests() {
    let region = Region::new(16_384);
    let (table, slots) = table_with(&region, 1);
    let mut flight = worker(1);
    flight.enter(&table, slots[0], &at(1_000));
    flight.pass(&table, 10_000_000 * MS, |_, _| {});
    flight.pass(&table, 2_000 * MS, |_, held| assert_eq!(*held, Held::default()));
    let mut told = Held::default();
    flight.pass(&table, 3_000 * MS, |_, held| told = *held);
    assert_eq!(told, Held::new(1, 1_000, 1_000 * MS));
}

#[derive(Debug, Clone)]
enum Step {
    Enter(usize, usize),
    Leave(usize, usize),
    /// a worker is killed; a new one takes its place and notices
    Kill(usize),
    Follow(usize),
}

const WORKERS: usize = 3;
const ACCOUNTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let both = (0..WORKERS, 0..ACCOUNTS);
    prop_oneof![
        4 => both.clone().prop_map(|(worker, account)| Step::Enter(worker, account)),
        3 => both.prop_map(|(worker, account)| Step::Leave(worker, account)),
        1 => (0..WORKERS).prop_map(Step::Kill),
        1 => (0..WORKERS).prop_map(Step::Follow),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_gauge_counts_requests_of_living_workers_after_each_has_followed(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let region = Region::new(65_536);
        let (table, slots) = table_with(&region, ACCOUNTS);
        let mut workers: [InFlight; WORKERS] = core::array::from_fn(|at| worker(at + 1));
        let mut open = [[0u32; ACCOUNTS]; WORKERS];
        let mut pid = WORKERS;
        for step in steps {
            match step {
                Step::Enter(worker, account) => {
                    workers[worker].enter(&table, slots[account], &Span::default());
                    open[worker][account] += 1;
                }
                Step::Leave(worker, account) => {
                    workers[worker].leave(&table, slots[account], 0, 0);
                    open[worker][account] = open[worker][account].saturating_sub(1);
                }
                Step::Kill(worker) => {
                    let killed = workers[worker].process;
                    pid += 1;
                    workers[worker] = self::worker(pid);
                    open[worker] = [0; ACCOUNTS];
                    table.reap(0, |id| Some(id) != killed);
                }
                Step::Follow(worker) => workers[worker].follow(&table, 0),
            }
            // the gauge never shows more requests than there are
            for account in 0..ACCOUNTS {
                let sum: u32 = open.iter().map(|open| open[account]).sum();
                prop_assert!(read(&table, slots[account]) <= sum);
            }
        }
        for worker in &mut workers {
            worker.follow(&table, 0);
        }
        for account in 0..ACCOUNTS {
            let sum: u32 = open.iter().map(|open| open[account]).sum();
            prop_assert_eq!(read(&table, slots[account]), sum);
        }
    }
}

const MS: u64 = 1_000_000;

fn at(ms: u64) -> Span {
    Span { from_ns: ms * MS, to_ns: ms * MS, bytes: 1_000 }
}

#[test]
fn open_requests_hold_memory_for_as_long_as_they_are_open() {
    let region = Region::new(65_536);
    let (table, slots) = table_with(&region, 2);
    let mut worker = worker(1);
    let began = Span { from_ns: 500 * MS, to_ns: 1_000 * MS, bytes: 2_000 };
    assert_eq!(worker.enter(&table, slots[0], &began), Held::new(1, 2_000, 500 * MS));
    worker.enter(&table, slots[1], &at(1_100));
    let held = worker.enter(&table, slots[0], &at(1_200));
    assert_eq!(held, Held::new(1, 2_000, 200 * MS));
    assert_eq!(worker.resize(slots[0], 1_300 * MS, 2_000, 5_000), Held::new(2, 3_000, 100 * MS));
    let mut told = Vec::new();
    worker.pass(&table, 1_400 * MS, |slot, held| told.push((slot, *held)));
    let expected = [(slots[0], Held::new(2, 6_000, 100 * MS)), (slots[1], Held::new(1, 1_000, 300 * MS))];
    assert_eq!(told, expected);
    assert_eq!(worker.leave(&table, slots[0], 1_500 * MS, 5_000), Held::new(2, 6_000, 100 * MS));
    // a clock that is a little late takes nothing back
    assert_eq!(worker.leave(&table, slots[0], 1_499 * MS, 1_000), Held::default());
    assert_eq!(worker.leave(&table, slots[0], 1_600 * MS, 1_000), Held::default(), "none is open");
    assert_eq!(worker.leave(&table, slots[1], 1_600 * MS, 1_000), Held::new(1, 1_000, 200 * MS));
    assert_eq!(table.account(slots[0]).billing().read().active_ms, 1_001);
    assert_eq!(table.account(slots[1]).billing().read().active_ms, 501);
    assert!(worker.open.is_empty() && worker.places.iter().all(|&place| place == 0));
}

#[derive(Debug, Clone)]
enum Event {
    Wait(u64),
    Enter(usize, usize),
    Leave(usize, usize),
    Kill(usize),
    Notice,
    Read(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let both = (0..WORKERS, 0..ACCOUNTS);
    prop_oneof![
        6 => (0u64..400).prop_map(Event::Wait),
        4 => both.clone().prop_map(|(worker, account)| Event::Enter(worker, account)),
        3 => both.prop_map(|(worker, account)| Event::Leave(worker, account)),
        1 => (0..WORKERS).prop_map(Event::Kill),
        2 => Just(Event::Notice),
        2 => (0..ACCOUNTS).prop_map(Event::Read),
    ]
}

/// Workers, and the active milliseconds of their accounts as a plain list.
struct Model {
    now_ms: u64,
    passed_ms: u64,
    workers: [InFlight; WORKERS],
    open: [[u32; ACCOUNTS]; WORKERS],
    active: [std::collections::BTreeSet<u64>; ACCOUNTS],
    /// killed workers whose death nobody has noticed yet
    killed: Vec<Option<ProcessId>>,
    killed_ms: Vec<u64>,
    /// so many milliseconds may be too many, or too few
    over_ms: u64,
    under_ms: u64,
}

impl Model {
    fn mark(&mut self) {
        for account in 0..ACCOUNTS {
            if self.open.iter().any(|open| open[account] != 0) {
                self.active[account].insert(self.now_ms);
            }
        }
    }

    fn wait(&mut self, table: &Table, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            self.mark();
        }
        if self.now_ms - self.passed_ms >= 600 {
            self.passed_ms = self.now_ms;
            self.workers.iter_mut().for_each(|worker| worker.pass(table, self.now_ms * MS, |_, _| {}));
        }
    }

    fn notice(&mut self, table: &Table) {
        if !self.killed_ms.is_empty() {
            table.reap(self.now_ms, |id| !self.killed.contains(&Some(id)));
            for ms in self.killed_ms.drain(..) {
                self.over_ms += self.now_ms - ms + 1;
                self.under_ms += 1_000;
            }
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn active_time_is_that_of_open_requests_but_for_workers_that_are_killed(
        start_ms in 1_000u64..1 << 40,
        events in prop::collection::vec(event(), 0..if cfg!(miri) { 12 } else { 120 }),
    ) {
        let region = Region::new(65_536);
        let (table, slots) = table_with(&region, ACCOUNTS);
        let mut model = Model {
            now_ms: start_ms,
            passed_ms: start_ms,
            workers: core::array::from_fn(|at| worker(at + 1)),
            open: Default::default(),
            active: Default::default(),
            killed: Vec::new(),
            killed_ms: Vec::new(),
            over_ms: 0,
            under_ms: 0,
        };
        let mut last = [0; ACCOUNTS];
        for event in events.into_iter().chain([Event::Notice]) {
            let now_ns = model.now_ms * MS;
            match event {
                Event::Wait(ms) => model.wait(&table, ms),
                Event::Enter(worker, account) => {
                    model.workers[worker].enter(&table, slots[account], &at(model.now_ms));
                    model.open[worker][account] += 1;
                    model.mark();
                }
                Event::Leave(worker, account) => {
                    model.workers[worker].leave(&table, slots[account], now_ns, 1_000);
                    model.open[worker][account] = model.open[worker][account].saturating_sub(1);
                }
                Event::Kill(worker) => {
                    let killed = &mut model.workers[worker];
                    let pid = killed.process.unwrap().pid() as usize + WORKERS;
                    model.killed.push(core::mem::replace(killed, self::worker(pid)).process);
                    model.open[worker] = [0; ACCOUNTS];
                    model.killed_ms.push(model.now_ms);
                }
                Event::Notice => model.notice(&table),
                Event::Read(account) => table.refresh(slots[account], model.now_ms),
            }
            for (account, &slot) in slots.iter().enumerate() {
                let active_ms = table.account(slot).billing().read().active_ms;
                prop_assert!(active_ms >= last[account]);
                last[account] = active_ms;
                let unnoticed_ms: u64 = model.killed_ms.iter().map(|ms| model.now_ms - ms + 1).sum();
                let most_ms = model.active[account].len() as u64 + model.over_ms + unnoticed_ms;
                prop_assert!(active_ms <= most_ms, "{} {}", active_ms, most_ms);
            }
        }
        model.workers.iter_mut().for_each(|worker| worker.pass(&table, model.now_ms * MS, |_, _| {}));
        for (account, &slot) in slots.iter().enumerate() {
            let active_ms = table.account(slot).billing().read().active_ms;
            let least_ms = (model.active[account].len() as u64).saturating_sub(model.under_ms);
            prop_assert!(active_ms >= least_ms, "{} {}", active_ms, least_ms);
        }
    }
}
