//! What the module does for a request, piece by piece: readings of clocks, laps, and what goes into an account.
//!
//! The clocks are those of this machine; a virtual one may differ from the metal below it by a factor.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::hint::black_box;
use std::ptr::NonNull;
use std::time::Duration;

use accounting::account::{Account, CacheStatus, Outcome, Usage};
use accounting::meter::{Clock, Meter};
use accounting::table::{Spare, Table};
use criterion::{Criterion, criterion_group, criterion_main};
use request_cpu_accounting as accounting;

/// A clock of the kernel's.
#[derive(Debug, Clone, Copy)]
struct Kernel(libc::clockid_t);

const THREAD: Kernel = Kernel(libc::CLOCK_THREAD_CPUTIME_ID);
const MONOTONIC: Kernel = Kernel(libc::CLOCK_MONOTONIC);

impl Clock for Kernel {
    #[inline]
    fn cpu_ns(&self) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one `timespec`.
        unsafe { libc::clock_gettime(self.0, &raw mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

fn readings(c: &mut Criterion) {
    let mut group = c.benchmark_group("reading");
    group.bench_function("CLOCK_THREAD_CPUTIME_ID", |b| b.iter(|| THREAD.cpu_ns()));
    group.bench_function("CLOCK_MONOTONIC", |b| b.iter(|| MONOTONIC.cpu_ns()));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a counter; every x86-64 has it.
    group.bench_function("rdtsc", |b| b.iter(|| unsafe { core::arch::x86_64::_rdtsc() }));
    group.finish();
}

fn laps(c: &mut Criterion) {
    let mut group = c.benchmark_group("lap");
    for (name, clock) in [("thread", THREAD), ("monotonic", MONOTONIC)] {
        let mut meter = Meter::start(clock);
        group.bench_function(name, |b| b.iter(|| meter.lap()));
    }
    group.finish();
}

/// An empty table with room for some 13,000 accounts; its memory is not given back.
fn table() -> Option<Table> {
    let layout = Layout::from_size_align(16 << 20, 64).ok()?;
    // SAFETY: the layout is not empty.
    let Some(base) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
    // SAFETY: it is aligned, ours alone, and stays.
    unsafe { Table::create(base, layout.size(), [1, 2]) }.ok()
}

fn accounts(c: &mut Criterion) {
    let Some(table) = table() else { return };
    let mut spare = Spare::default();
    let mut account_of = |key: &str| table.find_or_insert(key.as_bytes(), &mut spare).slot;
    let keys: Vec<String> = (0..10_000).map(|n| format!("key-{n}.example.com")).collect();
    let account: &Account = table.account(account_of(&keys[0]));
    let (usage, outcome) = request();

    let mut group = c.benchmark_group("account");
    group.bench_function("add", |b| b.iter(|| account.add(black_box(1_000), black_box(&usage))));
    group.bench_function("finish", |b| b.iter(|| account.finish(black_box(&outcome))));
    group.bench_function("find_or_insert, one key", |b| b.iter(|| account_of(black_box(&keys[0]))));
    // a step that visits all of them, far from one another
    let mut at = 0;
    group.bench_function("find_or_insert, 10,000 keys", |b| {
        b.iter(|| {
            at = (at + 7_919) % keys.len();
            account_of(black_box(&keys[at]))
        });
    });
    group.finish();
}

/// A small static one.
fn request() -> (Usage, Outcome) {
    let usage = Usage { cpu_ns: 9_000, wakeups: 1, sent_bytes: 1_264, received_bytes: 72 };
    let outcome = Outcome {
        status: 200,
        cache: CacheStatus::None,
        connection_order: 5,
        response_bytes: usage.sent_bytes,
        cpu_ns: usage.cpu_ns,
    };
    (usage, outcome)
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = readings, laps, accounts
}
criterion_main!(benches);
