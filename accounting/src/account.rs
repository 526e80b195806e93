//! The account of one key: counters in shared memory that all workers add to with relaxed atomics.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::gauge::Gauge;
use crate::limit::{Apart, Bucket, BucketState, DRY_RUN};
use crate::measures::{self, Measures, Signal, Signals, WINDOWS};
use crate::threshold::ACTIVE_THRESHOLD_NS;
use crate::window::{Cores, Over, Second, Windows};

/// What is added to an account over time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// nanoseconds of CPU
    pub cpu_ns: u64,
    /// number of wakeups
    pub wakeups: u64,
    /// bytes sent to the client
    pub sent_bytes: u64,
    /// bytes received from the client
    pub received_bytes: u64,
}

impl Usage {
    /// What `self` is more than `earlier`, field by field; a field that fell counts as zero.
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
        }
    }

    /// The sum, field by field.
    pub fn plus(&self, other: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            wakeups: self.wakeups + other.wakeups,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
        }
    }
}

/// What an account needs to know of the table that has it.
pub trait TableView {
    /// The epoch of the gauges of requests in flight.
    fn epoch(&self) -> u32;

    /// How much CPU in a second makes it an active one, in nanoseconds.
    fn active_threshold_ns(&self) -> u64;

    /// The bucket that comes after this one in its account.
    fn bucket_after(&self, bucket: &Bucket) -> Option<&Bucket>;
}

/// How a request ended, as the breakdowns need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// HTTP status as `$status`, 0 where there is none
    pub status: u64,
    /// `$upstream_cache_status`
    pub cache: CacheStatus,
    /// `$connection_requests`: 1 for the first request of its connection
    pub connection_order: u64,
    /// bytes sent to the client
    pub response_bytes: u64,
    /// nanoseconds of CPU of the whole request
    pub cpu_ns: u64,
}

/// The words of `$upstream_cache_status` (`ngx_http_cache_status` in ngx_http_upstream.c), and `NONE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum CacheStatus {
    None,
    Miss,
    Bypass,
    Expired,
    Stale,
    Updating,
    Revalidated,
    Hit,
}

impl CacheStatus {
    /// In the order of NGINX's `NGX_HTTP_CACHE_*` values, `NONE` being 0.
    pub const NAMES: [&str; 8] = CACHE_STATUSES;

    /// From `r->upstream->cache_status`: 0 is no cache, an unknown value counts as none.
    pub fn from_nginx(value: usize) -> Self {
        use CacheStatus::*;
        [None, Miss, Bypass, Expired, Stale, Updating, Revalidated, Hit].get(value).copied().unwrap_or(None)
    }
}

use formats::classes::{CACHE_STATUSES, RESPONSES};
pub use formats::classes::{CPU_BOUNDS_NS, ORDERS, SESSIONS, SIZES};
use formats::counters::{CELLS, COUNTERS as TABLE, LEN, cell, first_cell, row};

/// Names of the response classes, `status / 100`.
pub const CLASSES: [&str; 5] = [RESPONSES[0], RESPONSES[1], RESPONSES[2], RESPONSES[3], RESPONSES[4]];
const CPU_BUCKETS: usize = CPU_BOUNDS_NS.len() + 1;

/// Which of [`SIZES`] a response of `bytes` bytes falls into.
pub fn size_class(bytes: u64) -> usize {
    let kib = bytes.div_ceil(1024).max(1);
    // smallest n with kib <= 4^n
    let bits = 64 - (kib - 1).leading_zeros();
    (bits.div_ceil(2) as usize).min(SIZES.len() - 1)
}

/// Which bucket of [`CPU_BOUNDS_NS`] a request of `ns` nanoseconds falls into.
#[inline]
pub fn cpu_bucket(ns: u64) -> u8 {
    // the bounds are so far apart that there is one between two powers of two at most
    let first = FIRST_BUCKETS[64 - ns.leading_zeros() as usize];
    first + u8::from(CPU_BOUNDS_NS.get(usize::from(first)).is_some_and(|&bound| ns > bound))
}

/// The lowest bucket of the numbers that have so many bits.
const FIRST_BUCKETS: [u8; 65] = {
    let mut first = [0; 65];
    let mut bits = 1;
    while bits <= 64 {
        let least = 1u64 << (bits - 1);
        let mut bucket = 0;
        while bucket < CPU_BOUNDS_NS.len() && CPU_BOUNDS_NS[bucket] < least {
            bucket += 1;
        }
        first[bits] = bucket as u8;
        bits += 1;
    }
    first
};

