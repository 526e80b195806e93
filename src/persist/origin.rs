//! Which process or which copy of this module was here before, and may have left something for this one.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::nginx::cycle::Cycle;
use crate::nginx::process;
use crate::persist::memory::Source;

/// Whether this process was executed by another NGINX, and is reading its first configuration: only then is
/// there memory of a binary before.
pub fn is_new_binary() -> bool {
    process::has_inherited() && Cycle::with_running(|running| running.is_none())
}

/// The process ID of the master that has executed this one, as long as both are there.
pub fn old_master() -> Option<u32> {
    (process::has_inherited() && process::has_first_parent()).then(|| process::parent().unsigned_abs())
}

/// Where others have left memory, while a configuration is read that is the first one with this copy of the module.
pub fn source() -> Option<Source> {
    Cycle::with_running(|running| match running {
        None => process::has_inherited().then(|| Source::Parent(old_master())),
        Some(running) => (!running.has_module() && running.has_other_copy()).then_some(Source::SameProcess),
    })
}

/// Whether this process counts in accounts that the binary before has left it.
static GOES_ON: AtomicBool = AtomicBool::new(false);

/// This process counts in accounts that were left: by the binary before, if there is one.
pub fn goes_on() {
    GOES_ON.store(is_new_binary(), Relaxed);
}

/// Whether another master, the one before or the one after a binary upgrade, has workers that count in the same
/// accounts.
///
/// Sockets that were inherited do not tell: a supervisor can hand them over too, and then it is the parent
/// (`ngx_add_inherited_sockets`).
pub fn has_other_binary() -> bool {
    process::has_new_binary() || GOES_ON.load(Relaxed) && process::has_first_parent()
}
