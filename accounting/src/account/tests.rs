//! Unit and property tests.

use proptest::prelude::*;

use super::*;
use crate::testing::{Region, cases, documented, zeroed};
use crate::window::Cores;

#[test]
fn sizes_are_powers_of_four_of_a_kibibyte_and_include_their_bound() {
    for (n, _) in SIZES.iter().enumerate().take(9) {
        let bound = 1024u64 << (2 * n);
        assert_eq!(size_class(bound), n, "{bound}");
        assert_eq!(size_class(bound + 1), n + 1, "{bound} + 1");
    }
    assert_eq!(size_class(0), 0);
    assert_eq!(size_class(u64::MAX), 9);
}

#[test]
fn histogram_bounds_are_inclusive() {
    assert_eq!(cpu_bucket(0), 0);
    assert_eq!(cpu_bucket(10_000), 0);
    assert_eq!(cpu_bucket(10_001), 1);
    assert_eq!(usize::from(cpu_bucket(u64::MAX)), CPU_BOUNDS_NS.len());
}

#[test]
fn accounts_take_nearly_all_of_a_zone() {
    // the slab allocator of NGINX keeps 24 bytes per page for itself, and its head
    let bytes = 16 * 1024 * 1024 * 98 / 100;
    let region = Region::new(bytes);
    let capacity = region.table().unwrap().fill().capacity as usize;
    assert!(capacity * crate::table::ACCOUNT_BYTES > bytes * 96 / 100, "{capacity} accounts");
}

#[test]
fn an_account_has_the_size_that_the_documentation_says() {
    let bytes = crate::table::ACCOUNT_BYTES;
    let bytes = format!("{},{:03} bytes", bytes / 1000, bytes % 1000);
    documented("sizing.md", &format!("| account of a zone | {bytes};"));
}

#[test]
fn cache_statuses_are_nginx_s() {
    // NGX_HTTP_CACHE_MISS is 1, NGX_HTTP_CACHE_HIT is 7
    assert_eq!(CacheStatus::from_nginx(0), CacheStatus::None);
    assert_eq!(CacheStatus::from_nginx(1), CacheStatus::Miss);
    assert_eq!(CacheStatus::from_nginx(7), CacheStatus::Hit);
    assert_eq!(CacheStatus::from_nginx(8), CacheStatus::None);
    assert_eq!(CacheStatus::from_nginx(usize::MAX), CacheStatus::None);
    for n in 0..8 {
        assert_eq!(CacheStatus::from_nginx(n) as usize, n);
    }
}

#[test]
fn an_untouched_account_says_so() {
    let account = zeroed::<Account>();
    assert!(account.is_untouched(1));
    account.add(0, &Usage::default());
    assert!(account.is_untouched(1));
    account.add(0, &Usage { wakeups: 1, ..Usage::default() });
    assert!(!account.is_untouched(1));
}

#[test]
fn a_request_without_a_status_is_a_request() {
    let account = zeroed::<Account>();
    for status in [0, 99, 200, 499, 599, 600, u64::MAX] {
        account.finish(&Outcome { status, ..outcome(0) });
    }
    let snapshot = account.snapshot(0, 0);
    assert_eq!(snapshot.requests, 7);
    assert_eq!(snapshot.responses, [0, 1, 0, 1, 1]);
    assert_eq!(snapshot.other_responses, 4);
}

fn outcome(cpu_ns: u64) -> Outcome {
    Outcome { status: 200, cache: CacheStatus::None, connection_order: 1, response_bytes: 1, cpu_ns }
}

pub(crate) fn outcomes() -> impl Strategy<Value = Outcome> {
    (0u64..700, 0usize..9, 0u64..9, any::<u64>(), 0u64..70, 0u64..1 << 40).prop_map(
        |(status, cache, connection_order, bytes, shift, cpu_ns)| Outcome {
            status,
            cache: CacheStatus::from_nginx(cache),
            connection_order,
            response_bytes: bytes.checked_shr(shift as u32).unwrap_or(0),
            cpu_ns: cpu_ns.checked_shr(shift as u32).unwrap_or(0),
        },
    )
}

/// Every way to break the requests down must have all of them.
pub(crate) fn add_up(snapshot: &Snapshot, requests: u64, cpu_ns: u64) {
    let all = Count { requests, cpu_ns };
    assert_eq!(snapshot.requests, requests);
    assert_eq!(snapshot.requests_cpu_ns, cpu_ns);
    assert_eq!(snapshot.responses.iter().sum::<u64>() + snapshot.other_responses, requests);
    assert_eq!(Count::sum(&snapshot.by_connection_order), all);
    assert_eq!(Count::sum(&snapshot.by_cache_status), all);
    assert_eq!(Count::sum(&snapshot.by_response_size), all);
    assert_eq!(snapshot.by_request_cpu.iter().sum::<u64>(), requests);
}

