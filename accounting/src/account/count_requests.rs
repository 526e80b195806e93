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