/// The TLS handshake of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// the session of an earlier connection was resumed
    pub resumed: bool,
    /// nanoseconds of CPU of the connection, from its accept to the end of the handshake
    pub cpu_ns: u64,
}

/// Where a request belongs in each breakdown but that of CPU, as places in them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    response: u8,
    order: u8,
    cache: u8,
    size: u8,
}

impl Outcome {
    /// Where the request belongs.
    #[inline]
    pub fn classes(&self) -> Classes {
        let response = match self.status / 100 {
            class @ 1..=5 => class as usize - 1,
            _ => CLASSES.len(),
        };
        let order = self.connection_order.clamp(1, ORDERS.len() as u64) as usize - 1;
        let size = size_class(self.response_bytes);
        let [response, order, cache, size] =
            [response, order, self.cache as usize, size].map(|place| place as u8);
        Classes { response, order, cache, size }
    }
}

/// A number of requests, and their CPU in nanoseconds.
type Tally = [AtomicU64; 2];

#[inline]
fn add_tally([requests, cpu_ns]: &Tally, count: &Count) {
    requests.fetch_add(count.requests, Relaxed);
    cpu_ns.fetch_add(count.cpu_ns, Relaxed);
}

fn read_tally([requests, cpu_ns]: &Tally) -> Count {
    Count { requests: requests.load(Relaxed), cpu_ns: cpu_ns.load(Relaxed) }
}

/// Counters that are next to each other in an account's memory.
trait Cells {
    fn cells(&self) -> &[AtomicU64];
}

impl Cells for AtomicU64 {
    fn cells(&self) -> &[AtomicU64] {
        core::slice::from_ref(self)
    }
}

impl<const N: usize> Cells for [AtomicU64; N] {
    fn cells(&self) -> &[AtomicU64] {
        self
    }
}

impl<const N: usize> Cells for [Tally; N] {
    fn cells(&self) -> &[AtomicU64] {
        self.as_flattened()
    }
}

/// The cells of a counter that has a place of its own in [`Account`], or in [`Added`], or has none.
macro_rules! cells {
    ($account:ident, $name:ident,) => {
        &[]
    };
    ($account:ident, $name:ident, added) => {
        $account.added.$name.cells()
    };
    ($account:ident, $name:ident, $($field:ident).+) => {
        $account.$($field).+.cells()
    };
}

/// The memory of a counter in [`Added`].
macro_rules! added {
    (added) => {
        AtomicU64
    };
    ($($other:tt)*) => {
        [AtomicU64; 0]
    };
}

macro_rules! declare {
    ($($name:ident [$($at:tt)*] = $counter:expr;)*) => {
        /// Counters that the table has added since the first release, in its order.
        #[repr(C)]
        #[derive(Debug)]
        struct Added {
            $($name: added!($($at)*),)*
        }

        impl Account {
            /// The cells of each counter, in the order of the table.
            #[inline]
            fn rows(&self) -> [&[AtomicU64]; LEN] {
                [$(cells!(self, $name, $($at)*)),*]
            }
        }
    };
}
formats::each_counter!(declare);

/// Counters of one account. All zero is a valid empty account.
///
/// A sum that follows from others is not stored: requests are the sum over the order in the connection. A difference
/// would not do: its parts are read one after the other while workers count, so it could fall from one reading to the
/// next, which a reader of counters takes for a restart.
///
/// What each request changes comes first: it is on two cache lines.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Account {
    cpu_ns: AtomicU64,
    second: Second,
    wakeups: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    in_flight: Gauge,
    /// The first one of the account's. Its first member is on the line of `cpu_ns`: that is all that is read of it where there is no
    /// limit.
    bucket: Bucket,
    billing: measures::Sums,
    /// the last one: no class
    responses: [AtomicU64; CLASSES.len() + 1],
    by_order: [Tally; 4],
    by_cache: [Tally; 8],
    by_size: [Tally; 10],
    by_cpu: [AtomicU64; CPU_BUCKETS],
    /// requests that limits have refused, as [`DRY_RUN`]; those of `dry_run` were served
    refused: [Tally; DRY_RUN.len()],
    /// handshakes, where the others count requests
    by_session: [Tally; SESSIONS.len()],
    windows: Windows,
    pub(crate) signals: Signals,
    added: Added,
}

