//! The state of a zone for the lifetime of its configuration. It is attached to the zone.

use core::cell::{Cell, OnceCell};

use crate::config::zone::Zone;
use crate::persist::memory::Memory;
use crate::persist::state::lock::Lock;

/// The state that is attached to a zone.
#[derive(Default)]
pub struct KeptZone {
    /// the memory of the table; none if the table is in NGINX's zone
    pub memory: OnceCell<Memory>,
    /// the lock of the state file, which the master holds
    pub lock: Cell<Option<Lock>>,
    /// the reason why the existing state file is set aside once the configuration is in use
    pub unusable: OnceCell<String>,
    /// the state file is not written
    pub given_up: Cell<bool>,
}

/// The state of a zone.
pub fn kept(zone: &Zone) -> Option<&KeptZone> {
    zone.attached.get()
}

/// The memory of a zone's table; none if the table is in NGINX's zone.
pub fn memory(zone: &Zone) -> Option<&Memory> {
    kept(zone)?.memory.get()
}
