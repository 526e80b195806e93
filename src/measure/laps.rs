//! The running lap, its owner, and the sums of laps by owner.

use accounting::meter::Meter;
use accounting::worker_totals::WorkerTotals;

#[cfg(feature = "audit")]
use crate::measure::audit::{Audit, Audited};
use crate::measure::clock::ThreadClocks;
use crate::measure::owner::Owner;

/// Laps of a worker's thread.
pub struct Laps<R> {
    pub meter: Meter<ThreadClocks>,
    #[cfg(feature = "audit")]
    pub audit: Audit,
    /// audit of the lap that ended last
    #[cfg(feature = "audit")]
    pub audited: Audited,
    pub totals: WorkerTotals,
    owner: Owner<R>,
    /// the owner with which the handler call began
    woken: Owner<R>,
    /// sum of the laps of `Owner::Apart`, in nanoseconds
    #[cfg(ngx_feature = "http_v2")]
    apart_ns: u64,
}

impl<R: Copy + Eq> Laps<R> {
    /// Begins the first lap. It belongs to the event loop.
    pub fn start(meter: Meter<ThreadClocks>, #[cfg(feature = "audit")] audit: Audit) -> Laps<R> {
        Laps {
            meter,
            #[cfg(feature = "audit")]
            audit,
            #[cfg(feature = "audit")]
            audited: Audited::default(),
            totals: WorkerTotals::default(),
            owner: Owner::Loop,
            woken: Owner::Loop,
            #[cfg(ngx_feature = "http_v2")]
            apart_ns: 0,
        }
    }

    /// The owner of the running lap.
    #[inline]
    pub fn owner(&self) -> Owner<R> {
        self.owner
    }

    /// The running lap belongs to `owner` from its start.
    #[inline]
    pub fn take(&mut self, owner: Owner<R>) {
        self.owner = owner;
    }

    /// The owner with which the handler call began.
    #[inline]
    pub fn woken(&self) -> Owner<R> {
        self.woken
    }

    /// A handler call begins. The running lap belongs to `owner`.
    #[inline]
    pub fn begin_handler_call(&mut self, owner: Owner<R>) {
        self.totals.wakeups += 1;
        self.owner = owner;
        self.woken = owner;
    }

    /// Ends the running lap, and returns its length in nanoseconds. The next lap has the same owner.
    #[inline]
    pub fn end(&mut self) -> u64 {
        self.end_by(Meter::lap)
    }

    /// Ends the running lap, in which the event loop has waited for events. The CPU time of the wait may become known
    /// later.
    #[inline]
    pub fn end_wait(&mut self) {
        self.totals.loop_ns += self.end_by(Meter::wait);
    }

    /// As [`Laps::end`]. Afterwards the CPU time of all waits is known: see [`Laps::add_waits`].
    pub fn end_exactly(&mut self) -> u64 {
        self.end_by(Meter::lap_exactly)
    }

    /// Adds the CPU time of waits that is known so far to the worker's totals.
    #[inline]
    pub fn add_waits(&mut self) {
        self.totals.loop_ns += self.meter.take_waits();
    }

    #[inline]
    fn end_by(&mut self, end: impl FnOnce(&mut Meter<ThreadClocks>) -> u64) -> u64 {
        #[cfg(not(feature = "audit"))]
        let lap_ns = end(&mut self.meter);
        #[cfg(feature = "audit")]
        let lap_ns = {
            let is_loop = matches!(self.owner, Owner::Loop | Owner::Listener);
            let (lap_ns, audited) = self.audit.lap(|| end(&mut self.meter), is_loop);
            let waits_ns = self.meter.take_waits();
            self.audit.add_waits(waits_ns);
            self.totals.loop_ns += waits_ns;
            self.audited = audited;
            lap_ns
        };
        lap_ns
    }

    /// Keeps nanoseconds that were used for several requests. They are divided at once.
    #[cfg(ngx_feature = "http_v2")]
    #[inline]
    pub fn keep_apart(&mut self, ns: u64) {
        self.apart_ns += ns;
    }

    /// Returns the nanoseconds that are to be divided now, and resets them.
    #[cfg(ngx_feature = "http_v2")]
    pub fn take_apart(&mut self) -> u64 {
        core::mem::take(&mut self.apart_ns)
    }
}