/// What requests have brought since it was last added to their account.
#[derive(Debug, Default, Clone, Copy)]
pub struct Settlement {
    /// what was used
    pub usage: Usage,
    /// nanoseconds in flight, each request for itself
    pub duration_ns: u64,
    /// memory times time, in bytes times milliseconds
    pub memory_byte_ms: u64,
}

/// No thread uses more CPU in a second, in nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;

impl Account {
    /// Adds what a request, or the work after its log line, has used since the last call. `now_ms` is a monotonic
    /// clock's that all workers share. Seconds are active as in a new table.
    pub fn add(&self, now_ms: u64, usage: &Usage) {
        self.add_shares(now_ms, usage, &[0; DRY_RUN.len()]);
    }

    /// As [`Account::add`]. `refused_ns` is the part of the CPU that was refused requests', as [`DRY_RUN`].
    pub fn add_shares(&self, now_ms: u64, usage: &Usage, refused_ns: &[u64; DRY_RUN.len()]) {
        let apart = refused_ns.iter().any(|&ns| ns != 0).then(|| Apart::refused(*refused_ns));
        let settlement = Settlement { usage: *usage, ..Settlement::default() };
        self.add_settlement(None, now_ms, &settlement, apart.as_ref(), || ACTIVE_THRESHOLD_NS);
    }

    /// Adds what requests have brought. `table` is the one that has this account, and `now_ms` the time of the clock that all
    /// workers share.
    #[inline]
    pub fn settle(&self, table: &impl TableView, now_ms: u64, settlement: &Settlement) {
        self.settle_apart(table, now_ms, settlement, None);
    }

    /// As [`Account::settle`]. `apart` is the part of the CPU that not all limits count.
    #[inline]
    pub fn settle_apart(
        &self,
        table: &impl TableView,
        now_ms: u64,
        settlement: &Settlement,
        apart: Option<&Apart>,
    ) {
        self.add_settlement(Some(table), now_ms, settlement, apart, || table.active_threshold_ns());
    }

    #[inline]
    fn add_settlement(
        &self,
        table: Option<&dyn TableView>,
        now_ms: u64,
        settlement: &Settlement,
        apart: Option<&Apart>,
        threshold_ns: impl Fn() -> u64,
    ) {
        let add = |counter: &AtomicU64, value: u64| {
            if value != 0 {
                counter.fetch_add(value, Relaxed);
            }
        };
        let Settlement { usage, duration_ns, memory_byte_ms } = settlement;
        if let Some(apart) = apart {
            self.add_limited(table, now_ms, usage.cpu_ns, apart);
        } else if usage.cpu_ns != 0 {
            if self.bucket.is_live() {
                self.add_limited(table, now_ms, usage.cpu_ns, &Apart::default());
            } else {
                self.cpu_ns.fetch_add(usage.cpu_ns, Relaxed);
            }
        }
        // After the sum that it is a part of. And before what belongs to the second that is over is mixed with what is new.
        if usage.cpu_ns >= SECOND_NS {
            self.add_seconds(now_ms, usage.cpu_ns, threshold_ns());
        } else if usage.cpu_ns | duration_ns != 0
            && let Some(over) = self.second.add(now_ms / 1000, usage.cpu_ns)
        {
            self.judge(over, threshold_ns());
        }
        add(&self.billing.duration_ns, *duration_ns);
        add(&self.billing.memory_byte_ms, *memory_byte_ms);
        add(&self.wakeups, usage.wakeups);
        add(&self.sent_bytes, usage.sent_bytes);
        add(&self.received_bytes, usage.received_bytes);
    }

    /// CPU of more than a second was not used in this one alone: whole seconds of it are others that are over.
    #[cold]
    #[inline(never)]
    fn add_seconds(&self, now_ms: u64, ns: u64, threshold_ns: u64) {
        let (second, whole) = (now_ms / 1000, ns / SECOND_NS);
        if let Some(over) = self.second.add(second, ns % SECOND_NS) {
            self.judge(over, threshold_ns);
        }
        self.windows.add(Over { second, ns: whole * SECOND_NS });
        self.billing.judge_all(whole, SECOND_NS, threshold_ns);
    }

    /// A second is over.
    #[cold]
    #[inline(never)]
    fn judge(&self, over: Over, threshold_ns: u64) {
        if over.ns != 0 {
            self.windows.add(over);
            self.billing.judge(over.ns, threshold_ns);
        }
        self.take_signals(over.second);
    }

