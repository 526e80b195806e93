//! The cycle that a worker process serves.

use nginx_sys::{ngx_cycle_t, ngx_log_t};

use super::cycle::Cycle;
use super::live::{Live, get};

/// A cycle with connections and their events, which `ngx_event_process_init` has made. It is used as long as the
/// process serves it.
#[derive(Clone, Copy)]
pub struct ServedCycle(Live<'static, ngx_cycle_t>);

impl ServedCycle {
    /// # Safety
    /// `cycle` must be the cycle that the process is about to serve, and `ngx_event_process_init` must have run for it.
    pub unsafe fn new(cycle: Cycle<'_>) -> ServedCycle {
        // SAFETY: As the caller says. The cycle lives as long as the process.
        ServedCycle(unsafe { Live::at(cycle.live().as_ptr()) })
    }

    pub(super) fn live(self) -> Live<'static, ngx_cycle_t> {
        self.0
    }

    /// Whether `cycle` is this cycle.
    #[inline]
    pub fn is(self, cycle: *const ngx_cycle_t) -> bool {
        core::ptr::eq(self.0.as_ptr(), cycle)
    }

    /// The error log of the cycle.
    pub fn log(self) -> *mut ngx_log_t {
        get!(self.0, log)
    }

    /// The number of connections of the cycle.
    pub fn connections(self) -> usize {
        get!(self.0, connection_n)
    }
}
