//! The memory of counters.

use core::mem::{offset_of, size_of};
use core::sync::atomic::AtomicU64;

use formats::classes::SESSIONS;
use formats::counters::LEN;

use super::classes::{CLASSES, CPU_BUCKETS};
use super::count::Tally;
use crate::billing::{self, Signals};
use crate::gauge::Gauge;
use crate::limit::{Bucket, DRY_RUN};
use crate::window::{Second, Windows};

/// Counters that are adjacent in an account's memory.
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

/// The cells of a counter. A counter has its own member in [`Account`] or in [`Added`], or has no memory.
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

/// The offset of a counter in the memory of an account, in bytes; 0 if it has no memory.
macro_rules! offset {
    ($name:ident,) => {
        0
    };
    ($name:ident, added) => {
        offset_of!(Account, added) + offset_of!(Added, $name)
    };
    ($name:ident, $($field:ident).+) => {
        offset_of!(Account, $($field).+)
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
        /// Counters that were added to the table since the first release, in its order. Releases only append to them.
        #[repr(C)]
        #[derive(Debug)]
        pub(super) struct Added {
            $($name: added!($($at)*),)*
        }

        impl Account {
            /// The offset of each counter in the memory of an account, in bytes, in the order of the table.
            pub(crate) const OFFSETS: [usize; LEN] = [$(offset!($name, $($at)*)),*];

            /// The cells of each counter, in the order of the table.
            #[inline]
            pub(super) fn rows(&self) -> [&[AtomicU64]; LEN] {
                [$(cells!(self, $name, $($at)*)),*]
            }
        }
    };
}

formats::each_counter!(declare);

impl Account {
    /// The offset of the appended counters, in bytes.
    pub(crate) const APPENDED_AT: usize = offset_of!(Account, added);
    /// Number of appended counters.
    pub(crate) const APPENDED: usize = size_of::<Added>() / size_of::<AtomicU64>();
}

/// Counters of one account. All zero is a valid empty account.
///
/// A sum of other counters is not stored: requests are the sum over the order in the connection. A difference would
/// not work. Its parts are read one after the other while workers count, so it could fall from one reading to the
/// next. A reader of counters takes that for a restart.
///
/// Members that each request changes come first: they are on two cache lines.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Account {
    pub(super) cpu_ns: AtomicU64,
    pub(super) second: Second,
    pub(super) wakeups: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) in_flight: Gauge,
    /// The first bucket of the account. Its first member is on the cache line of `cpu_ns`. Without a limit, only that
    /// member is read.
    pub(super) bucket: Bucket,
    pub(super) billing: billing::Sums,
    /// the last element: responses without a class
    pub(super) responses: [AtomicU64; CLASSES.len() + 1],
    pub(super) by_order: [Tally; 4],
    pub(super) by_cache: [Tally; 8],
    pub(super) by_size: [Tally; 10],
    pub(super) by_cpu: [AtomicU64; CPU_BUCKETS],
    /// requests that limits have refused, by [`DRY_RUN`]; requests that count as `dry_run` were served
    pub(super) refused: [Tally; DRY_RUN.len()],
    /// handshakes, where the others count requests
    pub(super) by_session: [Tally; SESSIONS.len()],
    pub(super) windows: Windows,
    pub(crate) signals: Signals,
    pub(super) added: Added,
}
