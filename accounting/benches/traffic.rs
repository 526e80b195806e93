//! The cost of a part of the traffic log: the pass over the accounts, the lines, and the commit of their batches.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use accounting::account::Usage;
use accounting::table::{ACCOUNT_BYTES, Spare, Table};
use accounting::traffic::{About, Append, BATCH_BYTES, Ledger, Part, region_bytes};
use criterion::{Criterion, criterion_group, criterion_main};
use request_cpu_accounting as accounting;

/// An unnamed temporary file.
struct Sink(File);

impl Append for Sink {
    fn about(&mut self) -> io::Result<About> {
        Ok(About { id: [1, 1], size: self.0.metadata()?.len(), is_regular: true })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn cut(&mut self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn read(&mut self, _at: u64, _bytes: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn memory(bytes: usize) -> NonNull<u8> {
    let Ok(layout) = Layout::from_size_align(bytes, 4096) else { std::process::abort() };
    // SAFETY: the layout is not empty. It is never given back.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

fn parts(c: &mut Criterion) {
    for keys in [10_000, 100_000] {
        let bytes = (keys + 2) * (ACCOUNT_BYTES + 48) + 4_000_000;
        // SAFETY: fresh memory of that size, aligned to a page, which stays.
        let table = unsafe { Table::create(memory(bytes), bytes, [1, 2], b"$host") };
        let Ok(table) = table else { return };
        let ledger_bytes = region_bytes(bytes);
        // SAFETY: as above, all zero.
        let ledger = unsafe { Ledger::create(memory(ledger_bytes), ledger_bytes, &table, 0, 0) };
        let Ok(ledger) = ledger else { return };
        let mut spare = Spare::default();
        let slots: Vec<_> = (0..keys)
            .map(|n| table.find_or_insert(format!("customer-{n}.example.com").as_bytes(), &mut spare).slot)
            .collect();
        let folder = std::env::temp_dir();
        let path = folder.join(format!("request-cpu-traffic-{}", std::process::id()));
        let Ok(file) = OpenOptions::new().append(true).create_new(true).open(&path) else { return };
        let _ = std::fs::remove_file(&path);
        let mut sink = Sink(file);
        let end_ms = AtomicU64::new(0);
        let mut write = || {
            let end_ms = end_ms.fetch_add(60_000, Relaxed);
            let part = Part::new("2026-01-31T12:01:00.000Z", end_ms, "edge-1", "domains", BATCH_BYTES);
            ledger.write_part(&table, end_ms, &part, &mut sink).unwrap_or_default()
        };
        let count = || {
            for slot in &slots {
                let usage = Usage { cpu_ns: 123_456, wakeups: 3, sent_bytes: 123_456, received_bytes: 456 };
                table.account(*slot).add(0, &usage);
            }
        };
        count();
        let written = write();
        if written.lines > 0 {
            println!("{} keys: {} bytes per line", written.lines, written.bytes / written.lines);
        }
        let mut group = c.benchmark_group(format!("part of {keys} keys"));
        group.measurement_time(Duration::from_secs(3)).sample_size(20);
        group.bench_function("none active", |b| b.iter(&mut write));
        group.bench_function("all active", |b| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    count();
                    let begin = std::time::Instant::now();
                    write();
                    took += begin.elapsed();
                }
                took
            });
        });
        group.finish();
    }
}

criterion_group!(benches, parts);
criterion_main!(benches);
