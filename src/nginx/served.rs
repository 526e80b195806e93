//! The cycle that a worker process serves.

use nginx_sys::{ngx_cycle_t, ngx_log_t};

use super::listening::{Accept, replace_handlers};
use super::live::{Live, get};
use super::places::Places;

/// A cycle with connections and their events, which `ngx_event_process_init` has made. It is used as long as the
/// process serves it.
#[derive(Clone, Copy)]
pub struct ServedCycle(Live<'static, ngx_cycle_t>);

impl ServedCycle {
    /// `None` for null.
    ///
    /// # Safety
    /// It must be the cycle that the process is about to serve, and `ngx_event_process_init` must have run for it.
    pub unsafe fn new(cycle: *mut ngx_cycle_t) -> Option<ServedCycle> {
        // SAFETY: as the caller says.
        unsafe { Live::new(cycle) }.map(ServedCycle)
    }

    /// Whether it is this cycle.
    #[inline]
    pub fn is(self, cycle: *const ngx_cycle_t) -> bool {
        core::ptr::eq(self.0.as_ptr(), cycle)
    }

    /// Its error log.
    pub fn log(self) -> *mut ngx_log_t {
        get!(self.0, log)
    }

    /// As many connections it has.
    pub fn connections(self) -> usize {
        get!(self.0, connection_n)
    }

    /// The arrays of its connections and events. If `count` is less than it has, the rest have no place.
    pub fn places(self, count: usize) -> Places {
        // SAFETY: as the caller of `new` has said; NGINX changes nothing of it here.
        unsafe { Places::of(&*self.0.as_ptr(), count) }
    }

    /// Puts `A` before every listening socket's handler, in this process only.
    pub fn replace_handlers<A: Accept>(self) {
        // SAFETY: as the caller of `new` has said; nothing else uses it meanwhile.
        unsafe { replace_handlers::<A>(&mut *self.0.as_ptr()) };
    }
}
