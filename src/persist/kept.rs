//! What is kept of a zone while its configuration is there: attached to the zone.

use core::cell::{Cell, OnceCell};

use crate::config::zone::Zone;
use crate::persist::memory::Memory;
use crate::persist::state::lock::Lock;

/// What is kept of a zone.
#[derive(Default)]
pub struct Kept {
    /// where the table is; none if it is in NGINX's zone
    pub memory: OnceCell<Memory>,
    /// of the state file, held by the master
    pub lock: Cell<Option<Lock>>,
    /// why the state file that is there is set aside once the configuration is in use
    pub unusable: OnceCell<String>,
    /// the state file is not written
    pub given_up: Cell<bool>,
}

/// What is kept of a zone.
pub fn kept(zone: &Zone) -> Option<&Kept> {
    zone.attached.get()
}

/// Where the table of a zone is; none if it is in NGINX's zone.
pub fn memory(zone: &Zone) -> Option<&Memory> {
    kept(zone)?.memory.get()
}