    fn take_signals(&self, second: u64) {
        self.signals.take(second, || {
            let requests = self.by_order.iter().map(|tally| tally[0].load(Relaxed)).sum();
            (requests, self.billing.duration_ns.load(Relaxed))
        });
    }

    /// Brings up to date what time changes: see [`Table::refresh`](crate::table::Table::refresh).
    pub(crate) fn refresh(&self, table: &impl TableView, now_ms: u64) {
        if self.in_flight.read(table.epoch()) != 0 {
            self.cover_on(now_ms);
        }
        let second = now_ms / 1000;
        let open = self.second.read(second);
        if let Some(over) = self.second.close(second) {
            self.judge(over, table.active_threshold_ns());
        } else if open.second < second {
            // no CPU, but maybe requests in flight
            self.take_signals(open.second);
        }
    }

    /// Nobody counts any more: see [`Table::conclude`](crate::table::Table::conclude).
    pub(crate) fn conclude(&self, threshold_ns: u64) {
        self.billing.judge(self.second.take(), threshold_ns);
    }

    /// A request is in flight at `now_ms`, and has been since the time up to which milliseconds are counted.
    pub(crate) fn cover_on(&self, now_ms: u64) {
        self.billing.cover(now_ms, now_ms + 1, || true);
    }

    /// A request was in flight between these times, in nanoseconds.
    #[inline]
    pub(crate) fn cover(&self, table: &impl TableView, from_ns: u64, to_ns: u64) {
        let begun = || self.in_flight.read(table.epoch()) != 0;
        self.billing.cover(from_ns / 1_000_000, to_ns / 1_000_000 + 1, begun);
    }

    /// Adds CPU where limits are concerned.
    #[inline(never)]
    fn add_limited(&self, table: Option<&dyn TableView>, now_ms: u64, cpu_ns: u64, apart: &Apart) {
        for (n, bucket) in self.buckets(table).enumerate() {
            bucket.add(now_ms, apart.counted_ns(n, cpu_ns));
        }
        // before the sum that they are a part of
        for (refused, &ns) in self.refused.iter().zip(&apart.refused_ns).filter(|&(_, &ns)| ns != 0) {
            refused[1].fetch_add(ns, Relaxed);
        }
        self.cpu_ns.fetch_add(cpu_ns, Relaxed);
    }

