//! Unit and property tests.

use proptest::prelude::*;

use super::*;
use crate::account::Usage;
use crate::limit::Share;
use crate::pending_charges::PendingCharges;
use crate::table::{Slot, Spare, Table};
use crate::testing::{Region, cases};

#[derive(Debug, Clone)]
enum Step {
    Charged(u64),
    NoRequest(u64),
    Loop(u64),
    Other(u64),
    /// a connection, and its CPU
    Pending(usize, u64),
    TakeOver(usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let ns = 0u64..1 << 40;
    prop_oneof![
        ns.clone().prop_map(Step::Charged),
        ns.clone().prop_map(Step::NoRequest),
        ns.clone().prop_map(Step::Loop),
        ns.clone().prop_map(Step::Other),
        (0usize..4, ns).prop_map(|(at, ns)| Step::Pending(at, ns)),
        (0usize..4).prop_map(Step::TakeOver),
        (0usize..4).prop_map(Step::Close),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_lap_is_in_exactly_one_book(steps in prop::collection::vec(step(), 0..100)) {
        let mut totals = WorkerTotals::default();
        let mut pending = [0; 4];
        let mut laps_ns = 0;
        for step in steps {
            let before = totals;
            match step {
                Step::Charged(ns) => { totals.charged_ns += ns; laps_ns += ns }
                Step::NoRequest(ns) => { totals.no_request_ns += ns; laps_ns += ns }
                Step::Loop(ns) => { totals.loop_ns += ns; laps_ns += ns }
                Step::Other(ns) => { totals.other_ns += ns; laps_ns += ns }
                Step::Pending(at, ns) => { totals.pending_ns += ns; pending[at] += ns; laps_ns += ns }
                Step::TakeOver(at) => totals.pending_to_charged(std::mem::take(&mut pending[at])),
                Step::Close(at) => totals.pending_to_no_request(std::mem::take(&mut pending[at])),
            }
            prop_assert_eq!(totals.thread_cpu_ns() + totals.pending_ns, laps_ns);
            prop_assert_eq!(totals.pending_ns, pending.iter().sum::<u64>());
            prop_assert!(totals.charged_ns >= before.charged_ns && totals.no_request_ns >= before.no_request_ns);
            prop_assert!(totals.thread_cpu_ns() >= before.thread_cpu_ns());
        }
    }
}

/// An event of one of several requests.
#[derive(Debug, Clone)]
enum Event {
    Charge(u64),
    ChargePoolThread(u64),
    /// a second has passed
    Flush,
    /// the request ends, and the next one has other accounts
    End([Option<usize>; 2]),
}

/// An account in each of two zones; none if the key is empty or the zone is not used.
fn accounts() -> impl Strategy<Value = [Option<usize>; 2]> {
    prop::array::uniform2(prop::option::of(0usize..3))
}

fn event() -> impl Strategy<Value = Event> {
    let ns = 0u64..1 << 40;
    prop_oneof![
        ns.clone().prop_map(Event::Charge),
        ns.prop_map(Event::ChargePoolThread),
        Just(Event::Flush),
        accounts().prop_map(Event::End),
    ]
}

/// One worker with two zones, and requests with CPU that was not flushed.
struct Model {
    totals: WorkerTotals,
    cpu: CountedCpu,
    zones: [(Table, PendingCharges); 2],
    open: [(u64, [Option<usize>; 2]); 4],
    /// CPU of requests that are in an account of one zone, but not of the other one
    only_ns: [u64; 2],
}

const ACCOUNTS: [&[u8]; 3] = [b"a", b"b", b"c"];

impl Model {
    fn new(regions: &[Region; 2]) -> Model {
        let zones = regions.each_ref().map(|region| (region.table().unwrap(), PendingCharges::default()));
        Model {
            totals: WorkerTotals::default(),
            cpu: CountedCpu::default(),
            zones,
            open: [(0, [None; 2]); 4],
            only_ns: [0; 2],
        }
    }

    fn flush(&mut self, request: usize) {
        let (ns, accounts) = &mut self.open[request];
        let (ns, accounts) = (core::mem::take(ns), *accounts);
        self.cpu.add(ns, accounts.iter().any(Option::is_some));
        for (zone, account) in accounts.iter().enumerate() {
            let Some(account) = *account else { continue };
            let (table, pending) = &mut self.zones[zone];
            let slot = table.find_or_insert(ACCOUNTS[account], &mut Spare::default()).slot;
            let usage = Usage { cpu_ns: ns, ..Usage::default() };
            pending.add(table, 0, slot, Share::Used, &usage);
            self.only_ns[zone] += if accounts[1 - zone].is_none() { ns } else { 0 };
        }
    }

    fn apply(&mut self, request: usize, event: &Event) {
        match *event {
            Event::Charge(ns) => {
                self.totals.charged_ns += ns;
                self.open[request].0 += ns;
            }
            Event::ChargePoolThread(ns) => {
                self.totals.charge_pool_thread(ns);
                self.open[request].0 += ns;
            }
            Event::Flush => self.flush(request),
            Event::End(next) => {
                self.flush(request);
                self.open[request].1 = next;
            }
        }
        self.cpu.show(&mut self.totals);
    }

    /// The CPU of all accounts of a zone.
    fn counted_ns(&mut self, zone: usize) -> u64 {
        let (table, pending) = &mut self.zones[zone];
        pending.flush(table, 0);
        let slots = ACCOUNTS.iter().filter_map(|key| table.find(key));
        slots.chain([Slot::OVERFLOW]).map(|slot| table.account(slot).usage().cpu_ns).sum()
    }

    fn charged_ns(&self) -> u64 {
        self.totals.charged_ns + self.totals.pool_threads_charged_ns
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn charged_cpu_is_in_accounts_or_uncounted_once_all_requests_have_ended(
        events in prop::collection::vec((0usize..4, event()), 0..200),
        killed in any::<bool>(),
    ) {
        let regions = [Region::new(65_536), Region::new(65_536)];
        let mut model = Model::new(&regions);
        for (request, event) in events {
            let before_ns = model.totals.uncounted_ns;
            model.apply(request, &event);
            let uncounted_ns = model.totals.uncounted_ns;
            prop_assert!(uncounted_ns >= before_ns);
            let open_ns: u64 = model.open.iter().map(|(ns, _)| ns).sum();
            let counted_ns = model.counted_ns(0) + model.only_ns[1];
            prop_assert_eq!(counted_ns + uncounted_ns + open_ns, model.charged_ns());
        }
        if killed {
            // a fast shutdown: the CPU of open requests stays with them
            model.cpu.close(&model.totals);
            model.cpu.show(&mut model.totals);
        } else {
            (0..4).for_each(|request| model.apply(request, &Event::Flush));
        }
        for zone in 0..2 {
            let elsewhere_ns = model.only_ns[1 - zone];
            let counted_ns = model.counted_ns(zone);
            prop_assert_eq!(counted_ns + elsewhere_ns + model.totals.uncounted_ns, model.charged_ns());
        }
    }
}

#[test]
fn charged_cpu_of_a_pool_is_a_part_of_its_cpu_and_in_no_sum() {
    let mut totals = WorkerTotals { pool_threads_cpu_ns: 10, charged_ns: 1, ..WorkerTotals::default() };
    totals.charge_pool_thread(7);
    assert_eq!((totals.pool_threads_charged_ns, totals.pool_threads_cpu_ns), (7, 10));
    totals.charge_pool_thread(7);
    assert_eq!((totals.pool_threads_charged_ns, totals.pool_threads_cpu_ns), (14, 14));
    assert_eq!(totals.thread_cpu_ns(), 1);
}

#[test]
fn pending_does_not_fall_below_zero() {
    let mut totals = WorkerTotals { pending_ns: 5, ..WorkerTotals::default() };
    totals.pending_to_charged(7);
    totals.pending_to_no_request(1);
    assert_eq!(totals, WorkerTotals { charged_ns: 7, no_request_ns: 1, ..WorkerTotals::default() });
}
