//! Counts requests and handshakes that have ended.

use core::sync::atomic::Ordering::Relaxed;

use super::cells::Account;
use super::classes::{Classes, Handshake};
use super::count::{Count, add_tally, read_tally};

impl Account {
    /// Counts requests that have ended, all of the same classes. The histogram of CPU is counted separately.
    pub fn count(&self, classes: &Classes, count: &Count) {
        let &Classes { response, order, cache, size } = classes;
        self.responses[usize::from(response)].fetch_add(count.requests, Relaxed);
        add_tally(&self.by_order[usize::from(order)], count);
        add_tally(&self.by_cache[usize::from(cache)], count);
        add_tally(&self.by_size[usize::from(size)], count);
    }

    /// Counts requests that have ended in the histogram of CPU. All are in the same bucket, as
    /// [`cpu_bucket`](super::cpu_bucket) returns it.
    pub fn count_cpu(&self, bucket: u8, requests: u64) {
        self.by_cpu[usize::from(bucket)].fetch_add(requests, Relaxed);
    }

    /// Has the processor load the counters that a request of these classes changes.
    #[inline]
    pub fn prefetch(&self, classes: &Classes, bucket: u8) {
        let &Classes { response, order, cache, size } = classes;
        prefetch(&self.cpu_ns);
        prefetch(&self.billing);
        self.responses.get(usize::from(response)).map(prefetch);
        self.by_order.get(usize::from(order)).map(prefetch);
        self.by_cache.get(usize::from(cache)).map(prefetch);
        self.by_size.get(usize::from(size)).map(prefetch);
        self.by_cpu.get(usize::from(bucket)).map(prefetch);
    }

    /// Counts a handshake. Handshakes are rare and expensive, so this adds to the account at once.
    pub fn count_handshake(&self, handshake: &Handshake) {
        let &Handshake { resumed, cpu_ns } = handshake;
        add_tally(&self.by_session[usize::from(resumed)], &Count { requests: 1, cpu_ns });
    }

    /// Counts a request that a limit refused, or would have refused with `dry_run`.
    pub fn count_refused(&self, dry_run: bool) {
        self.refused[usize::from(dry_run)][0].fetch_add(1, Relaxed);
    }

    /// The average CPU of a request that was not refused, in nanoseconds; 0 if none has ended.
    pub fn average_ns(&self) -> u64 {
        let ended = Count::sum(&self.by_connection_order());
        let refused = read_tally(&self.refused[0]);
        let (requests, cpu_ns) =
            (ended.requests.saturating_sub(refused.requests), ended.cpu_ns.saturating_sub(refused.cpu_ns));
        cpu_ns.checked_div(requests).unwrap_or(0)
    }
}

/// Has the processor load a cache line, where there is an instruction for it.
#[inline]
fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction has no effect that a program can see, and every processor of this architecture has it.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(
            core::ptr::from_ref(place).cast(),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
