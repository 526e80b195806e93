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
    /// of the lap that has ended last
    #[cfg(feature = "audit")]
    pub audited: Audited,
    /// the worker's totals
    pub totals: WorkerTotals,
    owner: Owner<R>,
    /// the owner with which the handler call began
    woken: Owner<R>,
    /// laps of `Owner::Apart`, in nanoseconds
    #[cfg(ngx_feature = "http_v2")]
    apart_ns: u64,
}

impl<R: Copy + Eq> Laps<R> {
    /// The first lap begins, and is the event loop's.
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

    /// A handler call begins; the running lap is its owner's.
    #[inline]
    pub fn begin_handler_call(&mut self, owner: Owner<R>) {
        self.totals.wakeups += 1;
        self.owner = owner;
        self.woken = owner;
    }

    /// Ends the running lap, and tells its length in nanoseconds. The next one has the same owner.
    #[inline]
    pub fn end(&mut self) -> u64 {
        #[cfg(not(feature = "audit"))]
        let lap_ns = self.meter.lap();
        #[cfg(feature = "audit")]
        let lap_ns = {
            let is_loop = matches!(self.owner, Owner::Loop | Owner::Listener);
            let (lap_ns, audited) = self.audit.lap(|| self.meter.lap(), is_loop);
            self.audited = audited;
            lap_ns
        };
        lap_ns
    }

    /// Nanoseconds for several requests, which are divided at once.
    #[cfg(ngx_feature = "http_v2")]
    #[inline]
    pub fn keep_apart(&mut self, ns: u64) {
        self.apart_ns += ns;
    }

    #[cfg(ngx_feature = "http_v2")]
    /// The nanoseconds that are to be divided now.
    pub fn take_apart(&mut self) -> u64 {
        core::mem::take(&mut self.apart_ns)
    }
}