#[test]
fn no_count_is_lost_between_threads() {
    let account = zeroed::<Account>();
    let (threads, rounds) = if cfg!(miri) { (2, 10) } else { (4, 5_000) };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let account = &account;
            scope.spawn(move || {
                for n in 0..rounds {
                    account.add(n, &Usage { cpu_ns: 3, wakeups: 2, sent_bytes: 5, received_bytes: 7 });
                    account.finish(&Outcome { connection_order: n + thread, ..outcome(3) });
                }
            });
        }
    });
    let snapshot = account.snapshot(rounds, 0);
    let n = threads * rounds;
    let usage = Usage { cpu_ns: 3 * n, wakeups: 2 * n, sent_bytes: 5 * n, received_bytes: 7 * n };
    assert_eq!(snapshot.usage, usage);
    add_up(&snapshot, n, 3 * n);
}

#[test]
fn every_counter_has_a_name_of_its_own_and_all_of_them_are_restored() {
    let names: std::collections::BTreeSet<String> = counter_names().collect();
    let account = zeroed::<Account>();
    assert_eq!((counter_names().count(), account.rows().into_iter().flatten().count()), (COUNTERS, COUNTERS));
    assert_eq!(names.len(), COUNTERS);
    account.restore(&Totals(core::array::from_fn(|n| n as u64)));
    account.restore(&Totals([1000; COUNTERS]));
    let snapshot = account.snapshot(0, 0);
    let place = |name: &str| 1000 + counter_names().position(|n| n == name).unwrap() as u64;
    assert_eq!(snapshot.usage.received_bytes, place("received_bytes"));
    assert_eq!(snapshot.responses[4], place("responses.5xx"));
    assert_eq!(snapshot.other_responses, place("responses.other"));
    assert_eq!(snapshot.by_request_cpu[1], place("by_request_cpu.20000.requests"));
    assert_eq!(snapshot.by_request_cpu[19], place("by_request_cpu.inf.requests"));
    assert_eq!(snapshot.by_connection_order[3].cpu_ns, place("by_connection_order.4+.cpu_ns"));
    assert_eq!(snapshot.by_cache_status[7].requests, place("by_cache_status.HIT.requests"));
    assert_eq!(snapshot.by_response_size[9].cpu_ns, place("by_response_size.inf.cpu_ns"));
    assert_eq!(snapshot.cores, Cores::default(), "what is restored was not used just now");
    assert_eq!(
        account.totals().requests(),
        snapshot.responses.iter().sum::<u64>() + snapshot.other_responses
    );
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn all_breakdowns_have_all_requests(outcomes in prop::collection::vec(outcomes(), 0..50)) {
        let account = zeroed::<Account>();
        for outcome in &outcomes {
            account.finish(outcome);
        }
        let cpu_ns = outcomes.iter().map(|outcome| outcome.cpu_ns).sum();
        add_up(&account.snapshot(0, 0), outcomes.len() as u64, cpu_ns);
    }

    #[test]
    fn read_counters_are_the_added_ones(
        usages in prop::collection::vec((0u64..1 << 38, 0u64..9, 0u64..1 << 40, 0u64..1 << 40), 0..50),
    ) {
        let account = zeroed::<Account>();
        let mut sum = Usage::default();
        for (cpu_ns, wakeups, sent_bytes, received_bytes) in usages {
            let usage = Usage { cpu_ns, wakeups, sent_bytes, received_bytes };
            account.add(5_000, &usage);
            sum = sum.plus(&usage);
        }
        let snapshot = account.snapshot(5_000, 0);
        prop_assert_eq!(snapshot.usage, sum);
        prop_assert_eq!(snapshot.requests, 0);
        prop_assert!((snapshot.cores.ten_seconds * 1e10 - sum.cpu_ns as f64).abs() <= 1.0);
    }

    #[test]
    fn a_difference_and_what_it_was_taken_from_add_up(a: [u32; 4], b: [u32; 4]) {
        let usage = |f: [u32; 4]| {
            let [cpu_ns, wakeups, sent_bytes, received_bytes] = f.map(u64::from);
            Usage { cpu_ns, wakeups, sent_bytes, received_bytes }
        };
        let (a, b) = (usage(a), usage(b));
        prop_assert_eq!(b.plus(&a.plus(&b).since(&b)), a.plus(&b));
        prop_assert_eq!(a.since(&a), Usage::default());
    }

    #[test]
    fn a_class_of_sizes_holds_its_sizes(bytes: u64, shift in 0u32..64) {
        let bytes = bytes >> shift;
        let class = size_class(bytes);
        let bound = |n: usize| 1024u64 << (2 * n);
        prop_assert!(class == 9 || bytes <= bound(class));
        prop_assert!(class == 0 || bytes > bound(class - 1));
    }

    #[test]
    fn a_bucket_of_cpu_holds_its_requests(ns: u64, shift in 0u32..64) {
        let ns = ns >> shift;
        let bucket = usize::from(cpu_bucket(ns));
        prop_assert!(CPU_BOUNDS_NS.get(bucket).is_none_or(|&bound| ns <= bound));
        prop_assert!(bucket == 0 || ns > CPU_BOUNDS_NS[bucket - 1]);
    }
}
