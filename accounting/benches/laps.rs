//! The cost of the module for a request, step by step: readings of clocks, laps, and additions to an account.
//!
//! The clocks are those of this machine. On a virtual machine they may be several times slower or faster than on the
//! host.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use accounting::account::{CacheStatus, Outcome, Usage};
use accounting::billing::Span;
use accounting::limit::Share;
use accounting::meter::{Clocks, Meter, Mode};
use accounting::pending_charges::{Ended, PendingCharges};
use accounting::table::{Spare, Table};
use criterion::{Criterion, criterion_group, criterion_main};
use request_cpu_accounting as accounting;

/// A clock of the kernel, in nanoseconds.
#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one `timespec`.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn thread_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The processor's counter, taken as one tick per nanosecond. The unit does not change the time that a lap takes.
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a counter; every x86-64 has it.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    monotonic_ns()
}

/// The thread clock and a time clock. The mark of switches is only read here, never reset.
struct Thread {
    time: fn() -> u64,
    mark: AtomicU64,
}

impl Clocks for Thread {
    fn cpu_ns(&mut self) -> u64 {
        thread_ns()
    }

    #[inline]
    fn time_ns(&mut self) -> u64 {
        (self.time)()
    }

    #[inline]
    fn switched(&mut self) -> bool {
        self.mark.load(Relaxed) != 1
    }

    fn sees_switches(&self) -> bool {
        true
    }
}

fn readings(c: &mut Criterion) {
    let mut group = c.benchmark_group("reading");
    group.bench_function("CLOCK_THREAD_CPUTIME_ID", |b| b.iter(thread_ns));
    group.bench_function("CLOCK_MONOTONIC", |b| b.iter(monotonic_ns));
    group.bench_function("time stamp counter", |b| b.iter(ticks));
    group.finish();
}

fn laps(c: &mut Criterion) {
    let mut group = c.benchmark_group("lap");
    for (name, mode, time) in [
        ("thread", Mode::Thread, monotonic_ns as fn() -> u64),
        ("hybrid, CLOCK_MONOTONIC", Mode::default(), monotonic_ns),
        ("hybrid, time stamp counter", Mode::default(), ticks),
    ] {
        let mut meter = Meter::start(Thread { time, mark: AtomicU64::new(1) }, mode);
        group.bench_function(name, |b| b.iter(|| meter.lap()));
    }
    group.finish();
}

/// An empty table with room for some 10,000 accounts. Its memory is never freed.
fn table() -> Option<Table> {
    let layout = Layout::from_size_align(16 << 20, 64).ok()?;
    // SAFETY: the layout is not empty.
    let Some(base) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
    // SAFETY: it is aligned, ours alone, and stays.
    unsafe { Table::create(base, layout.size(), [1, 2], b"$host") }.ok()
}

fn accounts(c: &mut Criterion) {
    let Some(table) = table() else { return };
    let mut spare = Spare::default();
    let mut account_of = |key: &str| table.find_or_insert(key.as_bytes(), &mut spare).slot;
    let keys: Vec<String> = (0..10_000).map(|n| format!("key-{n}.example.com")).collect();
    let slot = account_of(&keys[0]);
    let (usage, outcome) = request();
    let mut pending = PendingCharges::default();
    let mut now_ns = 1_000_000_000;

    let ended = |now_ns: u64| {
        let outcome = black_box(&outcome);
        Ended {
            usage: *black_box(&usage),
            classes: outcome.classes(),
            cpu_ns: outcome.cpu_ns,
            span: Span { from_ns: now_ns - 9_000, to_ns: now_ns, bytes: 5_120 },
        }
    };

    let mut group = c.benchmark_group("account");
    group.bench_function("a request", |b| {
        b.iter(|| {
            now_ns += 10_000;
            pending.finish(&table, now_ns, slot, Share::Used, &ended(now_ns));
        });
    });
    group.bench_function("a request, and its charges", |b| {
        b.iter(|| {
            now_ns += 10_000;
            pending.finish(&table, now_ns, slot, Share::Used, &ended(now_ns));
            pending.flush(&table, now_ns);
        });
    });
    group.bench_function("find_or_insert, one key", |b| b.iter(|| account_of(black_box(&keys[0]))));
    // the step visits all accounts, with a large distance between two visits
    let mut at = 0;
    group.bench_function("find_or_insert, 10,000 keys", |b| {
        b.iter(|| {
            at = (at + 7_919) % keys.len();
            account_of(black_box(&keys[at]))
        });
    });
    group.finish();
}

/// A small static request.
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