    /// The first bucket of the account's limits.
    #[inline]
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Buckets that limits have. Those after the first one are in the table.
    #[inline]
    pub(crate) fn buckets<'a>(
        &'a self,
        table: Option<&'a dyn TableView>,
    ) -> impl Iterator<Item = &'a Bucket> {
        let first = self.bucket.is_live().then_some(&self.bucket);
        core::iter::successors(first, move |bucket| table?.bucket_after(bucket))
    }

    /// Counts requests that ended, all of the same classes; not yet by their CPU.
    pub fn count(&self, classes: &Classes, count: &Count) {
        let &Classes { response, order, cache, size } = classes;
        self.responses[usize::from(response)].fetch_add(count.requests, Relaxed);
        add_tally(&self.by_order[usize::from(order)], count);
        add_tally(&self.by_cache[usize::from(cache)], count);
        add_tally(&self.by_size[usize::from(size)], count);
    }

    /// Counts requests that ended by their CPU, all of the same bucket, as [`cpu_bucket`].
    pub fn count_cpu(&self, bucket: u8, requests: u64) {
        self.by_cpu[usize::from(bucket)].fetch_add(requests, Relaxed);
    }

    /// Counts a handshake. It is not often, and dear by itself, so this goes to the account at once.
    pub fn count_handshake(&self, handshake: &Handshake) {
        let &Handshake { resumed, cpu_ns } = handshake;
        add_tally(&self.by_session[usize::from(resumed)], &Count { requests: 1, cpu_ns });
    }

    /// CPU that a request takes on the average of those that were not refused, in nanoseconds; 0 where none has ended.
    pub fn average_ns(&self) -> u64 {
        let ended = Count::sum(&self.by_connection_order());
        let refused = read_tally(&self.refused[0]);
        let (requests, cpu_ns) =
            (ended.requests.saturating_sub(refused.requests), ended.cpu_ns.saturating_sub(refused.cpu_ns));
        cpu_ns.checked_div(requests).unwrap_or(0)
    }

    /// Counts a request that was refused, or would have been.
    pub fn count_refused(&self, dry_run: bool) {
        self.refused[usize::from(dry_run)][0].fetch_add(1, Relaxed);
    }

    /// The state of each limit. `table` is the one that has this account.
    pub fn limits<'a>(
        &'a self,
        table: &'a dyn TableView,
        now_ms: u64,
    ) -> impl Iterator<Item = BucketState> + 'a {
        self.buckets(Some(table)).filter_map(move |bucket| bucket.read(now_ms))
    }

    /// The state of the limit that was checked last; of those that were checked at the same time, of the one with the largest debt. None
    /// if no limit has checked a request. `table` is the one that has this account.
    pub fn limit(&self, table: &impl TableView, now_ms: u64) -> Option<BucketState> {
        let states = self.buckets(Some(table)).filter_map(|bucket| {
            let state = bucket.read(now_ms)?;
            Some((state, (core::cmp::Reverse(bucket.age_ms(now_ms)), state.debt_ns)))
        });
        states.max_by_key(|&(_, rank)| rank).map(|(state, _)| state)
    }

    /// Requests that limits have refused, and their CPU, as [`DRY_RUN`].
    pub fn refused(&self) -> [Count; DRY_RUN.len()] {
        self.refused.each_ref().map(read_tally)
    }

    /// Adds to a counter of one cell, by its place in the table: see [`formats::counters::row`].
    pub fn add_to(&self, row: usize, value: u64) {
        if let Some([cell]) = self.rows().get(row) {
            cell.fetch_add(value, Relaxed);
        }
    }

    /// Reads cells, each given by its place in the table and its place there.
    pub fn read_cells<const N: usize>(&self, cells: [(usize, usize); N]) -> [u64; N] {
        let rows = self.rows();
        cells.map(|(row, at)| {
            rows.get(row).and_then(|cells| cells.get(at)).map_or(0, |cell| cell.load(Relaxed))
        })
    }

    /// The counter at this place of the table, by its cells.
    pub fn row(&self, row: usize) -> impl Iterator<Item = u64> {
        let cells = self.rows().get(row).copied().unwrap_or_default();
        cells.iter().map(|cell| cell.load(Relaxed))
    }

    /// All counters, each read once.
    pub fn totals(&self) -> Totals {
        let mut totals = [0; COUNTERS];
        let mut rest = &mut totals[..];
        // from the end: CPU of seconds that are over, which comes later in the table, is read before all CPU, so that it is not more
        for counters in self.rows().into_iter().rev() {
            let (before, cells) = rest.split_at_mut(rest.len().saturating_sub(counters.len()));
            for (cell, counter) in cells.iter_mut().zip(counters) {
                *cell = counter.load(Relaxed);
            }
            rest = before;
        }
        Totals(totals)
    }

    /// Adds what an account before this one has counted. It is in no window: its CPU is not of the last minutes.
    ///
    /// CPU that was in no second that was over is waived: that of the second in which it was last saved, or of a time when
    /// seconds were not counted.
    pub fn restore(&self, totals: &Totals) {
        let mut totals = totals.0;
        let unjudged_ns = totals[CPU].saturating_sub(totals[BILLABLE]);
        totals[WAIVED] = totals[WAIVED].max(unjudged_ns);
        let counters = self.rows().into_iter().flatten();
        for (counter, total) in counters.zip(totals).filter(|&(_, total)| total != 0) {
            counter.fetch_add(total, Relaxed);
        }
        let requests = self.by_order.iter().map(|tally| tally[0].load(Relaxed)).sum();
        self.signals.skip(requests, self.billing.duration_ns.load(Relaxed));
    }

    /// Requests that are open, over all workers.
    pub fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// What was added.
    pub fn usage(&self) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.load(Relaxed),
            wakeups: self.wakeups.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
        }
    }

    /// Requests that ended, as [`CLASSES`]; the last one: no class.
    pub fn responses(&self) -> [u64; CLASSES.len() + 1] {
        self.responses.each_ref().map(|requests| requests.load(Relaxed))
    }

    /// As [`CacheStatus::NAMES`].
    pub fn by_cache_status(&self) -> [Count; 8] {
        self.by_cache.each_ref().map(read_tally)
    }

    /// As [`ORDERS`].
    pub fn by_connection_order(&self) -> [Count; 4] {
        self.by_order.each_ref().map(read_tally)
    }

    /// As [`SIZES`].
    pub fn by_response_size(&self) -> [Count; 10] {
        self.by_size.each_ref().map(read_tally)
    }

    /// TLS handshakes of connections whose first request has ended, as [`SESSIONS`].
    pub fn tls_handshakes(&self) -> [Count; SESSIONS.len()] {
        self.by_session.each_ref().map(read_tally)
    }

    /// Requests per bucket, not cumulative: as [`CPU_BOUNDS_NS`], then those above.
    pub fn by_request_cpu(&self) -> [u64; CPU_BUCKETS] {
        self.by_cpu.each_ref().map(|requests| requests.load(Relaxed))
    }

    /// What other ways to charge than by CPU need to know.
    pub fn measures(&self) -> &measures::Sums {
        &self.billing
    }

    /// What an autoscaler looks at, over each of [`WINDOWS`]. To be read after [`Table::refresh`](crate::table::Table::refresh).
    pub fn signals(&self, now_ms: u64) -> [Signal; WINDOWS.len()] {
        self.signals.read(now_ms, &self.windows, self.second.read(now_ms / 1000))
    }

    /// CPU cores over the last time.
    pub fn cores(&self, now_ms: u64) -> Cores {
        self.windows.cores(now_ms, self.second.read(now_ms / 1000))
    }

    /// Nothing was ever counted, and nothing is open. `epoch` is the table's.
    pub fn is_untouched(&self, epoch: u32) -> bool {
        self.usage() == Usage::default()
            && self.responses.iter().all(|requests| requests.load(Relaxed) == 0)
            && self.in_flight.read(epoch) == 0
    }

    /// A copy of all counters, each read once. `epoch` is the table's.
    /// Limits are not in it: see [`Snapshot::with_limits`].
    pub fn snapshot(&self, now_ms: u64, epoch: u32) -> Snapshot {
        let peak_cpu_ns = self.billing.read().peak_cpu_ns;
        let totals = self.totals();
        let by_connection_order = totals.counts(ROW_ORDERS);
        let total = Count::sum(&by_connection_order);
        let [responses @ .., other_responses]: [u64; RESPONSES.len()] = totals.numbers(ROW_RESPONSES);
        Snapshot {
            requests: total.requests,
            requests_cpu_ns: total.cpu_ns,
            responses,
            other_responses,
            usage: totals.usage(),
            in_flight: self.in_flight.read(epoch),
            cores: self.cores(now_ms),
            by_cache_status: totals.counts(ROW_CACHE_STATUSES),
            by_connection_order,
            by_response_size: totals.counts(ROW_SIZES),
            by_request_cpu: totals.numbers(ROW_CPU),
            tls_handshakes: totals.counts(ROW_SESSIONS),
            limit: None,
            limits: Vec::new(),
            refused: totals.counts(ROW_REFUSED),
            measures: totals.measures(peak_cpu_ns),
            signals: self.signals(now_ms),
            totals,
        }
    }
}

