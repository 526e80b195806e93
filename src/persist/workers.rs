//! The totals of the workers, in shared memory.

use core::cell::OnceCell;
use std::rc::Rc;

use accounting::workers::{self, Workers};
use nginx_sys::NGX_LOG_EMERG;

use crate::nginx::conf::{Conf, Failed};
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::shared_memory::{self, Init, SharedMemory, with_slab_pool};
use crate::persist::memory::Memory;
use crate::persist::origin::source;

/// The totals of the workers, and their memory.
#[derive(Default)]
pub struct WorkersZone {
    workers: OnceCell<Workers>,
    /// none if the totals are in NGINX's zone
    memory: OnceCell<Memory>,
}

impl WorkersZone {
    /// The totals, if there is memory for them.
    pub fn workers(&self) -> Option<Workers> {
        self.workers.get().copied()
    }

    /// The memory of the totals; none if they are in NGINX's zone.
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.get()
    }

    fn go_on(&self, workers: Workers, memory: Option<Memory>) {
        // `ngx_init_cycle` calls this once
        let _ = self.workers.set(workers);
        if let Some(memory) = memory {
            let _ = self.memory.set(memory);
        }
    }
}

/// Requests the memory for the totals of the workers from NGINX.
///
/// # Errors
/// There is no memory.
pub fn add(cf: &Conf<'_>) -> Result<Rc<WorkersZone>, Failed> {
    let zone = Rc::<WorkersZone>::default();
    let bytes = with_slab_pool(workers::BYTES);
    shared_memory::add::<_, Totals>(cf, b"ngx_http_request_cpu_workers", bytes, &zone)?.ok_or(Failed)?;
    Ok(zone)
}

/// Creates the totals.
struct Totals;

impl Init<WorkersZone> for Totals {
    fn init(shm: SharedMemory<'_>, zone: &WorkersZone, before: Option<&WorkersZone>) -> Result<(), Failed> {
        if let Some((workers, before)) = before.and_then(|before| Some((before.workers()?, before))) {
            zone.go_on(workers, before.memory().cloned());
            return Ok(());
        }
        let name = b"_workers";
        let left = source().map(|source| Memory::left(name, source)).unwrap_or_default();
        for memory in left.into_iter().filter(|memory| memory.bytes() == workers::BYTES) {
            // SAFETY: the bytes are mapped, start at a page, and stay mapped as long as the zone has `memory`.
            if let Ok(workers) = unsafe { Workers::open(memory.base()) } {
                zone.go_on(workers, Some(memory));
                return Ok(());
            }
        }
        let memory = Memory::create_or_log(name, workers::BYTES, shm.log());
        let room = || shm.take_all(workers::BYTES);
        let Some(base) = memory.as_ref().map(Memory::base).or_else(room) else {
            ngx_log_error!(NGX_LOG_EMERG, shm.log(), "no memory for the totals of the workers");
            return Err(Failed);
        };
        // SAFETY: no other code uses the memory. It is large enough, and stays mapped as long as the zone.
        zone.go_on(unsafe { Workers::create(base) }, memory);
        Ok(())
    }
}