const ROW_RESPONSES: usize = row("responses");
const ROW_ORDERS: usize = row("by_connection_order");
const ROW_CACHE_STATUSES: usize = row("by_cache_status");
const ROW_SIZES: usize = row("by_response_size");
const ROW_SESSIONS: usize = row("tls_handshakes");
const ROW_CPU: usize = row("by_request_cpu");
const ROW_REFUSED: usize = row("limit");

const CPU: usize = cell("cpu_ns");
const BILLABLE: usize = cell("billable_cpu_ns");
const WAIVED: usize = cell("waived_cpu_ns");
const RESPONSE_CELLS: usize = cell("responses");

/// How many counters of an account only grow: the cells of the table.
pub const COUNTERS: usize = CELLS;

/// The counters of an account that only grow, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals(pub [u64; COUNTERS]);

impl Totals {
    /// Requests that ended.
    pub fn requests(&self) -> u64 {
        self.0[RESPONSE_CELLS..RESPONSE_CELLS + RESPONSES.len()].iter().sum()
    }

    /// What was used.
    pub fn usage(&self) -> Usage {
        let [cpu_ns, wakeups, sent_bytes, received_bytes] =
            const { [cell("cpu_ns"), cell("wakeups"), cell("sent_bytes"), cell("received_bytes")] }
                .map(|cell| self.0[cell]);
        Usage { cpu_ns, wakeups, sent_bytes, received_bytes }
    }

    fn measures(&self, peak_cpu_ns: u64) -> Measures {
        Measures {
            duration_ns: self.0[const { cell("duration_ms") }],
            active_ms: self.0[const { cell("active_ms") }],
            active_seconds: self.0[const { cell("active_seconds") }],
            billable_cpu_ns: self.0[BILLABLE],
            waived_cpu_ns: self.0[WAIVED],
            memory_byte_ms: self.0[const { cell("memory_byte_ms") }],
            peak_cpu_ns,
        }
    }

    /// The cells of the counter at this place of the table; 0 for those that it does not have.
    fn numbers<const N: usize>(&self, row: usize) -> [u64; N] {
        let cells = self.row(row);
        core::array::from_fn(|at| cells.get(at).copied().unwrap_or(0))
    }

    /// The same as tallies.
    fn counts<const N: usize>(&self, row: usize) -> [Count; N] {
        let (tallies, _) = self.row(row).as_chunks();
        let read = |&[requests, cpu_ns]: &[u64; 2]| Count { requests, cpu_ns };
        core::array::from_fn(|at| tallies.get(at).map_or(Count::default(), read))
    }

    /// The cells of the counter at this place of the table.
    pub fn row(&self, row: usize) -> &[u64] {
        let cells = TABLE.get(row).map_or(0, |counter| counter.shape.cells());
        self.0.get(first_cell(row)..).and_then(|rest| rest.get(..cells)).unwrap_or_default()
    }
}

/// Names of the counters of an account that only grow, in the order of [`Totals`].
pub fn counter_names() -> impl Iterator<Item = String> {
    let mut columns = formats::state::columns();
    columns.sort_by_key(|&(_, cell)| cell);
    columns.into_iter().map(|(name, _)| name)
}

/// A number of requests, or of handshakes, and their CPU, read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// how many
    pub requests: u64,
    /// their CPU in nanoseconds
    pub cpu_ns: u64,
}

impl Count {
    /// All of them.
    pub fn sum(counts: &[Count]) -> Count {
        counts.iter().fold(Count::default(), |sum, one| Count {
            requests: sum.requests + one.requests,
            cpu_ns: sum.cpu_ns + one.cpu_ns,
        })
    }
}

/// All counters of an account at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// All that only grow, in the order of the table.
    pub totals: Totals,
    /// Requests that ended.
    pub requests: u64,
    /// Their CPU in nanoseconds, up to their log lines.
    pub requests_cpu_ns: u64,
    /// By class, as [`CLASSES`].
    pub responses: [u64; 5],
    /// Requests that ended without a status of any class.
    pub other_responses: u64,
    /// All that was charged: ended requests, running ones as far as settled, work after the log line.
    pub usage: Usage,
    /// Requests that are open.
    pub in_flight: u32,
    /// CPU cores over the last time.
    pub cores: Cores,
    /// As [`CacheStatus::NAMES`].
    pub by_cache_status: [Count; 8],
    /// As [`ORDERS`].
    pub by_connection_order: [Count; 4],
    /// As [`SIZES`].
    pub by_response_size: [Count; 10],
    /// Requests per bucket, not cumulative: as [`CPU_BOUNDS_NS`], then those above.
    pub by_request_cpu: [u64; CPU_BUCKETS],
    /// As [`SESSIONS`].
    pub tls_handshakes: [Count; SESSIONS.len()],
    /// As [`Account::limit`].
    pub limit: Option<BucketState>,
    /// As [`Account::limits`], if there are several.
    pub limits: Vec<BucketState>,
    /// Requests that limits have refused, as [`DRY_RUN`].
    pub refused: [Count; DRY_RUN.len()],
    /// For other ways to charge.
    pub measures: Measures,
    /// Over each of [`WINDOWS`].
    pub signals: [Signal; WINDOWS.len()],
}

impl Snapshot {
    /// With the limits of the account that it is of. `table` is the one that has the account.
    #[must_use]
    pub fn with_limits(mut self, account: &Account, table: &impl TableView, now_ms: u64) -> Snapshot {
        self.limit = account.limit(table, now_ms);
        if account.limits(table, now_ms).nth(1).is_some() {
            self.limits = account.limits(table, now_ms).collect();
        }
        self
    }
}

#[cfg(test)]
pub(crate) mod tests;
